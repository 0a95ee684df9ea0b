"""The node's work: its discriminator, its private shard, its state on disk. Runs in the training thread.

Samples of the shard never leave this file but as the discriminator's gradient.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import assert_never

import torch

from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.errors import DataError
from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.models import architecture
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import DiscriminatorId, HeldDiscriminator, NodeId, Task
from nodes.jobs import NodeJob, NodeResult, Prepare, Prepared, Save, Saved, Train, Trained
from nodes.saved import SavedDiscriminator, read_discriminator, write_discriminator


class NodeTrainer:
    """Owns one discriminator. `file` is where it is kept; None where nothing is to be."""

    def __init__(self, node: NodeId, shard: Images, file: Path | None) -> None:
        self._node = node
        self._x = torch.from_numpy(to_unit(shard.x))  # (m, C, H, W)
        self._y = None if shard.y is None else torch.from_numpy(shard.y)  # (m,)
        self._file = file
        self._saved = read_discriminator(file) if file is not None else None
        self._run_id = ""
        self._name: tuple[DiscriminatorId, int] = (DiscriminatorId(""), 0)
        self._labels: tuple[int, ...] | None = None
        self.state: DiscriminatorState | None = None

    @property
    def saved(self) -> SavedDiscriminator | None:
        """What was on disk at the start, until the hub has said what becomes of it."""
        return self._saved

    def do(self, job: NodeJob) -> NodeResult:
        """One job, whole."""
        match job:
            case Prepare():
                return self._prepare(job)
            case Train(task):
                return self._train(task)
            case Save():
                self._save()
                return Saved()
            case _:
                assert_never(job)

    def _prepare(self, job: Prepare) -> Prepared:
        self._run_id, self._name, self._labels = job.run_id, (job.discriminator_id, job.hop), job.labels
        if job.fresh or self.state is None:
            self.state = DiscriminatorState(job.terms, self._node)
            if not job.fresh:
                self._restore(self.state)
        self._saved = None
        return Prepared(self._held())

    def _restore(self, state: DiscriminatorState) -> None:
        assert self._saved is not None
        try:
            state.load(self._saved.tensors, self._saved.held.tasks)
        except (KeyError, ValueError, RuntimeError) as error:
            text = (
                "the discriminator in the state folder is not of the hub's model: move discriminator.safetensors away"
            )
            raise DataError(text) from error

    def _train(self, task: Task) -> Trained:
        assert self.state is not None
        started = time.perf_counter()
        x_d, x_g = to_torch(task.x_d), to_torch(task.x_g)  # (B, C, H, W)
        y_d = None if task.y_d is None else to_torch(task.y_d)  # (B,)
        y_g = None if task.y_g is None else to_torch(task.y_g)
        real = self.state.real_batch(self._x, self._y)
        judged = self.state.judge(real, x_d, y_d, x_g, y_g, task.steps, self._labels)
        feedback = to_wire(judged.feedback) if judged.finite else None
        seconds = time.perf_counter() - started
        return Trained(task, feedback, judged.loss_d, judged.loss_g, seconds, self.state.tasks)

    def _save(self) -> None:
        if self._file is not None and self.state is not None:
            write_discriminator(self._file, self._run_id, self._held(), self.state.tensors())

    def _held(self) -> HeldDiscriminator:
        assert self.state is not None
        return HeldDiscriminator(*self._name, architecture(self.state.module), self.state.tasks)
