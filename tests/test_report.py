"""The report of a virtual run: one file, bounded, true to what was recorded, and safe whatever the names are."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mdgan_edge.actors import HUB, Measure, Note
from mdgan_edge.errors import DataError
from mdgan_edge.rundir import RunDirectory
from sim.recording import Recording
from sim.report.nodes import LOWEST_MAX, STALEST_MAX
from sim.report.page import write_report
from sim.report.palette import COLOURS
from sim.report.reading import read_run
from sim.report.recorded import LowShare
from sim.report.spans import Epoch
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
who = ["stranger"]
[heal]
at = "14s"
[expect]
rejoin_within = "8s"
"""


def rename(run: Path, node: str, name: str) -> None:
    """Write a run's files as if a node had a name that no scenario may give it, and its report anew."""
    quoted, instead = f'"{node}"', json.dumps(name, ensure_ascii=False)
    for file in ("run.json", "scenario.toml", "journal.jsonl", "metrics.jsonl", "window.json"):
        text = (run / file).read_text(encoding="utf-8")
        (run / file).write_text(text.replace(quoted, instead), encoding="utf-8")
    write_report(run)


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
    run = play(FAULTY.format(hostile=HOSTILE), folder, look_at=9 * S)
    rename(run, "stranger", STRANGE_NODE)
    return run


@pytest.fixture(scope="module")
def violated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the hub skips a version."""
    with mutants.hub.a_step_skips_a_version():
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


def test_the_page_does_not_claim_that_everything_is_looked_at_after_every_event(faulty: Path) -> None:
    section = chart(page(faulty), "invariants")
    assert "after the heal" in section
    assert "looked at after every event, or when the line says so" in section


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


def test_what_is_of_the_last_epoch_and_what_is_of_all_is_told_apart(faulty: Path) -> None:
    readings, text = read_run(faulty), page(faulty)
    cards = {label: number for number, label in re.findall(r"<div><b>([\d,]+)</b><span>(.*?)</span></div>", text)}
    assert cards["feedbacks merged in epoch 2, as in run.json"] == f"{readings.run.feedback['merged']:,}"
    assert cards["feedbacks merged in all epochs"] == f"{readings.merged:,}"
    assert cards["version reached, in epoch 2"] == f"{readings.run.version:,}"
    assert "one every 50 versions, in a new epoch: epoch 2 from version 50." in chart(text, "progress")
    counters = chart(text, "counters")
    assert "Feedback by verdict (in epoch 2, as in run.json)" in counters
    assert "Bytes (in all epochs)" in counters


def test_a_hub_that_had_no_checkpoint_yet_starts_anew(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "unkept"))
    lines = (run / "journal.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join(one for one in lines if '"checkpoint"' not in one), encoding="utf-8")
    write_report(run)
    assert "epoch 2 anew, as there was none yet." in chart(page(run), "progress")


def test_a_run_that_was_interrupted_says_so(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "interrupted"))
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**told, "interrupted_at_s": 12.5}), encoding="utf-8")
    write_report(run)
    assert "stopped: interrupted at 12.5 s" in page(run)


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
    assert readings.epochs == (Epoch(1, 0.0, 4.0), Epoch(2, 6.0, 24.0, 50))
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


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_refusals_of_a_node_are_drawn_with_their_reasons_and_weights_only_where_they_differ(
    faulty: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "refused"))
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert "diamond" not in chart(page(run), "nodes")
    told["nodes"]["n1"] |= {"refused": {"late": 2, "stale": 40, "warm_up": 1, "quota": 1}, "weighted_share": 0.9}
    (run / "run.json").write_text(json.dumps(told), encoding="utf-8")
    write_report(run)
    nodes = chart(page(run), "nodes")
    assert ">stale 40, late 2, quota 1, +1<" in nodes
    assert any("90.00% by weight" in title and "warm up 1" in title for title in titles(nodes))
    assert "A diamond is the share by weight" in nodes


def test_a_node_far_below_its_fair_share_is_named(faulty: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(faulty, tmp_path / "low"))
    before = read_run(run).low_shares
    recording = Recording(RunDirectory(run))
    facts = {"node": STRANGE_NODE, "part": 0.07, "refused": {"late": 3}}
    recording.note(20 * S, HUB.node, Note("low_share", "it gives 7%", facts, "warning"))
    recording.close()
    write_report(run)
    assert read_run(run).low_shares == (*before, LowShare(20.0, STRANGE_NODE, 0.07, {"late": 3}))
    said = f"{STRANGE_NODE}</b>: 7% of its fair share at 20 s; refused until then: late 3"
    assert said in html.unescape(chart(page(run), "nodes"))
