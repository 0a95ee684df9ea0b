"""A hub's status as people read it: one line, or a table."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 100
SHOWN_SCORES = (
    ("classifier_score", "classifier score"),
    ("fid_classifier", "FID (classifier features)"),
    ("coverage", "coverage"),
    ("modes", "modes"),
)
STATE_STYLES = {"active": "green", "suspect": "yellow", "dead": "red", "revoked": "red", "left": "dim"}


def status_line(status: Mapping[str, Any]) -> str:
    """One line: version, pace, nodes, swaps, scores, time left."""
    nodes = status.get("nodes", {})
    active = sum(node["state"] == "active" for node in nodes.values())
    parts = [
        f"version {status['version']}/{status['steps']}",
        f"{status['steps_per_s']:.1f} steps/s",
        f"{active} of {len(nodes)} nodes active",
        f"staleness {_mean_staleness(nodes)}",
        *_swap_parts(status.get("swaps", {})),
        *_score_parts(status.get("scores", {})),
    ]
    if status.get("left_s") is not None:
        parts.append(f"{_duration(status['left_s'])} left")
    return ", ".join(parts)


def status_table(status: Mapping[str, Any]) -> Group:
    """Everything, as a table that can be drawn again and again."""
    table = Table(expand=False, pad_edge=False)
    for heading in ("node", "state", "tasks", "merged", "share", "weight", "staleness", "refused", "rejoined"):
        table.add_column(heading, justify="left" if heading in ("node", "state") else "right")
    for name, node in status.get("nodes", {}).items():
        state = Text(node["state"], style=STATE_STYLES.get(node["state"], ""))
        stale = "-" if node["staleness_mean"] is None else f"{node['staleness_mean']:.1f} (max {node['staleness_max']})"
        counts = (str(node["tasks"]), str(node["merged"]), f"{node['share']:.1%}", f"{node['weighted_share']:.1%}")
        table.add_row(name, state, *counts, stale, _refused(node["refused"]), str(node["rejoined"]))
    return Group(Text(f"{status.get('phase', '')}: {status_line(status)}"), table)


def plain_table(status: Mapping[str, Any]) -> str:
    """The table as text."""
    out = StringIO()
    Console(file=out, width=PLAIN_WIDTH, color_system=None).print(status_table(status))
    return out.getvalue().rstrip()


def score_lines(scores: Mapping[str, float | None]) -> list[str]:
    """The scores worth a line at the end of a run."""
    return [f"{label}: {scores[key]:.2f}" for key, label in SHOWN_SCORES if scores.get(key) is not None]


def _score_parts(scores: Mapping[str, float | None]) -> list[str]:
    return [f"{label} {scores[key]:.2f}" for key, label in SHOWN_SCORES[:2] if scores.get(key) is not None]


def _swap_parts(swaps: Mapping[str, int]) -> list[str]:
    committed, aborted = swaps.get("committed", 0), swaps.get("aborted", 0)
    return [f"{committed} swaps ({aborted} aborted)"] if committed or aborted else []


def _refused(by_reason: Mapping[str, int]) -> str:
    """How many, and the commonest reason."""
    if not by_reason:
        return "-"
    reason = max(by_reason, key=lambda one: by_reason[one])
    return f"{sum(by_reason.values())} ({reason})"


def _mean_staleness(nodes: Mapping[str, Any]) -> str:
    known = [(node["staleness_mean"], node["merged"]) for node in nodes.values() if node["merged"]]
    total = sum(merged for _, merged in known)
    return f"{sum(mean * merged for mean, merged in known) / total:.1f}" if total else "-"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
