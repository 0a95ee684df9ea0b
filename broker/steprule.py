"""When the generator steps, and what each feedback weighs then: pure rules over plain numbers."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import Version
from mdgan_edge.settings import TrainingSettings, quorum_count

IN_VAIN_MAX = 3  # so many answers in a row came too late: the node's next one is waited for ...
OWED_TIMEOUTS = 6  # ... for so many times T_max


class Reason(StrEnum):
    """Why the hub steps or waits."""

    QUORUM = "quorum reached"
    TIMEOUT = "step timeout passed with enough feedback"
    SHORT = "waiting for the quorum"
    BLOCKED = "waiting for the oldest task in flight"
    EMPTY = "nothing to merge"


class Standing(msgspec.Struct, frozen=True, gc=False):
    """All that the rule looks at.

    `oldest_in_flight`: the lowest version at a node that is not suspect, of those that can still be merged. What is
    older than tau already, since its node was suspect for a while, comes too late whatever the hub waits for.
    `owed`: among what would grow older than tau is the task of a node whose last IN_VAIN_MAX answers came too late.
    """

    version: Version
    buffered: int
    live: int
    oldest_in_flight: Version | None
    waiting_since: Nanos
    owed: bool = False


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Step or wait, and why."""

    step: bool
    reason: Reason


WAIT = {reason: Decision(False, reason) for reason in Reason}


def decide(training: TrainingSettings, standing: Standing, now: Nanos) -> Decision:
    """Bounded staleness (stale-synchronous-parallel, Ho et al. 2013) over a quorum, with a timeout.

    Step when min(K, live) feedbacks are there and, under `block`, no task in flight would grow older than tau; or when
    T_max has passed and K_min are there. Over a node that is owed OWED_TIMEOUTS of T_max have to pass, so that hardly
    anybody's part is zero.
    """
    if standing.buffered == 0:
        return WAIT[Reason.EMPTY]
    reason = _why_wait(training, standing)
    if reason is None:
        return Decision(True, Reason.QUORUM)
    if timed_out(training, standing, now):
        return Decision(True, Reason.TIMEOUT)
    return WAIT[reason]


def _why_wait(training: TrainingSettings, standing: Standing) -> Reason | None:
    if standing.buffered < quorum_count(training.quorum, standing.live):
        return Reason.SHORT
    if training.staleness_policy == "block" and standing.oldest_in_flight is not None:
        age_after_step = standing.version + 1 - standing.oldest_in_flight
        if age_after_step > training.staleness_max:
            return Reason.BLOCKED
    return None


def wants_more(training: TrainingSettings, buffered: int, live: int) -> bool:
    """Whether another task at this version is of use: with tau = 0 it would only hold up a step that has its quorum."""
    alone = training.staleness_policy == "block" and training.staleness_max == 0
    return not alone or buffered < quorum_count(training.quorum, live)


def timed_out(training: TrainingSettings, standing: Standing, now: Nanos) -> bool:
    """Whether T_max has passed since the first feedback came into the buffer, and K_min are there."""
    owed = standing.owed and _why_wait(training, standing) is Reason.BLOCKED
    timeout = timeout_at(training, standing.waiting_since, owed=owed)
    return timeout is not None and now >= timeout and standing.buffered >= training.quorum_min


def timeout_at(training: TrainingSettings, waiting_since: Nanos, *, owed: bool = False) -> Nanos | None:
    """When T_max passes, or what stands for it where somebody is owed; None when the hub waits for ever."""
    if training.step_timeout_s == 0:
        return None
    return Nanos(waiting_since + nanos(training.step_timeout_s * (OWED_TIMEOUTS if owed else 1)))


def staleness_weight(training: TrainingSettings, staleness: int) -> float:
    """alpha(s): 1 for fresh feedback, falling with age. `polynomial` and `hinge` after FedAsync (Xie et al. 2019)."""
    match training.staleness_weight:
        case "none":
            return 1.0
        case "inverse":
            return 1.0 / (1.0 + staleness)
        case "polynomial":
            return float((1.0 + staleness) ** -training.staleness_exponent)
        case "hinge":
            return 1.0 / (1.0 + max(0, staleness - training.staleness_knee))
        case unreachable:
            assert_never(unreachable)


def lr_scale(training: TrainingSettings, merged: int, live: int, alphas: list[float]) -> float:
    """Scale of the generator's learning rate for one step.

    Fewer feedbacks than live nodes mean fewer discriminator steps per generator step: times min(1, merged/live). With
    a single feedback Adam cancels any weight on the gradient, so alpha goes onto the learning rate there.
    """
    if not training.scale_lr:
        return 1.0
    scale = min(1.0, merged / max(1, live))
    return scale * alphas[0] if merged == 1 else scale
