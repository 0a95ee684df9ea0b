"""Reads the directory of a virtual run into values that can be drawn: what happened, when, and how it was judged.

metrics.jsonl and journal.jsonl may be long: they are read line by line, and only what fits on a screen is kept.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from mdgan_edge.actors import HUB
from mdgan_edge.errors import DataError
from mdgan_edge.rundir import RunDirectory
from sim.report.recorded import ConfigFile, JournalLine, Kept, LowShare, MetricLine, RunFile, ScenarioFile, Window
from sim.report.series import Counted, Curve, Histograms, Point
from sim.report.spans import Epoch, Span, epochs_of, seconds, spans_of

SCENARIO_FILE = "scenario.toml"
WINDOW_FILE = "window.json"
SCORES_MAX = 12  # that are drawn
LOW_SHARES_MAX = 30  # that are named
TAIL_BYTES = 65_536  # of a file, to find its last line in
QUIET_PART = 0.8  # if nothing is recorded after this part of the run, the time axis ends sooner ...
MARGIN = 1.05  # ... by this much after the last record

STATES = ("active", "suspect", "dead", "left")


@dataclass(frozen=True, slots=True)
class Readings:
    """All that the report shows."""

    run: RunFile
    scenario: ScenarioFile
    scenario_text: str
    staleness_max: int | None  # the bound; the synchronous mode needs none
    end_s: float  # of the time axis
    spans: tuple[Span, ...]
    epochs: tuple[Epoch, ...]
    versions: tuple[tuple[Point, ...], ...]  # of each epoch
    steps: tuple[Counted, ...]
    staleness: tuple[Counted, ...]
    merged: int  # feedbacks, over all epochs
    scores: dict[str, tuple[tuple[Point, ...], ...]]  # by name, of each epoch
    live: tuple[tuple[Point, ...], ...]  # of each epoch
    members: dict[str, tuple[Point, ...]]  # by state
    checkpoint_every: int | None  # versions
    low_shares: tuple[LowShare, ...]  # the first nodes that the hub found to give too little, over all epochs
    low_shares_left_out: int
    window: Window | None

    @property
    def heal_s(self) -> float | None:
        """When all faults were over, if there was a time before and after it."""
        heal_s = seconds(self.scenario.heal.at) if self.scenario.heal is not None else 0.0
        return heal_s if 0 < heal_s < self.end_s else None


def read_run(folder: Path) -> Readings:
    """Raises DataError if this is not the directory of a virtual run, or something in it cannot be read."""
    directory = RunDirectory(folder)
    if not (folder / SCENARIO_FILE).exists():
        raise DataError(f"{folder} is not the directory of a virtual run: it has no {SCENARIO_FILE}")
    run = _decoded(directory.run_json, RunFile)
    scenario = _decoded(folder / SCENARIO_FILE, ScenarioFile, msgspec.toml.decode)
    config = _decoded(directory.config, ConfigFile, msgspec.toml.decode)
    last_s = max(_last_time(directory.metrics), _last_time(directory.journal))
    end_s = _axis_end(run.virtual_s, last_s)
    epochs = epochs_of(scenario, end_s)
    metrics = _Metrics(end_s, epochs)
    for line in _lines(directory.metrics):
        metrics.take(line)
    journal = _Journal(end_s, epochs)
    for line in _lines(directory.journal):
        journal.take(line)
    journal.members.finish(end_s)
    film = folder / WINDOW_FILE
    return Readings(
        run=run,
        scenario=scenario,
        scenario_text=_bytes(folder / SCENARIO_FILE).decode(),
        staleness_max=config.training.staleness_max if config.mode == "async" else None,
        end_s=end_s,
        spans=spans_of(scenario, end_s),
        epochs=journal.epochs(),
        versions=_points(metrics.versions),
        steps=metrics.steps.windows(),
        staleness=metrics.staleness.windows(),
        merged=metrics.merged,
        scores={name: _points(curves) for name, curves in sorted(metrics.scores.items())},
        live=_points(metrics.live),
        members={state: curve.points() for state, curve in journal.members.curves.items()},
        checkpoint_every=config.hub.checkpoint_every,
        low_shares=tuple(journal.low_shares),
        low_shares_left_out=journal.low_shares_left_out,
        window=_decoded(film, Window) if film.exists() else None,
    )


class _Metrics:
    """Goes through metrics.jsonl."""

    def __init__(self, end_s: float, epochs: tuple[Epoch, ...]) -> None:
        self._end_s = end_s
        self._starts = [epoch.start_s for epoch in epochs]
        self._decoder = msgspec.json.Decoder(MetricLine)
        self.versions, self.live = self._curves(), self._curves()
        self.scores: dict[str, list[Curve]] = {}
        self.steps, self.staleness = Histograms(end_s), Histograms(end_s)
        self.merged = 0

    def take(self, line: bytes) -> None:
        """The next line; a torn one is passed over."""
        try:
            found = self._decoder.decode(line)
        except msgspec.DecodeError:
            return
        match found.what:
            case "step":
                self.merged += len(found.staleness)
                self.staleness.add(found.t, found.staleness)
                self.live[self._epoch(found.t)].add(found.t, found.live)
            case "stepped":
                self.steps.add(found.t, (0,))
                self.versions[self._epoch(found.t)].add(found.t, found.version)
            case "evaluated":
                self._scores(found.t, msgspec.json.decode(line))
            case _:
                pass

    def _scores(self, at_s: float, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if name in ("t", "version", "updates") or not isinstance(value, int | float) or not math.isfinite(value):
                continue
            if name in self.scores or len(self.scores) < SCORES_MAX:
                self.scores.setdefault(name, self._curves())[self._epoch(at_s)].add(at_s, value)

    def _curves(self) -> list[Curve]:
        return [Curve(self._end_s) for _ in self._starts]

    def _epoch(self, at_s: float) -> int:
        return bisect_right(self._starts, at_s) - 1


class _Journal:
    """Goes through journal.jsonl."""

    def __init__(self, end_s: float, epochs: tuple[Epoch, ...]) -> None:
        self._decoder = msgspec.json.Decoder(JournalLine)
        self._epochs = epochs
        self._starts = [epoch.start_s for epoch in epochs]
        self._versions = [0] * len(epochs)  # the last checkpoint when each began
        self.members = _Members(end_s, epochs)
        self.low_shares: list[LowShare] = []
        self.low_shares_left_out = 0

    def take(self, line: bytes) -> None:
        """The next line; a torn one is passed over."""
        try:
            found = self._decoder.decode(line)
            if found.who == HUB.node:
                self._take(found, line)
        except msgspec.DecodeError:
            return

    def epochs(self) -> tuple[Epoch, ...]:
        """With the versions that they went on from."""
        pairs = zip(self._epochs, self._versions, strict=True)
        return tuple(replace(epoch, version=version) for epoch, version in pairs)

    def _take(self, found: JournalLine, line: bytes) -> None:
        match found.what:
            case "joined":
                self.members.move(found.t, found.node, "active")
            case "member":
                self.members.move(found.t, found.node, found.state)
            case "checkpoint":
                later = bisect_right(self._starts, found.t)
                version = msgspec.json.decode(line, type=Kept).version
                self._versions[later:] = [version] * (len(self._versions) - later)
            case "low_share" if len(self.low_shares) < LOW_SHARES_MAX:
                self.low_shares.append(msgspec.json.decode(line, type=LowShare))
            case "low_share":
                self.low_shares_left_out += 1
            case _:
                pass


class _Members:
    """How many members the hub holds in which state; a hub that is down holds none."""

    def __init__(self, end_s: float, epochs: tuple[Epoch, ...]) -> None:
        self._falls = [epoch.end_s for epoch in epochs if epoch.end_s < end_s]
        self._states: dict[str, str] = {}
        self._counts = dict.fromkeys(STATES, 0)
        self.curves = {state: Curve(end_s) for state in STATES}
        self._plot(0.0, STATES)

    def move(self, now_s: float, node: str, state: str) -> None:
        """A member is now in that state."""
        self.pass_to(now_s)
        before = self._states.get(node)
        if state not in self._counts or before == state:
            return
        self._states[node] = state
        self._counts[state] += 1
        if before is not None:
            self._counts[before] -= 1
        self._plot(now_s, (state,) if before is None else (before, state))

    def pass_to(self, now_s: float) -> None:
        """What the hub forgot until then is forgotten."""
        while self._falls and self._falls[0] < now_s:
            fell_s = self._falls.pop(0)
            self._states.clear()
            self._counts = dict.fromkeys(STATES, 0)
            self._plot(fell_s, STATES)

    def finish(self, end_s: float) -> None:
        """All lines were taken."""
        self.pass_to(end_s)
        self._plot(end_s, STATES)

    def _plot(self, now_s: float, states: tuple[str, ...]) -> None:
        for state in states:
            self.curves[state].add(now_s, self._counts[state])


# --- files ------------------------------------------------------------------------------------------------------------


def _decoded(path: Path, kind: type[Any], decode: Callable[..., Any] = msgspec.json.decode) -> Any:
    try:
        return decode(_bytes(path), type=kind)
    except msgspec.DecodeError as error:
        raise DataError(f"{path} is not what a virtual run writes: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _last_time(path: Path) -> float:
    """Of the last whole line near the end of a file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES), os.SEEK_SET)
            lines = file.read().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    for line in reversed(lines):
        try:
            return float(msgspec.json.decode(line)["t"])
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
    return 0.0


def _axis_end(virtual_s: float, last_s: float) -> float:
    """A run that was done long before its time is shown until it was done, farewells after it as well."""
    shown_s = max(virtual_s, last_s) if last_s > QUIET_PART * virtual_s else min(virtual_s, MARGIN * last_s)
    return max(shown_s, 1e-3)


def _points(curves: list[Curve]) -> tuple[tuple[Point, ...], ...]:
    return tuple(curve.points() for curve in curves)
