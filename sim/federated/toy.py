"""The baselines at fidelity `toy`: tiny networks on the ring of Gaussians, with the very parts of MD-GAN's toy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from broker.greeting import START, node_terms
from broker.jobs import Checkpoint, Checkpointed, Evaluate, Evaluated
from mdgan_edge.actors import Trainer
from mdgan_edge.costs import Pair, perceptron, work_ratio
from mdgan_edge.messages import NodeId, Version
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed
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
from sim.toy.bodies import Toy
from sim.toy.hub import normal, points_of, sample
from sim.toy.mixture import DIMENSIONS, Points
from sim.toy.networks import HIDDEN, Adam, Vector, backward, forward, initial_parameters, layers_of
from sim.toy.node import BIAS_MAX, FIRST_GAIN, SIZES, ToyDiscriminator
from sim.toy.scores import NOT_FINITE, Scorer
from sim.toy.tensors import row_from_wire, row_to_wire


def generator_sizes(settings: Settings) -> tuple[int, ...]:
    """Of its layers."""
    return settings.model.latent_size, *HIDDEN, DIMENSIONS


class ToyGan:
    """The ordinary GAN of one machine: w, θ, their Adam states, a private shard (m, 2), and how far it has got."""

    def __init__(
        self, settings: Settings, node: NodeId, shard: Points, latents: Callable[[int, int], int], common: bool
    ) -> None:
        training = settings.training
        self._training, self._shard, self._latents = training, shard, latents
        self._sizes = generator_sizes(settings)
        self.generator = initial_parameters(self._sizes, stream_seed(training.seed, "generator"))
        self.adam = Adam(len(self.generator), (training.beta1, training.beta2))
        self.judge = ToyDiscriminator(node_terms(settings), node)
        if common:
            self.judge.parameters[:] = common_discriminator(training.seed)
        self._layers = layers_of(self.generator, self._sizes)
        self._gradient = np.empty_like(self.generator)

    def iterate(self) -> LocallyUpdated:
        """L discriminator steps, then one generator step, each on a batch of its own."""
        iteration = self.judge.tasks
        activations = forward(self._layers, self._latent(iteration, 0))
        x_g, x_d = points_of(activations), points_of(forward(self._layers, self._latent(iteration, 1)))
        steps = self._training.discriminator_steps
        feedback, loss_d, loss_g = self.judge.judge(self.judge.real_batch(self._shard), x_d, x_g, steps)
        backward(self._layers, activations, feedback * (1 - np.square(x_g)), layers_of(self._gradient, self._sizes))
        self.adam.step(self.generator, self._gradient, self._training.lr_generator)
        return LocallyUpdated(loss_d, loss_g)

    def _latent(self, iteration: int, batch: int) -> Points:
        return normal(self._latents(iteration, batch), self._training.batch_size, self._sizes[0])

    def shared(self) -> Vector:
        """What is averaged, in one row."""
        return np.concatenate((self.generator, self.judge.parameters))

    def adopt(self, row: Vector) -> None:
        """Go on from there, with the Adam states as they are."""
        self.generator[:], self.judge.parameters[:] = np.split(row, [len(self.generator)])

    def state(self) -> ToyState:
        """A copy of all that `restore` takes back."""
        adams = [(adam.mean.copy(), adam.square.copy(), adam.steps) for adam in (self.adam, self.judge.adam)]
        return ToyState(self.shared(), tuple(adams), self.judge.tasks)

    def restore(self, state: ToyState) -> None:
        """Be as it was."""
        self.adopt(state.row)
        for adam, (mean, square, steps) in zip((self.adam, self.judge.adam), state.adams, strict=True):
            adam.mean[:], adam.square[:], adam.steps = mean, square, steps
        self.judge.tasks = state.iterations


def common_discriminator(seed: int) -> Vector:
    """The θ that every client of FL-GAN starts from."""
    return initial_parameters(SIZES, stream_seed(seed, "discriminator"), FIRST_GAIN, BIAS_MAX)


@dataclass(frozen=True, slots=True, eq=False)
class ToyState:
    """A ToyGan on disk. The vectors are never written to."""

    row: Vector
    adams: tuple[tuple[Vector, Vector, int], ...]
    iterations: int


@dataclass(slots=True)
class ToyDisk:
    """What a machine keeps. Of the server: its model, and how many updates lie behind it."""

    version: Version = START
    updates: float = 0.0
    row: Vector | None = None
    average: Vector | None = None
    gan: ToyState | None = None


class ToyClient:
    """Trains on its own shard; keeps its Adam states on its disk."""

    def __init__(self, gan: ToyGan, disk: ToyDisk) -> None:
        self.gan, self._disk = gan, disk
        if disk.gan is not None:
            gan.restore(disk.gan)

    def do(self, job: Any) -> Any:
        """One job, whole."""
        with np.errstate(over="ignore", invalid="ignore"):
            match job:
                case Adopt(number, numbers):
                    self.gan.adopt(row_from_wire(numbers))
                    return Adopted(number)
                case LocalUpdate():
                    return self.gan.iterate()
                case Collect(number):
                    self._disk.gan = self.gan.state()
                    return Collected(number, row_to_wire(self.gan.shared()))
                case _:
                    raise AssertionError(job)


class ToyServer:
    """Averages, and scores what it has."""

    def __init__(self, settings: Settings, scorer: Scorer, disk: ToyDisk) -> None:
        self._settings, self._scorer, self._disk = settings, scorer, disk
        seed = settings.training.seed
        start = initial_parameters(generator_sizes(settings), stream_seed(seed, "generator"))
        self.row = np.concatenate((start, common_discriminator(seed))) if disk.row is None else disk.row
        self._updates = disk.updates

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case Publish(number):
                return Published(number, row_to_wire(self.row))
            case Average(number, answers, updates):
                self.row, self._updates = averaged(answers), updates
                return Averaged(number + 1, row_to_wire(self.row))
            case Evaluate(version):
                return evaluated(version, self._settings, self._scorer, self.row)
            case Checkpoint(version):
                self._disk.version, self._disk.updates, self._disk.row = version, self._updates, self.row
                return Checkpointed(version, None)
            case _:
                raise AssertionError(job)


def averaged(answers: Sequence[Answer]) -> Vector:
    """Σ share·row (n,), summed in float64 one after the other, then rounded."""
    total = np.zeros(answers[0].numbers.shape)
    for one in answers:
        total += one.share * row_from_wire(one.numbers).astype(np.float64)
    return total.astype(np.float32)


def evaluated(version: Version, settings: Settings, scorer: Scorer, row: Vector) -> Evaluated:
    """Scores of the generator that the row begins with."""
    layers = layers_of(row, generator_sizes(settings))
    seed = stream_seed(settings.training.seed, "evaluation")
    with np.errstate(over="ignore", invalid="ignore"):
        scores = scorer.scores(sample(layers, settings.model.latent_size, settings.hub.samples, seed))
    return Evaluated(version, scores, NOT_FINITE if None in scores.values() else None, None, 0.0)


class ToyAlone:
    """The one machine there is; a moving average of its generator is scored, as MD-GAN's hub does it."""

    def __init__(self, settings: Settings, scorer: Scorer, gan: ToyGan, disk: ToyDisk) -> None:
        self._settings, self._scorer, self.gan, self._disk = settings, scorer, gan, disk
        if disk.gan is not None:
            gan.restore(disk.gan)
        self.average = gan.generator.copy() if disk.average is None else disk.average.copy()

    def do(self, job: Any) -> Any:
        """One job, whole."""
        match job:
            case LocalUpdate():
                return self._iterate()
            case Evaluate(version):
                return evaluated(version, self._settings, self._scorer, self.average)
            case Checkpoint(version):
                self._disk.version, self._disk.gan, self._disk.average = version, self.gan.state(), self.average.copy()
                return Checkpointed(version, None)
            case _:
                raise AssertionError(job)

    def _iterate(self) -> LocallyUpdated:
        with np.errstate(over="ignore", invalid="ignore"):
            done = self.gan.iterate()
        version = self.gan.judge.tasks
        decay = min(self._settings.training.ema, (1 + version) / (10 + version))  # young averages follow faster
        self.average += (1 - decay) * (self.gan.generator - self.average)
        return done


class FederatedToy(Toy):
    """FL-GAN on the ring."""

    def __init__(self, settings: Settings, nodes: int) -> None:
        super().__init__(settings, nodes)
        pair = Pair(perceptron(generator_sizes(settings)), perceptron(SIZES))
        self.work = work_ratio(pair, settings.training.discriminator_steps)

    def hub_disk(self) -> Any:
        return ToyDisk()

    def hub(self, disk: Any) -> Trainer:
        return ToyServer(self._settings, self._scorer, disk)

    def disk(self) -> Any:
        return ToyDisk()

    def keep(self, disk: Any) -> Any:
        return copy.copy(disk)

    def node(self, node: NodeId, disk: Any) -> Trainer:
        shard = self._shard(node).reshape(-1, DIMENSIONS)
        return ToyClient(ToyGan(self._settings, node, shard, local_latents(self._settings, node), True), disk)


class AloneToy(FederatedToy):
    """All of the ring's points on one machine."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, 1)

    def hub(self, disk: Any) -> Trainer:
        shard = self._shard(ONLY).reshape(-1, DIMENSIONS)
        gan = ToyGan(self._settings, ONLY, shard, hub_latents(self._settings), False)
        return ToyAlone(self._settings, self._scorer, gan, disk)
