"""The step rule as a table: what is there, what follows, and why."""

from __future__ import annotations

from typing import Any

import pytest

from broker.steprule import Decision, Reason, Standing, decide, lr_scale, staleness_weight, timeout_at, wants_more
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import Version
from mdgan_edge.settings import TrainingSettings, quorum_count

BEFORE, AFTER = nanos(29.9), nanos(30.0)  # of the default T_max, counted from 0


def standing(buffered: int, live: int, oldest: int | None = 10) -> Standing:
    return Standing(Version(10), buffered, live, None if oldest is None else Version(oldest), Nanos(0))


@pytest.mark.parametrize(
    ("training", "stands", "now", "step", "reason"),
    [
        ({}, standing(0, 4), AFTER, False, Reason.EMPTY),
        ({}, standing(1, 4), BEFORE, False, Reason.SHORT),
        ({}, standing(2, 4), BEFORE, True, Reason.QUORUM),
        ({}, standing(1, 4), AFTER, True, Reason.TIMEOUT),
        ({"step_timeout_s": 0.0}, standing(1, 4), AFTER, False, Reason.SHORT),
        ({"quorum_min": 2}, standing(1, 4), AFTER, False, Reason.SHORT),
        ({"quorum": 5}, standing(2, 2), BEFORE, True, Reason.QUORUM),  # never more than the live ones
        ({"quorum": "all"}, standing(3, 4), BEFORE, False, Reason.SHORT),
        ({"quorum": "all"}, standing(4, 4), BEFORE, True, Reason.QUORUM),
        ({}, standing(1, 0, None), BEFORE, True, Reason.QUORUM),  # everybody left: merge what they gave
        ({"staleness_max": 0}, standing(4, 4, 10), BEFORE, False, Reason.BLOCKED),
        ({"staleness_max": 0}, standing(4, 4, None), BEFORE, True, Reason.QUORUM),
        ({"staleness_max": 2}, standing(4, 4, 9), BEFORE, True, Reason.QUORUM),
        ({"staleness_max": 2}, standing(4, 4, 8), BEFORE, False, Reason.BLOCKED),
        ({"staleness_max": 2}, standing(4, 4, 8), AFTER, True, Reason.TIMEOUT),
        ({"staleness_max": 2, "staleness_policy": "drop"}, standing(4, 4, 1), BEFORE, True, Reason.QUORUM),
    ],
)
def test_the_hub_steps_or_says_why_it_waits(
    training: dict[str, Any], stands: Standing, now: Nanos, step: bool, reason: Reason
) -> None:
    assert decide(TrainingSettings(**training), stands, now) == Decision(step, reason)


@pytest.mark.parametrize(
    ("training", "buffered", "more"),
    [
        ({"staleness_max": 0}, 1, True),
        ({"staleness_max": 0}, 2, False),  # the quorum of four is there: what is given now would only be waited for
        ({"staleness_max": 1}, 2, True),  # the step does not wait for what is as new as it
        ({"staleness_max": 0, "staleness_policy": "drop"}, 2, True),
    ],
)
def test_no_task_is_given_that_would_hold_up_the_step(training: dict[str, Any], buffered: int, more: bool) -> None:
    assert wants_more(TrainingSettings(**training), buffered, live=4) is more


def test_no_timeout_is_set_when_the_hub_waits_for_ever() -> None:
    assert timeout_at(TrainingSettings(step_timeout_s=0.0), nanos(5)) is None
    assert timeout_at(TrainingSettings(step_timeout_s=2.5), nanos(5)) == nanos(7.5)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        ("none", [1.0, 1.0, 1.0, 1.0]),
        ("inverse", [1.0, 1 / 2, 1 / 3, 1 / 9]),
        ("polynomial", [1.0, 2**-0.5, 3**-0.5, 1 / 3]),
        ("hinge", [1.0, 1.0, 1.0, 1 / 5]),
    ],
)
def test_feedback_weighs_less_with_age(kind: Any, weights: list[float]) -> None:
    training = TrainingSettings(staleness_weight=kind, staleness_exponent=0.5, staleness_knee=4)
    assert [staleness_weight(training, age) for age in (0, 1, 2, 8)] == pytest.approx(weights)


@pytest.mark.parametrize(
    ("merged", "live", "alphas", "scale"),
    [
        (4, 8, [1.0] * 4, 0.5),
        (8, 8, [0.5] * 8, 1.0),
        (9, 8, [1.0] * 9, 1.0),
        (1, 4, [0.5], 0.125),  # alone, its age goes onto the learning rate
        (1, 0, [1.0], 1.0),
    ],
)
def test_the_learning_rate_follows_the_share_of_nodes_merged(
    merged: int, live: int, alphas: list[float], scale: float
) -> None:
    assert lr_scale(TrainingSettings(), merged, live, alphas) == scale
    assert lr_scale(TrainingSettings(scale_lr=False), merged, live, alphas) == 1.0


@pytest.mark.parametrize(("live", "quorum"), [(0, 1), (1, 1), (2, 1), (3, 2), (8, 4), (9, 5)])
def test_a_fractional_quorum_is_rounded_up(live: int, quorum: int) -> None:
    assert quorum_count(0.5, live) == quorum
