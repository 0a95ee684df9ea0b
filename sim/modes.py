"""Synchronous, block and drop under one scenario: the same seeds, so the same weather, and what that does to learning.

A cell is (mode, seed): one virtual run. Figures are medians over seeds with an interval that assumes no distribution.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from mdgan_edge.errors import ConfigurationError, SelfCheckFailed
from mdgan_edge.messages import NodeId
from sim.curves import Curves
from sim.play import plan_run, play
from sim.scenario.values import Fidelity, Scenario

MODES: Mapping[str, Mapping[str, object]] = {
    "sync": {"mode": "sync"},
    "async-block": {"mode": "async", "training.staleness_policy": "block"},
    "async-drop": {"mode": "async", "training.staleness_policy": "drop"},
}
BASELINE = "sync"
LOWER_IS_BETTER = frozenset({"sliced_wasserstein", "fid_classifier", "kid", "label_total_variation"})
DEFAULT_TARGETS = {"quality": 0.7, "fid_classifier": 10.0}
DEFAULT_SCORE: Mapping[Fidelity, str] = {"toy": "quality", "full": "fid_classifier"}
CONFIDENCE = 0.95


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
    merged: Mapping[NodeId, int]  # feedbacks, by node that was there at the end
    weights: Mapping[NodeId, float]  # what they weighed: the sum of the node's parts of every step
    cpu_s: float

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


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared."""

    scenario: Scenario
    fidelity: Fidelity
    seeds: tuple[int, ...]
    target: Target
    assignments: Mapping[str, object]


def wanted(
    scenario: Scenario,
    fidelity: Fidelity | None,
    seeds: int,
    score: str | None,
    target: float | None,
    assignments: Mapping[str, object],
) -> Wanted:
    """Checked. Raises ConfigurationError for what cannot be compared."""
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
    return Wanted(scenario, chosen, tuple(range(seeds)), Target(name, value), assignments)


def play_cell(asked: Wanted, mode: str, seed: int) -> Cell:
    """One run. Raises SelfCheckFailed if an invariant is violated."""
    recorder = Curves()
    plan = plan_run(asked.scenario, seed, asked.fidelity, {**asked.assignments, **MODES[mode]})
    played = play(plan, recorder)
    for violation in played.checks.violations:
        raise SelfCheckFailed(f"{mode}, seed {seed}: {violation.invariant} is violated: {violation.what}")
    core = played.world.last_hub_core
    assert core is not None
    there = [member for member in core.members if member.present]
    merged = {member.node: member.tally.merged for member in there}
    weights = {member.node: member.tally.weight for member in there}
    return Cell(mode, seed, recorder.of(asked.target.score), core.training.version, merged, weights, played.cpu_s)


def play_all(asked: Wanted, jobs: int, told: Callable[[str], None]) -> list[Cell]:
    """Every mode with every seed, `jobs` at a time, in the order of seeds."""
    cells = [(mode, seed) for seed in asked.seeds for mode in MODES]
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
    by_mode = {mode: {cell.seed: cell for cell in cells if cell.mode == mode} for mode in MODES}
    return {
        "scenario": asked.scenario.name,
        "fidelity": asked.fidelity,
        "seeds": list(asked.seeds),
        "virtual_s": int(asked.scenario.duration) / 1e9,
        "settings": dict(asked.assignments),
        "target": {"score": target.score, "value": target.value, "lower_is_better": target.score in LOWER_IS_BETTER},
        "modes": {mode: _of_mode(several.values(), target) for mode, several in by_mode.items()},
        "against_sync": {mode: _ratios(by_mode, mode, target) for mode in MODES if mode != BASELINE},
        "cells": [
            {"mode": cell.mode, "seed": cell.seed, "reached_s": cell.reached(target), "versions": cell.versions}
            | {
                "merged": dict(cell.merged),
                "weights": dict(cell.weights),
                "curve": [list(point) for point in cell.curve],
                "cpu_s": cell.cpu_s,
            }
            for cell in cells
        ],
    }


def _of_mode(cells: Any, target: Target) -> dict[str, Any]:
    several = list(cells)
    reached = [at for cell in several if (at := cell.reached(target)) is not None]
    finals = [cell.curve[-1][1] for cell in several if cell.curve]
    return {
        "reached": len(reached),
        "reached_s": _stated(reached),
        "final": _stated(finals),
        "versions": _stated([cell.versions for cell in several]),
        "least_share": _stated([_least(cell.merged) for cell in several]),
        "least_weighted_share": _stated([_least(cell.weights) for cell in several]),
    }


def _least(given: Mapping[NodeId, float]) -> float:
    """What the node with the least gave, as a part of its fair share."""
    total = sum(given.values())
    return min(given.values()) * len(given) / total if total else 0.0


def _ratios(by_mode: Mapping[str, Mapping[int, Cell]], mode: str, target: Target) -> dict[str, Any]:
    """Times to the target against those of sync with the same seed, of the seeds with which both got there."""
    pairs = [(by_mode[mode][seed].reached(target), cell.reached(target)) for seed, cell in by_mode[BASELINE].items()]
    ratios = [own / base for own, base in pairs if own is not None and base is not None]
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
