"""What stands behind the cores in the virtual world: trainers, disks and shards of one fidelity."""

from __future__ import annotations

import copy
from typing import Any, Protocol

from mdgan_edge.actors import Trainer
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings
from sim.tokens import ARCHITECTURE, Disk, HubDisk, TokenHub, TokenNode

SHARD_SIZE = 1_000  # images a node of tokens says it has


class Bodies(Protocol):
    """Makes trainers. `through_codec`: messages carry real bytes and go through encoding and decoding."""

    architecture: str
    image_shape: tuple[int, int, int]
    through_codec: bool
    work: float  # of a local update of the baselines, in tasks of MD-GAN

    def hub_disk(self) -> Any:
        """An empty disk for the hub; its `version` is that of the last checkpoint, `orphans` its shelf."""

    def hub(self, disk: Any) -> Trainer:
        """A generator that goes on from the disk's last checkpoint."""

    def disk(self) -> Any:
        """An empty disk for a node; it has `run_id` and `held`, and survives the node's process."""

    def keep(self, disk: Any) -> Any:
        """The disk as it is now."""

    def node(self, node: NodeId, disk: Any) -> Trainer:
        """A node's trainer that starts from this disk."""

    def shard_size(self, node: NodeId) -> int:
        """How many images the node holds."""

    def labels(self, node: NodeId) -> tuple[int, ...] | None:
        """The classes the node says it holds; None if it names none."""

    def secrets(self, node: NodeId) -> frozenset[bytes]:
        """The node's private samples as they would lie in a float32 tensor; empty where it has none to lose."""


class Tokens:
    """Sizes only."""

    architecture = ARCHITECTURE
    through_codec = False
    work = 1.0

    def __init__(self, settings: Settings) -> None:
        model = settings.model
        self.image_shape: tuple[int, int, int] = (model.channels, model.image_size, model.image_size)
        self._batch_shape = (settings.training.batch_size, *self.image_shape)

    def hub_disk(self) -> HubDisk:
        return HubDisk()

    def hub(self, disk: Any) -> Trainer:
        return TokenHub(self._batch_shape, disk)

    def disk(self) -> Disk:
        return Disk()

    def keep(self, disk: Any) -> Any:
        return copy.copy(disk)

    def node(self, node: NodeId, disk: Any) -> Trainer:  # noqa: ARG002
        return TokenNode(disk)

    def shard_size(self, node: NodeId) -> int:  # noqa: ARG002
        return SHARD_SIZE

    def labels(self, node: NodeId) -> tuple[int, ...] | None:  # noqa: ARG002
        return None  # the model has no classes

    def secrets(self, node: NodeId) -> frozenset[bytes]:  # noqa: ARG002
        return frozenset()
