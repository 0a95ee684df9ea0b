"""The hub's work at fidelity `toy`: batches, steps and scores, as broker/trainer.py does them with torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import assert_never

import numpy as np

from broker.greeting import START
from broker.jobs import (
    Batch,
    BatchesMade,
    Checkpoint,
    Checkpointed,
    Contribution,
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
from mdgan_edge.messages import Version
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed
from sim.orphans import Orphans
from sim.toy.mixture import DIMENSIONS, Points
from sim.toy.networks import (
    HIDDEN,
    Adam,
    Layers,
    Matrix,
    Vector,
    backward,
    forward,
    initial_parameters,
    layers_of,
)
from sim.toy.scores import NOT_FINITE, Scorer
from sim.toy.tensors import l2_norm, to_wire

SAMPLE_BATCH = 100  # points per forward when drawing samples


@dataclass(slots=True)
class ToyHubDisk:
    """The hub's last checkpoint: parameters, average and Adam's moments at `version`."""

    version: Version = START
    kept: tuple[Vector, Vector, Vector, Vector] | None = None
    steps: int = 0  # Adam's
    norms: tuple[float, ...] = ()
    orphans: Orphans = field(default_factory=Orphans)


class ToyHub:
    """Owns the generator, its Adam state, its snapshots and its moving average. X = tanh(MLP(z)), (B, 2)."""

    def __init__(self, settings: Settings, scorer: Scorer, disk: ToyHubDisk) -> None:
        self.version = disk.version
        self._disk = disk
        self._training, self._samples, self._scorer = settings.training, settings.hub.samples, scorer
        self._sizes = (settings.model.latent_size, *HIDDEN, DIMENSIONS)
        self.parameters = initial_parameters(self._sizes, stream_seed(self._training.seed, "generator"))
        self.average: Vector = self.parameters.copy()
        self._adam = Adam(len(self.parameters), (self._training.beta1, self._training.beta2))
        self._snapshots: dict[Version, Layers] = {}
        if disk.kept is not None:
            self.parameters[:], self.average[:], self._adam.mean[:], self._adam.square[:] = disk.kept
            self._adam.steps = disk.steps

    def do(self, job: HubJob) -> HubResult | Aside:
        """One job, whole."""
        with np.errstate(over="ignore", invalid="ignore"):  # a generator may diverge: the core sees it
            match job:
                case MakeBatches():
                    return self._make_batches(job)
                case Step():
                    return self._step(job)
                case Evaluate():
                    return self._evaluate(job)
                case Checkpoint():
                    return self._checkpoint(job)
                case Keep() | Give() | Forget():
                    return self._disk.orphans.do(job)
                case _:
                    assert_never(job)

    # --- batches --------------------------------------------------------------------------------------------------

    def _make_batches(self, job: MakeBatches) -> BatchesMade:
        assert job.version == self.version
        layers = self._snapshots.setdefault(self.version, self._layers(self.parameters.copy()))
        made = (points_of(forward(layers, self._latent(self.version, index))) for index in range(job.count))
        return BatchesMade(job.version, tuple(Batch(to_wire(points), None) for points in made))

    def _latent(self, version: Version, index: int) -> Matrix:
        seed = stream_seed(self._training.seed, "latent", version, index)
        return normal(seed, self._training.batch_size, self._sizes[0])

    def _layers(self, parameters: Vector) -> Layers:
        return layers_of(parameters, self._sizes)

    # --- steps ----------------------------------------------------------------------------------------------------

    def _step(self, job: Step) -> Stepped:
        assert job.version == self.version
        gradient = self.merged_gradient(job)
        self._adam.step(self.parameters, gradient, self._training.lr_generator * job.lr_scale)
        self.version = Version(self.version + 1)
        for version in [version for version in self._snapshots if version < job.oldest]:
            del self._snapshots[version]
        decay = min(self._training.ema, (1 + self.version) / (10 + self.version))  # young averages follow faster
        self.average += (1 - decay) * (self.parameters - self.average)
        return Stepped(self.version, l2_norm(gradient), 0.0)

    def merged_gradient(self, job: Step) -> Vector:
        """Σ_j J_j(w_v)^T S_j (P,) with S_j = (Σ weight·F) / divisor, each batch at the version that made it."""
        total: Vector = np.zeros_like(self.parameters)
        part = np.empty_like(total)
        part_layers = self._layers(part)
        for (version, index), group in groupby(job.contributions, key=lambda one: (one.version, one.index)):
            layers = self._snapshots[version]
            activations = forward(layers, self._latent(version, index))
            slope = _weighted_sum(tuple(group)) / job.divisor * (1 - np.square(points_of(activations)))  # (B, 2)
            backward(layers, activations, slope, part_layers)
            total += part
        return total

    def _checkpoint(self, job: Checkpoint) -> Checkpointed:
        assert job.version == self.version
        adam = self._adam
        if not np.isfinite(self.parameters).all():
            return Checkpointed(job.version, "the generator is not finite")
        self._disk.kept = (self.parameters.copy(), self.average.copy(), adam.mean.copy(), adam.square.copy())
        self._disk.version, self._disk.steps, self._disk.norms = self.version, adam.steps, job.norms
        return Checkpointed(job.version, None)

    # --- scores ---------------------------------------------------------------------------------------------------

    def _evaluate(self, job: Evaluate) -> Aside:
        scores = self._scorer.scores(self.sample(self._samples))
        missing = NOT_FINITE if None in scores.values() else None
        return Aside(partial(Evaluated, job.version, scores, missing, None, 0.0))

    def sample(self, count: int) -> Points:
        """Points (count, 2) of the averaged generator."""
        return sample(self._layers(self.average), self._sizes[0], count, stream_seed(self._training.seed, "evaluation"))


def sample(layers: Layers, latent_size: int, count: int, seed: int) -> Points:
    """Points (count, 2) of a generator."""
    z = normal(seed, count, latent_size)
    chunks = [points_of(forward(layers, z[at : at + SAMPLE_BATCH])) for at in range(0, count, SAMPLE_BATCH)]
    return np.concatenate(chunks)


def normal(seed: int, count: int, latent_size: int) -> Matrix:
    """z (count, latent)."""
    return np.random.default_rng(seed).standard_normal((count, latent_size), np.float32)


def points_of(activations: list[Matrix]) -> Points:
    """X = tanh of the outputs, (B, 2)."""
    return np.tanh(activations[-1])


def _weighted_sum(contributions: tuple[Contribution, ...]) -> Points:
    """Σ weight·F (B, 2) of the feedback on one batch."""
    weights = np.array([one.weight for one in contributions], np.float32)  # (M,)
    feedback = np.frombuffer(b"".join(one.feedback.data for one in contributions), np.float32)
    total: Points = np.dot(weights, feedback.reshape(len(weights), -1)).reshape(-1, DIMENSIONS)
    return total
