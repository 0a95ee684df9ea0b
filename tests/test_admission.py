"""Outliers are clipped against a running median that no outlier, and no run of zeros, can spoil."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.admission import NORMS_KEPT, NORMS_MIN, NormGuard, refusal_by_age
from mdgan_edge.messages import Verdict, Version
from sim.invariants.norms import Norms


def guard_that_knows(norm: float, factor: float, count: int = NORMS_KEPT) -> NormGuard:
    return NormGuard(factor, [norm] * count)


def one_by_one(guard: NormGuard, *norms: float) -> list[float]:
    """What each is scaled by in a step of its own."""
    return [scale for norm in norms for scale in guard.scales([norm])]


def test_the_first_to_lie_is_held_against_the_others_of_its_step() -> None:
    assert NormGuard(2.0).scales([1e6, 1.0, 3.0]) == [2e-6, 1.0, 2 / 3]


def test_before_there_is_a_median_nothing_is_far_above_the_lowest() -> None:
    guard = NormGuard(10.0)
    assert one_by_one(guard, 1.0, *[1e6] * (NORMS_MIN - 1)) == [1.0] + [1e-5] * (NORMS_MIN - 1)


def test_even_alone_in_its_step_a_lie_is_held_against_what_newcomers_said() -> None:
    guard = NormGuard(2.0)
    guard.see(1.0)
    assert guard.scales([1e6]) == [2e-6]


def test_a_first_one_that_is_far_too_low_shortens_nothing_once_there_is_a_median() -> None:
    guard = NormGuard(2.0)
    assert one_by_one(guard, 1e-30, *[1.0] * (NORMS_MIN - 1))[1:] == [2e-30] * (NORMS_MIN - 1)
    assert one_by_one(guard, 1.0, 2.0, 4.0) == [1.0, 1.0, 0.5]


def test_newcomers_say_nothing_any_more_once_there_is_a_median() -> None:
    guard = guard_that_knows(1.0, 2.0, NORMS_MIN)
    for _ in range(NORMS_KEPT):
        guard.see(1000.0)
    assert guard.scales([4.0]) == [0.5]


def test_after_a_restart_it_goes_on_as_if_nothing_had_happened() -> None:
    guard = NormGuard(2.0)
    one_by_one(guard, *(1.0 + number / 10 for number in range(NORMS_KEPT + 20)))
    again = NormGuard(2.0, guard.recent)
    assert one_by_one(again, 100.0, 7.0, 100.0) == one_by_one(guard, 100.0, 7.0, 100.0)


def test_a_norm_above_the_limit_is_brought_down_to_it() -> None:
    assert guard_that_knows(3.0, 2.0, NORMS_MIN).scales([6.0, 12.0, 3.0]) == [1.0, 0.5, 1.0]


def test_a_stream_of_outliers_moves_the_limit_step_by_step() -> None:
    scales = one_by_one(guard_that_knows(1.0, 2.0), *[1000.0] * NORMS_KEPT)
    assert scales[: NORMS_KEPT // 2] == [2.0 / 1000.0] * (NORMS_KEPT // 2)
    assert scales[-1] == 4.0 / 1000.0


def test_vanished_feedback_does_not_silence_what_comes_after_it() -> None:
    guard = NormGuard(10.0)
    one_by_one(guard, *[0.0] * NORMS_MIN)
    assert guard.scales([1.0]) == [1.0]


def test_nodes_that_knew_no_label_of_their_batch_do_not_pull_the_median_down() -> None:
    guard = NormGuard(2.0)
    for _ in range(NORMS_MIN):
        assert guard.scales([0.0, 0.0, 3.0, 0.0]) == [1.0] * 4
    assert one_by_one(guard, 6.0, 12.0) == [1.0, 0.5]


def test_a_factor_of_zero_never_clips() -> None:
    guard = NormGuard(0.0)
    assert one_by_one(guard, *[1.0] * NORMS_MIN, 1e9) == [1.0] * (NORMS_MIN + 1)


NORMS = st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), max_size=12)


@given(st.lists(NORMS, max_size=20), st.floats(1.0, 100.0))
def test_a_scale_is_never_above_one_and_always_a_number(steps: list[list[float]], factor: float) -> None:
    guard = NormGuard(factor)
    for norms in steps:
        for norm, scale in zip(norms, guard.scales(norms), strict=True):
            assert 0 <= scale <= 1
            assert math.isfinite(scale * norm)


@given(st.lists(st.tuples(st.floats(0, 1e6), NORMS), max_size=40), st.floats(1.0, 4.0))
def test_the_checkers_of_the_virtual_world_reckon_the_same_bound(
    steps: list[tuple[float, list[float]]], factor: float
) -> None:
    guard, books = NormGuard(factor), Norms(factor)
    for newcomer, norms in steps:
        guard.see(newcomer)
        books.warm_up(newcomer)
        bound = books.step(norms)
        for norm, scale in zip(norms, guard.scales(norms), strict=True):
            assert scale * norm == pytest.approx(min(norm, bound), rel=1e-12)


@pytest.mark.parametrize(("version", "verdict"), [(10, None), (8, None), (7, Verdict.STALE)])
def test_stale_is_older_than_tau(version: int, verdict: Verdict | None) -> None:
    assert refusal_by_age(Version(version), Version(10), staleness_max=2) is verdict
