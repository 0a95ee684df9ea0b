"""What the rows of an experiment say together: per cell of the table a median over seeds, with its interval."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from sim.experiments.intervals import stated
from sim.experiments.playing import Row
from sim.experiments.work import bytes_of

ENDS = 3  # a single evaluation is noise: the end is the median of so many last ones, as in run.json
PLAIN = ("updates", "virtual_s")  # figures of a row that are numbers
FIGURES = frozenset({*PLAIN, "gone"})  # columns of a curve that are no scores
PARTS = ("node", "hub", "total")  # of work and bytes


def end_of(row: Row, score: str) -> float | None:
    """The score at the end; None if it has none, or if any of the last evaluations had none: the run has diverged."""
    last = row["curve"].get(score, [])[-ENDS:]
    return float(statistics.median(last)) if last and None not in last else None


def points_of(row: Row, score: str, over: str) -> list[tuple[float, float]]:
    """(where, score) of every evaluation that had it."""
    columns = row["curve"]
    pairs = zip(columns.get(over, []), columns.get(score, []), strict=False)
    return [(float(at), float(value)) for at, value in pairs if at is not None and value is not None]


def with_labels(rows: Sequence[Row], labels: Mapping[str, str]) -> list[Row]:
    """The rows that have these values of these axes."""
    return [row for row in rows if all(row["cell"].get(axis) == label for axis, label in labels.items())]


def groups(axes: Mapping[str, Sequence[str]], scores: Sequence[str], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry per combination of values, in the order of the axes; figures are those of `stated`, or None."""
    found = []
    for values in itertools.product(*axes.values()):
        labels = dict(zip(axes, values, strict=True))
        several = with_labels(rows, labels)
        sent = [bytes_of(row, row["nodes"]) for row in several]
        work = [row["multiply_adds"] for row in several if row["multiply_adds"] is not None]
        ends = {score: [end for row in several if (end := end_of(row, score)) is not None] for score in scores}
        found.append(
            {
                "cell": labels,
                "runs": len(several),
                "scored": scored(several[0]) if several else None,
                "scores": {score: stated(values) for score, values in ends.items()},
                "without": {score: len(several) - len(values) for score, values in ends.items()},
                **{name: stated([row[name] for row in several]) for name in PLAIN},
                "bytes": {part: stated([one[part] for one in sent]) for part in PARTS},
                "multiply_adds": {part: stated([one[part] for one in work]) for part in PARTS},
                "cpu_s": stated([row["spent"]["cpu_s"] for row in several]),
            }
        )
    return found


def said_of(group: Mapping[str, Any], score: str) -> str:
    """A group's score for people, and how many of its runs end without one."""
    without = group["without"][score]
    found = group["scores"][score]
    return words(found) + (f", none in {without} of {group['runs']} runs" if found is not None and without else "")


def scored(row: Row) -> str:
    """Which generator the scores of this row are of."""
    method, ema = row["conditions"]["method"], row["conditions"]["training.ema"]
    return "as it is" if method == "flgan" or ema == 0 else f"moving average, training.ema = {ema:g}"


def words(found: Mapping[str, float] | None, form: str = ".3g") -> str:
    """A figure for people: median (low to high)."""
    if found is None:
        return "none"
    median = format(found["median"], form)
    if found["low"] == found["high"]:
        return median
    return f"{median} ({format(found['low'], form)} to {format(found['high'], form)})"
