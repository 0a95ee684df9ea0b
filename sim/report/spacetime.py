"""Lays out the space-time diagram: a line per process, messages slanting between them, around one moment. Pure.

A film holds far more than a picture can: the moment decides which processes matter, how many messages fit decides how
much time is shown, and what is left out is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mdgan_edge.actors import HUB
from sim.report.palette import BLUE, GREEN, MUTED, ORANGE, PURPLE, VERMILLION, Colour
from sim.report.recorded import Carried, Happened, Window
from sim.report.spans import Span

ROWS_MAX = 10  # processes
MESSAGES_MAX = 130
EVENTS_MAX = 400
LAST_MAX = 12  # events before the moment, in words
LOSSES_NAMED_MAX = 10  # with the reason beside the cross
SHADES_MAX = 60  # faults behind the lines

WIDTH, LEFT, RIGHT, TOP, BOTTOM, ROW = 1080.0, 96.0, 16.0, 46.0, 30.0, 50.0
BEFORE_PART = 0.8  # of the time shown lies before the moment
SHRINK = 0.8
LEAST_S = 0.002
LOST_PART = 0.45  # of its way, a lost message is drawn
TICKS_WANTED = 8
NAME_MAX = 12

MESSAGE_COLOURS: tuple[tuple[str, Colour, tuple[str, ...]], ...] = (
    ("task", BLUE, ("TASK",)),
    ("feedback", GREEN, ("FEEDBACK",)),
    ("receipt", PURPLE, ("RECEIPT",)),
    ("ping, pong", MUTED, ("PING", "PONG")),
    ("session and other", ORANGE, ()),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A process."""

    name: str
    text: str  # the name, shortened
    y: float
    culprit: bool


@dataclass(frozen=True, slots=True)
class Arrow:
    """A message. `cross`: it is lost, and `reason` stands beside it if there is room."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str
    cross: bool
    reason: str
    title: str


@dataclass(frozen=True, slots=True)
class Dot:
    """An event. `quiet`: a tick, as there are many."""

    x: float
    y: float
    quiet: bool
    title: str


@dataclass(frozen=True, slots=True)
class Shade:
    """A fault of a process."""

    x: float
    y: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Diagram:
    """All that is drawn, in points."""

    height: float
    rows: tuple[Row, ...]
    arrows: tuple[Arrow, ...]
    dots: tuple[Dot, ...]
    shades: tuple[Shade, ...]
    ticks: tuple[tuple[float, str], ...]
    moment_x: float | None  # of the violation
    moment: str
    legend: tuple[tuple[str, str], ...]
    from_s: float
    to_s: float
    processes_left_out: int
    messages_left_out: int  # between the processes and in the time that are shown
    last: tuple[Happened, ...]

    @property
    def plot(self) -> tuple[float, float, float, float]:
        """x, y, width and height of where the lines are."""
        return LEFT, TOP - 24, WIDTH - LEFT - RIGHT, self.height - TOP - BOTTOM + 34


def lay_out(window: Window, culprits: Sequence[str], spans: Sequence[Span]) -> Diagram:
    """The picture around the moment that was filmed. `culprits`: processes that must be in it."""
    at_s = window.at_s
    from_s, to_s, names = _zoom(window, at_s, culprits, spans)
    rows = _rows(names, culprits)
    frame = _Frame(from_s, to_s, {row.name: row.y for row in rows})
    filmed = [one for one in window.messages if frame.has(one)]
    nearest = sorted(filmed, key=lambda one: abs(one.sent_s - at_s))[:MESSAGES_MAX]
    shown = sorted(nearest, key=lambda one: one.sent_s)
    lost_named = sum(one.arrived_s is None for one in shown) <= LOSSES_NAMED_MAX
    events = [one for one in window.events if from_s <= one.t <= to_s and one.who in frame.ys]
    latest = [one for one in window.events if one.t <= at_s and one.what != "tick"][-LAST_MAX:]
    seen = {one.who for one in window.events} | {one.source for one in window.messages}
    return Diagram(
        height=TOP + ROW * (len(rows) - 1) + BOTTOM + 12,
        rows=rows,
        arrows=tuple(_arrow(one, frame, lost_named, _usual_latency(shown)) for one in shown),
        dots=tuple(_dot(one, frame) for one in _loudest(events)),
        shades=_shades(spans, frame),
        ticks=_ticks(frame),
        moment_x=frame.x(at_s) if window.invariant else None,
        moment=window.invariant or "",
        legend=tuple((name, colour.name) for name, colour, _ in MESSAGE_COLOURS),
        from_s=from_s,
        to_s=to_s,
        processes_left_out=len(seen - frame.ys.keys()),
        messages_left_out=len(filmed) - len(shown),
        last=tuple(latest),
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a time and a process are in the picture."""

    from_s: float
    to_s: float
    ys: dict[str, float]

    def x(self, at_s: float) -> float:
        part = (at_s - self.from_s) / (self.to_s - self.from_s)
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 2)

    def has(self, message: Carried) -> bool:
        """Whether it touches the time shown, between two processes that are."""
        over_s = message.sent_s if message.arrived_s is None else message.arrived_s
        known = message.source in self.ys and message.target in self.ys
        return known and message.sent_s <= self.to_s and over_s >= self.from_s


