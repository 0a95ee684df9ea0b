"""The exact reduction: a swarm in mode "sync" equals Algorithm 1 bit for bit, and every broken setting is seen (T2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from broker.core import Phase
from broker.jobs import HubJob, HubResult, Step
from broker.trainer import HubTrainer
from mdgan_edge.actors import HUB
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.messages import ModelSettings, NodeId
from mdgan_edge.reference import Shard, md_gan
from mdgan_edge.settings import EXACT_REDUCTION, Settings, TrainingSettings
from sim.lockstep import Lockstep
from sim.verify import Check
from sim.verify import difference as difference_of_states

torch.set_num_threads(1)

NODES = tuple(NodeId(name) for name in ("ann", "bob", "cay", "dan"))
STEPS = 4
SMALL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
MODELS = {
    "mlp": ModelSettings(name="mlp", image_size=12, classes=3, latent_size=8),
    "cnn28": ModelSettings(name="cnn28", classes=3, latent_size=8),
    "without labels": replace(SMALL, classes=0),
}

State = Mapping[str, torch.Tensor]


def settings(model: ModelSettings = SMALL, **training: Any) -> Settings:
    chosen: dict[str, Any] = {"seed": 4, "steps": STEPS, "batch_size": 4, "swap": "off", **EXACT_REDUCTION, **training}
    base = Settings()
    hub = replace(base.hub, nodes_min=len(NODES), evaluate_every=1000)
    return replace(base, model=model, training=TrainingSettings(**chosen), hub=hub)


def shards(model: ModelSettings = SMALL, seeds: tuple[int, ...] = (0, 1, 2, 3)) -> dict[NodeId, Images]:
    dealt = {}
    for node, seed in zip(NODES, seeds, strict=True):
        rng = torch.Generator().manual_seed(seed)
        size = model.image_size
        x = torch.randint(256, (9 + seed % 4, 1, size, size), generator=rng).to(torch.uint8).numpy()
        y = torch.randint(3, (len(x),), generator=rng).numpy() if model.classes else None
        dealt[node] = Images(x, y, "made up")
    return dealt


def tensors(shard: Images) -> Shard:
    return torch.from_numpy(to_unit(shard.x)), None if shard.y is None else torch.from_numpy(shard.y)


def run(chosen: Settings, dealt: Mapping[NodeId, Images], shuffle_seed: int | None = None) -> Lockstep:
    swarm = Lockstep(chosen, dealt, shuffle_seed)
    return finished(swarm)


def finished(swarm: Lockstep) -> Lockstep:
    swarm.run()
    assert (swarm.core.phase, swarm.core.ending.outcome) == (Phase.OVER, "completed")
    return swarm


def states(swarm: Lockstep) -> dict[str, State]:
    """State dicts of the generator and of every discriminator."""
    found: dict[str, State] = {"generator": swarm.hub.state.module.state_dict()}
    for node, trainer in swarm.nodes.items():
        assert trainer.state is not None
        found[node] = trainer.state.module.state_dict()
    return found


def reference(chosen: Settings, dealt: Mapping[NodeId, Images]) -> dict[str, State]:
    result = md_gan(chosen, {node: tensors(shard) for node, shard in dealt.items()}, chosen.training.steps)
    return {"generator": result.generator, **result.discriminators}


@cache
def plain() -> dict[str, State]:
    """Algorithm 1 with the settings of most tests."""
    return reference(settings(), shards())


def difference(one: Mapping[str, State], other: Mapping[str, State]) -> float:
    """The largest absolute difference of any weight or buffer."""
    assert one.keys() == other.keys()
    return max(
        float((one[net][name].double() - other[net][name].double()).abs().max()) for net in one for name in one[net]
    )


# --- equality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_swarm_without_delay_is_algorithm_1_bit_for_bit(name: str) -> None:
    chosen, dealt = settings(MODELS[name], steps=3), shards(MODELS[name])
    assert difference(states(run(chosen, dealt)), reference(chosen, dealt)) == 0.0


@pytest.mark.parametrize(
    "training",
    [
        {"discriminator_steps": 2},
        {"batches_per_version": 1},
        {"batches_per_version": 3},
        {"batches_per_version": 7},  # more batches than nodes: some get no feedback
        {"loss": "hinge"},
        {"loss": "saturating"},
        {"loss": "wgan_gp"},
        {"discriminator_steps": 2, "batches_per_version": 3, "loss": "hinge"},
    ],
    ids=lambda training: ",".join(f"{key}={value}" for key, value in training.items()),
)
def test_every_setting_of_algorithm_1_is_taken_by_both_sides(training: dict[str, Any]) -> None:
    chosen, dealt = settings(**training), shards()
    expected = reference(chosen, dealt)
    assert difference(states(run(chosen, dealt)), expected) == 0.0
    assert difference(expected, plain()) > 0.0  # the setting is one that matters


@pytest.mark.parametrize("shuffle_seed", range(5))
def test_the_order_in_which_feedback_arrives_does_not_matter(shuffle_seed: int) -> None:
    chosen, dealt = settings(batches_per_version=3), shards()
    assert difference(states(run(chosen, dealt, shuffle_seed)), reference(chosen, dealt)) == 0.0


# --- and it can fail --------------------------------------------------------------------------------------------------

DROP = {"quorum": 0.5, "staleness_policy": "drop"}
BROKEN: dict[str, dict[str, Any]] = {
    "half a quorum": DROP,
    "half a quorum, scaled rate": {**DROP, "scale_lr": True},
    "two answers of a node": {"quota": 2},
    "clipping": {"clip_factor": 0.5},
    "another seed": {"seed": 5},
    "another count of batches": {"batches_per_version": 3},
    "another count of steps": {"discriminator_steps": 2},
    "another loss": {"loss": "hinge"},
    "another rate of the generator": {"lr_generator": 1.001e-3},
    "another rate of the discriminators": {"lr_discriminator": 4.001e-4},
    "another beta1": {"beta1": 0.499},
    "another beta2": {"beta2": 0.998},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_swarm_with_one_broken_setting_is_seen_to_differ(name: str) -> None:
    dealt = shards()
    found = states(run(settings(**BROKEN[name]), dealt))
    assert difference(found, plain()) > 0.0


def test_a_node_with_other_images_is_seen_to_differ() -> None:
    found = states(run(settings(), shards(seeds=(0, 1, 2, 7))))
    assert difference(found, plain()) > 0.0


class Meddler(HubTrainer):
    """A hub's trainer that takes every step a little wrong."""

    def __init__(self, chosen: Settings, changes: Mapping[str, Any]) -> None:
        super().__init__(chosen, None, None)
        self._changes = changes

    def do(self, job: HubJob) -> HubResult:
        if isinstance(job, Step):
            job = Step(**{name: getattr(job, name) for name in Step.__slots__} | self._changed(job))
        return super().do(job)

    def _changed(self, job: Step) -> dict[str, Any]:
        return {name: change(getattr(job, name)) for name, change in self._changes.items()}


