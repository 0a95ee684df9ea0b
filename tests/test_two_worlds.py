"""The same cores in both worlds: what every node decides in the calm scenario, with real processes and in virtual time.

Both train for real on the same images, so not only the order of effects but every feedback is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Effect, Event, Finish, Nanos, Note, Reconnect, Run, Send
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.messages import Feedback
from mdgan_edge.settings import EXACT_REDUCTION, Settings
from nodes.core import NodeCore
from sim.play import bodies_of, plan_run
from sim.processes import warm_up
from sim.running import make_swarm
from sim.scenario.compiling import node_names
from sim.scenario.reading import find_scenario
from sim.swarm import Swarm
from sim.watch import Silent
from sim.world import World

pytestmark = pytest.mark.xdist_group("swarms")

STEPS = 15
SEED = 7
SETTINGS = {"training.steps": STEPS, "training.batch_size": 4, "model.name": "mlp", "hub.data": "none"}

# As calm is, but that nodes of five classes each judge no others.
AWARE = {
    "mode": "async",
    **{f"training.{name}": value for name, value in EXACT_REDUCTION.items()},
    "training.label_aware": True,
    "swarm.shards": "labels=5",
}

Handle = Callable[[NodeCore, Event, Nanos], list[Effect]]


def words(effect: Effect) -> list[Any]:
    """What an effect says but for its time and the numbers of tasks, which hang on who is heard first."""
    match effect:
        case Send(_, Feedback() as said):
            return ["send", "Feedback", said.version, said.discriminator_id.split("-", 1)[1], said.feedback.norm]
        case Send(_, message):
            return ["send", type(message).__name__]
        case Run(job):
            return ["run", type(job).__name__]
        case Note(what, why):
            return ["note", what, why]
        case Finish(code, outcome, text):
            return ["finish", int(code), outcome, text]
        case Reconnect():
            return ["reconnect"]
        case _:
            raise AssertionError(effect)


@contextmanager
def every_node_writes_down_what_it_decides(folder: Path) -> Iterator[None]:
    """Also in processes that are forked meanwhile."""
    true: Handle = NodeCore.handle

    def handle(core: NodeCore, event: Event, now: Nanos) -> list[Effect]:
        effects = true(core, event, now)
        with (folder / core.facts.node).open("a") as file:
            file.writelines(json.dumps(words(effect)) + "\n" for effect in effects)
        return effects

    NodeCore.handle = handle  # type: ignore[method-assign]
    try:
        yield
    finally:
        NodeCore.handle = true  # type: ignore[method-assign]


def decisions(folder: Path) -> dict[str, list[list[Any]]]:
    return {file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.iterdir()}


def play_with_processes(settings: Settings, explicit: frozenset[str], nodes: int, out: Path) -> None:
    settings = replace(settings, swarm=replace(settings.swarm, nodes=nodes))
    prepared = make_swarm(settings, explicit, out, force=False)
    swarm = Swarm(prepared.settings, prepared.options)
    try:
        swarm.start_hub()
        for rank, name in enumerate(node_names(nodes)):
            spec = parse_shard(shard_text(settings.swarm.shards, rank, nodes))
            swarm.start_node(name, take(prepared.options.images, spec, SEED))
        assert swarm.watch(None)["outcome"] == "completed"
    finally:
        swarm.end()


@pytest.fixture(name="folders")
def two_folders(tmp_path: Path) -> tuple[Path, Path]:
    folders = (tmp_path / "virtual", tmp_path / "processes")
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.mark.parametrize("changes", [{}, AWARE], ids=["calm", "skewed and label-aware"])
def test_in_the_calm_every_node_decides_the_same_in_both_worlds(
    changes: dict[str, object], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    plan = plan_run(find_scenario("calm"), SEED, "full", {**SETTINGS, **changes})
    nodes = plan.scenario.nodes
    with every_node_writes_down_what_it_decides(folders[0]):
        bodies, settings = bodies_of(plan)
        world = World(plan.scenario, replace(settings, hub=replace(settings.hub, nodes_min=nodes)), bodies, Silent())
        world.run()
    warm_up()
    with every_node_writes_down_what_it_decides(folders[1]):
        play_with_processes(plan.settings, plan.explicit, nodes, tmp_path / "run")
    virtual, real = (decisions(folder) for folder in folders)
    assert sorted(virtual) == sorted(real) == sorted(node_names(nodes))
    for node, decided in virtual.items():
        assert decided == real[node]
        assert sum(one[:2] == ["send", "Feedback"] for one in decided) == STEPS


@pytest.mark.parametrize(("withheld", "labels"), [(False, 5), (True, None)])
def test_a_node_of_the_virtual_world_says_the_classes_of_its_shard_unless_it_withholds_them(
    withheld: bool, labels: int | None
) -> None:
    changes = {**SETTINGS, **AWARE, "node.withhold_labels": withheld}
    bodies, _ = bodies_of(plan_run(find_scenario("calm"), SEED, "full", changes))
    said = [bodies.labels(name) for name in node_names(2)]
    assert [one if one is None else len(one) for one in said] == [labels] * 2