# --- what to show -----------------------------------------------------------------------------------------------------


def _zoom(
    window: Window, at_s: float, culprits: Sequence[str], spans: Sequence[Span]
) -> tuple[float, float, list[str]]:
    """As much time as the messages of the chosen processes leave room for."""
    length_s = max(LEAST_S, window.to_s - window.from_s)
    while True:
        from_s = max(window.from_s, at_s - BEFORE_PART * length_s)
        to_s = min(window.to_s, from_s + length_s)
        names = _processes(window, from_s, to_s, culprits, spans)
        frame = _Frame(from_s, to_s, dict.fromkeys(names, 0.0))
        if length_s <= LEAST_S or sum(map(frame.has, window.messages)) <= MESSAGES_MAX:
            return from_s, to_s, names
        length_s = max(LEAST_S, length_s * SHRINK)


def _processes(window: Window, from_s: float, to_s: float, culprits: Sequence[str], spans: Sequence[Span]) -> list[str]:
    """The hub and the culprits; up to half of the other rows for the troubled, the rest for the busy."""
    busy: Counter[str] = Counter()
    losses: Counter[str] = Counter()
    for event in window.events:
        busy[event.who] += from_s <= event.t <= to_s
    for message in window.messages:
        if from_s <= message.sent_s <= to_s:
            ends = (message.source, message.target)
            busy.update(ends)
            losses.update(ends if message.arrived_s is None else ())
    struck = {name for span in spans if span.start_s <= to_s and span.end_s >= from_s for name in span.who}
    first = [name for name in dict.fromkeys((HUB.node, *culprits)) if name in busy or name == HUB.node][:ROWS_MAX]
    by_work = sorted(busy.keys() | struck, key=lambda name: (-busy[name], name))
    troubled = [name for name in by_work if name not in first and (losses[name] or name in struck)]
    troubled.sort(key=lambda name: (-losses[name], name not in struck))
    first += troubled[: (ROWS_MAX - len(first) + 1) // 2]
    rest = [name for name in by_work if name not in first]
    return first + rest[: ROWS_MAX - len(first)]


def _rows(names: Sequence[str], culprits: Sequence[str]) -> tuple[Row, ...]:
    return tuple(
        Row(
            name,
            name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…",
            TOP + ROW * index,
            name in culprits,
        )
        for index, name in enumerate(names)
    )


def _loudest(events: list[Happened]) -> list[Happened]:
    """Of too many events, ticks are left out first, then the oldest."""
    if len(events) > EVENTS_MAX:
        events = [one for one in events if one.what != "tick"]
    return events[-EVENTS_MAX:]


# --- how it looks -----------------------------------------------------------------------------------------------------


def _arrow(message: Carried, frame: _Frame, named: bool, usual_s: float) -> Arrow:
    x1, y1, y2 = frame.x(message.sent_s), frame.ys[message.source], frame.ys[message.target]
    what = f"{message.what}, {message.source} to {message.target}, sent at {message.sent_s:.6f} s"
    colour = _colour(message.what).name
    if message.arrived_s is None:
        x2 = frame.x(message.sent_s + LOST_PART * usual_s)
        y2 = round(y1 + LOST_PART * (y2 - y1), 2)
        reason = message.fate if named else ""
        return Arrow(x1, y1, x2, y2, VERMILLION.name, True, reason, f"{what}, lost: {message.fate}")
    took_ms = 1e3 * (message.arrived_s - message.sent_s)
    title = f"{what}, arrived at {message.arrived_s:.6f} s after {took_ms:.3g} ms"
    return Arrow(x1, y1, frame.x(message.arrived_s), y2, colour, False, "", title)


def _usual_latency(messages: Sequence[Carried]) -> float:
    took = sorted(one.arrived_s - one.sent_s for one in messages if one.arrived_s is not None)
    return took[len(took) // 2] if took else 0.02


def _colour(what: str) -> Colour:
    word = what.split(" ", 1)[0]
    return next((colour for _, colour, words in MESSAGE_COLOURS if word in words), ORANGE)


def _dot(event: Happened, frame: _Frame) -> Dot:
    title = f"{event.who} at {event.t:.6f} s: {event.what}"
    return Dot(frame.x(event.t), frame.ys[event.who], event.what == "tick", title)


def _shades(spans: Sequence[Span], frame: _Frame) -> tuple[Shade, ...]:
    shades = [
        Shade(
            frame.x(max(span.start_s, frame.from_s)),
            frame.ys[name],
            round(max(2.0, frame.x(min(span.end_s, frame.to_s)) - frame.x(max(span.start_s, frame.from_s))), 2),
            span.kind,
            span.text,
        )
        for span in spans
        if span.start_s <= frame.to_s and span.end_s >= frame.from_s
        for name in span.who
        if name in frame.ys
    ]
    return tuple(shades[-SHADES_MAX:])


def _ticks(frame: _Frame) -> tuple[tuple[float, str], ...]:
    """Round times and how they are written."""
    rough = (frame.to_s - frame.from_s) / TICKS_WANTED
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first = math.ceil(frame.from_s / step)
    last = math.floor(frame.to_s / step)
    return tuple((frame.x(index * step), f"{index * step:.{decimals}f} s") for index in range(first, last + 1))
