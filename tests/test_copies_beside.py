"""Copies of the discriminator are made and put away while a task is under work: nobody waits for its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from nodes import trainer as under_test
from nodes.jobs import Install, Moved, Offer, Offered, Shelve, Shelved, Train
from nodes.saved import read_discriminator
from nodes.store import NodeStore
from nodes.trainer import NodeTrainer
from tests.test_node_store import prepare, task, train
from tests.test_spares import GIVEN, SWAP, bobs_copy, started

PATIENCE_S = 20.0


class Held:
    """Once it is there, each step of training waits until it is let go."""

    def __init__(self) -> None:
        self.there, self.go_on = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        self.there.set()
        assert self.go_on.wait(PATIENCE_S)


@pytest.fixture
def held() -> Iterator[Held]:
    stopped = Held()
    yield stopped
    stopped.go_on.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore.create(tmp_path / "ann", "ann")


def ann(store: NodeStore, task_s: float) -> NodeTrainer:
    """She has done two tasks, the last of which took so long."""
    trainer = started(store)
    trainer.do(prepare(fresh=True))
    train(trainer, range(2))
    trainer._task_s = task_s
    return trainer


def at_work(trainer: NodeTrainer, pool: ThreadPoolExecutor, held: Held) -> Future[Any]:
    """A third is in the middle: a step is taken, another is to come."""
    assert trainer.state is not None
    trainer.state.optimizer.register_step_post_hook(held)
    under_way = pool.submit(trainer.do, Train(task(2)))
    assert held.there.wait(PATIENCE_S)
    return under_way


def test_a_copy_that_is_made_during_a_long_task_is_what_the_task_has_found(
    store: NodeStore, held: Held, pool: ThreadPoolExecutor
) -> None:
    trainer = ann(store, under_test.LONG_TASK_S)
    before = trainer.do(Offer(SWAP))
    under_way = at_work(trainer, pool, held)
    assert trainer.do(Offer(SWAP)) == before
    held.go_on.set()
    under_way.result(PATIENCE_S)
    after = trainer.do(Offer(SWAP))
    assert isinstance(before, Offered)
    assert isinstance(after, Offered)
    assert after.digest != before.digest


def test_what_comes_is_put_away_and_what_is_saved_with_it_is_whole(
    store: NodeStore, held: Held, pool: ThreadPoolExecutor
) -> None:
    trainer = ann(store, under_test.LONG_TASK_S)
    before, copy = trainer._at_rest(), bobs_copy()[0]
    under_way = at_work(trainer, pool, held)
    shelved = trainer.do(Shelve(copy))
    assert isinstance(shelved, Shelved)
    assert shelved.trouble is None
    saved = read_discriminator(store.discriminator)
    assert saved is not None
    assert saved.held == before.held
    assert all(torch.equal(saved.tensors[name], value) for name, value in before.tensors.items())
    assert not under_way.done()
    held.go_on.set()
    assert under_way.result(PATIENCE_S).tasks == 3
    moved = trainer.do(Install(*GIVEN))
    assert isinstance(moved, Moved)
    assert moved.held.tasks == 3
    backup = read_discriminator(store.discriminator.with_name("backup.safetensors"))
    assert backup is not None
    assert backup.held.tasks == 3, "the backup has what the task has taught it"


def test_after_a_short_task_a_copy_waits_for_the_end_of_the_next(
    store: NodeStore, held: Held, pool: ThreadPoolExecutor
) -> None:
    trainer = ann(store, under_test.LONG_TASK_S / 2)
    under_way = at_work(trainer, pool, held)
    copy = pool.submit(trainer.do, Offer(SWAP))
    with pytest.raises(TimeoutError):
        copy.result(0.3)
    held.go_on.set()
    under_way.result(PATIENCE_S)
    assert copy.result(PATIENCE_S) == trainer.do(Offer(SWAP))


def test_a_task_that_raises_leaves_the_discriminator_to_others(store: NodeStore, pool: ThreadPoolExecutor) -> None:
    trainer = ann(store, under_test.LONG_TASK_S)

    def broken(*_: object) -> None:
        raise ZeroDivisionError("made up")

    assert trainer.state is not None
    trainer.state.optimizer.register_step_post_hook(broken)
    with pytest.raises(ZeroDivisionError):
        pool.submit(trainer.do, Train(task(2))).result(PATIENCE_S)
    assert isinstance(pool.submit(trainer.do, Offer(SWAP)).result(PATIENCE_S), Offered)
