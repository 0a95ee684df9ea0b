"""The proof: a swarm in mode "sync" computes the same weights as the paper's Algorithm 1, bit for bit.

Three swarms are held against reference.py: the production cores in one process, the same with the order of arrival
permuted, and real processes over real sockets. Who swaps with whom is chance, so it is recorded from each swarm and
replayed in the reference.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec.structs import replace

from mdgan_edge.actors import Note
from mdgan_edge.config import load_settings
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.data.sources import load
from mdgan_edge.gan.models import resolve
from mdgan_edge.gan.saved import load_generator
from mdgan_edge.messages import NodeId
from mdgan_edge.reference import Pairing, ReferenceResult, md_gan
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.settings import Settings
from nodes.saved import read_discriminator
from nodes.store import NodeStore
from sim.lockstep import Lockstep
from sim.swarm import Swarm, SwarmOptions, node_name

MODELS = ("mlp", "cnn28")
SWAP = "training.swap"
SWAPPING_MODEL, SWAP_EPOCHS = "cnn28", 0.03  # by default one model is held against the reference with swaps, too
WORLDS = ("memory", "permuted", "sockets")
SHUFFLE_SEED = 20190520

State = Mapping[str, torch.Tensor]
Pairings = tuple[Pairing, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One swarm against the reference: the largest absolute difference of any weight or buffer."""

    model: str
    world: str
    generator: float
    discriminators: dict[NodeId, float]
    swaps: int = 0  # how many pairs were replayed

    @property
    def max_abs_diff(self) -> float:
        return max(self.generator, *self.discriminators.values())


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a swarm's networks ended, and who had swapped with whom."""

    generator: State
    discriminators: dict[NodeId, State]
    swaps: Pairings


@dataclass(frozen=True, slots=True)
class SwarmSize:
    """How many nodes train for how many steps from which seed."""

    nodes: int
    steps: int
    seed: int


def verify(
    models: tuple[str, ...], worlds: tuple[str, ...], size: SwarmSize, overrides: Mapping[str, object]
) -> list[Check]:
    """Every model in every world; without `models`, those of MODELS, and one of them with swaps, unless these are set.

    `overrides` are further settings by dotted key.
    """
    torch.set_num_threads(1)
    cases = [(model, overrides) for model in models or MODELS]
    if not models and SWAP not in overrides:
        cases.append((SWAPPING_MODEL, {**overrides, SWAP: SWAP_EPOCHS}))
    return [check for model, chosen in cases for check in _verify(worlds, _settings(model, size, chosen))]


def _verify(worlds: tuple[str, ...], settings: Settings) -> list[Check]:
    shards = _shards(settings.swarm.nodes, settings.training.seed)
    tensors = {node: _tensors(shard, settings) for node, shard in shards.items()}
    expected: dict[Pairings, ReferenceResult] = {}  # worlds without swaps share one
    checks = []
    for world in worlds:
        trained = _trained(world, settings, shards)
        if trained.swaps not in expected:
            expected[trained.swaps] = md_gan(settings, tensors, settings.training.steps, trained.swaps)
        checks.append(_compare(settings.model.name, world, expected[trained.swaps], trained))
    return checks


def pairings(notes: Iterable[Note]) -> Pairings:
    """Who swapped with whom before which version, from the notes of a hub, in their order."""
    swaps = (note.facts for note in notes if note.what == "swap_committed")
    return tuple(Pairing(facts["version"], (facts["nodes"][0], facts["nodes"][1])) for facts in swaps)


def _settings(model: str, size: SwarmSize, overrides: Mapping[str, object]) -> Settings:
    fixed: dict[str, object] = {
        "mode": "sync",
        "model.name": model,
        "training.steps": size.steps,
        "training.seed": size.seed,
        "hub.nodes_min": size.nodes,
        "hub.evaluate_every": size.steps + 1,
        "swarm.nodes": size.nodes,
    }
    settings = load_settings(None, {}, {**overrides, **fixed})
    return replace(settings, model=resolve(settings.model))


def _shards(nodes: int, seed: int) -> dict[NodeId, Images]:
    images = load("digits", "train", seed)
    specs = {node_name(rank, nodes): parse_shard(shard_text("iid", rank, nodes)) for rank in range(nodes)}
    return {node: take(images, spec, seed) for node, spec in specs.items()}


def _tensors(shard: Images, settings: Settings) -> tuple[torch.Tensor, torch.Tensor | None]:
    labelled = shard.y is not None and settings.model.classes > 0
    return torch.from_numpy(to_unit(shard.x)), torch.from_numpy(shard.y) if labelled else None


def _trained(world: str, settings: Settings, shards: Mapping[NodeId, Images]) -> Trained:
    if world == "sockets":
        return _train_over_sockets(settings, shards)
    swarm = Lockstep(settings, shards, SHUFFLE_SEED if world == "permuted" else None)
    swarm.run()
    generator: State = swarm.hub.state.module.state_dict()
    states = {node: trainer.state for node, trainer in swarm.nodes.items()}
    discriminators: dict[NodeId, State] = {
        node: state.module.state_dict() for node, state in states.items() if state is not None
    }
    return Trained(generator, discriminators, pairings(swarm.notes))


def _train_over_sockets(settings: Settings, shards: Mapping[NodeId, Images]) -> Trained:
    with tempfile.TemporaryDirectory(prefix="mdgan-verify-") as folder:
        run = RunDirectory.create(Path(folder) / "run", "verify", settings.training.seed)
        images = load("digits", "train", settings.training.seed)
        swarm = Swarm(settings, SwarmOptions(run, None, images))
        try:
            swarm.start()
            swarm.watch(None)
        finally:
            swarm.end()
        generator = load_generator(run.generator, settings.model.name).module
        discriminators = {node: _saved_module(run.state / "nodes" / node) for node in shards}
        return Trained(generator, discriminators, pairings(swarm.news()))


def _saved_module(folder: Path) -> State:
    saved = read_discriminator(NodeStore(folder).discriminator)
    assert saved is not None, f"{folder} holds no discriminator"
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in saved.tensors.items() if name.startswith(prefix)}


def _compare(model: str, world: str, expected: ReferenceResult, found: Trained) -> Check:
    nodes = {node: difference(state, found.discriminators[node]) for node, state in expected.discriminators.items()}
    return Check(model, world, difference(expected.generator, found.generator), nodes, len(found.swaps))


def difference(expected: State, found: State) -> float:
    """The largest absolute difference of any value; inf if a value is not finite."""
    assert expected.keys() == found.keys()
    return max(_distance(expected[name], found[name]) for name in expected)


def _distance(expected: torch.Tensor, found: torch.Tensor) -> float:
    """inf if anything is not finite: no comparison may pass because both have diverged."""
    difference = (expected.double() - found.double()).abs()
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else math.inf
