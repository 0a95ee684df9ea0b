"""Each node's share of what was merged, how stale it was and what was refused: of many nodes those that stand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation, Transform

from sim.report.canvas import POINTS_PER_INCH, Canvas, Drawing, canvas, fill, name_line
from sim.report.palette import AXIS, BLUE, INK, MUTED, ORANGE, VERMILLION, Paint
from sim.report.recorded import NodeRow
from sim.report.series import Curve

LOWEST_MAX = 20  # nodes with the lowest share ...
STALEST_MAX = 20  # ... and with the highest staleness that are shown
NAME_MAX = 18  # characters of a node's name beside its bar
BAR_HEIGHT = 17
MARKS_MAX = 6  # places beside a node's name for the kinds of faults it had; with more, the last says how many more
MARK_PLACE = 11  # points that a mark takes
MARK_AREA = 60  # square points
NAMES_WIDTH = 136  # points for the names, with nothing between them and the bars
NAMES_PAD = 5
WEIGHT_GAP = 0.25  # of a fair share: with a node whose weight differs more from its share, weights are shown
REASONS_MAX = 3  # why feedback was refused, in words beside the bar
SMALL = 10  # points, of words beside a row
REFUSED_ROOM = 4.0  # the axis of refusals is this much longer than its longest bar: words stand there


@dataclass(frozen=True, slots=True)
class Chosen:
    """The nodes that are shown, by ascending share, and how many are not."""

    rows: tuple[tuple[str, NodeRow], ...]
    left_out: int


def choose_nodes(nodes: Mapping[str, NodeRow]) -> Chosen:
    """All, if there are not too many."""
    by_share = sorted(nodes.items(), key=lambda one: (one[1].share, one[0]))
    by_age = sorted(nodes.items(), key=lambda one: (-(one[1].staleness_mean or 0.0), one[0]))
    names = dict.fromkeys(name for name, _ in (*by_share[:LOWEST_MAX], *by_age[:STALEST_MAX]))
    if len(nodes) <= LOWEST_MAX + STALEST_MAX:
        names = dict.fromkeys(nodes)
    rows = tuple((name, row) for name, row in by_share if name in names)
    return Chosen(rows, len(nodes) - len(rows))


def show_weights(chosen: Chosen, fair: float) -> bool:
    """Whether some node weighs noticeably more or less than its share, as with rate-fair weights."""
    weights = [(row.weighted_share, row.share) for _, row in chosen.rows]
    return any(weight is not None and abs(weight - share) > WEIGHT_GAP * fair for weight, share in weights)


def draw_nodes(
    chosen: Chosen, fair: float, struck: Mapping[str, Sequence[str]], paints: Mapping[str, Paint]
) -> Drawing:
    """Panels with a row for each node. There must be one. `struck`: the kinds of faults that each had."""
    places = max(min(MARKS_MAX + 1, len(struck.get(name, ()))) for name, _ in chosen.rows)
    refused = any(node.refused for _, node in chosen.rows)
    height, left = max(3, len(chosen.rows)) * BAR_HEIGHT, NAMES_WIDTH + places * MARK_PLACE
    drawn = canvas([height], lefts=(left, 30, 30) if refused else (left, 30))
    share, age, *more = drawn.panels
    weighed = show_weights(chosen, fair)
    for row, (name, node) in enumerate(chosen.rows):
        had = sorted(struck.get(name, ()), key=list(paints).index)
        drawn.titles[f"node-{row}"] = _words(name, node, had)
        _draw_marks(share, row, [paints[kind] for kind in had])
        _draw_share(share, row, node, fair, weighed)
        _draw_age(drawn, age, row, node)
        for panel in more:
            _draw_refused(drawn, panel, row, node)
    share.axvline(100 * fair, color=INK.light, linewidth=1.1, linestyle=(0, (4, 2)))
    name_line(share, 100 * fair, "fair share")
    share.set_xlabel("share of merged feedback (%)")
    age.set_xlabel("staleness when merged: mean, max")
    for panel in drawn.panels:
        _name_rows(panel, chosen, 1.0 if panel is age else 0.0, places)
        panel.tick_params(labelleft=panel is share)
    for panel in more:
        _finish_refused(panel, chosen)
    return drawn.finish("nodes", "Share of merged feedback, its staleness and what was refused of each node")


def caption(chosen: Chosen, fair: float, struck: Mapping[str, Sequence[str]]) -> str:
    """What is to be seen in the panels, without what is not there."""
    most_kinds = max((len(struck.get(name, ())) for name, _ in chosen.rows), default=0)
    most_reasons = max((len(node.refused) for _, node in chosen.rows), default=0)
    alike = len({node.state for _, node in chosen.rows}) == 1
    which = "Only the nodes with the lowest share and those with the highest staleness"
    some = f"{which}; {chosen.left_out} others are left out."
    sentences = (
        (True, some if chosen.left_out else "All nodes."),
        (most_kinds > 0, "A square beside a name is a kind of fault that struck the node."),
        (most_kinds > MARKS_MAX, "+2 beside them: two more kinds."),
        (True, "An orange bar is below half of a fair share."),
        (show_weights(chosen, fair), "A diamond is the share by weight: what its feedback counted for in the steps."),
        (True, "A dot is the mean staleness, the mark to its right the worst."),
        (most_reasons > REASONS_MAX, "+2 beside refusals: two more, for other reasons."),
        (not alike, "† dead, ← left, ? suspect, ✗ revoked at the end."),
    )
    return " ".join(sentence for there, sentence in sentences if there)


def draw_ranks(nodes: Mapping[str, NodeRow], fair: float) -> Drawing:
    """The shares of all nodes in ascending order."""
    drawn = canvas([110])
    panel = drawn.panels[0]
    curve = Curve(len(nodes))
    for rank, share in enumerate(sorted(100 * row.share for row in nodes.values())):
        curve.add(rank, share)
    ranks, shares = zip(*curve.points(), strict=True)
    panel.fill_between(ranks, shares, color=BLUE.light, alpha=0.25, linewidth=0)
    panel.plot(ranks, shares, color=BLUE.light)
    panel.axhline(100 * fair, color=INK.light, linewidth=1.1, linestyle=(0, (4, 2)))
    panel.annotate("fair share", (0, 100 * fair), xytext=(6, 4), textcoords="offset points", color=INK.light)
    panel.set_xlim(0, len(nodes) - 1)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("share (%)")
    panel.set_xlabel("nodes by ascending share", loc="right")
    return drawn.finish("ranks", "Shares of all nodes in ascending order")


def _words(name: str, node: NodeRow, had: Sequence[str]) -> str:
    """All there is to say of a node."""
    weight = "" if node.weighted_share is None else f", {node.weighted_share:.2%} by weight"
    stale = "nothing merged" if node.staleness_mean is None else f"staleness {node.staleness_mean:.2f} on average"
    worst = "" if node.staleness_max is None else f", {node.staleness_max} at most"
    refused = f"; refused: {refusals(node.refused)}" if node.refused else ""
    faults = f"; struck by {', '.join(had)}" if had else ""
    return f"{name} ({node.state}): {node.merged} merged, {node.share:.2%}{weight}; {stale}{worst}{refused}{faults}"


def refusals(counts: Mapping[str, int], reasons_max: int | None = None) -> str:
    """Reasons and how often each, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    said = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in ordered[:reasons_max])
    rest = sum(count for _, count in ordered[len(ordered) if reasons_max is None else reasons_max :])
    return f"{said}, +{rest}" if rest else said


