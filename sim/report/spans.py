"""When what was broken: the faults of a compiled scenario as stretches of time, and the epochs of the hub. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sim.report.recorded import FaultRow, ScenarioFile
from sim.scenario.quantities import Duration

MERGE_COLUMNS = 250  # faults of a kind that lie closer than this part of the run are drawn as one
NAMES_MAX = 6  # of a fault's nodes, in a text


@dataclass(frozen=True, slots=True)
class Span:
    """`count` faults of one kind; a moment if it ends where it starts, or never: of who is gone for good, the going."""

    kind: str
    start_s: float
    end_s: float
    who: tuple[str, ...]
    count: int = 1

    @property
    def text(self) -> str:
        """In words."""
        times = f", {self.count} times" if self.count > 1 else ""
        when = f"at {self.start_s:g} s" if self.start_s == self.end_s else f"{self.start_s:g} to {self.end_s:g} s"
        return f"{self.kind}{times}, {when}: {some_of(self.who)}"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One life of the hub. `version`: what it went on from, 0 at the very start."""

    number: int
    start_s: float
    end_s: float
    version: int = 0


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")


def seconds(text: str) -> float:
    """What "1500ms" and the like stand for."""
    return int(Duration.parse(text)) / 1e9


def spans_of(scenario: ScenarioFile, end_s: float) -> tuple[Span, ...]:
    """Every fault that came before `end_s`, by time."""
    spans = (_span(fault, end_s) for fault in scenario.fault)
    return tuple(sorted((one for one in spans if one.start_s <= end_s), key=lambda one: (one.start_s, one.kind)))


def _span(fault: FaultRow, end_s: float) -> Span:
    start_s = seconds(fault.at)
    lasts_s = 0.0 if fault.lasts is None else seconds(fault.lasts)
    return Span(fault.kind, start_s, max(start_s, min(end_s, start_s + lasts_s)), fault.who)


def struck(spans: Iterable[Span]) -> dict[str, tuple[str, ...]]:
    """The kinds of faults that each process had, in order."""
    kinds: dict[str, dict[str, None]] = {}
    for span in spans:
        for name in span.who:
            kinds.setdefault(name, {})[span.kind] = None
    return {name: tuple(had) for name, had in kinds.items()}


def merged(spans: Iterable[Span], end_s: float) -> tuple[Span, ...]:
    """Those of a kind that overlap, or lie too close to be told apart, as one: a bounded number per kind."""
    near = end_s / MERGE_COLUMNS
    groups: list[list[Span]] = []
    latest: dict[str, tuple[list[Span], float]] = {}  # by kind: the group that may grow, and when it ends
    for span in spans:
        group, group_end_s = latest.get(span.kind, ([], 0.0))
        if not group or span.start_s > group_end_s + near:
            group, group_end_s = [], 0.0
            groups.append(group)
        group.append(span)
        latest[span.kind] = group, max(group_end_s, span.end_s)
    return tuple(sorted(map(_as_one, groups), key=lambda one: (one.start_s, one.kind)))


def _as_one(group: list[Span]) -> Span:
    names = tuple(dict.fromkeys(name for span in group for name in span.who))
    end_s = max(span.end_s for span in group)
    return Span(group[0].kind, group[0].start_s, end_s, names, sum(span.count for span in group))


def apart(times: Iterable[float], end_s: float) -> list[float]:
    """Of ascending times, those that can be told apart."""
    kept: list[float] = []
    for at_s in times:
        if not kept or at_s > kept[-1] + end_s / MERGE_COLUMNS:
            kept.append(at_s)
    return kept


def epochs_of(scenario: ScenarioFile, end_s: float) -> tuple[Epoch, ...]:
    """From each start of the hub to its crash; a crash while it is down already changes nothing."""
    epochs: list[Epoch] = []
    start_s = 0.0
    for fault in scenario.fault:
        at_s = seconds(fault.at)
        if fault.kind != "hub_crash" or at_s < start_s or at_s > end_s or fault.lasts is None:
            continue
        epochs.append(Epoch(len(epochs) + 1, start_s, at_s))
        start_s = at_s + seconds(fault.lasts)
    if start_s <= end_s:
        epochs.append(Epoch(len(epochs) + 1, start_s, end_s))
    return tuple(epochs)
