"""A figure of the report: the same width, margins and time axis for all, with the faults behind whatever is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sim.report.inline import inline_svg
from sim.report.palette import AXIS, GRID, INK, MUTED, Colour, Paint, Texture
from sim.report.spans import Epoch, Span, apart

WIDTH = 1080  # all in points; the page shows one as one pixel
LEFT, RIGHT, TOP, BOTTOM, GAP = 96, 16, 20, 40, 16
POINTS_PER_INCH = 72
FONT_SIZE = 11.5
LETTER_WIDTH = 7.0
MOMENT_WIDTH = 1.4  # of a fault that has no length
BAND_STRENGTH = 0.17
TEXTURE_STRENGTH = 0.45  # of the stripes or dots of a band: they cover less than a plain one
HATCHES: Mapping[Texture, str | None] = {"plain": None, "striped": "////", "dotted": "ooo"}
DASHES: Mapping[Texture, Any] = {"plain": "solid", "striped": (0, (4, 2)), "dotted": (0, (1, 2))}
NO_DATES = {"Date": None, "Creator": None, "Format": None, "Type": None}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mdgan-edge",
    "text.parse_math": False,  # a name may hold a dollar
    "font.size": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE,
    "ytick.labelsize": FONT_SIZE,
    "text.color": INK.light,
    "axes.labelcolor": MUTED.light,
    "axes.edgecolor": AXIS.light,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID.light,
    "grid.linewidth": 0.8,
    "xtick.color": AXIS.light,
    "ytick.color": AXIS.light,
    "xtick.labelcolor": MUTED.light,
    "ytick.labelcolor": MUTED.light,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "hatch.linewidth": 1.3,
}


@dataclass(frozen=True, slots=True)
class Weather:
    """What lies behind every curve: when what was broken, when the hub started anew, and when all was healed."""

    end_s: float
    bands: tuple[Span, ...]
    paints: Mapping[str, Paint]  # by kind
    epochs: tuple[Epoch, ...]
    heal_s: float | None


@dataclass(frozen=True, slots=True)
class Stroke:
    """What a curve is called, for the key beside the drawing."""

    name: str
    colour: Colour
    dashes: Literal["solid", "dashed", "dotted"] = "solid"


@dataclass(frozen=True, slots=True)
class Drawing:
    """An <svg> element and the names of the curves in it."""

    svg: str
    curves: tuple[Stroke, ...] = ()


@dataclass(slots=True)
class Canvas:
    """A figure under work. `titles`: what to say of a part when the pointer is over it."""

    figure: Figure
    panels: list[Axes]
    titles: dict[str, str] = field(default_factory=dict)

    def finish(self, name: str, label: str, curves: Sequence[Stroke] = ()) -> Drawing:
        """The drawing; `name` tells it apart from others in the page, `label` says what it shows."""
        out = io.StringIO()
        FigureCanvasSVG(self.figure)
        self.figure.savefig(out, format="svg", metadata=NO_DATES)
        return Drawing(inline_svg(out.getvalue(), name, label, self.titles), tuple(curves))


def style() -> AbstractContextManager[None]:
    """All drawing is done within this."""
    return mpl.rc_context(_STYLE)


def canvas(heights: Sequence[float], lefts: Sequence[float] = (LEFT,), gap: float = GAP) -> Canvas:
    """Panels of these heights from top to bottom, side by side in as many columns as there are margins in `lefts`."""
    total = TOP + sum(heights) + gap * (len(heights) - 1) + BOTTOM
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, total / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
    width = (WIDTH - sum(lefts)) / len(lefts) - RIGHT
    panels = []
    y = total - TOP
    for height in heights:
        y -= height
        x = 0.0
        for left in lefts:
            panels.append(figure.add_axes(((x + left) / WIDTH, y / total, width / WIDTH, height / total)))
            x += left + width + RIGHT
        y -= gap
    return Canvas(figure, panels)


def set_times(panel: Axes, end_s: float, named: bool) -> None:
    """The axis of virtual time; only the lowest panel has numbers on it."""
    panel.set_xlim(0, end_s)
    panel.tick_params(axis="x", labelbottom=named)
    panel.margins(x=0)
    if named:
        panel.set_xlabel("virtual time (s)", loc="right")


def draw_weather(canvas: Canvas, panel: Axes, weather: Weather, named: bool) -> None:
    """Bands for faults, a line for the heal, dotted ones for starts of the hub; `named`: with words above."""
    for band in weather.bands:
        paint = weather.paints[band.kind]
        title = f"band-{len(canvas.titles)}"
        canvas.titles[title] = band.text
        if band.start_s == band.end_s:
            line = panel.axvline(band.start_s, color=paint.colour.light, linewidth=MOMENT_WIDTH, alpha=0.5, zorder=0.4)
            line.set(linestyle=DASHES[paint.texture], gid=title)
        else:
            filled = fill(paint, BAND_STRENGTH, TEXTURE_STRENGTH, outline=0.0)
            panel.axvspan(band.start_s, band.end_s, zorder=0.3, gid=title, **filled)
    if weather.heal_s is not None:
        panel.axvline(weather.heal_s, color=INK.light, linewidth=1.3, zorder=0.6)
    for start_s in apart([epoch.start_s for epoch in weather.epochs[1:]], weather.end_s):
        panel.axvline(start_s, color=INK.light, linewidth=1.1, linestyle=(0, (1.5, 2.5)), zorder=0.6)
    if named:
        _name_lines(panel, weather)


def _name_lines(panel: Axes, weather: Weather) -> None:
    lines = [(epoch.start_s, f"epoch {epoch.number}") for epoch in weather.epochs[1:]]
    if weather.heal_s is not None:
        lines.append((weather.heal_s, "heal"))
    free_from_s = -weather.end_s
    for at_s, text in sorted(lines):
        half_s = len(text) * LETTER_WIDTH / 2 / (WIDTH - LEFT - RIGHT) * weather.end_s
        if at_s - half_s >= free_from_s:
            name_line(panel, at_s, text)
            free_from_s = at_s + half_s


def name_line(panel: Axes, x: float, text: str) -> None:
    """Words above a vertical line."""
    panel.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
    )


def fill(paint: Paint, strength: float = 1.0, texture_strength: float = 1.0, outline: float = 1.0) -> dict[str, Any]:
    """How a patch is filled: with the hue, or, within an outline, with nothing but stripes or dots of it."""
    hatch = HATCHES[paint.texture]
    if hatch is None:
        return {"facecolor": to_rgba(paint.colour.light, strength), "linewidth": 0}
    edge = to_rgba(paint.colour.light, texture_strength)
    return {"facecolor": "none", "edgecolor": edge, "linewidth": outline, "hatch": hatch}


def draw_bars(canvas: Canvas, panel: Axes, row: int, spans: Sequence[Span], paint: Paint, least_s: float) -> None:
    """Stretches of time as bars of one row."""
    for span in spans:
        title = f"bar-{len(canvas.titles)}"
        canvas.titles[title] = span.text
        width = max(least_s, span.end_s - span.start_s)
        panel.add_patch(Rectangle((span.start_s, row - 0.32), width, 0.64, gid=title, **fill(paint)))
