"""Synchronous, block and drop under one scenario: the same seeds, so the same weather, and what that does to learning.

It is an experiment with one axis, `mode`; here is what is asked of it, and what its rows say about times to a target.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.experiments.intervals import stated
from sim.experiments.playing import Row
from sim.experiments.running import Means, play_experiment
from sim.experiments.summary import FIGURES, end_of, points_of
from sim.experiments.values import LOWER_IS_BETTER, Cell, Experiment
from sim.scenario.values import Fidelity, Scenario

MODES: Mapping[str, Mapping[str, object]] = {
    "sync": {"mode": "sync"},
    "async-block": {"mode": "async", "training.staleness_policy": "block"},
    "async-drop": {"mode": "async", "training.staleness_policy": "drop"},
}
AXIS = "mode"
BASELINE, BLOCK = "sync", "async-block"
DEFAULT_TARGETS = {"quality": 0.7, "fid_classifier": 10.0}
DEFAULT_SCORE: Mapping[Fidelity, str] = {"toy": "quality", "full": "fid_classifier"}

Curve = Sequence[tuple[float, float]]  # (virtual time in s, score)


@dataclass(frozen=True, slots=True)
class Target:
    """A score, and which value of it is good enough."""

    score: str
    value: float

    def met(self, value: float) -> bool:
        return value <= self.value if self.score in LOWER_IS_BETTER else value >= self.value

    def reached(self, curve: Curve) -> float | None:
        """The first time at which a curve met it, s; None if it never did."""
        return next((at for at, value in curve if self.met(value)), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared."""

    scenario: Scenario
    seeds: tuple[int, ...]
    target: Target
    assignments: Mapping[str, object]
    modes: Mapping[str, Mapping[str, object]]
    smooth: int

    def curve(self, row: Row) -> Curve:
        """The score of a run over virtual time."""
        return smoothed(points_of(row, self.target.score, "virtual_s"), self.smooth)

    def experiment(self) -> Experiment:
        """Every mode with every seed, in the order of seeds."""
        cells = [
            Cell({AXIS: mode}, seed, self.scenario, {**self.assignments, **settings})
            for seed in self.seeds
            for mode, settings in self.modes.items()
        ]
        name, axes = f"modes-{self.scenario.name}", {AXIS: tuple(self.modes)}
        return Experiment(name, self.scenario.about, (self.target.score,), axes, self.seeds, tuple(cells))


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
    scene = replace(scenario, fidelity=chosen)
    return Wanted(scene, tuple(range(seeds)), Target(name, value), assignments, played, smooth)


def mode_beside(text: str) -> tuple[str, Mapping[str, object]]:
    """NAME:KEY=VALUE,KEY=VALUE: an asynchronous mode with these settings. Raises ConfigurationError."""
    name, colon, settings = text.partition(":")
    pairs = [part.partition("=") for part in settings.split(",")]
    if not colon or not name or not all(key and equals and value for key, equals, value in pairs):
        raise ConfigurationError(f"--beside {text!r}: write it as NAME:KEY=VALUE, more settings after a comma")
    return name, {"mode": "async", **{key.strip(): value.strip() for key, _, value in pairs}}


def smoothed(curve: Curve, smooth: int) -> tuple[tuple[float, float], ...]:
    """Each score as the median of itself and those before it, `smooth` in all; so many less one have none."""
    scores = [score for _, score in curve]
    return tuple(
        (curve[end - 1][0], statistics.median(scores[end - smooth : end])) for end in range(smooth, len(curve) + 1)
    )


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
    by_mode = {mode: {row["seed"]: row for row in rows if row["cell"][AXIS] == mode} for mode in asked.modes}
    return {
        "scenario": asked.scenario.name,
        "fidelity": asked.scenario.fidelity,
        "seeds": list(asked.seeds),
        "virtual_s": int(asked.scenario.duration) / 1e9,
        "settings": dict(asked.assignments),
        "target": {"score": target.score, "value": target.value, "lower_is_better": target.score in LOWER_IS_BETTER},
        "modes": {mode: _of_mode(asked, list(several.values())) for mode, several in by_mode.items()},
        "settings_of_modes": {mode: dict(settings) for mode, settings in asked.modes.items()},
        "smooth": asked.smooth,
        "against_sync": _against(asked, by_mode, BASELINE),
        "against_block": {mode: one for mode, one in _against(asked, by_mode, BLOCK).items() if mode not in MODES},
        "cells": [
            {"mode": row["cell"][AXIS], "seed": row["seed"], "reached_s": target.reached(asked.curve(row))}
            | {name: row[name] for name in ("versions", "merged", "weights")}
            | {"curve": [list(point) for point in asked.curve(row)], "finals": _ends(row)}
            | {"cpu_s": row["spent"]["cpu_s"]}
            for row in rows
        ],
    }


def _of_mode(asked: Wanted, rows: Sequence[Row]) -> dict[str, Any]:
    curves, ends = [asked.curve(row) for row in rows], [_ends(row) for row in rows]
    lasts = [curve[-1][1] for curve, end in zip(curves, ends, strict=True) if curve and asked.target.score in end]
    reached = [at for curve in curves if (at := asked.target.reached(curve)) is not None]
    names = sorted({name for end in ends for name in end})
    return {
        "reached": len(reached),
        "reached_s": stated(reached),
        "diverged": sum(bool(curve) for curve in curves) - len(lasts),  # these have no final score
        "final": stated(lasts),
        "scores": {name: stated([end[name] for end in ends if name in end]) for name in names},
        "versions": stated([row["versions"] for row in rows]),
        "least_share": stated([_least(row["merged"]) for row in rows]),
        "least_weighted_share": stated([_least(row["weights"]) for row in rows]),
    }


def _ends(row: Row) -> dict[str, float]:
    """Every score at the end."""
    return {name: end for name in row["curve"] if name not in FIGURES and (end := end_of(row, name)) is not None}


def _least(given: Mapping[str, float]) -> float:
    """What the node with the least gave, as a part of its fair share."""
    total = sum(given.values())
    return min(given.values()) * len(given) / total if total else 0.0


def _against(asked: Wanted, by_mode: Mapping[str, Mapping[int, Row]], base: str) -> dict[str, Any]:
    return {mode: _ratios(asked, by_mode[mode], by_mode[base]) for mode in by_mode if mode != base and base in by_mode}


def _ratios(asked: Wanted, own: Mapping[int, Row], base: Mapping[int, Row]) -> dict[str, Any]:
    """Times to the target against those of `base` with the same seed, of the seeds with which both got there."""
    times = [[asked.target.reached(asked.curve(rows[seed])) for rows in (own, base)] for seed in base]
    ratios = [mine / other for mine, other in times if mine is not None and other is not None]
    return {"pairs": len(ratios), "time": stated(ratios)}
