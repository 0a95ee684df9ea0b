"""What `mdgan-sim report` does: the page of a folder, whatever kind of folder it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mdgan_edge.errors import DataError
from sim.experiments.kept import EXPERIMENT_FILE
from sim.report.page import write_report
from sim.running_world import SCENARIO_FILE


def draw_report(folder: Path) -> dict[str, Any]:
    """Draw it anew and say where it is, and of a sweep what it shows.

    Raises DataError if the folder is neither a virtual run's nor a sweep's, or there is nothing to show.
    """
    if (folder / EXPERIMENT_FILE).exists():
        from sim.report.sweep import write_sweep

        path, read = write_sweep(folder)
        counts = {"runs": len(read.rows), "cells": len(read.experiment.cells), "of_other_conditions": read.others}
        return {"report": str(path), "shown": read.said, **counts}
    if (folder / SCENARIO_FILE).exists():
        return {"report": str(write_report(folder))}
    raise DataError(f"{folder} holds neither a sweep ({EXPERIMENT_FILE}) nor a virtual run ({SCENARIO_FILE})")
