"""A node's work at fidelity `toy`: its discriminator and its disk, as nodes/trainer.py has them with torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from mdgan_edge.digest import digest
from mdgan_edge.messages import DiscriminatorId, HeldDiscriminator, NodeId, NodeTerms, Task
from mdgan_edge.streams import stream_seed
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
from sim.toy.losses import LOSSES
from sim.toy.mixture import DIMENSIONS, Points
from sim.toy.networks import HIDDEN, Adam, Vector, backward, forward, initial_parameters, layers_of, parameter_count
from sim.toy.tensors import from_wire, row_from_wire, row_to_wire, to_wire

SIZES = (DIMENSIONS, *HIDDEN, 1)
# A tanh network without these is all but linear on the ring, and takes long to tell eight spots apart.
FIRST_GAIN = 4.0
BIAS_MAX = 1.5
STEPS_MAX = 1 << 24  # of Adam, as production bounds them
ARCHITECTURE = "toy " + "-".join(map(str, SIZES))


@dataclass(frozen=True, slots=True, eq=False)
class SavedDiscriminator:
    """What a save writes. The vectors are never written to."""

    run_id: str
    held: HeldDiscriminator
    parameters: Vector
    mean: Vector  # Adam's moments and steps
    square: Vector
    steps: int


@dataclass(slots=True)
class ToyDisk:
    """What a node's last save left, whatever becomes of its process."""

    saved: SavedDiscriminator | None = None
    slots: dict[str, SavedDiscriminator] = field(default_factory=dict)  # a copy of the disk shares it: always durable

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside it."""
        return tuple(saved.held for saved in self.slots.values())

    @property
    def run_id(self) -> str | None:
        """The run of the saved discriminator."""
        return self.saved.run_id if self.saved else None

    @property
    def held(self) -> HeldDiscriminator | None:
        """The saved discriminator."""
        return self.saved.held if self.saved else None


class ToyDiscriminator:
    """θ, its Adam state and the number of tasks it was trained on, for one node."""

    def __init__(self, terms: NodeTerms, node: NodeId) -> None:
        self.tasks = 0
        seed = stream_seed(terms.seed, "discriminator", node)
        self.parameters = initial_parameters(SIZES, seed, FIRST_GAIN, BIAS_MAX)
        self.adam = Adam(len(self.parameters), terms.betas)
        self._terms, self._node = terms, node
        self._loss = LOSSES[terms.loss]
        self._layers = layers_of(self.parameters, SIZES)
        self._gradient: Vector = np.empty(parameter_count(SIZES), np.float32)
        self._gradient_layers = layers_of(self._gradient, SIZES)

    def real_batch(self, x: Points) -> Points:
        """X_r of the next task, without replacement: x (m, 2) → (B, 2)."""
        rng = np.random.default_rng(stream_seed(self._terms.seed, "real", self._node, self.tasks))
        return x[rng.permutation(len(x))[: self._terms.batch_size]]

    def judge(self, x_r: Points, x_d: Points, x_g: Points, steps: int) -> tuple[Points, float, float]:
        """`steps` Adam steps on LD with the same X_r and X_d, then F = dLG/dX_g (B, 2); and the last losses LD, LG."""
        self.tasks += 1
        both = np.concatenate((x_r, x_d))  # (2B, 2)
        loss_d = 0.0
        for _ in range(steps):
            activations = forward(self._layers, both)
            loss_d, slope = self._loss.discriminator(activations[-1].ravel(), len(x_r))
            backward(self._layers, activations, slope[:, None], self._gradient_layers)
            self.adam.step(self.parameters, self._gradient, self._terms.lr)
        activations = forward(self._layers, x_g)
        loss_g, slope = self._loss.generator(activations[-1].ravel())
        return backward(self._layers, activations, slope[:, None]), loss_d, loss_g

    def saved(self, run_id: str, held: HeldDiscriminator) -> SavedDiscriminator:
        """A copy of all that `load` takes back."""
        adam = self.adam
        return SavedDiscriminator(
            run_id, held, self.parameters.copy(), adam.mean.copy(), adam.square.copy(), adam.steps
        )

    def travelling(self, saved: SavedDiscriminator) -> Vector:
        """What moves of one: θ, and Adam's moments and steps if these go along."""
        if self._terms.swap_optimizer != "travel":
            return saved.parameters
        return np.concatenate((saved.parameters, saved.mean, saved.square, np.array([saved.steps], np.float32)))

    def misfit(self, row: Vector) -> str | None:
        """Why this row is no discriminator that could come here; None if it is."""
        count = len(self.parameters)
        if len(row) != (3 * count + 1 if self._terms.swap_optimizer == "travel" else count):
            return "it has another number of parameters"
        if not np.isfinite(row).all():
            return "it is not finite"
        squares, steps = row[2 * count : 3 * count], row[3 * count :]
        if (squares < 0).any() or (steps < 0).any() or (steps > STEPS_MAX).any() or (steps != np.round(steps)).any():
            return "its Adam is one that no training leaves"
        return None

    def arrived(self, run_id: str, held: HeldDiscriminator, row: Vector) -> SavedDiscriminator:
        """A row that has come, as it is kept."""
        count = len(self.parameters)
        zeros = np.zeros(count, np.float32)
        mean, square = (row[count : 2 * count], row[2 * count : 3 * count]) if len(row) > count else (zeros, zeros)
        steps = int(row[-1]) if len(row) > count else 0
        return SavedDiscriminator(run_id, held, row[:count].copy(), mean.copy(), square.copy(), steps)

    def take(self, saved: SavedDiscriminator) -> None:
        """Be another discriminator from now on. Adam's moments: those that came along, its own, or none."""
        self.parameters[:] = saved.parameters
        if self._terms.swap_optimizer != "stay":
            self.adam.mean[:], self.adam.square[:], self.adam.steps = saved.mean, saved.square, saved.steps

    def load(self, saved: SavedDiscriminator) -> None:
        """Go on from there."""
        self.parameters[:], self.adam.mean[:], self.adam.square[:] = saved.parameters, saved.mean, saved.square
        self.adam.steps, self.tasks = saved.steps, saved.held.tasks


