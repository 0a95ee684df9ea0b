"""results.jsonl: one line per finished cell, appended and durable, so that a sweep can be killed and goes on.

Files of several shards or machines make one by `cat`: order means nothing, and of two lines on one cell the later
counts. A line that was torn by a crash or a full disk is passed over, and cut off before the next one is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mdgan_edge.errors import DataError
from mdgan_edge.journal import read
from sim.experiments.conditions import Conditions, holds
from sim.experiments.kept import refuse_spoilt_row
from sim.experiments.playing import Row
from sim.experiments.values import Cell

RESULTS_FILE = "results.jsonl"

Identity = tuple[tuple[tuple[str, str], ...], int]


def identity(labels: Mapping[str, str], seed: int) -> Identity:
    """Which cell a row is of, whatever the conditions."""
    return tuple(sorted(labels.items())), seed


class Results:
    """The file in one folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS_FILE

    def rows(self) -> list[Row]:
        """Every whole line. Raises DataError for one that is no row."""
        if not self.path.exists():
            return []
        rows = read(self.path)
        for number, row in enumerate(rows, start=1):
            refuse_spoilt_row(row, f"{self.path}: row {number}")
        return rows

    def append(self, row: Row) -> None:
        """Add a line and wait for the disk. Raises DataError."""
        line = json.dumps(row, separators=(",", ":")).encode() + b"\n"
        try:
            self._cut_torn()
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _cut_torn(self) -> None:
        """Another sweep may be writing here too, so only what no newline ends is cut."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def valid_rows(rows: Sequence[Row], cells: Sequence[tuple[Cell, Conditions]]) -> dict[Identity, Row]:
    """Of each cell the last row that did not fail and still holds."""
    wanted = {identity(cell.labels, cell.seed): conditions for cell, conditions in cells}
    found: dict[Identity, Row] = {}
    for row in rows:
        name = identity(row["cell"], row["seed"])
        if name in wanted and row.get("failed") is None and holds(row["conditions"], wanted[name]):
            found[name] = row
    return found
