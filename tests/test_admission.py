"""Outliers are clipped against a running median that no outlier, and no run of zeros, can spoil."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.admission import NORMS_KEPT, NORMS_MIN, NormGuard, refusal_by_age
from mdgan_edge.messages import Verdict, Version
from sim.invariants.norms import Norms


def test_nothing_is_clipped_before_there_is_a_median() -> None:
    guard = NormGuard(2.0)
    assert [guard.scale(10.0**power) for power in range(NORMS_MIN)] == [1.0] * NORMS_MIN


def test_a_norm_above_the_limit_is_brought_down_to_it() -> None:
    guard = NormGuard(2.0)
    for _ in range(NORMS_MIN):
        guard.scale(3.0)
    assert [guard.scale(norm) for norm in (6.0, 12.0, 3.0)] == [1.0, 0.5, 1.0]


def test_a_stream_of_outliers_moves_the_limit_step_by_step() -> None:
    guard = NormGuard(2.0)
    for _ in range(NORMS_KEPT):
        guard.scale(1.0)
    scales = [guard.scale(1000.0) for _ in range(NORMS_KEPT)]
    assert scales[: NORMS_KEPT // 2] == [2.0 / 1000.0] * (NORMS_KEPT // 2)
    assert scales[-1] == 4.0 / 1000.0


def test_vanished_feedback_does_not_silence_what_comes_after_it() -> None:
    guard = NormGuard(10.0)
    for _ in range(NORMS_MIN):
        guard.scale(0.0)
    assert guard.scale(1.0) == 1.0


def test_nodes_that_knew_no_label_of_their_batch_do_not_pull_the_median_down() -> None:
    guard = NormGuard(2.0)
    for _ in range(NORMS_MIN):
        assert [guard.scale(norm) for norm in (0.0, 0.0, 3.0, 0.0)] == [1.0] * 4
    assert [guard.scale(norm) for norm in (6.0, 12.0)] == [1.0, 0.5]


def test_a_factor_of_zero_never_clips() -> None:
    guard = NormGuard(0.0)
    assert [guard.scale(norm) for norm in [1.0] * NORMS_MIN + [1e9]] == [1.0] * (NORMS_MIN + 1)


@given(st.lists(st.floats(0, 1e30), max_size=60), st.floats(1.0, 100.0))
def test_a_scale_is_never_above_one_and_always_a_number(norms: list[float], factor: float) -> None:
    guard = NormGuard(factor)
    for norm in norms:
        scale = guard.scale(norm)
        assert 0 <= scale <= 1
        assert math.isfinite(scale * norm)


@given(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), max_size=200), st.floats(1.0, 4.0))
def test_the_checkers_of_the_virtual_world_reckon_the_same_bound(norms: list[float], factor: float) -> None:
    guard, books = NormGuard(factor), Norms(factor)
    for norm in norms:
        assert guard.scale(norm) * norm == pytest.approx(min(norm, books.bound()), rel=1e-12)
        books.admit(norm)


@pytest.mark.parametrize(("version", "verdict"), [(10, None), (8, None), (7, Verdict.STALE)])
def test_stale_is_older_than_tau(version: int, verdict: Verdict | None) -> None:
    assert refusal_by_age(Version(version), Version(10), staleness_max=2) is verdict
