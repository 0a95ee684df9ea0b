"""What `mdgan-sim sweep` does: plays what is missing, keeps what holds, says what is there."""

from __future__ import annotations

import hashlib
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import msgspec

from mdgan_edge.errors import DataError, ExitCode, Failed, SelfCheckFailed
from mdgan_edge.rundir import RUNS, write_json
from sim.experiments.conditions import Conditions, conditions_of, digest_of, key_of, plan_cell
from sim.experiments.executors import Rows, in_processes, in_turn, on_dask
from sim.experiments.kept import EXPERIMENT_FILE, Description, KeptCell
from sim.experiments.playing import Row
from sim.experiments.reading import find_experiment, read_experiment
from sim.experiments.results import Results, identity, valid_rows
from sim.experiments.summary import end_of, groups, said_of
from sim.experiments.values import SEEDS_MAX, BudgetName, Cell, Experiment
from sim.stopping import signals_interrupt

GO_ON = "the same command goes on"
SHARDS_MAX = 1000
VIOLATED = "is violated"

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` (from 0) of `count`: which cells are in it depends on nothing but what they are called."""

    index: int = 0
    count: int = 1

    def has(self, cell: Cell) -> bool:
        """Whether this cell is played here."""
        digest = hashlib.blake2b(cell.text.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "1/4". Raises UsageError."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, re.ASCII)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= count <= SHARDS_MAX or index >= count:
            raise click.UsageError(f"--shard {text}: write 0/4, 1/4, 2/4 or 3/4 for the quarters of all cells")
        return cls(index, count)


@dataclass(frozen=True, slots=True)
class Means:
    """How the cells of a call are played."""

    jobs: int = 1
    shard: Shard = Shard()
    dask: str | None = None

    def play(self, cells: Sequence[Cell]) -> Rows:
        """Their rows, as they are finished."""
        if self.dask is not None:
            return on_dask(cells, self.dask)
        return in_turn(cells) if self.jobs == 1 else in_processes(cells, self.jobs)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is after a call: the rows that hold, of all shards, and what failed in this one."""

    experiment: Experiment
    folder: Path
    rows: tuple[Row, ...]
    played: int
    failed: tuple[Row, ...]

    @property
    def missing(self) -> int:
        """Cells without a row."""
        return len(self.experiment.cells) - len(self.rows)

    def refuse_if_failed(self) -> None:
        """Raises SelfCheckFailed if an invariant was violated, Failed if a cell could not be played."""
        if not self.failed:
            return
        first = next((row for row in self.failed if VIOLATED in row["failed"]), self.failed[0])
        cell = ", ".join(f"{axis} {label}" for axis, label in first["cell"].items())
        text = f"{len(self.failed)} of {self.played} cells failed; {cell}, seed {first['seed']}: {first['failed']}"
        if VIOLATED in first["failed"]:
            raise SelfCheckFailed(text)
        raise Failed(ExitCode.UNEXPECTED, text)


def sweep(
    name: str,
    budget: BudgetName,
    seeds: Sequence[int] | None,
    assignments: Mapping[str, object],
    out: Path | None,
    means: Means,
    told: Told,
) -> Outcome:
    """Read, play what is missing, and leave results.jsonl and experiment.json. Raises OperatorErrors."""
    experiment = read_experiment(find_experiment(name), budget, seeds, assignments)
    folder = out or RUNS / f"{experiment.name}-{budget}"
    command = ["mdgan-sim", "sweep", name, "--budget", budget]
    command += [] if seeds is None else ["--seeds", seeds_text(seeds)]
    for key, value in assignments.items():
        command += ["--set", f"{key}={value}"]
    return play_experiment(experiment, folder, means, told, {"budget": budget, "command": shlex.join(command)})


def play_experiment(experiment: Experiment, folder: Path, means: Means, told: Told, more: Mapping[str, str]) -> Outcome:
    """Play the cells of this shard that have no row that still holds. All are planned first: mistakes show at once.

    TERM and Ctrl-C end it at once, finished rows are kept, and Failed says so. For the main thread only.
    """
    digest = lru_cache(digest_of)  # one look at the images for all cells
    cells = [(cell, conditions_of(plan_cell(cell), cell, digest)) for cell in experiment.cells]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror or error}") from error
    results = Results(folder)
    kept = valid_rows(results.rows(), cells)
    _describe(experiment, folder, cells, kept, more)
    missing = [cell for cell in experiment.cells if means.shard.has(cell) and _identity(cell) not in kept]
    try:
        with signals_interrupt():
            failed = list(_play(experiment, missing, means, results, told))
    except KeyboardInterrupt:
        text = f"stopped: {results.path} has {len(valid_rows(results.rows(), cells))} of {len(cells)} cells; {GO_ON}"
        raise Failed(ExitCode.UNEXPECTED, text) from None
    rows = valid_rows(results.rows(), cells)
    _describe(experiment, folder, cells, rows, more)
    ordered = tuple(rows[_identity(cell)] for cell in experiment.cells if _identity(cell) in rows)
    return Outcome(experiment, folder, ordered, len(missing), tuple(failed))


def _play(experiment: Experiment, cells: Sequence[Cell], means: Means, results: Results, told: Told) -> Iterator[Row]:
    """Each row goes to the file at once; yields those that failed."""
    if not cells:
        return
    began = time.monotonic()
    with closing(means.play(cells)) as played:
        for count, row in enumerate(played, start=1):
            results.append({"experiment": experiment.name, **row})
            left = (time.monotonic() - began) / count * (len(cells) - count)
            told(f"{count}/{len(cells)} {_line(row, experiment.scores)}; {left / 60:.1f} min left")
            if row.get("failed") is not None:
                yield row


def _line(row: Row, scores: Sequence[str]) -> str:
    cell = ", ".join([*row["cell"].values(), f"seed {row['seed']}"])
    if row.get("failed") is not None:
        return f"{cell}: FAILED: {row['failed']}"
    if "price" in row:
        return f"{cell}: priced, {row['spent']['cpu_s']:.0f} CPU s"
    score = scores[0]
    end = end_of(row, score)
    shown = "none" if end is None else f"{end:.3g}"
    return f"{cell}: {score} {shown}, {row['updates']:.0f} updates, {row['spent']['cpu_s']:.0f} CPU s"


def _identity(cell: Cell) -> Any:
    return identity(cell.labels, cell.seed)


def _describe(
    experiment: Experiment,
    folder: Path,
    cells: Sequence[tuple[Cell, Conditions]],
    rows: Mapping[Any, Row],
    more: Mapping[str, str],
) -> None:
    """experiment.json: all that the page needs beside the rows."""
    keys = [rows[_identity(cell)]["key"] if _identity(cell) in rows else key_of(now) for cell, now in cells]
    found = Description(
        name=experiment.name,
        about=experiment.about,
        **more,
        scores=list(experiment.scores),
        axes={axis: list(labels) for axis, labels in experiment.axes.items()},
        seeds=list(experiment.seeds),
        charts=list(experiment.charts),
        priced=experiment.priced,
        cells=[KeptCell(dict(cell.labels), cell.seed, key) for (cell, _), key in zip(cells, keys, strict=True)],
    )
    write_json(folder / EXPERIMENT_FILE, msgspec.to_builtins(found))


def seeds_of(text: str | None) -> tuple[int, ...] | None:
    """Of "3" the seeds 0, 1, 2; of "4-6" the seeds 4, 5, 6. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text, re.ASCII)
    first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
    found = range(first, last + 1) if match is not None and match[2] is not None else range(first)
    if not 1 <= len(found) <= SEEDS_MAX:
        raise click.UsageError(f"--seeds {text}: write how many, such as 3, or which, such as 4-6; at most {SEEDS_MAX}")
    return tuple(found)


def seeds_text(seeds: Sequence[int]) -> str:
    """The reverse of seeds_of."""
    return str(len(seeds)) if seeds[0] == 0 else f"{seeds[0]}-{seeds[-1]}"


def found_json(outcome: Outcome) -> dict[str, Any]:
    """What --json prints."""
    experiment = outcome.experiment
    return {
        "experiment": experiment.name,
        "folder": str(outcome.folder),
        "cells": len(experiment.cells),
        "played": outcome.played,
        "missing": outcome.missing,
        "failed": [{"cell": row["cell"], "seed": row["seed"], "why": row["failed"]} for row in outcome.failed],
        "groups": [] if experiment.priced else groups(experiment.axes, experiment.scores, outcome.rows),
        "prices": [{"cell": row["cell"], **row["price"]} for row in outcome.rows if "price" in row],
    }


def summary_lines(outcome: Outcome) -> list[str]:
    """For a terminal."""
    experiment = outcome.experiment
    lines = _priced_lines(outcome) if experiment.priced else _score_lines(outcome)
    if outcome.missing:
        total = len(experiment.cells)
        lines.append(f"{outcome.missing} of {total} cells have no result yet; {GO_ON}")
    return [*lines, f"results: {Results(outcome.folder).path}", f"page:    mdgan-sim report {outcome.folder}"]


def _score_lines(outcome: Outcome) -> list[str]:
    experiment = outcome.experiment
    score, seeds = experiment.scores[0], len(experiment.seeds)
    found = groups(experiment.axes, experiment.scores, outcome.rows)
    head = f"{experiment.name}: {score} at the end, median of {seeds} seed{'' if seeds == 1 else 's'} (interval)"
    return [head, *(f"  {', '.join(one['cell'].values()):32} {said_of(one, score)}" for one in found)]


def _priced_lines(outcome: Outcome) -> list[str]:
    head = f"{outcome.experiment.name}: multiply-adds of FL-GAN / MD-GAN on a node; all bytes of MD-GAN / FL-GAN"
    found = [(", ".join(row["cell"].values()), row["price"]) for row in outcome.rows]
    ratios = [(cell, one["ratio"]["measured"], one["totals"]["mdgan_to_flgan"]) for cell, one in found]
    return [head, *(f"  {cell:32} {work:8.2f} {sent:8.2f}" for cell, work, sent in ratios)]
