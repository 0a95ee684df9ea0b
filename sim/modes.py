"""Synchronous, block and drop under one scenario: the same seeds, so the same weather, and what that does to learning.

It is an experiment with one axis, `mode`; here is what is asked of it, and what its rows say about times to a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.experiments.intervals import stated
from sim.experiments.playing import Row
from sim.experiments.running import Means, play_experiment
from sim.experiments.summary import LOWER_IS_BETTER, points_of
from sim.experiments.values import Cell, Experiment
from sim.scenario.values import Fidelity, Scenario

MODES: Mapping[str, Mapping[str, object]] = {
    "sync": {"mode": "sync"},
    "async-block": {"mode": "async", "training.staleness_policy": "block"},
    "async-drop": {"mode": "async", "training.staleness_policy": "drop"},
}
AXIS = "mode"
BASELINE = "sync"
DEFAULT_TARGETS = {"quality": 0.7, "fid_classifier": 10.0}
DEFAULT_SCORE: Mapping[Fidelity, str] = {"toy": "quality", "full": "fid_classifier"}


@dataclass(frozen=True, slots=True)
class Target:
    """A score, and which value of it is good enough."""

    score: str
    value: float

    def met(self, value: float) -> bool:
        return value <= self.value if self.score in LOWER_IS_BETTER else value >= self.value

    def reached(self, row: Row) -> float | None:
        """The first time at which a run met it, s; None if it never did."""
        return next((at for at, value in points_of(row, self.score, "virtual_s") if self.met(value)), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared."""

    scenario: Scenario
    seeds: tuple[int, ...]
    target: Target
    assignments: Mapping[str, object]

    def experiment(self) -> Experiment:
        """Every mode with every seed, in the order of seeds."""
        cells = [
            Cell({AXIS: mode}, seed, self.scenario, {**self.assignments, **settings})
            for seed in self.seeds
            for mode, settings in MODES.items()
        ]
        name, axes = f"modes-{self.scenario.name}", {AXIS: tuple(MODES)}
        return Experiment(name, self.scenario.about, (self.target.score,), axes, self.seeds, tuple(cells))


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
    return Wanted(replace(scenario, fidelity=chosen), tuple(range(seeds)), Target(name, value), assignments)


def play_all(asked: Wanted, folder: Path, jobs: int, told: Callable[[str], None]) -> Sequence[Row]:
    """The rows, in the order of seeds; those that lie in the folder already are not played again.

    Raises SelfCheckFailed if an invariant is violated, Failed if a run cannot be played.
    """
    outcome = play_experiment(asked.experiment(), folder, Means(jobs), told, {})
    outcome.refuse_if_failed()
    if not any(points_of(row, asked.target.score, "virtual_s") for row in outcome.rows):
        raise ConfigurationError(f"no run has a score {asked.target.score!r}: is it one of this fidelity's?")
    return outcome.rows


def summary(asked: Wanted, rows: Sequence[Row]) -> dict[str, Any]:
    """What the runs say, as modes.json has it; times in virtual seconds."""
    target = asked.target
    by_mode = {mode: {row["seed"]: row for row in rows if row["cell"][AXIS] == mode} for mode in MODES}
    return {
        "scenario": asked.scenario.name,
        "fidelity": asked.scenario.fidelity,
        "seeds": list(asked.seeds),
        "virtual_s": int(asked.scenario.duration) / 1e9,
        "settings": dict(asked.assignments),
        "target": {"score": target.score, "value": target.value, "lower_is_better": target.score in LOWER_IS_BETTER},
        "modes": {mode: _of_mode(list(several.values()), target) for mode, several in by_mode.items()},
        "against_sync": {mode: _ratios(by_mode, mode, target) for mode in MODES if mode != BASELINE},
        "cells": [
            {"mode": row["cell"][AXIS], "seed": row["seed"], "reached_s": target.reached(row)}
            | {name: row[name] for name in ("versions", "merged", "weights")}
            | {"curve": [list(point) for point in points_of(row, target.score, "virtual_s")]}
            | {"cpu_s": row["spent"]["cpu_s"]}
            for row in rows
        ],
    }


def _of_mode(rows: Sequence[Row], target: Target) -> dict[str, Any]:
    reached = [at for row in rows if (at := target.reached(row)) is not None]
    curves = [points_of(row, target.score, "virtual_s") for row in rows]
    return {
        "reached": len(reached),
        "reached_s": stated(reached),
        "final": stated([curve[-1][1] for curve in curves if curve]),
        "versions": stated([row["versions"] for row in rows]),
        "least_share": stated([_least(row["merged"]) for row in rows]),
        "least_weighted_share": stated([_least(row["weights"]) for row in rows]),
    }


def _least(given: Mapping[str, float]) -> float:
    """What the node with the least gave, as a part of its fair share."""
    total = sum(given.values())
    return min(given.values()) * len(given) / total if total else 0.0


def _ratios(by_mode: Mapping[str, Mapping[int, Row]], mode: str, target: Target) -> dict[str, Any]:
    """Times to the target against those of sync with the same seed, of the seeds with which both got there."""
    pairs = [(target.reached(by_mode[mode][seed]), target.reached(row)) for seed, row in by_mode[BASELINE].items()]
    ratios = [own / base for own, base in pairs if own is not None and base is not None]
    return {"pairs": len(ratios), "time": stated(ratios)}