class ToyNode:
    """Owns one discriminator. `shard` (m, 2) is private."""

    def __init__(self, node: NodeId, shard: Points, disk: ToyDisk) -> None:
        self._node, self._shard, self._disk = node, shard, disk
        self._saved = disk.saved
        self._run_id = ""
        self.name: Name = (DiscriminatorId(""), 0)
        self.state: ToyDiscriminator | None = None

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside what it holds."""
        return self._disk.spares

    def do(self, job: NodeJob) -> NodeResult:
        """One job, whole."""
        match job:
            case Train(task):
                return self._train(task)
            case Prepare():
                return self._prepare(job)
            case Save():
                self._save()
                return Saved()
            case Offer():
                return self._offer(job)
            case Shelve():
                return self._shelve(job)
            case Install(discriminator_id, hop, backup):
                return self._install((discriminator_id, hop), backup)
            case _:
                assert_never(job)

    def _prepare(self, job: Prepare) -> Prepared:
        self._run_id, name = job.run_id, (job.discriminator_id, job.hop)
        if job.fresh or self.state is None:
            self.state = ToyDiscriminator(job.terms, self._node)
            if not job.fresh:
                assert self._saved is not None
                self.name = (self._saved.held.discriminator_id, self._saved.held.hop)
                self.state.load(self._saved)
        self._saved = None
        if job.fresh:
            self.name = name
        elif self.name != name:
            self._install(name, backup=self._held().is_trained)
        return Prepared(self._held(), self._disk.spares)

    def _offer(self, job: Offer) -> Offered:
        assert self.state is not None
        saved = self.state.saved(self._run_id, self._held())
        if job.name not in (None, self.name):
            spare = self._spare(job.name)
            if spare is None:
                return Offered(job.swap_id, "", None, None)
            saved = spare
        row = row_to_wire(self.state.travelling(saved))
        return Offered(job.swap_id, digest(row), row, None)

    def _spare(self, name: Name | None) -> SavedDiscriminator | None:
        return next((one for one in self._disk.slots.values() if name_of(one.held) == name), None)

    def _shelve(self, job: Shelve) -> Shelved:
        assert self.state is not None
        copy = job.copy
        intact = digest(copy.numbers) == copy.digest
        trouble = self.state.misfit(row_from_wire(copy.numbers)) if intact else "its digest is another"
        if trouble is None:
            self._save()
            held = HeldDiscriminator(*job.shelf_name, ARCHITECTURE, self.state.tasks)
            self._disk.slots[SHADOW] = self.state.arrived(self._run_id, held, row_from_wire(copy.numbers))
        return Shelved(copy, trouble, self._disk.spares)

    def _install(self, name: Name, backup: bool) -> Moved:
        assert self.state is not None
        spare = self._spare(name)
        assert spare is not None, f"{name} is not here"
        if backup:
            self._disk.slots[BACKUP] = self.state.saved(self._run_id, self._held())
        self.state.take(spare)
        self.name = name
        self._save()
        return Moved(self._held(), self._disk.spares)

    def _save(self) -> None:
        if self.state is not None:
            self._disk.saved = self.state.saved(self._run_id, self._held())

    def _train(self, task: Task) -> Trained:
        assert self.state is not None
        x_d, x_g = from_wire(task.x_d), from_wire(task.x_g)  # (B, 2)
        with np.errstate(over="ignore", invalid="ignore"):  # a discriminator may diverge: the core sees it
            feedback, loss_d, loss_g = self.state.judge(self.state.real_batch(self._shard), x_d, x_g, task.steps)
            tensor = to_wire(feedback)
        finite = math.isfinite(tensor.norm) and math.isfinite(loss_d) and math.isfinite(loss_g)
        return Trained(task, tensor if finite else None, loss_d, loss_g, 0.0, self.state.tasks)

    def _held(self) -> HeldDiscriminator:
        assert self.state is not None
        return HeldDiscriminator(*self.name, ARCHITECTURE, self.state.tasks)
