"""The hub's work: batches, steps, evaluations and the files they leave. Runs in the training thread, but for scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol, assert_never

import torch
from safetensors.torch import save

from broker.checkpoint_files import SavedCheckpoint, write_checkpoint
from broker.jobs import (
    Batch,
    BatchesMade,
    Checkpoint,
    Checkpointed,
    Contribution,
    Evaluate,
    Evaluated,
    Forget,
    Forgotten,
    Give,
    Given,
    HubJob,
    HubResult,
    Keep,
    Kept,
    MakeBatches,
    Step,
    Stepped,
)
from broker.scoring import NO_REAL_IMAGES
from broker.shelf import Shelf
from mdgan_edge.actors import Aside
from mdgan_edge.data.grid import save_grid
from mdgan_edge.errors import DataError
from mdgan_edge.gan.generator import GeneratorState, JudgedBatch, NodeFeedback
from mdgan_edge.gan.saved import generator_file
from mdgan_edge.gan.scores import Scores
from mdgan_edge.gan.state import all_finite
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import Version
from mdgan_edge.rundir import RunDirectory, write_atomic
from mdgan_edge.settings import Settings

GRID_COLUMNS = 10
GRID_ROWS = 10


class Scoring(Protocol):
    """What looks at an averaged generator. Called from other threads than the trainer, for as long as it takes."""

    def scores(self, average: Mapping[str, torch.Tensor]) -> Scores:
        """The scores of the generator with this state dict."""


class HubTrainer:
    """Owns the generator. `run` is where files go; `scoring` may be one that can give no score.

    `saved`: go on there; `checkpoints`, `orphans`: the folders of those to come.
    """

    def __init__(
        self,
        settings: Settings,
        run: RunDirectory | None,
        scoring: Scoring | None,
        saved: SavedCheckpoint | None = None,
        checkpoints: Path | None = None,
        orphans: Path | None = None,
    ) -> None:
        self.state = GeneratorState(settings.model, settings.training)
        if saved is not None:
            saved.restore(self.state)
        self._run = run
        self._scoring = scoring
        self._checkpoints = checkpoints
        self._shelf = Shelf(orphans)

    def do(self, job: HubJob) -> HubResult | Aside:
        """One job; of an evaluation only what needs the generator, its scores are left aside."""
        match job:
            case MakeBatches():
                return self._make_batches(job)
            case Step():
                return self._step(job)
            case Evaluate():
                return self._evaluate(job)
            case Checkpoint():
                return self._checkpoint(job)
            case Keep():
                return self._keep(job)
            case Give(swap_id, to, discriminator_id):
                return Given(swap_id, to, discriminator_id, self._shelf.copy(job))
            case Forget(discriminators):
                self._shelf.forget(discriminators)
                return Forgotten()
            case _:
                assert_never(job)

    def _make_batches(self, job: MakeBatches) -> BatchesMade:
        assert job.version == self.state.version
        batches = []
        for index in range(job.count):
            images, labels = self.state.make_batch(index)  # (B, C, H, W), (B,)
            batches.append(Batch(to_wire(images), None if labels is None else to_wire(labels)))
        return BatchesMade(job.version, tuple(batches))

    def _step(self, job: Step) -> Stepped:
        assert job.version == self.state.version
        started = time.perf_counter()
        norm = self.state.step(judged_batches(job.contributions), job.divisor, job.lr_scale, job.oldest)
        return Stepped(self.state.version, norm, time.perf_counter() - started)

    def _evaluate(self, job: Evaluate) -> Aside:
        started = time.perf_counter()
        trouble = self._save(self._run, job) if self._run is not None else None
        average = {name: value.clone() for name, value in self.state.average.state_dict().items()}
        return Aside(partial(self._score, job.version, average, trouble, started))

    def _score(
        self, version: Version, average: Mapping[str, torch.Tensor], trouble: str | None, started: float
    ) -> Evaluated:
        found = Scores(reason=NO_REAL_IMAGES) if self._scoring is None else self._scoring.scores(average)
        scores = asdict(found)
        missing = scores.pop("reason")
        return Evaluated(version, scores, missing, trouble, time.perf_counter() - started)

    def _checkpoint(self, job: Checkpoint) -> Checkpointed:
        assert job.version == self.state.version
        if self._checkpoints is None:
            return Checkpointed(job.version, "there is no folder for checkpoints")
        try:
            write_checkpoint(self._checkpoints, self.state, job.run_id, job.norms)
        except DataError as error:
            return Checkpointed(job.version, str(error))
        return Checkpointed(job.version, None)

    def _keep(self, job: Keep) -> Kept:
        try:
            self._shelf.put(job)
        except DataError as error:
            return Kept(job.copy.swap_id, str(error))
        return Kept(job.copy.swap_id, None)

    def _save(self, run: RunDirectory, job: Evaluate) -> str | None:
        """Why it could not be saved. The next evaluation tries again, so only the last one raises DataError."""
        if not all_finite(self.state.average.state_dict().values()):
            return f"the generator of version {job.version} is not finite: what was saved before stays"
        try:
            self._write(run, job)
        except DataError as error:
            if job.final:
                raise
            return str(error)
        return None

    def _write(self, run: RunDirectory, job: Evaluate) -> None:
        images, _ = self.state.sample(GRID_COLUMNS * GRID_ROWS, "grid")
        name = f"version-{job.version:06d}.png"
        save_grid(run.samples / name, images.numpy(), GRID_COLUMNS)
        if job.final:
            save_grid(run.samples / "final.png", images.numpy(), GRID_COLUMNS)
        write_atomic(run.generator, save(*generator_file(self.state)))


def judged_batches(contributions: Sequence[Contribution]) -> list[JudgedBatch]:
    """Contributions, sorted by (version, index, node), as the generator takes them: one entry per batch."""
    grouped = groupby(contributions, key=lambda one: (one.version, one.index))
    return [JudgedBatch(version, index, [_node_feedback(one) for one in group]) for (version, index), group in grouped]


def _node_feedback(one: Contribution) -> NodeFeedback:
    return NodeFeedback(to_torch(one.feedback), one.weight, one.part, one.labels)
