"""The baselines at fidelity `full`: torch, real images, the scores of MD-GAN's hub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from broker.greeting import START, node_terms
from broker.jobs import Checkpoint, Checkpointed, Evaluate
from broker.trainer import HubTrainer
from mdgan_edge.actors import Trainer
from mdgan_edge.costs import work_ratio
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.gan.counting import pair_of
from mdgan_edge.gan.local import LocalGan, common_discriminator, floats_of, load_floats
from mdgan_edge.gan.parcel import pack, unpack
from mdgan_edge.gan.state import part
from mdgan_edge.gan.tensors import to_torch
from mdgan_edge.messages import NodeId, Tensor, Version
from mdgan_edge.settings import Settings
from sim.federated.jobs import (
    Adopt,
    Adopted,
    Answer,
    Average,
    Averaged,
    Collect,
    Collected,
    LocallyUpdated,
    LocalUpdate,
    Publish,
    Published,
)
from sim.federated.rules import ONLY, hub_latents, local_latents
from sim.full import Full

Tensors = Mapping[str, torch.Tensor]


@dataclass(slots=True)
class MemoryDisk:
    """What a machine keeps: tensors by name, how far they had got. Of the server: how many updates lie behind them."""

    version: Version = START
    updates: float = 0.0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


class FullClient:
    """Trains on its own shard; keeps its Adam states on its disk."""

    def __init__(self, gan: LocalGan, shard: Images, disk: MemoryDisk) -> None:
        self.gan, self._disk = gan, disk
        self._x, self._y = _tensors(shard)
        if disk.tensors:
            gan.load(disk.tensors, int(disk.version))

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case Adopt(number, numbers):
                self.gan.adopt(unpack(self.gan.shared(), numbers, None))
                return Adopted(number)
            case LocalUpdate():
                done = self.gan.iterate(self._x, self._y)
                return LocallyUpdated(done.loss_d, done.loss_g)
            case Collect(number):
                self._disk.tensors, self._disk.version = self.gan.tensors(), Version(self.gan.iterations)
                return Collected(number, pack(self.gan.shared())[0])
            case _:
                raise AssertionError(job)


class FullServer:
    """Averages; scores and saves what it has as MD-GAN's hub does."""

    def __init__(self, settings: Settings, hub: HubTrainer, disk: MemoryDisk) -> None:
        self._hub, self._disk = hub, disk
        self.generator = hub.state.module
        self.discriminator = common_discriminator(node_terms(settings))
        self._updates = disk.updates
        if disk.tensors:
            self._be(disk.tensors, disk.version)

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case Publish(number):
                return Published(number, self._numbers())
            case Average(number, answers, updates):
                self._updates = updates
                self._be(averaged(answers, self._floats()), Version(number + 1))
                return Averaged(number + 1, self._numbers())
            case Evaluate():
                return self._hub.do(job)
            case Checkpoint(version):
                self._disk.version, self._disk.updates, self._disk.tensors = version, self._updates, self._floats()
                return Checkpointed(version, None)
            case _:
                raise AssertionError(job)

    def _floats(self) -> dict[str, torch.Tensor]:
        return floats_of(self.generator, self.discriminator)

    def _numbers(self) -> Tensor:
        return pack(self._floats())[0]

    def _be(self, tensors: Tensors, version: Version) -> None:
        load_floats(self.generator, self.discriminator, tensors)
        self._hub.state.average.load_state_dict(self.generator.state_dict())  # it is an average already
        self._hub.state.version = version


def averaged(answers: Sequence[Answer], like: Tensors) -> dict[str, torch.Tensor]:
    """Σ share·numbers, summed in float64 one after the other, then rounded; nan where a sum is not finite."""
    total = torch.zeros(math.prod(answers[0].numbers.shape), dtype=torch.float64)
    for one in answers:
        total += one.share * to_torch(one.numbers).double()
    row, found, at = total.float(), {}, 0
    for name in sorted(like):
        found[name] = row[at : at + like[name].numel()].reshape(like[name].shape)
        at += like[name].numel()
    return found


class FullAlone:
    """The one machine there is; a moving average of its generator is scored, as MD-GAN's hub does it."""

    def __init__(self, gan: LocalGan, shard: Images, hub: HubTrainer, disk: MemoryDisk) -> None:
        self.gan, self._hub, self._disk = gan, hub, disk
        self._x, self._y = _tensors(shard)
        hub.state.module = gan.generator
        if disk.tensors:
            gan.load(disk.tensors, int(disk.version))
            hub.state.version = disk.version
            hub.state.average.load_state_dict(part(disk.tensors, "average."))

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case LocalUpdate():
                done = self.gan.iterate(self._x, self._y)
                self._hub.state.moved()
                return LocallyUpdated(done.loss_d, done.loss_g)
            case Evaluate():
                return self._hub.do(job)
            case Checkpoint(version):
                average = self._hub.state.average.state_dict()
                kept = {f"average.{name}": value.detach().clone() for name, value in average.items()}
                self._disk.version, self._disk.tensors = version, {**self.gan.tensors(), **kept}
                return Checkpointed(version, None)
            case _:
                raise AssertionError(job)


def _tensors(shard: Images) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.from_numpy(to_unit(shard.x)), None if shard.y is None else torch.from_numpy(shard.y)


class FederatedFull(Full):
    """FL-GAN on images."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.work = work_ratio(pair_of(self.settings.model), self.settings.training.discriminator_steps)

    def hub_disk(self) -> Any:
        return MemoryDisk()

    def hub(self, disk: Any) -> Trainer:
        return FullServer(self.settings, HubTrainer(self.settings, self.run, self.scorer()), disk)

    def disk(self) -> Any:
        return MemoryDisk()

    def keep(self, disk: Any) -> Any:
        return MemoryDisk(disk.version, disk.updates, disk.tensors)

    def node(self, node: NodeId, disk: Any) -> Trainer:
        latents = local_latents(self.settings, node)
        gan = LocalGan(node_terms(self.settings), self.settings.training, node, latents, common=True)
        return FullClient(gan, self.shards.of(node), disk)


class AloneFull(FederatedFull):
    """All images on one machine."""

    def hub(self, disk: Any) -> Trainer:
        gan = LocalGan(
            node_terms(self.settings), self.settings.training, ONLY, hub_latents(self.settings), common=False
        )
        hub = HubTrainer(self.settings, self.run, self.scorer())
        return FullAlone(gan, self.shards.of(ONLY), hub, disk)
