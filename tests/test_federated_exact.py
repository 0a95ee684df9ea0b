"""FL-GAN's cores compute what the reference does, to the last bit; so does standalone, which is MD-GAN of one node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from msgspec.structs import replace

from mdgan_edge.data.images import to_unit
from mdgan_edge.messages import NodeId
from mdgan_edge.reference import Shard, fl_gan, md_gan, standalone
from mdgan_edge.settings import FederatedSettings
from mdgan_edge.streams import stream_seed
from sim.federated.full import FederatedFull
from sim.methods import bodies_of, cast_of, checks_of
from sim.play import plan_run
from sim.scenario.reading import parse_scenario
from sim.world import World

torch.set_num_threads(1)

QUIET = """
name = "quiet"
duration = "1000s"
nodes = 3
fidelity = "full"
[hub]
nodes_min = 3
evaluate_every = 1000
[links.default]
latency = "1ms"
[device]
task = "10ms"
"""


HUB_CRASH = """
[[fault]]
kind = "hub_crash"
at = "300ms"
for = "50ms"
"""
CRASHES = f"""{HUB_CRASH}
[[fault]]
kind = "crash"
at = "400ms"
for = "100ms"
who = "n1"
"""


def played(method: Any, faults: str = "", **settings: object) -> tuple[World, Any]:
    """A run without scores, to its end; and the last trainer of the hub, which goes with its process."""
    scenario = parse_scenario(QUIET + faults, "quiet")
    chosen = {"training.seed": 7, **{key.replace("__", "."): value for key, value in settings.items()}}
    plan = plan_run(scenario, 7, assignments=chosen, method=method)
    bodies, fitted = bodies_of(plan.scenario, plan.settings, plan.explicit, None)
    assert isinstance(bodies, FederatedFull)
    bodies.scorer = lambda: None  # type: ignore[method-assign]  # scores take longer than the training
    trainers = []

    def hub(disk: Any) -> Any:
        trainers.append(type(bodies).hub(bodies, disk))
        return trainers[-1]

    bodies.hub = hub  # type: ignore[method-assign]
    checks = checks_of(plan.scenario, fitted, replay=False)
    world = World(plan.scenario, fitted, bodies, checks, cast=cast_of(plan.scenario, bodies))
    world.run()
    checks.finish(world)
    assert checks.violations == []
    assert world.hub.ended is not None
    assert world.hub.ended.outcome == "completed"
    return world, trainers[-1]


def shards_of(world: World, *nodes: str) -> dict[NodeId, Shard]:
    found = {}
    for node in map(NodeId, nodes):
        images = world.bodies.shards.of(node)  # type: ignore[attr-defined]
        assert images.y is not None
        found[node] = torch.from_numpy(to_unit(images.x)), torch.from_numpy(images.y)
    return found


def same_floats(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Integer buffers of the server's count nothing that matters: they stay with the nodes."""
    floats = [name for name, value in one.items() if value.is_floating_point()]
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in floats)


FLGAN = {
    "equal shards": {"model__name": "mlp", "federated__epochs": 0.03, "training__steps": 10},
    "shards that differ": {"model__name": "cnn28", "swarm__shards": "dirichlet=1", "federated__epochs": 0.02},
    "two steps of D, another loss": {"training__discriminator_steps": 2, "training__loss": "saturating"},
}


@pytest.mark.parametrize("settings", FLGAN.values(), ids=FLGAN)
def test_the_cores_of_flgan_equal_the_reference_to_the_last_bit(settings: dict[str, object]) -> None:
    chosen = {"federated__epochs": 0.02, "training__steps": 8, "hub__checkpoint_every": 3, **settings}
    world, server = played("flgan", **chosen)
    expected = fl_gan(world.settings, shards_of(world, "n0", "n1", "n2"), world.settings.training.steps)
    assert expected.rounds > 2
    assert expected.rounds == world.last_core.round  # type: ignore[union-attr]
    assert same_floats(expected.generator, server.generator.state_dict())
    assert same_floats(expected.discriminator, server.discriminator.state_dict())


def test_standalone_equals_the_reference_and_md_gan_with_one_node() -> None:
    world, trainer = played("standalone", training__steps=6, training__batches_per_version=2, mode="sync")
    (only,) = (shards := shards_of(world, "n0"))
    seed = world.settings.training.seed
    streams = tuple(lambda t, j=j: stream_seed(seed, "latent", t, j) for j in (0, 1))
    alone = standalone(world.settings, only, shards[only], 6, (streams[0], streams[1]))
    for result in (alone, md_gan(world.settings, shards, steps=6)):
        assert same_floats(result.generator, trainer.gan.generator.state_dict())
        assert same_floats(result.discriminators[only], trainer.gan.judge.module.state_dict())


def test_standalone_goes_on_from_its_checkpoint_as_if_nothing_had_happened() -> None:
    chosen = {"training__steps": 24, "hub__checkpoint_every": 5}
    (quiet, whole), (crashed, resumed) = (played("standalone", faults, **chosen) for faults in ("", HUB_CRASH))
    assert (quiet.epoch, crashed.epoch, int(crashed.hub.disk.version) % 5) == (1, 2, 0)
    assert crashed.hub.disk.version > 0
    assert same_floats(whole.gan.generator.state_dict(), resumed.gan.generator.state_dict())
    assert same_floats(whole.gan.judge.module.state_dict(), resumed.gan.judge.module.state_dict())


def test_a_client_and_the_server_go_on_from_their_disks() -> None:
    world, server = played(
        "flgan", CRASHES, federated__epochs=0.02, training__steps=12, hub__checkpoint_every=3, hub__nodes_min=1
    )
    assert (world.epoch, world.machines[NodeId("n1")].incarnation) == (2, 2)
    assert world.machines[NodeId("n1")].disk.version > 0
    assert all(bool(torch.isfinite(value).all()) for value in server.generator.state_dict().values())


def test_averaging_over_one_node_changes_nothing() -> None:
    world, _ = played("standalone", training__steps=1)
    shards = shards_of(world, "n0")
    often, seldom = (
        fl_gan(replace(world.settings, federated=FederatedSettings(epochs=epochs)), shards, 6)
        for epochs in (0.0005, 1.0)
    )
    assert (often.rounds, seldom.rounds) == (6, 1)
    assert same_floats(often.generator, seldom.generator)
    assert same_floats(often.discriminator, seldom.discriminator)
