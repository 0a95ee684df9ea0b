"""What `mdgan-sim report` does: the page of a folder, whatever kind of folder it is."""

from __future__ import annotations

from pathlib import Path

from mdgan_edge.errors import DataError
from sim.experiments.running import EXPERIMENT_FILE
from sim.report.page import write_report
from sim.running_world import SCENARIO_FILE


def draw_report(folder: Path) -> Path:
    """Draw it anew and say where it is. Raises DataError if the folder is neither a virtual run's nor a sweep's."""
    if (folder / EXPERIMENT_FILE).exists():
        from sim.report.sweep import write_sweep

        return write_sweep(folder)
    if (folder / SCENARIO_FILE).exists():
        return write_report(folder)
    raise DataError(f"{folder} holds neither a sweep ({EXPERIMENT_FILE}) nor a virtual run ({SCENARIO_FILE})")
