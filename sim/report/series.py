"""Makes long series short enough to draw, value by value: curves keep their shape, counts keep their sums. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CURVE_COLUMNS = 600  # a curve keeps at most four points per column, about as many columns as a screen shows
FINE_COLUMNS = 1200  # counts are kept in this many windows and shown in fewer
SHOWN_COLUMNS_MAX = 120
STEPS_PER_COLUMN = 4.0  # a window this full shows a rate and not the rounding

Point = tuple[float, float]  # (seconds, value)


class Curve:
    """First, lowest, highest and last point of each column: it draws like the whole (M4, Jugel et al. 2014)."""

    def __init__(self, end_s: float, columns: int = CURVE_COLUMNS) -> None:
        self._width = end_s / columns
        self._last = columns - 1
        self._columns: dict[int, list[Point]] = {}

    def add(self, at_s: float, value: float) -> None:
        """Times must not fall."""
        point = (at_s, value)
        kept = self._columns.setdefault(min(self._last, int(at_s / self._width)), [point, point, point, point])
        if value < kept[1][1]:
            kept[1] = point
        if value > kept[2][1]:
            kept[2] = point
        kept[3] = point

    def points(self) -> tuple[Point, ...]:
        """By time, none twice in a row."""
        points: list[Point] = []
        for _, (first, low, high, last) in sorted(self._columns.items()):
            for point in (first, *sorted((low, high)), last):
                if not points or points[-1] != point:
                    points.append(point)
        return tuple(points)


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted from `start_s` to `end_s`: how often each value came."""

    start_s: float
    end_s: float
    counts: dict[int, int]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> int:
        """The lowest value that at least this share of all does not exceed. Raises ValueError if there is none."""
        left = share * self.total
        for value, count in sorted(self.counts.items()):
            left -= count
            if left <= 0:
                return value
        raise ValueError("an empty window has no quantiles")


class Histograms:
    """How often each value came, in windows of time."""

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s
        self._width = end_s / FINE_COLUMNS
        self._counts: list[dict[int, int]] = [{} for _ in range(FINE_COLUMNS)]
        self.rounds = 0  # how often something was added

    def add(self, at_s: float, values: Iterable[int]) -> None:
        """Count these values."""
        counts = self._counts[min(FINE_COLUMNS - 1, int(at_s / self._width))]
        self.rounds += 1
        for value in values:
            counts[value] = counts.get(value, 0) + 1

    def windows(self) -> tuple[Counted, ...]:
        """Side by side, wide enough that each holds a few rounds."""
        wanted = max(1, min(SHOWN_COLUMNS_MAX, int(self.rounds / STEPS_PER_COLUMN)))
        sizes = range(FINE_COLUMNS // wanted, FINE_COLUMNS + 1)
        size = next(size for size in sizes if FINE_COLUMNS % size == 0)  # all are equally wide
        return tuple(self._window(start, start + size) for start in range(0, FINE_COLUMNS, size))

    def _window(self, start: int, end: int) -> Counted:
        merged: dict[int, int] = {}
        for counts in self._counts[start:end]:
            for value, count in counts.items():
                merged[value] = merged.get(value, 0) + count
        return Counted(start * self._width, end * self._width, merged)
