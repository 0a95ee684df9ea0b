"""Whether a feedback may reach the optimiser: the checks in their order, each refusal with its verdict.

Pure: looks at a feedback and at what the hub knows of its sender, changes nothing but the running norms.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

from broker.member import Member
from mdgan_edge.messages import Feedback, Verdict, Version

NORMS_KEPT = 101  # the running median of the norm is taken over so many feedbacks
NORMS_MIN = 11  # below so many the lowest stands in for the median


class NormGuard:
    """Feedback norms of late, against which those of a step are clipped. `known`: those of a former process."""

    def __init__(self, factor: float, known: Sequence[float] = ()) -> None:
        self._factor = factor
        self._norms: deque[float] = deque()
        self._sorted: list[float] = []
        for norm in known:
            self._remember(norm)

    @property
    def recent(self) -> tuple[float, ...]:
        """What is to be known again after a restart, the oldest first."""
        return tuple(self._norms)

    def see(self, norm: float) -> None:
        """A feedback that is not merged: while little is known it tells something of a size."""
        if norm > 0 and self._is_young:
            self._remember(norm)

    def scales(self, norms: Sequence[float]) -> list[float]:
        """For each feedback of one step 1, or what brings it down to the limit: factor times the median.

        Below NORMS_MIN it is factor times the lowest, those of this step among them: whoever is the first to lie is
        held against the others all the same. They are remembered as they are, so that one that is far too low does not
        pull the median down; later ones as clipped. Norm 0 is of a node that knew no label of the batch, or has
        vanished; it says nothing of a size.
        """
        given = [norm for norm in norms if norm > 0]
        if self._factor == 0 or not given:
            return [1.0] * len(norms)
        young = self._is_young
        limit = self._factor * (min([*given, *self._sorted[:1]]) if young else self._sorted[len(self._sorted) // 2])
        for norm in given:
            self._remember(norm if young else min(norm, limit))
        return [limit / norm if norm > limit else 1.0 for norm in norms]

    @property
    def _is_young(self) -> bool:
        return len(self._sorted) < NORMS_MIN

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