def _draw_marks(panel: Axes, row: int, paints: Sequence[Paint]) -> None:
    """A square between name and bar for each kind of fault; too many are counted."""
    shown = paints if len(paints) <= MARKS_MAX else paints[: MARKS_MAX - 1]
    for place, paint in enumerate(shown):
        at = _left_of(panel, (place + 0.6) * MARK_PLACE)
        panel.scatter([0], [row], s=MARK_AREA, marker="s", transform=at, clip_on=False, **fill(paint))
    if len(paints) > len(shown):
        at = _left_of(panel, MARKS_MAX * MARK_PLACE)
        panel.text(0, row, f"+{len(paints) - len(shown)}", transform=at, va="center", ha="center", fontsize=SMALL)


def _left_of(panel: Axes, points: float) -> Transform:
    """x: that many points left of the axis; y: rows."""
    figure = panel.get_figure(root=True)
    assert figure is not None
    return panel.get_yaxis_transform() + ScaledTranslation(-points / POINTS_PER_INCH, 0, figure.dpi_scale_trans)


def _draw_share(panel: Axes, row: int, node: NodeRow, fair: float, weighed: bool) -> None:
    colour = ORANGE if node.share < fair / 2 else BLUE
    panel.barh(row, 100 * node.share, 0.7, color=colour.light, linewidth=0)[0].set_gid(f"node-{row}")
    if weighed and node.weighted_share is not None:
        x = 100 * node.weighted_share
        panel.plot(x, row, "D", color=INK.light, markersize=4.5, clip_on=False)


def _draw_refused(drawn: Canvas, panel: Axes, row: int, node: NodeRow) -> None:
    """A thin bar, and the reasons in words."""
    if not node.refused:
        return
    title = f"refused-{row}"
    drawn.titles[title] = drawn.titles[f"node-{row}"]
    total = sum(node.refused.values())
    panel.barh(row, total, 0.4, color=MUTED.light, linewidth=0)[0].set_gid(title)
    words = refusals(node.refused, REASONS_MAX)
    panel.annotate(words, (total, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=SMALL)


def _finish_refused(panel: Axes, chosen: Chosen) -> None:
    most = max(sum(node.refused.values()) for _, node in chosen.rows)
    panel.set_xlabel("feedback refused, by reason")
    panel.set_xlim(0, most * REFUSED_ROOM)
    panel.set_xticks(sorted({0, most}))


def _draw_age(drawn: Canvas, panel: Axes, row: int, node: NodeRow) -> None:
    if node.staleness_mean is None or node.staleness_max is None:
        return
    title = f"age-{row}"
    drawn.titles[title] = drawn.titles[f"node-{row}"]
    panel.plot((node.staleness_mean, node.staleness_max), (row, row), color=AXIS.light, linewidth=1.4, gid=title)
    panel.plot(node.staleness_mean, row, "o", color=BLUE.light, markersize=5.5, clip_on=False)
    panel.plot(node.staleness_max, row, "|", color=VERMILLION.light, markersize=8, markeredgewidth=1.8, clip_on=False)


def _name_rows(panel: Axes, chosen: Chosen, least: float, places: int) -> None:
    names = [name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…" for name, _ in chosen.rows]
    gone = {"dead": " †", "left": " ←", "suspect": " ?", "revoked": " ✗"}
    alike = len({node.state for _, node in chosen.rows}) == 1
    marks = ["" if alike else gone.get(node.state, "") for _, node in chosen.rows]
    panel.set_yticks(range(len(names)), [name + mark for name, mark in zip(names, marks, strict=True)])
    panel.tick_params(axis="y", length=0, labelcolor=INK.light, pad=NAMES_PAD + places * MARK_PLACE)
    panel.grid(False, axis="y")
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(0, max(least, panel.get_xlim()[1]))
