"""The report of a virtual run: one file, bounded, true to what was recorded, and safe whatever the names are."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mdgan_edge.actors import HUB, Measure
from mdgan_edge.errors import DataError
from mdgan_edge.rundir import RunDirectory
from sim.recording import Recording
from sim.report.nodes import LOWEST_MAX, STALEST_MAX
from sim.report.page import write_report
from sim.report.palette import COLOURS, FAULT_COLOURS, FAULT_KINDS, fault_colours
from sim.report.reading import read_run
from sim.report.recorded import Carried, FaultRow, Happened, ScenarioFile, Window
from sim.report.series import CURVE_COLUMNS, SHOWN_COLUMNS_MAX, Curve, Histograms
from sim.report.spacetime import MESSAGES_MAX, ROWS_MAX, lay_out
from sim.report.spans import MERGE_COLUMNS, Epoch, Span, epochs_of, merged, spans_of
from sim.running_world import Wanted, run_scenario
from tests import mutants

S = 1_000_000_000
PAGE_MAX_BYTES = 5_000_000

HOSTILE = "<script>alert('$1$ & 2')</script>"
STRANGE_NODE = '<img src=x onerror="a()">节'

FAULTY = """
name = "a<b>$c$"
about = "{hostile} and `code`"
duration = "24s"
nodes = 5
[training]
steps = 1000000
[hub]
heartbeat_s = 1.0
lease_s = 5.0
death_timeout_s = 6.0
[[fault]]
kind = "hub_crash"
at = "4s"
for = "2s"
[[fault]]
kind = "partition"
at = "8s"
for = "3s"
who = ["n1", "n2"]
[[fault]]
kind = "crash"
at = "9s"
who = ["n4"]
[[fault]]
kind = "join"
at = "10s"
who = ['{node}']
[heal]
at = "14s"
[expect]
rejoin_within = "8s"
"""


def play(text: str, folder: Path, look_at: int | None = None) -> Path:
    """Play a scenario and leave its run directory, report and all."""
    folder.mkdir()
    file = folder / "played.toml"
    file.write_text(text, encoding="utf-8")
    _, run = run_scenario(Wanted(str(file), 0, None, None, ()), folder / "run", False, look_at)
    return run.path


def page(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


def chart(text: str, section: str) -> str:
    """The drawings of a section."""
    return text.partition(f'<section id="{section}">')[2].partition("</section>")[0]


def titles(text: str) -> set[str]:
    return {html.unescape(title) for title in re.findall("<title>(.*?)</title>", text)}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faults of four kinds, two epochs, hostile names, and a look at a moment."""
    folder = tmp_path_factory.mktemp("report") / "faulty"
    return play(FAULTY.format(hostile=HOSTILE, node=STRANGE_NODE), folder, look_at=9 * S)


