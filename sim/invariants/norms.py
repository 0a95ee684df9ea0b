"""The clip bound, reckoned apart from the hub's own: by the norms of what was merged before, and of the step itself."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

from broker.admission import NORMS_KEPT, NORMS_MIN


class Norms:
    """Of feedback that was merged of late. `known`: what a former hub had kept."""

    def __init__(self, factor: float, known: Sequence[float] = ()) -> None:
        self._factor = factor
        self._recent: deque[float] = deque(known, maxlen=NORMS_KEPT)

    @property
    def recent(self) -> tuple[float, ...]:
        """The oldest first."""
        return tuple(self._recent)

    def warm_up(self, norm: float) -> None:
        """A feedback of this norm was refused as its node's first."""
        if norm > 0 and len(self._recent) < NORMS_MIN:
            self._recent.append(norm)

    def step(self, norms: Sequence[float]) -> float:
        """No feedback of a step that merges these may weigh more than this. One of norm 0 says nothing of a size."""
        positive = [norm for norm in norms if norm > 0]
        if not self._factor or not positive:
            return float("inf")
        if len(self._recent) < NORMS_MIN:
            bound = self._factor * min(*positive, *self._recent, float("inf"))
            self._recent.extend(positive)
            return bound
        bound = self._factor * statistics.median_high(self._recent)
        self._recent.extend(min(norm, bound) for norm in positive)
        return bound
