"""Whether a feedback may reach the optimiser: the checks in their order, each refusal with its verdict.

Pure: looks at a feedback and at what the hub knows of its sender, changes nothing but the running norm.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

from broker.member import Member
from mdgan_edge.messages import Feedback, Verdict, Version

NORMS_KEPT = 101  # the running median of the norm is taken over so many admitted feedbacks
NORMS_MIN = 11  # below so many there is no median to clip against


class NormGuard:
    """The running median of feedback norms, against which a feedback is clipped."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._norms: deque[float] = deque()
        self._sorted: list[float] = []

    def scale(self, norm: float) -> float:
        """1, or what brings `norm` down to factor times median. Remembers the norm as clipped.

        Feedback of norm 0 is of a node that knew no label of the batch, or has vanished; it says nothing of a size.
        """
        if self._factor == 0 or norm == 0:
            return 1.0
        limit = math.inf
        if len(self._sorted) >= NORMS_MIN:
            median = self._sorted[len(self._sorted) // 2]
            limit = self._factor * median
        self._remember(min(norm, limit))
        return limit / norm if norm > limit else 1.0

    def _remember(self, norm: float) -> None:
        self._norms.append(norm)
        insort(self._sorted, norm)
        if len(self._norms) > NORMS_KEPT:
            del self._sorted[bisect_left(self._sorted, self._norms.popleft())]


def refusal_by_task(member: Member, feedback: Feedback) -> Verdict | None:
    """`duplicate` if the task was answered, `late` if it was given back, `malformed` if it was never given."""
    if feedback.task_id in member.in_flight:
        return None
    match member.closed.get(feedback.task_id):
        case True:
            return Verdict.DUPLICATE
        case False:
            return Verdict.LATE
        case None:
            return Verdict.MALFORMED if not member.closed else Verdict.LATE


def refusal_by_content(feedback: Feedback, shape: tuple[int, ...], version: Version) -> Verdict | None:
    """`malformed` unless it is finite, float32, of the shape of the batch and of the task's version."""
    tensor = feedback.feedback
    sound = tensor.dtype == "float32" and tensor.shape == shape and math.isfinite(tensor.norm)
    return None if sound and feedback.version == version else Verdict.MALFORMED


def refusal_by_age(version: Version, now_version: Version, staleness_max: int) -> Verdict | None:
    """`stale` when older than tau. Looked at on arrival and again at the step, since buffered feedback ages."""
    return Verdict.STALE if now_version - version > staleness_max else None