@pytest.fixture(scope="module")
def violated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the hub skips a version."""
    with mutants.a_step_skips_a_version():
        return play('name = "broken"\nduration = "20s"\nnodes = 3\n', tmp_path_factory.mktemp("report") / "violated")


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["faulty", "violated"])
def test_a_report_needs_nothing_from_elsewhere(run: str, request: pytest.FixtureRequest) -> None:
    text = page(request.getfixturevalue(run))
    assert [
        found for found in ("http", "<script", "<link", "@import", "<img", "<iframe", "<image") if found in text
    ] == []
    assert {target[0] for target in re.findall(r'(?:href|src)="([^"]*)"', text)} == {"#"}
    assert {target[0] for target in re.findall(r"url\(([^)]*)\)", text)} == {"#"}


def test_every_reference_of_a_drawing_is_to_a_part_that_is_there_once(faulty: Path) -> None:
    text = page(faulty)
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= set(names)


def test_the_head_says_what_was_played_and_how_to_play_it_again(faulty: Path) -> None:
    run, head = read_run(faulty).run, html.unescape(page(faulty).partition("</header>")[0])
    for said in (run.digest, run.replay, f"{run.events:,}", "stopped", "tokens, async", f"<b>{run.version}</b>"):
        assert said in head, said


def test_hostile_text_is_only_text(faulty: Path) -> None:
    text = page(faulty)
    assert HOSTILE not in text
    assert STRANGE_NODE not in text
    assert html.escape(HOSTILE) in text.replace("&#39;", "&#x27;")
    assert "a&lt;b&gt;$c$" in text
    assert any(STRANGE_NODE in title for title in titles(text))
    assert "<code>code</code>" in text


def test_every_chart_over_time_has_a_band_for_every_fault(faulty: Path) -> None:
    wanted = {
        "hub_crash, 4 to 6 s: hub",
        "partition, 8 to 11 s: n1, n2",
        "crash, at 9 s: n4",
        f"join, at 10 s: {STRANGE_NODE}",
    }
    for section in ("faults", "progress", "members", "staleness"):
        assert wanted <= titles(chart(page(faulty), section)), section


def test_the_heal_and_the_start_of_an_epoch_are_named_where_they_are(faulty: Path) -> None:
    for section in ("faults", "progress", "members", "staleness"):
        assert re.findall(r">(epoch \d|heal)</text>", chart(page(faulty), section)) == ["epoch 2", "heal"], section


def test_without_scores_the_page_says_why(faulty: Path) -> None:
    scores = chart(page(faulty), "scores")
    assert "tokens have no scores" in scores
    assert "<svg" not in scores


def test_scores_are_drawn_for_whatever_the_evaluations_carry(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "scored"))
    recording = Recording(RunDirectory(run))
    for second in (20, 21, 22):
        values = {"version": second, "modes": second - 15, "sliced_wasserstein": 1 / second, "odd<i>": None}
        recording.measure(second * S, HUB.node, Measure("evaluated", values))
    recording.close()
    write_report(run)
    scores = chart(page(run), "scores")
    assert re.findall(r">([^<>]* is better)</text>", scores) == [
        "modes found, higher is better",
        "sliced Wasserstein distance, lower is better",
    ]
    assert read_run(run).scores["modes"] == ((), ((20.0, 5), (21.0, 6), (22.0, 7)))


def test_a_violation_is_named_explained_and_marked(violated: Path) -> None:
    text = page(violated)
    said = html.unescape(text.partition('id="violation"')[2].partition("</section>")[0])
    (violation,) = read_run(violated).run.violations
    for part in (violation.invariant, violation.what, violation.who, "grows by one per step", "See it again"):
        assert part in said, part
    assert f"{violation.invariant} is violated at {violation.who}" in titles(chart(text, "spacetime"))
    assert text.count("✗ violated") == 1


def test_a_look_at_a_moment_shows_messages_and_what_was_lost(faulty: Path) -> None:
    drawn = chart(page(faulty), "spacetime")
    assert any(re.search(r"^PING \d+, n1 to hub, .* lost: partition$", title) for title in titles(drawn))
    assert "is violated" not in drawn


def test_every_colour_of_a_drawing_follows_the_theme(violated: Path) -> None:
    text = page(violated)
    assert "prefers-color-scheme: dark" in text
    body = text.partition("</style>")[2]
    assert [colour.light for colour in COLOURS if colour.light in body] == []
    assert re.findall(r"(?:fill|stroke): (#\w+)", body) == []


def test_the_same_files_make_the_same_bytes_whatever_the_hash_seed(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "again"))
    code = f"from pathlib import Path; from sim.report.page import write_report; write_report(Path({str(run)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, timeout=60)
    assert page(run) == page(faulty)
    write_report(run)
    assert page(run) == page(faulty)


def test_two_thousand_nodes_fit_on_a_page_of_bounded_size(tmp_path: Path) -> None:
    run = play('name = "crowd"\nduration = "1s"\nnodes = 2000\n', tmp_path / "crowd")
    text = page(run)
    shown = {title.split(" ")[0] for title in titles(chart(text, "nodes"))}
    assert 0 < len(shown) <= LOWEST_MAX + STALEST_MAX
    assert f"{2000 - len(shown)} others are left out" in text
    assert "All 2000 nodes." in text
    assert len(text.encode()) < PAGE_MAX_BYTES


def test_without_matplotlib_or_jinja2_the_error_says_what_to_install(faulty: Path) -> None:
    for missing in ("matplotlib", "jinja2"):
        code = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from pathlib import Path; from mdgan_edge.errors import ConfigurationError\n"
            "from sim.report.page import write_report\n"
            f"try: write_report(Path({str(faulty)!r}))\n"
            "except ConfigurationError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert "pip install 'mdgan-edge[report]'" in done.stdout, done


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_no_virtual_run_is_refused(faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not the directory of a virtual run"):
        write_report(tmp_path)
    run = Path(shutil.copytree(faulty, tmp_path / "foreign"))
    (run / "run.json").write_text('{"outcome": 3}', encoding="utf-8")
    with pytest.raises(DataError, match=r"run\.json is not what a virtual run writes"):
        write_report(run)


def test_torn_lines_are_passed_over(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "torn"))
    for name in ("metrics.jsonl", "journal.jsonl"):
        with (run / name).open("ab") as file:
            file.write(b'{"t": 23.9, "what": "step')
    assert read_run(run) == read_run(faulty)


def test_epochs_are_those_the_world_had_and_each_starts_after_its_checkpoint(faulty: Path) -> None:
    readings = read_run(faulty)
    assert readings.epochs == (Epoch(1, 0.0, 4.0), Epoch(2, 6.0, 24.0))
    assert len(readings.epochs) == readings.run.epoch
    assert [points[0][1] for points in readings.versions] == [1, 51]  # a checkpoint every 50 versions
    assert readings.versions[-1][-1][1] == readings.run.version


def test_a_hub_that_is_down_has_no_members(faulty: Path) -> None:
    active = read_run(faulty).members["active"]
    assert [count for at_s, count in active if at_s < 4][-1] == 5
    assert [count for at_s, count in active if 4 <= at_s < 6] == [0]
    assert active[-1] == (24.0, 5)  # n4 is gone, one has joined
    assert read_run(faulty).members["dead"][-1] == (24.0, 1)


def test_all_that_was_merged_is_counted_over_all_epochs(faulty: Path) -> None:
    readings = read_run(faulty)
    assert readings.merged == sum(window.total for window in readings.staleness)
    assert readings.merged > readings.run.feedback["merged"] > 0
    assert sum(window.total for window in readings.steps) == sum(
        points[-1][1] - points[0][1] + 1 for points in readings.versions
    )


# --- series and spans -------------------------------------------------------------------------------------------------


def test_a_long_curve_keeps_its_ends_and_its_extremes() -> None:
    curve = Curve(100.0)
    values = [(index / 1000, float(index % 7)) for index in range(100_000)]
    values[54_321] = (54.321, 99.0)
    values[12_345] = (12.345, -99.0)
    for at_s, value in values:
        curve.add(at_s, value)
    points = curve.points()
    assert len(points) <= 4 * CURVE_COLUMNS
    assert list(points) == sorted(points, key=lambda point: point[0])
    assert {values[0], values[-1], values[54_321], values[12_345]} <= set(points)


def test_windows_are_bounded_equally_wide_and_lose_nothing() -> None:
    histograms = Histograms(77.0)
    for index in range(10_000):
        histograms.add(index * 0.0077, (index % 5, 1))
    windows = histograms.windows()
    assert len(windows) <= SHOWN_COLUMNS_MAX
    assert {round(window.end_s - window.start_s, 9) for window in windows} == {round(77.0 / len(windows), 9)}
    assert sum(window.total for window in windows) == 20_000
    assert [windows[0].quantile(share) for share in (0.5, 0.95, 1)] == [1, 4, 4]


def test_faults_of_a_kind_that_touch_are_drawn_as_one_and_their_number_is_bounded() -> None:
    spans = [Span("crash", at / 100, at / 100 + 0.01, (f"n{at % 3}",)) for at in range(10_000)]
    assert merged(spans, 100.0) == (Span("crash", 0.0, 100.0, ("n0", "n1", "n2"), 10_000),)
    scattered = [Span("pause", at / 100, at / 100, ("n1",)) for at in range(10_000)]
    assert len(merged(scattered, 100.0)) <= MERGE_COLUMNS
    assert len(merged([Span("reset", 1.0, 1.0, ("n1",)), Span("reset", 9.0, 9.0, ("n2",))], 100.0)) == 2


def test_a_hub_that_crashes_while_it_is_down_starts_no_epoch_more() -> None:
    crashes = tuple(
        FaultRow("hub_crash", at, ("hub",), lasts) for at, lasts in (("1s", "4s"), ("2s", "9s"), ("8s", "1min"))
    )
    scenario = ScenarioFile("x", fault=crashes)
    assert epochs_of(scenario, 20.0) == (Epoch(1, 0.0, 1.0), Epoch(2, 5.0, 8.0))
    assert [span.end_s for span in spans_of(scenario, 20.0)] == [5.0, 11.0, 20.0]


def test_no_two_kinds_of_fault_share_a_colour_while_there_are_enough() -> None:
    for start in range(len(FAULT_KINDS)):
        turned = (FAULT_KINDS[start:] + FAULT_KINDS[:start])[: len(FAULT_COLOURS)]
        assert len(set(fault_colours(turned).values())) == len(FAULT_COLOURS)
    assert len(fault_colours(FAULT_KINDS)) == len(FAULT_KINDS)


# --- the space-time diagram -------------------------------------------------------------------------------------------


def film(*messages: Carried, events: list[Happened] | None = None, invariant: str | None = "applied_once") -> Window:
    return Window(0.0, 2.5, 2.0, invariant, events or [], list(messages))


def test_a_lost_message_ends_in_a_cross_with_the_reason_between_two_processes() -> None:
    there = Carried(1.9, "hub", "n1", "TASK 1 v0", "arrived", 1.95)
    lost = Carried(1.96, "n1", "hub", "FEEDBACK 1 v0 1.0", "partition", None)
    diagram = lay_out(film(there, lost), ["n1"], [Span("partition", 1.5, 9.0, ("n1",))])
    task, feedback = diagram.arrows
    assert (task.cross, task.reason, task.y1, task.y2) == (False, "", diagram.rows[0].y, diagram.rows[1].y)
    assert (feedback.cross, feedback.reason) == (True, "partition")
    assert diagram.rows[0].y < feedback.y2 < diagram.rows[1].y
    assert feedback.title == "FEEDBACK 1 v0 1.0, n1 to hub, sent at 1.960000 s, lost: partition"
    assert [(shade.kind, shade.y) for shade in diagram.shades] == [("partition", diagram.rows[1].y)]


def test_of_a_crowded_film_the_hub_the_culprit_and_the_busiest_are_shown() -> None:
    crowd = [Carried(i / 10_000, "hub", f"n{i % 300}", "PING 1", "arrived", i / 10_000 + 0.01) for i in range(20_000)]
    rare = Carried(1.999, "n777", "hub", "FEEDBACK 1 v0 1.0", "arrived", 2.0)
    events = [Happened(index / 10_000, f"n{index % 300}", "tick") for index in range(10_000)]
    diagram = lay_out(film(*crowd[:-1], rare, events=events), ["n777"], [])
    assert [row.name for row in diagram.rows[:2]] == ["hub", "n777"]
    assert [row.culprit for row in diagram.rows[:2]] == [False, True]
    assert len(diagram.rows) == ROWS_MAX
    assert 0 < len(diagram.arrows) <= MESSAGES_MAX
    assert diagram.from_s < 2.0 < diagram.to_s


def test_of_a_burst_the_messages_nearest_to_the_moment_are_shown_and_the_rest_is_counted() -> None:
    burst = [Carried(2 + i * 1e-7, "hub", "n1", f"PING {i}", "arrived", 2.1) for i in range(-500, 500)]
    diagram = lay_out(film(*burst), ["n1"], [])
    half = MESSAGES_MAX // 2
    assert {int(arrow.title.split(",")[0].split()[1]) for arrow in diagram.arrows} == set(range(-half, half))
    assert diagram.messages_left_out == 1000 - MESSAGES_MAX
