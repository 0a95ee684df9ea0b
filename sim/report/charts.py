"""The charts over virtual time: faults, versions, scores, members, staleness."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sim.report.canvas import (
    FONT_SIZE,
    LEFT,
    Canvas,
    Drawing,
    Stroke,
    Weather,
    canvas,
    draw_bars,
    draw_weather,
    set_times,
)
from sim.report.palette import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, SKY, VERMILLION, fault_paints
from sim.report.reading import Readings
from sim.report.series import Counted, Point
from sim.report.spans import merged

ROW_HEIGHT = 24  # of a kind of fault
LEAST_BAR_COLUMNS = 500  # a bar is at least this part of the run wide
SCORES_IN_ONE_COLUMN_MAX = 3
HEADROOM = 1.06  # above the highest curve
FOOTROOM = 0.015  # below zero, so that a curve that is zero is seen

STATES = (
    Stroke("active", GREEN),
    Stroke("suspect", ORANGE),
    Stroke("dead", VERMILLION, "dashed"),
    Stroke("left", PURPLE, "dotted"),
)
LIVE = Stroke("live when a step was made", INK)

QUANTILES = (  # share, width of the line
    (0.5, 2.0, Stroke("median", BLUE)),
    (0.95, 1.3, Stroke("95th percentile", SKY)),
    (1.0, 1.0, Stroke("max", MUTED)),
)

SCORE_WORDS = {
    "fid_classifier": "FID of classifier features, lower is better",
    "classifier_score": "classifier score, higher is better",
    "coverage": "coverage, higher is better",
    "modes": "modes found, higher is better",
    "label_total_variation": "total variation of labels, lower is better",
    "kid": "KID of classifier features, lower is better",
    "sliced_wasserstein": "sliced Wasserstein distance, lower is better",
    "quality": "share of points near a mode, higher is better",
}


def weather_of(readings: Readings) -> Weather:
    """What lies behind the curves of this run."""
    bands = merged(readings.spans, readings.end_s)
    counts = Counter[str]()
    for span in readings.spans:
        counts[span.kind] += span.count
    return Weather(readings.end_s, bands, fault_paints(counts), readings.epochs, readings.heal_s)


def draw_faults(weather: Weather) -> Drawing:
    """A row of bars for each kind of fault. There must be one."""
    kinds = list(weather.paints)
    drawn = canvas([ROW_HEIGHT * len(kinds)])
    panel = drawn.panels[0]
    for row, kind in enumerate(kinds):
        bands = [band for band in weather.bands if band.kind == kind]
        draw_bars(drawn, panel, row, bands, weather.paints[kind], weather.end_s / LEAST_BAR_COLUMNS)
    panel.set_ylim(len(kinds) - 0.5, -0.5)
    panel.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
    panel.tick_params(axis="y", length=0, labelcolor=INK.light)
    panel.grid(False, axis="y")
    draw_weather(drawn, panel, Weather(weather.end_s, (), {}, weather.epochs, weather.heal_s), named=True)
    set_times(panel, weather.end_s, named=True)
    return drawn.finish("faults", "When which kind of fault was there")


def draw_versions(readings: Readings, weather: Weather) -> Drawing:
    """The generator's version, and how fast it grew."""
    drawn = canvas([210, 90])
    version, speed = drawn.panels
    for epoch, points in zip(readings.epochs, readings.versions, strict=True):
        _steps(version, [(epoch.start_s, float(epoch.version)), *points], epoch.end_s, Stroke("version", BLUE))
    version.set_ylabel("version")
    edges = [0.0, *(window.end_s for window in readings.steps)]
    speeds = [window.total / (window.end_s - window.start_s) for window in readings.steps]
    speed.stairs(speeds, edges, fill=True, color=BLUE.light, alpha=0.25)
    speed.stairs(speeds, edges, color=BLUE.light, linewidth=1.2)
    speed.set_ylabel("versions / s")
    return _finished(drawn, weather, "versions", "The generator's version over virtual time, and versions per second")


