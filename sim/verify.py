"""The proof: a swarm in mode "sync" computes the same weights as the paper's Algorithm 1, bit for bit.

Three swarms are held against reference.py: the production cores in one process, the same with the order of arrival
permuted, and real processes over real sockets.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec.structs import replace

from mdgan_edge.config import load_settings
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.data.sources import load
from mdgan_edge.gan.models import resolve
from mdgan_edge.gan.saved import load_generator
from mdgan_edge.messages import NodeId
from mdgan_edge.reference import ReferenceResult, md_gan
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.settings import Settings
from nodes.saved import read_discriminator
from nodes.store import NodeStore
from sim.lockstep import Lockstep
from sim.swarm import Swarm, SwarmOptions, node_name

MODELS = ("mlp", "cnn28")
WORLDS = ("memory", "permuted", "sockets")
SHUFFLE_SEED = 20190520

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Check:
    """One swarm against the reference: the largest absolute difference of any weight or buffer."""

    model: str
    world: str
    generator: float
    discriminators: dict[NodeId, float]

    @property
    def max_abs_diff(self) -> float:
        return max(self.generator, *self.discriminators.values())


@dataclass(frozen=True, slots=True)
class SwarmSize:
    """How many nodes train for how many steps from which seed."""

    nodes: int
    steps: int
    seed: int


def verify(
    models: tuple[str, ...], worlds: tuple[str, ...], size: SwarmSize, overrides: Mapping[str, object]
) -> list[Check]:
    """Every model in every world. `overrides` are further settings by dotted key."""
    torch.set_num_threads(1)
    checks = []
    for model in models:
        settings = _settings(model, size, overrides)
        shards = _shards(size.nodes, size.seed)
        tensors = {node: _tensors(shard, settings) for node, shard in shards.items()}
        expected = md_gan(settings, tensors, size.steps)
        for world in worlds:
            generator, discriminators = _trained(world, settings, shards)
            checks.append(_compare(model, world, expected, generator, discriminators))
    return checks


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


def _trained(world: str, settings: Settings, shards: Mapping[NodeId, Images]) -> tuple[State, dict[NodeId, State]]:
    if world == "sockets":
        return _train_over_sockets(settings, shards)
    swarm = Lockstep(settings, shards, SHUFFLE_SEED if world == "permuted" else None)
    swarm.run()
    generator: State = swarm.hub.state.module.state_dict()
    states = {node: trainer.state for node, trainer in swarm.nodes.items()}
    discriminators: dict[NodeId, State] = {
        node: state.module.state_dict() for node, state in states.items() if state is not None
    }
    return generator, discriminators


def _train_over_sockets(settings: Settings, shards: Mapping[NodeId, Images]) -> tuple[State, dict[NodeId, State]]:
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
        return generator, {node: _saved_module(run.state / "nodes" / node) for node in shards}


def _saved_module(folder: Path) -> State:
    saved = read_discriminator(NodeStore(folder).discriminator)
    assert saved is not None, f"{folder} holds no discriminator"
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in saved.tensors.items() if name.startswith(prefix)}


def _compare(
    model: str, world: str, expected: ReferenceResult, generator: State, discriminators: Mapping[NodeId, State]
) -> Check:
    nodes = {node: difference(state, discriminators[node]) for node, state in expected.discriminators.items()}
    return Check(model, world, difference(expected.generator, generator), nodes)


def difference(expected: State, found: State) -> float:
    """The largest absolute difference of any value; inf if a value is not finite."""
    assert expected.keys() == found.keys()
    return max(_distance(expected[name], found[name]) for name in expected)


def _distance(expected: torch.Tensor, found: torch.Tensor) -> float:
    """inf if anything is not finite: no comparison may pass because both have diverged."""
    difference = (expected.double() - found.double()).abs()
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else math.inf
