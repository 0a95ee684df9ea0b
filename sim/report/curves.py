"""The charts of an experiment: scores while they train and at the end, medians with what lies between all seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from sim.experiments.intervals import median_interval
from sim.experiments.playing import Row
from sim.experiments.summary import end_of, points_of, with_labels
from sim.experiments.values import Chart
from sim.report.canvas import DASHES, LEFT, Canvas, Stroke, canvas
from sim.report.palette import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, INK)
STYLES = ("solid", "dashed", "dotted")
TEXTURES = {"solid": "plain", "dashed": "striped", "dotted": "dotted"}
HEIGHT = 270  # of a panel, points
PANELS_ABREAST = 3
PANEL_GAP = 64
NARROW_LEFT = 64
KEY_COLUMNS = 4
SPREAD_STRENGTH = 0.13
SPREAD = 0.3  # of a place on the axis: how far apart lines lie
OVER = {"updates": "generator updates", "virtual_s": "virtual time (s)", "gone": "nodes that are gone"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is drawn."""

    axes: Mapping[str, Sequence[str]]
    rows: Sequence[Row]


def draw_chart(chart: Chart, facts: Facts) -> tuple[Canvas, tuple[Stroke, ...]]:
    """The figure and its key."""
    panels = list(facts.axes[chart.panels]) if chart.panels else [""]
    abreast = min(PANELS_ABREAST, len(panels))
    floors = -(-len(panels) // abreast)
    lefts = [LEFT] if abreast == 1 else [NARROW_LEFT] * abreast
    drawn = canvas([HEIGHT] * floors, lefts, gap=PANEL_GAP)
    strokes = _strokes(facts.axes[chart.lines]) if chart.lines else (Stroke("all", BLUE),)
    for place, (panel, label) in enumerate(zip(drawn.panels, panels, strict=False)):
        rows = with_labels(facts.rows, {chart.panels: label} if chart.panels else {})
        _draw_panel(panel, chart, strokes, Facts(facts.axes, rows))
        if label:
            panel.set_title(f"{chart.panels} {label}", loc="left", fontsize="medium", color=MUTED.light)
        if place % abreast == 0:
            panel.set_ylabel(words_of(chart.score))
    for spare in drawn.panels[len(panels) :]:
        spare.set_visible(False)
    return drawn, strokes


def add_key(drawn: Canvas, strokes: Sequence[Stroke]) -> None:
    """What each line is, above the panels, for a picture that stands alone."""
    handles = []
    for stroke in strokes:
        dashes: Any = DASHES[TEXTURES[stroke.dashes]]  # type: ignore[index]
        handles.append(Line2D([], [], color=stroke.colour.light, linestyle=dashes, label=stroke.name))
    drawn.figure.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=KEY_COLUMNS, frameon=False, fontsize="small"
    )


def words_of(score: str) -> str:
    """A score's name for people."""
    return {"fid_classifier": "FID (classifier features)"}.get(score, score.replace("_", " "))


def _strokes(labels: Sequence[str]) -> tuple[Stroke, ...]:
    """A colour each; after the last colour the first again, in dashes."""
    pairs = [(colour, style) for style in STYLES for colour in COLOURS]
    return tuple(Stroke(label, *pairs[place % len(pairs)]) for place, label in enumerate(labels))  # type: ignore[arg-type]


def _draw_panel(panel: Axes, chart: Chart, strokes: Sequence[Stroke], facts: Facts) -> None:
    if chart.log:
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(LogFormatter())
        panel.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    for place, stroke in enumerate(strokes):
        rows = with_labels(facts.rows, {chart.lines: stroke.name} if chart.lines else {})
        if chart.kind == "curve":
            _draw_curve(panel, chart, stroke, rows)
        else:
            _draw_ends(panel, chart, stroke, facts.axes[chart.along], rows, (place, len(strokes)))
    if chart.kind == "curve":
        panel.set_xlabel(OVER[chart.over], loc="right")


def _draw_curve(panel: Axes, chart: Chart, stroke: Stroke, rows: Sequence[Row]) -> None:
    columns = spread_over(rows, chart.score, chart.over)
    if not columns:
        return
    at = [x for x, _ in columns]
    panel.fill_between(
        at,
        [min(values) for _, values in columns],
        [max(values) for _, values in columns],
        color=stroke.colour.light,
        alpha=SPREAD_STRENGTH,
        linewidth=0,
    )
    middle = [median_interval(values).median for _, values in columns]
    dashes: Any = DASHES[TEXTURES[stroke.dashes]]  # type: ignore[index]
    marker = "o" if len(columns) < 16 else None
    panel.plot(at, middle, color=stroke.colour.light, linestyle=dashes, marker=marker, markersize=3.5)


def spread_over(rows: Sequence[Row], score: str, over: str) -> list[tuple[float, list[float]]]:
    """(where, the scores of all seeds there), ascending, from where and to where every seed has one.

    Over `gone` the score of a run is its last with so many nodes gone; else its last up to there.
    """
    curves = [points for row in rows if (points := points_of(row, score, over))]
    if not curves:
        return []
    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    places = sorted({at for curve in curves for at, _ in curve if first <= at <= last})
    return [(at, [_at(curve, at) for curve in curves]) for at in places]


def _at(curve: Sequence[tuple[float, float]], at: float) -> float:
    return [value for where, value in curve if where <= at][-1]


def _draw_ends(
    panel: Axes, chart: Chart, stroke: Stroke, labels: Sequence[str], rows: Sequence[Row], place: tuple[int, int]
) -> None:
    """The end of each seed as a stroke, the median as a dot, medians joined."""
    index, count = place
    shift = SPREAD * ((index + 0.5) / count - 0.5)
    at, middle = [], []
    for position, label in enumerate(labels):
        several = with_labels(rows, {chart.along: label})
        ends = [end for row in several if (end := end_of(row, chart.score)) is not None]
        if not ends:
            continue
        panel.plot([position + shift] * len(ends), ends, "_", color=stroke.colour.light, markersize=9)
        at.append(position + shift)
        middle.append(median_interval(ends).median)
    dashes: Any = DASHES[TEXTURES[stroke.dashes]]  # type: ignore[index]
    panel.plot(at, middle, "o", color=stroke.colour.light, linestyle=dashes, markersize=5, linewidth=1)
    panel.set_xticks(range(len(labels)), labels)
    panel.set_xlim(-0.5, len(labels) - 0.5)
    panel.set_xlabel(chart.along, loc="right")