def draw_scores(readings: Readings, weather: Weather) -> Drawing:
    """A panel for each score. There must be one."""
    names = list(readings.scores)
    columns = 1 if len(names) <= SCORES_IN_ONE_COLUMN_MAX else 2
    drawn = canvas([130] * math.ceil(len(names) / columns), gap=34, lefts=[LEFT] * columns)
    for name, panel in zip(names, drawn.panels, strict=False):
        for points in filter(None, readings.scores[name]):
            times, values = zip(*points, strict=True)
            panel.plot(times, values, color=BLUE.light, marker="o", markersize=2.6)
        panel.set_title(SCORE_WORDS.get(name, name.replace("_", " ")), loc="left", fontsize=FONT_SIZE)
    for spare in drawn.panels[len(names) :]:
        spare.set_axis_off()
    used = drawn.panels[: len(names)]
    for index, panel in enumerate(used):
        draw_weather(drawn, panel, weather, named=False)
        set_times(panel, weather.end_s, named=index >= len(used) - columns)
        whole = all(value == int(value) for points in readings.scores[names[index]] for _, value in points)
        panel.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    return drawn.finish("scores", "Scores of the generator over virtual time")


def draw_members(readings: Readings, weather: Weather) -> Drawing:
    """How many nodes the hub holds in which state; a state that nobody ever was in has no curve."""
    drawn = canvas([210])
    panel = drawn.panels[0]
    there = [curve for curve in STATES if any(count for _, count in readings.members[curve.name])]
    for curve in there:
        _steps(panel, readings.members[curve.name], readings.end_s, curve)
    times, counts = zip(*readings.members["active"], strict=True)
    panel.fill_between(times, counts, step="post", color=GREEN.light, alpha=0.12, linewidth=0, zorder=0.8)
    for points in filter(None, readings.live):
        _steps(panel, points, points[-1][0], LIVE)
    panel.set_ylabel("nodes")
    what = "Members by state over virtual time"
    return _finished(drawn, weather, "members", what, [*there, LIVE])


def draw_staleness(readings: Readings, weather: Weather) -> Drawing:
    """How old merged feedback was, window by window. Some must have been merged."""
    drawn = canvas([170])
    panel = drawn.panels[0]
    edges = [0.0, *(window.end_s for window in readings.staleness)]
    for share, width, curve in QUANTILES:
        values = [_quantile(window, share) for window in readings.staleness]
        panel.stairs(values, edges, baseline=None, color=curve.colour.light, linewidth=width)
    curves = [curve for _, _, curve in QUANTILES]
    if readings.staleness_max is not None:
        curves.append(Stroke(f"bound ({readings.staleness_max})", VERMILLION, "dashed"))
        panel.axhline(readings.staleness_max, color=VERMILLION.light, linewidth=1.1, linestyle="dashed")
    panel.set_ylabel("staleness (versions)")
    return _finished(drawn, weather, "staleness", "Staleness of merged feedback over virtual time", curves)


# --- inside -----------------------------------------------------------------------------------------------------------


def _finished(drawn: Canvas, weather: Weather, name: str, label: str, curves: Sequence[Stroke] = ()) -> Drawing:
    for index, panel in enumerate(drawn.panels):
        draw_weather(drawn, panel, weather, named=index == 0)
        set_times(panel, weather.end_s, named=index == len(drawn.panels) - 1)
        top = HEADROOM * max(1.0 if index == 0 else 0.1, panel.get_ylim()[1])
        panel.set_ylim(-FOOTROOM * top, top)
        panel.yaxis.set_major_locator(MaxNLocator(5 if index == 0 else 3, integer=index == 0))
    return drawn.finish(name, label, curves)


def _steps(panel: Axes, points: Sequence[Point], end_s: float, curve: Stroke) -> None:
    """A curve that keeps its value until the next point."""
    times = [*(at_s for at_s, _ in points), end_s]
    values = [*(value for _, value in points), points[-1][1]]
    panel.plot(times, values, drawstyle="steps-post", color=curve.colour.light, linestyle=curve.dashes)


def _quantile(window: Counted, share: float) -> float:
    return float(window.quantile(share)) if window.counts else math.nan