class MeddledLockstep(Lockstep):
    """A lockstep whose hub steps as a Meddler does."""

    def __init__(self, chosen: Settings, changes: Mapping[str, Any]) -> None:
        super().__init__(chosen, shards(), None)
        self.hub = self._trainers[HUB.node] = Meddler(chosen, changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"divisor": lambda divisor: divisor - 1},
        {"lr_scale": lambda scale: scale * 1.001},
        {"contributions": lambda given: given[1:]},
        {"contributions": lambda given: (*given[:-1], given[0])},
    ],
    ids=["divisor", "rate", "one feedback lost", "one feedback twice"],
)
def test_a_step_that_is_taken_wrong_is_seen_to_differ(changes: dict[str, Any]) -> None:
    found = states(finished(MeddledLockstep(settings(), changes)))
    assert difference(found, plain()) > 0.0


def test_a_step_that_a_meddler_leaves_alone_does_not_differ() -> None:
    found = states(finished(MeddledLockstep(settings(), {"divisor": lambda divisor: divisor})))
    assert difference(found, plain()) == 0.0


# --- label-aware judging ----------------------------------------------------------------------------------------------


EVERY = ({0, 1, 2},) * 4


def of_classes(*classes: set[int], model: ModelSettings = SMALL) -> dict[NodeId, Images]:
    """Twelve images a node, of these classes only."""
    dealt = {}
    for number, (node, held) in enumerate(zip(NODES, classes, strict=True)):
        rng = torch.Generator().manual_seed(number)
        x = torch.randint(256, (12, 1, model.image_size, model.image_size), generator=rng).to(torch.uint8).numpy()
        dealt[node] = Images(x, np.resize(np.array(sorted(held)), 12), "made up")
    return dealt


