"""The baselines at fidelity `tokens`: sizes only, those of the paper's perceptrons for MNIST."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from broker.greeting import START
from broker.jobs import Checkpoint, Checkpointed, Evaluate, Evaluated
from mdgan_edge.actors import Trainer
from mdgan_edge.costs import Pair, perceptron, work_ratio
from mdgan_edge.messages import NodeId, Tensor, Version
from mdgan_edge.settings import Settings
from sim.bodies import Tokens
from sim.federated.jobs import (
    Adopt,
    Adopted,
    Average,
    Averaged,
    Collect,
    Collected,
    LocallyUpdated,
    LocalUpdate,
    Publish,
    Published,
)

PAIR = Pair(perceptron((100, 512, 512, 784)), perceptron((784, 512, 512, 11)))
NUMBERS = Tensor("float32", (PAIR.generator.numbers + PAIR.discriminator.numbers,), b"", 1.0)


@dataclass(slots=True)
class ModelDisk:
    """Where the last checkpoint stands."""

    version: Version = START
    updates: float = 0.0


class TokenServer:
    """Counts rounds, or updates of the one machine there is."""

    def __init__(self, disk: ModelDisk) -> None:
        self._disk = disk
        self._updates = disk.updates

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case Publish(number):
                return Published(number, NUMBERS)
            case Average(number, _, updates):
                self._updates = updates
                return Averaged(number + 1, NUMBERS)
            case LocalUpdate():
                self._updates += 1
                return LocallyUpdated(0.5, 0.5)
            case Evaluate(version):
                return Evaluated(version, {}, "tokens have no scores", None, 0.0)
            case Checkpoint(version):
                self._disk.version, self._disk.updates = version, self._updates
                return Checkpointed(version, None)
            case _:
                raise AssertionError(job)


class TokenClient:
    """Does nothing."""

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case Adopt(number):
                return Adopted(number)
            case LocalUpdate():
                return LocallyUpdated(0.5, 0.5)
            case Collect(number):
                return Collected(number, NUMBERS)
            case _:
                raise AssertionError(job)


class FederatedTokens(Tokens):
    """Sizes only."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.work = work_ratio(PAIR, settings.training.discriminator_steps)

    def hub_disk(self) -> Any:
        return ModelDisk()

    def hub(self, disk: Any) -> Trainer:
        return TokenServer(disk)

    def disk(self) -> Any:
        return ModelDisk()  # nothing is ever written to it

    def keep(self, disk: Any) -> Any:
        return copy.copy(disk)

    def node(self, node: NodeId, disk: Any) -> Trainer:  # noqa: ARG002
        return TokenClient()
