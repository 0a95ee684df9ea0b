"""The picture of `mdgan-sim compare-modes`: scores over virtual time with their spread, and the times to the target."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sim.report.canvas import DASHES, style
from sim.report.palette import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, Colour

SIZE = (11.0, 7.6)  # inches
DOTS_PER_INCH = 110
COLUMNS = 400  # of the time axis
STROKES: Mapping[str, tuple[Colour, str]] = {
    "sync": (VERMILLION, "striped"),
    "async-block": (BLUE, "plain"),
    "async-drop": (GREEN, "dotted"),
}
BESIDE: Sequence[tuple[Colour, str]] = ((PURPLE, "plain"), (ORANGE, "striped"), (SKY, "dotted"))  # modes of one's own
SPREAD_STRENGTH = 0.16

Curve = Sequence[Sequence[float]]


def draw_modes(found: Mapping[str, Any], path: str) -> None:
    """Write the picture of what sim.modes.summary says, as PNG."""
    with style(), mpl.rc_context({"figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=SIZE, dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        scores, times = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        _draw_scores(scores, found)
        _draw_times(times, found)
        count, seeds = len(found["seeds"]), "seed" if len(found["seeds"]) == 1 else "seeds"
        scores.set_title(f"{found['scenario']}, {found['fidelity']}, {count} {seeds}: median, lowest and highest")
        figure.tight_layout()
        figure.savefig(path)


def strokes(found: Mapping[str, Any]) -> Mapping[str, tuple[Colour, str]]:
    """How each mode is drawn; those beside the three in turn."""
    turn = itertools.cycle(BESIDE)
    return {mode: STROKES.get(mode) or next(turn) for mode in found["modes"]}


def _draw_scores(panel: Axes, found: Mapping[str, Any]) -> None:
    end, target = found["virtual_s"], found["target"]
    grid = [end * column / COLUMNS for column in range(COLUMNS + 1)]
    for mode, (colour, texture) in strokes(found).items():
        curves = [cell["curve"] for cell in found["cells"] if cell["mode"] == mode and cell["curve"]]
        if not curves:
            continue
        first = max(curve[0][0] for curve in curves)  # from here on every seed has a score
        shown = [at for at in grid if at >= first]
        sampled = [[_at(curve, at) for at in shown] for curve in curves]
        columns = [sorted(values) for values in zip(*sampled, strict=True)]
        panel.fill_between(
            shown,
            [column[0] for column in columns],
            [column[-1] for column in columns],
            color=colour.light,
            alpha=SPREAD_STRENGTH,
            linewidth=0,
        )
        middle = [column[len(column) // 2] for column in columns]
        panel.plot(shown, middle, color=colour.light, linestyle=DASHES[texture], label=mode, linewidth=2)  # type: ignore[index]
    panel.axhline(target["value"], color=INK.light, linewidth=1, label=f"target {target['value']:g}")
    panel.set_ylabel(target["score"].replace("_", " "))
    panel.legend(loc="best", frameon=False)


def _draw_times(panel: Axes, found: Mapping[str, Any]) -> None:
    modes = strokes(found)
    for row, (mode, (colour, _)) in enumerate(modes.items()):
        times = [cell["reached_s"] for cell in found["cells"] if cell["mode"] == mode]
        reached = [time for time in times if time is not None]
        panel.plot(reached, [row] * len(reached), "|", color=colour.light, markersize=16, markeredgewidth=1.6)
        if stated := found["modes"][mode]["reached_s"]:
            panel.plot([stated["median"]], [row], "D", color=colour.light, markersize=7)
        if missing := len(times) - len(reached):
            panel.annotate(
                f"{missing} never",
                (1, row - 0.36),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="center",
                color=MUTED.light,
            )
    panel.set_yticks(range(len(modes)), list(modes))
    panel.set_ylim(len(modes) - 0.5, -0.5)
    panel.set_xlim(0, found["virtual_s"])
    panel.set_xlabel("virtual time (s); a stroke is the time a seed took to the target, a diamond their median")


def _at(curve: Curve, at: float) -> float:
    """The last score up to then."""
    value = curve[0][1]
    for time, score in curve:
        if time > at:
            break
        value = score
    return value
