"""What a person sees of a run that is not shown on a terminal, and of its end."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from mdgan_edge.actors import Note
from mdgan_edge.display import Display
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.table import plain_table, status_line


def node(state: str = "active", **changes: Any) -> dict[str, Any]:
    given = {"tasks": 9, "merged": 8, "share": 0.5, "weighted_share": 0.25, "refused": {}}
    plain = {**given, "staleness_mean": 1.5, "staleness_max": 3, "in_flight": 1}
    return {"state": state, "rejoined": 0, **plain, **changes}


STATUS = {
    "phase": "training",
    "version": 40,
    "steps": 100,
    "steps_per_s": 4.0,
    "left_s": 75.0,
    "nodes": {"a": node(), "b": node("dead", merged=0, staleness_mean=None, refused={"stale": 1, "late": 3})},
    "swaps": {"committed": 3, "aborted": 1, "direct": 2},
    "scores": {"classifier_score": 6.5, "fid_classifier": None},
}
LINE = (
    "version 40/100, 4.0 steps/s, 1 of 2 nodes active, staleness 1.5, 3 swaps (1 aborted), classifier score 6.50, "
    "1 min 15 s left"
)


def test_a_status_is_one_line() -> None:
    assert status_line(STATUS) == LINE


def test_a_table_names_every_node_and_its_state() -> None:
    rows = [line.split("│")[1:] for line in plain_table(STATUS).splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row[:8]] for row in rows]
    assert cells == [
        ["a", "active", "9", "8", "50.0%", "25.0%", "1.5 (max 3)", "-"],
        ["b", "dead", "9", "0", "50.0%", "25.0%", "-", "4 (late)"],
    ]


def test_away_from_a_terminal_news_come_at_once_and_the_status_now_and_then() -> None:
    out = StringIO()
    display = Display(out)
    with display:
        display.tell(Note("joined", "new here", {"node": "a"}))
        display.tell(Note("feedback_refused", "late", {"node": "a"}))
        display.show(STATUS)
        display.tell(Note("member", "silent for 6.1 s", {"node": "b", "state": "suspect"}, "warning"))
        display.show(STATUS)
    assert out.getvalue().splitlines() == ["a joined: new here", LINE, "! b suspect: silent for 6.1 s"]


def test_the_end_says_where_everything_lies_and_what_could_not_be_scored(tmp_path: Path) -> None:
    out = StringIO()
    run = RunDirectory(tmp_path)
    report = {
        "outcome": "completed",
        "version": 100,
        "train_s": 25.2,
        "scores": {"modes": 9.5},
        "scores_missing": "why",
    }
    Display(out).conclude(report, run)
    assert out.getvalue().splitlines() == [
        "completed at version 100 after 25 s of training",
        "  modes: 9.50",
        "  not scored: why",
        f"samples:   {run.samples / 'final.png'}",
        f"generator: {run.generator}",
        f"record:    {run.run_json}",
    ]
