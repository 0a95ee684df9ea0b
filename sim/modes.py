"""Synchronous, block and drop under one scenario: the same seeds, so the same weather, and what that does to learning.

A cell is (mode, seed): one virtual run. Figures are medians over seeds with an interval that assumes no distribution.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from mdgan_edge.actors import Measure, Note
from mdgan_edge.errors import ConfigurationError, SelfCheckFailed
from mdgan_edge.messages import NodeId
from sim.play import plan_run, play
from sim.scenario.values import Fidelity, Scenario

MODES: Mapping[str, Mapping[str, object]] = {
    "sync": {"mode": "sync"},
    "async-block": {"mode": "async", "training.staleness_policy": "block"},
    "async-drop": {"mode": "async", "training.staleness_policy": "drop"},
}
BASELINE, BLOCK = "sync", "async-block"
LOWER_IS_BETTER = frozenset({"sliced_wasserstein", "fid_classifier", "kid", "label_total_variation"})
DEFAULT_TARGETS = {"quality": 0.7, "fid_classifier": 10.0}
DEFAULT_SCORE: Mapping[Fidelity, str] = {"toy": "quality", "full": "fid_classifier"}
CONFIDENCE = 0.95
FINAL_EVALUATIONS = 3  # as in run.json: a single one is noisy


@dataclass(frozen=True, slots=True)
class Target:
    """A score, and which value of it is good enough."""

    score: str
    value: float

    def met(self, value: float) -> bool:
        return value <= self.value if self.score in LOWER_IS_BETTER else value >= self.value


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: its scores over virtual time (s), and what it came to."""

    mode: str
    seed: int
    curve: tuple[tuple[float, float], ...]
    versions: int
    merged: Mapping[NodeId, int]  # feedbacks, by node that was there at the end, or ever if the run was over before
    weights: Mapping[NodeId, float]  # what they weighed: the sum of the node's parts of every step
    cpu_s: float
    finals: Mapping[str, float]  # of every score the median of the last evaluations

    def reached(self, target: Target) -> float | None:
        """The first time at which the target was met, s; None if it never was."""
        return next((at for at, value in self.curve if target.met(value)), None)


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


def _coverage(n: int, rank: int) -> float:
    return 1.0 - 2.0 * float(sum(math.comb(n, k) for k in range(rank))) / 2.0**n


