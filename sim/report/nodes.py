"""Each node's share of what was merged, and how stale it was: of many nodes those that stand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from sim.report.canvas import Canvas, Drawing, canvas, name_line
from sim.report.palette import AXIS, BLUE, INK, ORANGE, VERMILLION, Colour
from sim.report.recorded import NodeRow
from sim.report.series import Curve

LOWEST_MAX = 20  # nodes with the lowest share ...
STALEST_MAX = 20  # ... and with the highest staleness that are shown
NAME_MAX = 18  # characters of a node's name beside its bar
BAR_HEIGHT = 17
MARKS_MAX = 3  # kinds of faults shown beside a node's name
MARK_PART = 0.021  # of the panel's width, that a mark takes
MARKS_PAD = 28


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


def draw_nodes(
    chosen: Chosen, fair: float, struck: Mapping[str, Sequence[str]], colours: Mapping[str, Colour]
) -> Drawing:
    """Two panels with a row for each node. There must be one. `struck`: the kinds of faults that each had."""
    drawn = canvas([max(3, len(chosen.rows)) * BAR_HEIGHT], lefts=(164, 30))
    share, age = drawn.panels
    for row, (name, node) in enumerate(chosen.rows):
        title = f"node-{row}"
        stale = "nothing merged" if node.staleness_mean is None else f"staleness {node.staleness_mean:.2f} on average"
        worst = "" if node.staleness_max is None else f", {node.staleness_max} at most"
        had = struck.get(name, ())
        faults = f"; struck by {', '.join(had)}" if had else ""
        drawn.titles[title] = f"{name} ({node.state}): {node.merged} merged, {node.share:.2%}; {stale}{worst}{faults}"
        _draw_marks(share, row, [colours[kind] for kind in had])
        colour = ORANGE if node.share < fair / 2 else BLUE
        share.barh(row, 100 * node.share, 0.7, color=colour.light, linewidth=0)[0].set_gid(title)
        _draw_age(drawn, age, row, node)
    share.axvline(100 * fair, color=INK.light, linewidth=1.1, linestyle=(0, (4, 2)))
    name_line(share, 100 * fair, "fair share")
    share.set_xlabel("share of merged feedback (%)")
    age.set_xlabel("staleness of merged feedback (versions): mean, and max")
    _name_rows(share, chosen, 0.0)
    _name_rows(age, chosen, 1.0)
    age.tick_params(labelleft=False)
    return drawn.finish("nodes", "Share of merged feedback and staleness of each node")


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


def _draw_marks(panel: Axes, row: int, colours: Sequence[Colour]) -> None:
    """A square between name and bar for each kind of fault."""
    for place, colour in enumerate(colours[:MARKS_MAX]):
        x = -(place + 1) * MARK_PART
        panel.plot(x, row, "s", transform=panel.get_yaxis_transform(), clip_on=False, color=colour.light, markersize=5)


def _draw_age(drawn: Canvas, panel: Axes, row: int, node: NodeRow) -> None:
    if node.staleness_mean is None or node.staleness_max is None:
        return
    title = f"age-{row}"
    drawn.titles[title] = drawn.titles[f"node-{row}"]
    panel.plot((node.staleness_mean, node.staleness_max), (row, row), color=AXIS.light, linewidth=1.4, gid=title)
    panel.plot(node.staleness_mean, row, "o", color=BLUE.light, markersize=5.5, clip_on=False)
    panel.plot(node.staleness_max, row, "|", color=VERMILLION.light, markersize=8, markeredgewidth=1.8, clip_on=False)


def _name_rows(panel: Axes, chosen: Chosen, least: float) -> None:
    names = [name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…" for name, _ in chosen.rows]
    gone = {"dead": " †", "left": " ←", "suspect": " ?", "revoked": " ✗"}
    alike = len({node.state for _, node in chosen.rows}) == 1
    marks = ["" if alike else gone.get(node.state, "") for _, node in chosen.rows]
    panel.set_yticks(range(len(names)), [name + mark for name, mark in zip(names, marks, strict=True)])
    panel.tick_params(axis="y", length=0, labelcolor=INK.light, pad=MARKS_PAD)
    panel.grid(False, axis="y")
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlim(0, max(least, panel.get_xlim()[1]))
