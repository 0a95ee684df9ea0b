"""A median with an interval that assumes no distribution."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, and between which of the values it lies with this probability."""

    median: float
    low: float
    high: float
    coverage: float


def median_interval(values: Sequence[float]) -> Interval:
    """Between order statistics: the narrowest pair that covers the median with CONFIDENCE, else lowest and highest.

    P(x_(r) <= median <= x_(n+1-r)) = 1 - 2 P(Bin(n, 1/2) < r), Conover, Practical Nonparametric Statistics, 3.2.
    """
    ordered, n = sorted(values), len(values)
    rank = 1
    while rank < (n + 1) // 2 and _coverage(n, rank + 1) >= CONFIDENCE:
        rank += 1
    return Interval(statistics.median(ordered), ordered[rank - 1], ordered[n - rank], _coverage(n, rank))


def stated(values: Sequence[float]) -> dict[str, float] | None:
    """The same as JSON has it, with the extremes; None of no values."""
    if not values:
        return None
    found = median_interval(values)
    return {
        "median": found.median,
        "low": found.low,
        "high": found.high,
        "coverage": found.coverage,
        "least": min(values),
        "most": max(values),
    }


def _coverage(n: int, rank: int) -> float:
    return 1.0 - 2.0 * float(sum(math.comb(n, k) for k in range(rank))) / 2.0**n
