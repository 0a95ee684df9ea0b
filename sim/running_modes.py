"""What the command `mdgan-sim compare-modes` does: plays, draws, and leaves modes.json and modes.png."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdgan_edge.command import parse_assignments
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.rundir import write_json
from sim.modes import BASELINE, BLOCK, play_all, summary, wanted
from sim.scenario.reading import find_scenario
from sim.scenario.values import Fidelity

JSON_FILE, PICTURE_FILE = "modes.json", "modes.png"
REMEDY = "the picture needs matplotlib: pip install 'mdgan-edge[report]'"


def compare_modes(
    scenario: str,
    jobs: int,
    out: Path | None,
    told: Callable[[str], None],
    *,
    fidelity: Fidelity | None,
    seeds: int,
    score: str | None,
    target: float | None,
    assignments: tuple[str, ...],
    modes: tuple[str, ...],
    beside: tuple[str, ...],
    smooth: int,
) -> tuple[dict[str, Any], Path]:
    """What was found, and the folder that holds it. Raises OperatorErrors."""
    given = parse_assignments(assignments)
    asked = wanted(find_scenario(scenario), fidelity, seeds, score, target, given, modes, beside, smooth)
    try:
        from sim.report.modes import draw_modes
    except ModuleNotFoundError:
        raise ConfigurationError(REMEDY) from None
    folder = out or Path("runs") / f"modes-{asked.scenario.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror or error}") from error
    found = summary(asked, play_all(asked, folder, jobs, told))
    write_json(folder / JSON_FILE, found)
    draw_modes(found, str(folder / PICTURE_FILE))
    return found, folder


def summary_lines(found: Mapping[str, Any], folder: Path) -> list[str]:
    """For a terminal."""
    target, seeds = found["target"], len(found["seeds"])
    runs = f"{seeds} seed{'' if seeds == 1 else 's'}"
    lines = [f"{found['scenario']}, {found['fidelity']}, {runs}: time to {target['score']} {target['value']:g}"]
    for mode, one in found["modes"].items():
        time = "never" if one["reached_s"] is None else f"{_words(one['reached_s'], '.0f')} s"
        missed = f" ({one['reached']} of {seeds} seeds)" if one["reached"] < seeds else ""
        versions = one["versions"]["median"]
        diverged = f", {one['diverged']} diverged" if one["diverged"] else ""
        end = _words(one["final"], ".3g") + diverged
        lines.append(f"  {mode:12} {time}{missed}; at the end {end}, {versions:.0f} versions")
        count, weight = one["least_share"]["median"], one["least_weighted_share"]["median"]
        least = f"{count:.0%} of its fair share, by weight {weight:.0%}"
        lines.append(f"  {'':12} the node with the least gave {least}")
    for base, against in ((BASELINE, found["against_sync"]), (BLOCK, found["against_block"])):
        for mode, one in against.items():
            if one["time"] is not None:
                ratio = _words(one["time"], ".2f")
                lines.append(f"  {mode} / {base}: {ratio} of its time, over {one['pairs']} pairs")
    return [*lines, f"picture: {folder / PICTURE_FILE}"]


def _words(stated: Mapping[str, float] | None, form: str) -> str:
    if stated is None:
        return "unknown"
    low, high = format(stated["low"], form), format(stated["high"], form)
    return f"{format(stated['median'], form)} ({low} to {high}, {stated['coverage']:.1%} interval)"
