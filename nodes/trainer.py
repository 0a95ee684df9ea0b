"""The node's work: its discriminator, its private shard, its state on disk.

Samples of the shard never leave this file but as the discriminator's gradient.

Two threads come in here: one that trains, and one that makes copies and puts them away, which need not wait for the
end of a task. It finds the discriminator as the task has found it. Only one of them at a time holds the lock, without
which neither touches the discriminator, its files or the slots; a task that takes long does not hold it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import assert_never

import torch

from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.digest import digest
from mdgan_edge.errors import DataError
from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.models import architecture
from mdgan_edge.gan.parcel import pack, unpack
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, NodeId, Task
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
    SwapJob,
    Train,
    Trained,
)
from nodes.saved import SavedDiscriminator, read_discriminator, write_discriminator
from nodes.spares import Spares

UNUSABLE = ".unusable"  # what a discriminator is called that cannot be trained with
WHY_MAX = 200  # characters of what it raised
LONG_TASK_S = 0.1  # from here on a task is worth a copy of the discriminator before it; else copies wait for its end
SHORTER = 0.9  # how far a task that takes less brings that down


class UnitImages:
    """A shard as numbers in [-1, 1], made batch by batch: nodes on one machine share its bytes, nobody copies all."""

    def __init__(self, shard: Images) -> None:
        self._shard = shard

    def __len__(self) -> int:
        """How many images."""
        return len(self._shard)

    def __getitem__(self, chosen: torch.Tensor, /) -> torch.Tensor:
        """(B,) places → (B, C, H, W)."""
        return torch.from_numpy(to_unit(self._shard.at(chosen.numpy())))


class NodeTrainer:
    """Owns one discriminator. `file` is where it is kept; None where nothing is to be."""

    def __init__(self, node: NodeId, shard: Images, file: Path | None) -> None:
        self._node = node
        self._x = UnitImages(shard)
        self._y = None if shard.y is None else torch.from_numpy(shard.y)  # (m,)
        self._file = file
        self._saved = read_discriminator(file) if file is not None else None
        self._spares = Spares(file.parent if file is not None else None)
        self._run_id = ""
        self.name: Name = (DiscriminatorId(""), 0)
        self._labels: tuple[int, ...] | None = None
        self.state: DiscriminatorState | None = None
        self._untried = False  # it comes from the disk or from another node, and has not taken a step here yet
        self._lock = threading.RLock()
        self._task_s = LONG_TASK_S  # how long tasks take: the longest of late
        self._before: SavedDiscriminator | None = None  # while a task is under work that takes long

    @property
    def saved(self) -> SavedDiscriminator | None:
        """What was on disk at the start, until the hub has said what becomes of it."""
        return self._saved

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside it, of the same run."""
        return self._spares.listed(self._saved.run_id if self._saved is not None else self._run_id)

    @property
    def troubles(self) -> tuple[str, ...]:
        """What lay beside it and could not be read."""
        return tuple(self._spares.troubles)

    def do(self, job: NodeJob) -> NodeResult:
        """One job, whole."""
        if isinstance(job, Train):
            return self._train(job.task)
        with self._lock:
            return self._do(job)

    def _do(self, job: Prepare | Save | SwapJob) -> NodeResult:
        match job:
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
        name = (job.discriminator_id, job.hop)
        self._run_id, self._labels = job.run_id, job.labels
        if job.fresh or self.state is None:
            self.state = DiscriminatorState(job.terms, self._node)
            if not job.fresh:
                self._restore(self.state)
        self._saved = None
        if job.fresh:
            self.name, self._untried = name, False
        elif self.name != name:
            self._install(name, backup=self._held().is_trained)
        return Prepared(self._held(), self._spares.listed(self._run_id))

    def _restore(self, state: DiscriminatorState) -> None:
        assert self._saved is not None
        self.name = (self._saved.held.discriminator_id, self._saved.held.hop)
        self._untried = True
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
        try:
            with self._at_work():
                judged = self.state.judge(real, x_d, y_d, x_g, y_g, task.steps, self._labels)
        except Exception as error:
            if not self._untried:
                raise
            return self._unusable(task, error, time.perf_counter() - started)
        self._untried &= not judged.loss_d  # 0: there was nothing to take a step against
        feedback = to_wire(judged.feedback) if judged.finite else None
        seconds = time.perf_counter() - started
        self._task_s = max(seconds, self._task_s * SHORTER)  # one without anything to judge takes no time
        return Trained(task, feedback, judged.loss_d, judged.loss_g, seconds, self.state.tasks)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """While a task changes the discriminator: whoever wants a copy gets it as it was before, or waits a moment."""
        with self._lock:
            if self._task_s < LONG_TASK_S:
                yield
                return
            self._before = self._at_rest()
        try:
            yield
        finally:
            with self._lock:
                self._before = None

    def _at_rest(self) -> SavedDiscriminator:
        """What is held, as no task changes it any more."""
        assert self.state is not None
        return self._before or SavedDiscriminator(self._run_id, self._held(), self.state.tensors())

    def _unusable(self, task: Task, error: Exception, seconds: float) -> Trained:
        """Once, since the fresh one that comes next is no stranger: what that raises is this program's fault."""
        assert self.state is not None
        why = f"{type(error).__name__}: {error}"[:WHY_MAX]
        text = f"the discriminator {self.name[0]} cannot be trained with ({why}); going on with a fresh one"
        if self._file is not None:
            aside = self._file.with_suffix(UNUSABLE)
            with self._lock, suppress(OSError):  # it may not be on the disk; the next save replaces it there
                self._file.replace(aside)
                text = f"{text}, {aside} has it"
        return Trained(task, None, 0.0, 0.0, seconds, self.state.tasks, text)

    # --- swap -----------------------------------------------------------------------------------------------------

    def _offer(self, job: Offer) -> Offered:
        name = job.name or self.name
        found = self._at_rest() if name == self.name else self._spares.named(self._run_id, name)
        if found is None:
            return Offered(job.swap_id, "", None, None)
        numbers, counters = pack(self._travelling(found))
        return Offered(job.swap_id, digest(numbers, counters), numbers, counters)

    def _travelling(self, saved: SavedDiscriminator) -> dict[str, torch.Tensor]:
        """What moves of one."""
        assert self.state is not None
        return self.state.travelling(saved.tensors, optimizer=self.state.terms.swap_optimizer == "travel")

    def _shelve(self, job: Shelve) -> Shelved:
        """Whatever is wrong ends the swap, and never the process."""
        trouble, theirs = None, False
        try:
            tensors = self._opened(job.copy)
            self._save()  # what is held and what comes are both on disk before anybody hears of it
            self._put_by(job.shelf_name, tensors)
        except ValueError as error:
            trouble, theirs = str(error), True
        except Exception as error:  # noqa: BLE001  (nothing has been agreed yet: training goes on)
            trouble = f"cannot keep the copy: {error}"
        return Shelved(job.copy, trouble, self._spares.listed(self._run_id), theirs or trouble is None)

    def _opened(self, copy: Copy) -> dict[str, torch.Tensor]:
        if digest(copy.numbers, copy.counters) != copy.digest:
            raise ValueError("its digest is another")
        return unpack(self._travelling(self._at_rest()), copy.numbers, copy.counters)

    def _put_by(self, name: Name, tensors: dict[str, torch.Tensor]) -> None:
        assert self.state is not None
        held = HeldDiscriminator(*name, architecture(self.state.module), self.state.tasks)
        self._spares.put(SHADOW, SavedDiscriminator(self._run_id, held, tensors))

    def _install(self, name: Name, backup: bool) -> Moved:
        assert self.state is not None
        spare = self._spares.named(self._run_id, name)
        assert spare is not None, f"the hub says {name}, which this node does not have"
        if backup:
            self._spares.put(BACKUP, self._at_rest())
        self.state.take(spare.tensors)
        self.name, self._untried = name, True
        self._save()
        return Moved(self._held(), self._spares.listed(self._run_id))

    # --- disk -----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._file is not None and self.state is not None:
            write_discriminator(self._file, self._at_rest())

    def _held(self) -> HeldDiscriminator:
        assert self.state is not None
        return HeldDiscriminator(*self.name, architecture(self.state.module), self.state.tasks)
