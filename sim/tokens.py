"""Fidelity `tokens`: trainers that compute nothing. Tensors have a shape and a norm, and no bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from broker.greeting import START
from broker.jobs import (
    Batch,
    BatchesMade,
    Checkpoint,
    Checkpointed,
    Evaluate,
    Evaluated,
    HubJob,
    HubResult,
    MakeBatches,
    Step,
    Stepped,
)
from mdgan_edge.messages import DiscriminatorId, HeldDiscriminator, Tensor, Version
from nodes.jobs import NodeJob, NodeResult, Prepare, Prepared, Save, Saved, Train, Trained

ARCHITECTURE = "tokens"


@dataclass(slots=True)
class HubDisk:
    """The version of the hub's last checkpoint."""

    version: Version = START


class TokenHub:
    """Counts versions. Batches are (B, *image_shape)."""

    def __init__(self, batch_shape: tuple[int, ...], disk: HubDisk) -> None:
        self.version = disk.version
        self._disk = disk
        self._batch = Batch(Tensor("float32", batch_shape, b"", 1.0), None)

    def do(self, job: HubJob) -> HubResult:
        """One job, whole."""
        match job:
            case MakeBatches(version, count):
                return BatchesMade(version, (self._batch,) * count)
            case Step(version):
                self.version = Version(version + 1)
                return Stepped(self.version, 1.0, 0.0)
            case Evaluate(version):
                return Evaluated(version, {}, "tokens have no scores", None, 0.0)
            case Checkpoint(version):
                self._disk.version = version
                return Checkpointed(version, None)
            case _:
                assert_never(job)


@dataclass(slots=True)
class Disk:
    """What a node's last save left, whatever becomes of its process."""

    run_id: str | None = None
    held: HeldDiscriminator | None = None


class TokenNode:
    """Counts tasks."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._run_id = ""
        self._name: tuple[DiscriminatorId, int] = (DiscriminatorId(""), 0)
        self._tasks = 0

    def do(self, job: NodeJob) -> NodeResult:
        """One job, whole."""
        match job:
            case Train():
                self._tasks += 1
                feedback = Tensor("float32", job.task.x_g.shape, b"", 1.0)
                return Trained(job.task, feedback, 0.5, 0.5, 0.0, self._tasks)
            case Prepare(run_id, discriminator_id, hop, fresh):
                kept = self._disk.held
                if fresh:
                    self._tasks = 0
                elif self._run_id == "" and kept is not None:
                    self._tasks = kept.tasks
                self._run_id, self._name = run_id, (discriminator_id, hop)
                return Prepared(self._held())
            case Save():
                self._disk.run_id, self._disk.held = self._run_id, self._held()
                return Saved()
            case _:
                assert_never(job)

    def _held(self) -> HeldDiscriminator:
        return HeldDiscriminator(*self._name, ARCHITECTURE, self._tasks)
