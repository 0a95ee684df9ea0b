"""Fidelity `tokens`: trainers that compute nothing. Tensors have a shape and a norm, and no bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import assert_never

from broker.greeting import START
from broker.jobs import (
    Batch,
    BatchesMade,
    Checkpoint,
    Checkpointed,
    Evaluate,
    Evaluated,
    Forget,
    Give,
    HubJob,
    HubResult,
    Keep,
    MakeBatches,
    Step,
    Stepped,
)
from mdgan_edge.actors import Aside
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, Tensor, Version
from nodes.jobs import (
    BACKUP,
    SHADOW,
    Install,
    Moved,
    Name,
    NodeJob,
    NodeResult,
    Offer,
    Offered,
    Prepare,
    Prepared,
    Save,
    Saved,
    Shelve,
    Shelved,
    Train,
    Trained,
    name_of,
)
from sim.orphans import Orphans

ARCHITECTURE = "tokens"
PARAMETERS = 670_219  # of a discriminator: as many as the paper's for MNIST


@dataclass(slots=True)
class HubDisk:
    """The version of the hub's last checkpoint, with the norms in it, and its shelf."""

    version: Version = START
    norms: tuple[float, ...] = ()
    orphans: Orphans = field(default_factory=Orphans)


class TokenHub:
    """Counts versions. Batches are (B, *image_shape)."""

    def __init__(self, batch_shape: tuple[int, ...], disk: HubDisk) -> None:
        self.version = disk.version
        self._disk = disk
        self._batch = Batch(Tensor("float32", batch_shape, b"", 1.0), None)

    def do(self, job: HubJob) -> HubResult | Aside:
        """One job, whole."""
        match job:
            case MakeBatches(version, count):
                return BatchesMade(version, (self._batch,) * count)
            case Step(version):
                self.version = Version(version + 1)
                return Stepped(self.version, 1.0, 0.0)
            case Evaluate(version):
                return Aside(partial(Evaluated, version, {}, "tokens have no scores", None, 0.0))
            case Checkpoint(version):
                self._disk.version, self._disk.norms = version, job.norms
                return Checkpointed(version, None)
            case Keep() | Give() | Forget():
                return self._disk.orphans.do(job)
            case _:
                assert_never(job)


@dataclass(slots=True)
class Disk:
    """What a node's last save left, whatever becomes of its process."""

    run_id: str | None = None
    held: HeldDiscriminator | None = None
    slots: dict[str, HeldDiscriminator] = field(default_factory=dict)  # a copy of the disk shares it: always durable

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside it."""
        return tuple(self.slots.values())


def _trouble(copy: Copy) -> str | None:
    """A token's digest is empty; of its numbers there is nothing but their norm."""
    if copy.digest:
        return "its digest is another"
    return None if math.isfinite(copy.numbers.norm) else "it is not finite"


class TokenNode:
    """Counts tasks."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._run_id = ""
        self.name: Name = (DiscriminatorId(""), 0)
        self._tasks = 0

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside what it holds."""
        return self._disk.spares

    def do(self, job: NodeJob) -> NodeResult:
        """One job, whole."""
        match job:
            case Train():
                self._tasks += 1
                feedback = Tensor("float32", job.task.x_g.shape, b"", 1.0)
                return Trained(job.task, feedback, 0.5, 0.5, 0.0, self._tasks)
            case Prepare():
                return self._prepare(job)
            case Save():
                self._save()
                return Saved()
            case Offer(swap_id, name):
                here = name in (None, self.name, *map(name_of, self._disk.spares))
                return Offered(swap_id, "", Tensor("float32", (PARAMETERS,), b"", 1.0) if here else None, None)
            case Shelve(copy):
                if trouble := _trouble(copy):
                    return Shelved(copy, trouble, self._disk.spares)
                self._save()
                self._disk.slots[SHADOW] = HeldDiscriminator(*job.shelf_name, ARCHITECTURE, self._tasks)
                return Shelved(copy, None, self._disk.spares)
            case Install(discriminator_id, hop, backup):
                return self._install((discriminator_id, hop), backup)
            case _:
                assert_never(job)

    def _prepare(self, job: Prepare) -> Prepared:
        kept, name = self._disk.held, (job.discriminator_id, job.hop)
        starts = self._run_id == ""
        self._run_id = job.run_id
        if job.fresh:
            self._tasks, self.name = 0, name
        elif starts and kept is not None:
            self._tasks, self.name = kept.tasks, (kept.discriminator_id, kept.hop)
        if self.name != name:
            self._install(name, backup=self._held().is_trained)
        return Prepared(self._held(), self._disk.spares)

    def _install(self, name: Name, backup: bool) -> Moved:
        assert name in map(name_of, self._disk.spares), f"{name} is not here"
        if backup:
            self._disk.slots[BACKUP] = self._held()
        self.name = name
        self._save()
        return Moved(self._held(), self._disk.spares)

    def _save(self) -> None:
        self._disk.run_id, self._disk.held = self._run_id, self._held()

    def _held(self) -> HeldDiscriminator:
        return HeldDiscriminator(*self.name, ARCHITECTURE, self._tasks)
