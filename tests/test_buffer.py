"""The buffer gives each feedback to exactly one step, in rank order, and its divisor is what was merged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.buffer import Entry, FeedbackBuffer, Taken
from broker.jobs import Contribution, Step
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import NodeId, TaskId, Version
from mdgan_edge.settings import TrainingSettings
from tests.hub_world import ALICE, BOB, CAROL, gradient

NOW = nanos(1)

OLDEST = Version(0)  # somebody still works on the first version


def alike(_: NodeId) -> float:
    return 1.0


def nobody(norms: Sequence[float]) -> list[float]:
    return [1.0] * len(norms)


def entry(task: int, node: NodeId, version: int, index: int = 0) -> Entry:
    return Entry(Contribution(TaskId(task), node, Version(version), index, 1.0, gradient()), 0.5, 0.25)


def filled(*entries: Entry) -> FeedbackBuffer:
    buffer = FeedbackBuffer()
    for one in entries:
        buffer.add(one, NOW)
    return buffer


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"staleness_max": 2, "scale_lr": False, **changes})


ENTRIES = (entry(1, BOB, 4), entry(4, ALICE, 5, index=1), entry(3, ALICE, 5), entry(2, CAROL, 5))


@pytest.mark.parametrize("order", list(permutations(ENTRIES)))
def test_the_merge_order_is_version_then_batch_then_node_whatever_came_first(order: tuple[Entry, ...]) -> None:
    taken = filled(*order).take(settings(), Version(5), live=4, oldest=OLDEST, omega=alike, clip=nobody)
    assert [one.contribution.task_id for one in taken.merged] == [1, 3, 2, 4]


def test_the_divisor_is_the_number_merged_not_the_number_of_nodes() -> None:
    for merged in (1, 2, 3):
        step = (
            filled(*ENTRIES[1 : 1 + merged])
            .take(settings(staleness_weight="none"), Version(5), live=10, oldest=OLDEST, omega=alike, clip=nobody)
            .step
        )
        assert step is not None
        assert step.divisor == merged


def test_the_weight_is_alpha_times_clipping_and_the_divisor_knows_no_clipping() -> None:
    taken = filled(entry(1, ALICE, 4), entry(2, BOB, 5)).take(
        settings(), Version(5), live=2, oldest=Version(0), omega=alike, clip=lambda _: [0.1, 1.0]
    )
    contributions = (
        Contribution(TaskId(1), ALICE, Version(4), 0, 0.05, gradient(), part=0.5),
        Contribution(TaskId(2), BOB, Version(5), 0, 1.0, gradient()),
    )
    assert taken.step == Step(Version(5), contributions, 1.5, 1.0, Version(4))


def test_what_has_grown_stale_is_set_apart() -> None:
    old, fresh = entry(1, ALICE, 2), entry(2, BOB, 3)
    taken = filled(old, fresh).take(settings(), Version(5), live=2, oldest=OLDEST, omega=alike, clip=nobody)
    assert (taken.merged, taken.stale) == ((fresh,), (old,))


def test_a_buffer_of_stale_feedback_makes_no_step() -> None:
    old = entry(1, ALICE, 2)
    assert filled(old).take(settings(), Version(5), live=2, oldest=OLDEST, omega=alike, clip=nobody) == Taken(
        (), (old,), None
    )


def test_the_oldest_snapshot_still_needed_follows_tau() -> None:
    for version, oldest in ((0, 0), (1, 0), (2, 1), (9, 8)):
        step = (
            filled(entry(1, ALICE, version))
            .take(settings(), Version(version), live=1, oldest=OLDEST, omega=alike, clip=nobody)
            .step
        )
        assert step is not None
        assert step.oldest == oldest


def test_the_wait_begins_with_the_first_entry_after_the_buffer_was_emptied() -> None:
    buffer = filled(*ENTRIES)
    buffer.add(entry(9, BOB, 5), nanos(2))
    assert buffer.first_at == NOW
    buffer.take(settings(), Version(5), live=4, oldest=OLDEST, omega=alike, clip=nobody)
    buffer.add(entry(10, BOB, 6), nanos(3))
    assert buffer.first_at == nanos(3)


def test_a_purge_forgets_one_node_only() -> None:
    buffer = filled(*ENTRIES)
    buffer.purge(ALICE)
    assert (len(buffer), buffer.held_by(ALICE), buffer.held_by(BOB)) == (2, 0, 1)
    merged = buffer.take(settings(), Version(5), live=4, oldest=OLDEST, omega=alike, clip=nobody).merged
    assert [one.contribution.task_id for one in merged] == [1, 2]


@given(st.lists(st.one_of(st.tuples(st.sampled_from([ALICE, BOB]), st.integers(0, 5)), st.none()), max_size=40))
def test_every_entry_leaves_the_buffer_exactly_once(moves: list[tuple[NodeId, int] | None]) -> None:
    buffer, left, added = FeedbackBuffer(), list[int](), 0
    for move in [*moves, None]:
        if move is None:
            taken = buffer.take(settings(), Version(5), live=2, oldest=OLDEST, omega=alike, clip=nobody)
            left += [one.contribution.task_id for one in (*taken.merged, *taken.stale)]
            assert (len(buffer), buffer.held_by(ALICE), buffer.held_by(BOB)) == (0, 0, 0)
        else:
            added += 1
            buffer.add(entry(added, *move), Nanos(added))
    assert sorted(left) == list(range(1, added + 1))


def test_a_nodes_own_weight_is_in_the_weight_and_the_divisor_and_not_in_the_learning_rate() -> None:
    taken = filled(entry(1, ALICE, 4), entry(2, BOB, 5)).take(
        settings(scale_lr=True),
        Version(5),
        live=2,
        oldest=OLDEST,
        omega=lambda node: 4.0 if node == ALICE else 0.5,
        clip=nobody,
    )
    assert taken.step is not None
    assert [one.weight for one in taken.step.contributions] == [2.0, 0.5]
    assert (taken.step.divisor, taken.step.lr_scale) == (2.5, 1.0)