@pytest.mark.parametrize("name", ["mlp", "cnn28"])
@pytest.mark.parametrize("training", [{}, {"loss": "wgan_gp", "discriminator_steps": 2, "batches_per_version": 3}])
def test_where_every_node_knows_every_label_label_aware_judging_is_algorithm_1_bit_for_bit(
    name: str, training: dict[str, Any]
) -> None:
    chosen = settings(MODELS[name], **{**training, "steps": 3, "label_aware": True})
    dealt = of_classes(*EVERY, model=MODELS[name])
    assert difference(states(run(chosen, dealt)), reference(chosen, dealt)) == 0.0


def test_to_a_model_without_classes_the_labels_of_a_shard_mean_nothing() -> None:
    model = MODELS["without labels"]
    chosen, dealt = settings(model, label_aware=True), of_classes({0}, {0, 1}, {1}, {2}, model=model)
    assert difference(states(run(chosen, dealt)), reference(chosen, dealt)) == 0.0


def test_where_shards_are_skewed_label_aware_judging_is_another_algorithm() -> None:
    dealt = of_classes({0}, {0, 1}, {1}, {2})
    aware, plain = (states(run(settings(label_aware=aware), dealt)) for aware in (True, False))
    assert difference(aware, plain) > 0.0
    assert difference(plain, reference(settings(), dealt)) == 0.0
    assert all(bool(value.isfinite().all()) for state in aware.values() for value in state.values())


def test_a_class_that_nobody_holds_leaves_the_run_sound() -> None:
    chosen = settings(label_aware=True, batch_size=2, steps=8)  # whole batches are of the third class
    found = states(run(chosen, of_classes({0}, {0}, {1}, {1})))
    assert all(bool(value.isfinite().all()) for state in found.values() for value in state.values())


def test_where_every_node_knows_every_label_asynchrony_is_as_it_was_bit_for_bit() -> None:
    aware, plain = (
        states(run(settings(**ASYNC, staleness_weight="inverse", label_aware=aware), of_classes(*EVERY), 1))
        for aware in (True, False)
    )
    assert difference(aware, plain) == 0.0


# --- without the reduction --------------------------------------------------------------------------------------------

ASYNC: dict[str, Any] = {"quorum": 0.5, "staleness_max": 2, "credit": 2, "quota": "auto", "steps": 12}


@pytest.mark.parametrize("shuffle_seed", range(4))
def test_an_asynchronous_run_completes_within_the_staleness_bound_and_with_everyone(shuffle_seed: int) -> None:
    swarm = run(settings(**ASYNC), shards(), shuffle_seed)
    tallies = {member.node: member.tally for member in swarm.core.members}
    assert swarm.hub.state.version == ASYNC["steps"]
    assert max(tally.staleness_max for tally in tallies.values()) in (1, 2)  # stale, but within tau
    assert tallies.keys() == set(NODES)
    assert all(tally.merged > 0 for tally in tallies.values())


@pytest.mark.parametrize(
    "change",
    [
        {"staleness_weight": "inverse"},
        {"staleness_weight": "polynomial"},
        {"scale_lr": True},
        {"staleness_max": 1},
        {"credit": 1},
        {"quorum": 0.75},
        {"quota": 2},
    ],
    ids=lambda change: ",".join(f"{key}={value}" for key, value in change.items()),
)
def test_where_feedback_grows_stale_the_settings_of_asynchrony_matter(change: dict[str, Any]) -> None:
    assert difference(states(run(settings(**ASYNC | change), shards(), 1)), shuffled()) > 0.0


def test_the_same_shuffle_gives_the_same_weights() -> None:
    assert difference(states(run(settings(**ASYNC), shards(), 1)), shuffled()) == 0.0
    assert difference(states(run(settings(**ASYNC), shards(), 2)), shuffled()) > 0.0


@cache
def shuffled() -> dict[str, State]:
    """An asynchronous run to compare others with."""
    return states(run(settings(**ASYNC), shards(), 1))


def test_weights_that_are_not_numbers_never_count_as_equal() -> None:
    good, broken = torch.zeros(3), torch.tensor([0.0, math.nan, 0.0])
    assert difference_of_states({"a": good, "b": good}, {"a": good, "b": good}) == 0.0
    assert difference_of_states({"a": good, "b": good}, {"a": good, "b": broken}) == math.inf
    assert difference_of_states({"a": broken}, {"a": broken}) == math.inf
    assert Check("mlp", "memory", 0.0, {NodeId("n"): math.inf}).max_abs_diff == math.inf
