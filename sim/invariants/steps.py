"""What a step merges, held against what was seen on the wire: each feedback once, young, sound, and of due weight.

Functions over the ledger: they write down what was applied and yield what should not have been.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from broker.jobs import Contribution, Step
from broker.shares import WEIGHT_MAX, WEIGHT_MIN
from broker.steprule import staleness_weight
from mdgan_edge.messages import Tensor
from mdgan_edge.settings import TrainingSettings, quorum_count, quota_count
from sim.invariants.ledger import Given, Ledger
from sim.invariants.names import Found

ROUNDING = 1e-9
NORM_ROUNDING = 1e-6  # of float32


def merged(ledger: Ledger, training: TrainingSettings, shape: tuple[int, ...], step: Step) -> Iterator[Found]:
    """The hub takes a step; a batch is (B, C, H, W) = `shape`."""
    bound = ledger.norms.step([one.feedback.norm for one in step.contributions])
    for one in step.contributions:
        yield from _contribution(ledger, training, shape, step, one, bound)
    parts = math.fsum(one.part for one in step.contributions)
    if not math.isclose(step.divisor, parts, rel_tol=ROUNDING):
        yield "weight_bounded", "hub", f"a step is divided by {step.divisor}, its parts make {parts}"
    quota = quota_count(training.quota, quorum_count(training.quorum, max(1, ledger.live_max)))
    ledger.live_max = 0
    for node, count in Counter(one.node for one in step.contributions).items():
        if count > quota:
            yield "weight_bounded", node, f"{count} of its feedbacks in one step, quota is {quota}"


def measured(tensor: Tensor) -> float:
    """The L2 norm of what is really there; nan if it is not finite."""
    wide = np.frombuffer(tensor.data, np.float32).astype(np.float64)
    return float(np.sqrt(wide @ wide)) if np.isfinite(wide).all() else math.nan


def was_clipped(one: Contribution) -> bool:
    """It weighs less than its part of the divisor."""
    return one.weight < one.part * (1 - ROUNDING)


def _contribution(
    ledger: Ledger, training: TrainingSettings, shape: tuple[int, ...], step: Step, one: Contribution, bound: float
) -> Iterator[Found]:
    given = ledger.given.get(one.task_id)
    if given is None or given.node != one.node or given.version != one.version:
        yield "sound_feedback", one.node, f"task {one.task_id} of version {one.version} was never given to it"
        return
    if one.task_id in ledger.applied:
        yield "applied_once", one.node, f"task {one.task_id} is applied again at {step.version}"
    ledger.applied.add(one.task_id)
    staleness = step.version - one.version
    if staleness > training.staleness_max or staleness < 0:
        what = f"task {one.task_id} is {staleness} versions old, staleness_max is {training.staleness_max}"
        yield "staleness_bounded", one.node, what
    now = ledger.incarnations.get(one.node)
    if given.incarnation != now:
        what = f"task {one.task_id} was given to incarnation {given.incarnation}, it is {now} now"
        yield "current_incarnation", one.node, what
    yield from _labels(ledger, training, given, one)
    yield from _weight(training, shape, staleness, one, bound)


def _labels(ledger: Ledger, training: TrainingSettings, given: Given, one: Contribution) -> Iterator[Found]:
    ledger.labels_seen |= given.labels is not None
    judged = given.labels if training.label_aware else None
    if one.labels != judged:
        what = f"task {one.task_id} counts for the labels {one.labels}, its node judges {judged} (None: all)"
        yield "judged_as_said", one.node, what


def _weight(
    training: TrainingSettings, shape: tuple[int, ...], staleness: int, one: Contribution, bound: float
) -> Iterator[Found]:
    norm = one.feedback.norm
    if one.feedback.data and not math.isclose(norm, measured(one.feedback), rel_tol=NORM_ROUNDING):
        yield "sound_feedback", one.node, f"task {one.task_id}: its norm is {measured(one.feedback)}, not {norm}"
        return
    if one.feedback.shape != shape or not norm < math.inf:
        yield "sound_feedback", one.node, f"task {one.task_id}: shape {one.feedback.shape}, norm {norm}"
        return
    alpha = staleness_weight(training, staleness)
    least, most = (alpha * WEIGHT_MIN, alpha * WEIGHT_MAX) if training.rate_fair else (alpha, alpha)
    if not least * (1 - ROUNDING) <= one.part <= most * (1 + ROUNDING):
        yield "weight_bounded", one.node, f"its part {one.part} is not within {least} and {most}"
    if one.weight > one.part * (1 + ROUNDING):
        yield "weight_bounded", one.node, f"weight {one.weight} is above its part {one.part}"
    if one.weight * norm > one.part * bound * (1 + ROUNDING):
        what = f"task {one.task_id} weighs {one.weight * norm:g}, the clip bound is {one.part * bound:g}"
        yield "sound_feedback", one.node, what
