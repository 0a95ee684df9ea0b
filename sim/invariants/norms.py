"""The clip bound, reckoned apart from the hub's own: factor times the running median of what was admitted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from broker.admission import NORMS_KEPT, NORMS_MIN


class Norms:
    """An own reckoning of the clip bound: factor times the running median of what was admitted."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def bound(self) -> float:
        """No feedback may weigh more than this now."""
        if not self._factor or len(self._sorted) < NORMS_MIN:
            return float("inf")
        return self._factor * self._sorted[len(self._sorted) // 2]

    def admit(self, norm: float) -> None:
        """A feedback of this norm went into the buffer. One of norm 0 says nothing of a size."""
        if norm == 0:
            return
        kept = min(norm, self.bound())
        self._recent.append(kept)
        insort(self._sorted, kept)
        if len(self._recent) > NORMS_KEPT:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