class _Curve:
    """A Recorder that keeps one score over time, and all of the last evaluations."""

    def __init__(self, score: str) -> None:
        self._score = score
        self.points: list[tuple[float, float]] = []
        self._last: deque[dict[str, float]] = deque(maxlen=FINAL_EVALUATIONS)

    def note(self, now: int, who: NodeId, note: Note) -> None: ...

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:  # noqa: ARG002
        if measure.what == "evaluated" and self._score in measure.values:
            self.points.append((now / 1e9, float(measure.values[self._score])))
            numbers = {name: value for name, value in measure.values.items() if name != "version"}
            self._last.append(
                {name: float(value) for name, value in numbers.items() if isinstance(value, (int, float))}
            )

    def finals(self) -> dict[str, float]:
        names = self._last[-1] if self._last else ()
        return {name: statistics.median(one[name] for one in self._last if name in one) for name in names}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared."""

    scenario: Scenario
    fidelity: Fidelity
    seeds: tuple[int, ...]
    target: Target
    assignments: Mapping[str, object]
    modes: Mapping[str, Mapping[str, object]]
    smooth: int


def wanted(
    scenario: Scenario,
    fidelity: Fidelity | None,
    seeds: int,
    score: str | None,
    target: float | None,
    assignments: Mapping[str, object],
    modes: Sequence[str] = (),
    beside: Sequence[str] = (),
    smooth: int = 1,
) -> Wanted:
    """Checked. Raises ConfigurationError for what cannot be compared.

    `modes`: some of MODES, all without; `beside`: more of them, see `mode_beside`; `smooth`: a score is the median of
    so many evaluations in a row.
    """
    chosen: Fidelity = fidelity or (scenario.fidelity if scenario.fidelity != "tokens" else "toy")
    if chosen == "tokens":
        raise ConfigurationError("tokens have no scores to compare: choose --fidelity toy or full")
    name = score or DEFAULT_SCORE[chosen]
    value = DEFAULT_TARGETS.get(name) if target is None else target
    if value is None:
        raise ConfigurationError(f"say which value of {name} is good enough: --target NUMBER")
    fixed = sorted({"mode", "training.staleness_policy"} & assignments.keys())
    if fixed:
        raise ConfigurationError(f"--set {fixed[0]}: that is what is compared; leave it out")
    more = dict(mode_beside(text) for text in beside)
    if len(more) < len(beside) or more.keys() & MODES.keys():
        raise ConfigurationError("--beside: two modes of one name; give each one of its own")
    played = {**{name: MODES[name] for name in MODES if not modes or name in modes}, **more}
    return Wanted(scenario, chosen, tuple(range(seeds)), Target(name, value), assignments, played, smooth)


def mode_beside(text: str) -> tuple[str, Mapping[str, object]]:
    """NAME:KEY=VALUE,KEY=VALUE: an asynchronous mode with these settings. Raises ConfigurationError."""
    name, colon, settings = text.partition(":")
    pairs = [part.partition("=") for part in settings.split(",")]
    if not colon or not name or not all(key and equals and value for key, equals, value in pairs):
        raise ConfigurationError(f"--beside {text!r}: write it as NAME:KEY=VALUE, more settings after a comma")
    return name, {"mode": "async", **{key.strip(): value.strip() for key, _, value in pairs}}


def smoothed(curve: Sequence[tuple[float, float]], smooth: int) -> tuple[tuple[float, float], ...]:
    """Each score as the median of itself and those before it, `smooth` in all; so many less one have none."""
    scores = [score for _, score in curve]
    return tuple(
        (curve[end - 1][0], statistics.median(scores[end - smooth : end])) for end in range(smooth, len(curve) + 1)
    )


def play_cell(asked: Wanted, mode: str, seed: int) -> Cell:
    """One run. Raises SelfCheckFailed if an invariant is violated."""
    recorder = _Curve(asked.target.score)
    plan = plan_run(asked.scenario, seed, asked.fidelity, {**asked.assignments, **asked.modes[mode]})
    played = play(plan, recorder)
    for violation in played.checks.violations:
        raise SelfCheckFailed(f"{mode}, seed {seed}: {violation.invariant} is violated: {violation.what}")
    core = played.world.last_hub_core
    assert core is not None
    there = [member for member in core.members if member.present] or list(
        core.members
    )  # all have left a run that is over
    merged = {member.node: member.tally.merged for member in there}
    weights = {member.node: member.tally.weight for member in there}
    curve, version = smoothed(recorder.points, asked.smooth), core.training.version
    return Cell(mode, seed, curve, version, merged, weights, played.cpu_s, recorder.finals())


def play_all(asked: Wanted, jobs: int, told: Callable[[str], None]) -> list[Cell]:
    """Every mode with every seed, `jobs` at a time, in the order of seeds."""
    cells = [(mode, seed) for seed in asked.seeds for mode in asked.modes]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(play_cell, asked, mode, seed) for mode, seed in cells]
        found = []
        for future in futures:
            cell = future.result()
            told(_line(cell, asked.target))
            found.append(cell)
    if not any(cell.curve for cell in found):
        raise ConfigurationError(f"no run has a score {asked.target.score!r}: is it one of this fidelity's?")
    return found


def _line(cell: Cell, target: Target) -> str:
    at = cell.reached(target)
    when = "never" if at is None else f"after {at:.0f} s"
    return f"seed {cell.seed} {cell.mode}: {target.score} {target.value:g} {when}; {cell.versions} versions"


def summary(asked: Wanted, cells: Sequence[Cell]) -> dict[str, Any]:
    """What the runs say, as compare.json has it; times in virtual seconds."""
    target = asked.target
    by_mode = {mode: {cell.seed: cell for cell in cells if cell.mode == mode} for mode in asked.modes}
    return {
        "scenario": asked.scenario.name,
        "fidelity": asked.fidelity,
        "seeds": list(asked.seeds),
        "virtual_s": int(asked.scenario.duration) / 1e9,
        "settings": dict(asked.assignments),
        "target": {"score": target.score, "value": target.value, "lower_is_better": target.score in LOWER_IS_BETTER},
        "modes": {mode: _of_mode(several.values(), target) for mode, several in by_mode.items()},
        "settings_of_modes": {mode: dict(settings) for mode, settings in asked.modes.items()},
        "smooth": asked.smooth,
        "against_sync": _against(by_mode, BASELINE, target),
        "against_block": {mode: one for mode, one in _against(by_mode, BLOCK, target).items() if mode not in MODES},
        "cells": [
            {"mode": cell.mode, "seed": cell.seed, "reached_s": cell.reached(target), "versions": cell.versions}
            | {
                "merged": dict(cell.merged),
                "weights": dict(cell.weights),
                "curve": [list(point) for point in cell.curve],
                "cpu_s": cell.cpu_s,
                "finals": dict(cell.finals),
            }
            for cell in cells
        ],
    }


def _of_mode(cells: Any, target: Target) -> dict[str, Any]:
    several = list(cells)
    reached = [at for cell in several if (at := cell.reached(target)) is not None]
    finals = [cell.curve[-1][1] for cell in several if cell.curve]
    names = sorted({name for cell in several for name in cell.finals})
    return {
        "reached": len(reached),
        "reached_s": _stated(reached),
        "final": _stated(finals),
        "scores": {name: _stated([cell.finals[name] for cell in several if name in cell.finals]) for name in names},
        "versions": _stated([cell.versions for cell in several]),
        "least_share": _stated([_least(cell.merged) for cell in several]),
        "least_weighted_share": _stated([_least(cell.weights) for cell in several]),
    }


def _least(given: Mapping[NodeId, float]) -> float:
    """What the node with the least gave, as a part of its fair share."""
    total = sum(given.values())
    return min(given.values()) * len(given) / total if total else 0.0


def _against(by_mode: Mapping[str, Mapping[int, Cell]], base: str, target: Target) -> dict[str, Any]:
    return {mode: _ratios(by_mode, mode, base, target) for mode in by_mode if mode != base and base in by_mode}


def _ratios(by_mode: Mapping[str, Mapping[int, Cell]], mode: str, base: str, target: Target) -> dict[str, Any]:
    """Times to the target against those of `base` with the same seed, of the seeds with which both got there."""
    pairs = [(by_mode[mode][seed].reached(target), cell.reached(target)) for seed, cell in by_mode[base].items()]
    ratios = [own / other for own, other in pairs if own is not None and other is not None]
    return {"pairs": len(ratios), "time": _stated(ratios)}


def _stated(values: Sequence[float]) -> dict[str, float] | None:
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
