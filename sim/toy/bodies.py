"""What stands behind the cores at fidelity `toy`: settings that suit it, shards of the ring, trainers and disks."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mdgan_edge.actors import Trainer
from mdgan_edge.data.images import to_unit
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed
from sim.shards import Shards
from sim.toy.hub import ToyHub, ToyHubDisk
from sim.toy.losses import LOSSES
from sim.toy.mixture import DIMENSIONS, IMAGE_SHAPE, NAME, draw_images
from sim.toy.node import ARCHITECTURE, ToyDisk, ToyNode
from sim.toy.scores import Scorer

SAMPLES_PER_NODE = 250
SAMPLES_MIN = 2000

# What a toy run is trained with unless the scenario says otherwise.
TOY_TRAINING: dict[str, object] = {
    "model.latent_size": 2,
    "training.batch_size": 32,
    "training.lr_generator": 5e-3,
    "training.lr_discriminator": 4e-3,
    "training.beta1": 0.0,
    "training.beta2": 0.99,
}


def fit_toy(settings: Settings) -> Settings:
    """The settings with the toy's model and data. Raises ConfigurationError for a loss that it does not have."""
    loss = settings.training.loss
    if loss not in LOSSES:
        raise ConfigurationError(
            f"training.loss = {loss!r}: the toy's networks have no gradient penalty; "
            f"choose {', '.join(LOSSES)}, or --fidelity full"
        )
    return replace(
        settings,
        model=replace(settings.model, name="toy", classes=0),
        hub=replace(settings.hub, data=NAME),
        swarm=replace(settings.swarm, data=NAME),
    )


class Toy:
    """Numpy. The first `nodes` nodes get the shards a swarm of that size would give them, later ones any of these."""

    architecture = ARCHITECTURE
    image_shape = IMAGE_SHAPE
    through_codec = False
    work = 1.0

    def __init__(self, settings: Settings, nodes: int) -> None:
        self._settings = settings
        seed = settings.training.seed
        images = draw_images(max(SAMPLES_MIN, nodes * SAMPLES_PER_NODE), seed)
        self._shards = Shards(settings, images, nodes)
        self._scorer = Scorer(settings.hub.samples, stream_seed(seed, "scorer"))

    def hub_disk(self) -> ToyHubDisk:
        return ToyHubDisk()

    def hub(self, disk: Any) -> Trainer:
        return ToyHub(self._settings, self._scorer, disk)

    def disk(self) -> ToyDisk:
        return ToyDisk()

    def keep(self, disk: Any) -> Any:
        return copy.copy(disk)

    def node(self, node: NodeId, disk: Any) -> Trainer:
        return ToyNode(node, self._shard(node).reshape(-1, DIMENSIONS), disk)

    def shard_size(self, node: NodeId) -> int:
        return len(self._shards.of(node))

    def labels(self, node: NodeId) -> tuple[int, ...] | None:  # noqa: ARG002
        return None  # the model has no classes

    def secrets(self, node: NodeId) -> frozenset[bytes]:
        return frozenset(sample.tobytes() for sample in self._shard(node))

    def _shard(self, node: NodeId) -> NDArray[np.float32]:
        """(m, 2, 1, 1)"""
        return to_unit(self._shards.of(node).x)
