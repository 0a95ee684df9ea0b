"""The commands run, scenarios and bench of mdgan-sim: what they leave behind, what they print, and how they refuse."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tomllib
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.core import HubCore
from mdgan_edge.command import one_line
from mdgan_edge.errors import ExitCode
from sim.cli import main
from sim.invariants.names import INVARIANTS, SOMETIMES
from sim.scenario.reading import find_scenario, shipped
from tests import mutants

ROOT = Path(__file__).resolve().parent.parent
FEEDBACK = ["merged", "stale", "late", "duplicate", "malformed", "fenced", "quota", "epoch"]
NODE = ["state", "tasks", "merged", "share", "staleness_mean", "staleness_max", "rejoined"]
LEFT_BEHIND = ["config.toml", "journal.jsonl", "metrics.jsonl", "report.html", "run.json", "scenario.toml"]

ROUGH = """
name = "rough"
duration = "12s"
nodes = 4
[links.default]
latency = {dist = "lognormal", median = "30ms", sigma = 0.5}
loss = 0.02
[training]
quorum = 3
credit = 1
[[fault]]
kind = "crash"
rate = "0.5/s"
for = {dist = "exponential", mean = "1s"}
"""


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def played(*words: str | Path, code: int = 0) -> dict[str, Any]:
    """What `mdgan-sim run ... --json` prints."""
    done = run("run", *words, "--json")
    assert done.exit_code == code, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refusal(*words: str | Path) -> tuple[int, str]:
    """The exit code of a command that prints nothing but one line of complaint, and that line."""
    done = run(*words)
    assert done.stdout == ""
    return done.exit_code, done.stderr.splitlines()[-1]


@pytest.fixture
def rough(tmp_path: Path) -> Path:
    file = tmp_path / "rough.toml"
    file.write_text(ROUGH, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    folder = tmp_path_factory.mktemp("sim") / "calm"
    return run("run", "calm", "--out", folder, "--json"), folder


# --- what is left and said --------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_in_its_directory(calm: tuple[Result, Path]) -> None:
    done, folder = calm
    assert done.exit_code == 0
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == LEFT_BEHIND
    assert [name for name in LEFT_BEHIND if not (folder / name).stat().st_size] == []
    assert tomllib.loads((folder / "config.toml").read_text())["mode"] == "sync"
    times = [json.loads(line)["t"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 60, "the journal is written in virtual time"
    steps = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"stepped"' in line]
    assert len(steps) == 50


def test_with_json_the_outcome_and_nothing_else_is_on_stdout(calm: tuple[Result, Path]) -> None:
    done, folder = calm
    assert done.stderr == ""
    assert json.loads(done.stdout) == json.loads((folder / "run.json").read_text())


def test_run_json_has_what_scripts_count_on(calm: tuple[Result, Path]) -> None:
    found = json.loads(calm[0].stdout)
    assert (found["outcome"], found["version"], found["seed"], found["mode"]) == ("completed", 50, 0, "sync")
    assert (found["scenario"], found["world"], found["fidelity"]) == ("calm", "virtual", "tokens")
    assert (found["interrupted_at_s"], found["violations"], found["missed"]) == (None, [], [])
    assert 5 < found["virtual_s"] < 6, "when the hub was done, and not the 60 s that it was given"
    assert 0 < found["wall_s"] < 60
    assert len(found["digest"]) == 32
    assert list(found["nodes"]) == ["n0", "n1", "n2", "n3"]
    for node in found["nodes"].values():
        assert [node[key] for key in NODE] == ["left", 50, 50, 0.25, 0.0, 0, 0]
    assert [found["feedback"][key] for key in FEEDBACK] == [200, 0, 0, 0, 0, 0, 0, 0]
    count = found["bytes"]
    assert count["hub_sent"] == count["nodes_received"] > count["hub_received"] == count["nodes_sent"] > 0
    assert found["scores"] == {}
    assert list(found["invariants"]) == list(INVARIANTS)
    assert set(found["invariants"].values()) == {True, None}
    assert set(found["sometimes"]) == set(SOMETIMES)


def test_for_people_there_are_a_few_lines_with_the_digest_and_where_to_look(rough: Path, tmp_path: Path) -> None:
    done = run("run", rough, "--out", tmp_path / "run")
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    lines = done.stdout.splitlines()
    assert (done.exit_code, done.stderr, len(lines)) == (0, "", 5)
    assert lines[0].startswith("rough, seed 0: stopped at version ")
    assert lines[1].startswith("invariants: ")
    assert ", 0 violated, " in lines[1]
    assert lines[2].startswith(f"digest:     {found['digest']} ({found['events']:,} events in ")
    assert lines[3:] == [f"record:     {tmp_path}/run/run.json", f"report:     {tmp_path}/run/report.html"]


def test_without_matplotlib_or_jinja2_there_is_all_but_the_report_and_a_note(
    rough: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = run("run", rough, "--out", tmp_path / "run")
    assert done.exit_code == 0
    assert done.stderr.startswith("! no report: ")
    assert "pip install 'mdgan-edge[report]'" in done.stderr
    assert "report:" not in done.stdout
    found = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_file())
    assert found == [name for name in LEFT_BEHIND if name != "report.html"]


# --- the same again, and not the same ---------------------------------------------------------------------------------


def test_the_scenario_that_a_run_saves_does_the_same_again_and_another_seed_does_not(
    rough: Path, tmp_path: Path
) -> None:
    wishes = ("--set", "training.quorum=2", "--set", "training.staleness_max=1")
    first = played(rough, "--seed", "5", *wishes, "--out", tmp_path / "first")
    saved = tmp_path / "first" / "scenario.toml"
    assert "rate" not in tomllib.loads(saved.read_text())["fault"][0], "faults have times and names now"
    again = played(saved, "--out", tmp_path / "again")
    assert (again["digest"], again["seed"]) == (first["digest"], 5)
    assert (tmp_path / "again" / "config.toml").read_text() == (tmp_path / "first" / "config.toml").read_text()
    other = played(rough, "--seed", "6", *wishes, "--out", tmp_path / "other")
    assert other["digest"] != first["digest"]
    wished = "--seed 5 --set training.quorum=2 --set training.staleness_max=1"
    assert first["replay"] == f"mdgan-sim run {rough} {wished} --out {tmp_path}/first-again --force"


def test_what_is_set_by_hand_goes_before_what_the_scenario_says(rough: Path, tmp_path: Path) -> None:
    played(rough, "--set", "training.quorum=1", "--set", "training.seed=3", "--out", tmp_path / "run")
    training = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["training"]
    assert (training["quorum"], training["credit"], training["seed"]) == (1, 1, 3)


def test_the_mode_given_by_hand_goes_before_the_scenario_s(tmp_path: Path) -> None:
    found = played("calm", "--mode", "async", "--set", "training.steps=5", "--out", tmp_path / "run")
    assert (found["mode"], found["version"]) == ("async", 5)
    assert found["replay"].startswith("mdgan-sim run calm --mode async --set training.steps=5")


def test_what_is_set_and_means_nothing_to_a_virtual_run_is_said(rough: Path, tmp_path: Path) -> None:
    done = run("run", rough, "--set", "hub.bind=tcp://*:1", "--set", "swarm.nodes=7", "--out", tmp_path / "run")
    assert done.exit_code == 0
    assert done.stderr == "! not used: a virtual run decides these itself: hub.bind, swarm.nodes\n"


def test_a_run_is_not_overwritten_unless_that_is_asked_for(rough: Path, tmp_path: Path) -> None:
    played(rough, "--out", tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    code, line = refusal("run", rough, "--seed", "9", "--out", tmp_path / "run")
    assert (code, line) == (
        78,
        f"Error: {tmp_path}/run holds a run: --force replaces it, --out names another directory",
    )
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert played(rough, "--seed", "9", "--out", tmp_path / "run", "--force")["seed"] == 9


# --- when it goes wrong -----------------------------------------------------------------------------------------------


def test_a_violation_is_said_with_what_when_who_seed_and_how_to_see_it_again(rough: Path, tmp_path: Path) -> None:
    with mutants.hub.credit_is_ignored():
        done = run("run", rough, "--seed", "5", "--out", tmp_path / "run")
    assert done.exit_code == 70
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    (one,) = found["violations"]
    assert (found["outcome"], one["invariant"], found["invariants"]["credit_kept"]) == ("failed", "credit_kept", False)
    assert one["what"] == "2 tasks in hand ([6, 10]), credit is 1"
    assert f"VIOLATED credit_kept at {one['at_s']:.6f} s by {one['who']}: {one['what']}" in done.stdout
    assert f"seed 5; again: mdgan-sim run {rough} --seed 5 --out" in done.stdout
    again = f"again: mdgan-sim run {rough} --seed 5 --out {tmp_path}/run-again --force"
    assert done.stderr == f"Error: credit_kept is violated; {again}\n"
    window = json.loads((tmp_path / "run" / "window.json").read_text())
    assert (window["invariant"], window["at_s"]) == ("credit_kept", one["at_s"])
    assert any(event["who"] == "hub" for event in window["events"])
    with mutants.hub.credit_is_ignored():
        assert played(rough, "--seed", "5", "--out", tmp_path / "again", code=70)["digest"] == found["digest"]


def test_what_was_expected_and_never_happened_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "hopeful.toml").write_text(ROUGH + '[expect]\nsometimes = ["hub_restarted"]\n', encoding="utf-8")
    done = run("run", tmp_path / "hopeful.toml", "--out", tmp_path / "run")
    assert done.exit_code == 70
    assert "EXPECTED hub_restarted, and it never happened" in done.stdout
    assert done.stderr.startswith("Error: hub_restarted never happened; again: mdgan-sim run ")
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (found["outcome"], found["missed"], found["violations"]) == ("failed", ["hub_restarted"], [])


def test_a_moment_can_be_looked_at_although_nothing_went_wrong(rough: Path, tmp_path: Path) -> None:
    played(rough, "--look-at", "4.5s", "--out", tmp_path / "run")
    window = json.loads((tmp_path / "run" / "window.json").read_text())
    assert (window["invariant"], window["at_s"]) == (None, 4.5)
    times = [event["t"] for event in window["events"]]
    assert min(times) < 4.5 < max(times) < 6
    assert refusal("run", rough, "--look-at", "soon")[0] == 78


@pytest.mark.parametrize("time", ["12.5s", "-1ms"])
def test_a_moment_outside_the_run_cannot_be_looked_at(rough: Path, tmp_path: Path, time: str) -> None:
    shown = {"12.5s": "12500ms"}.get(time, time)
    line = f"Error: --look-at {shown} is not within the run, which ends at 12s"
    assert refusal("run", rough, f"--look-at={time}", "--out", tmp_path / "run") == (78, line)
    assert not (tmp_path / "run").exists()


def test_what_is_too_much_to_be_played_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mad.toml").write_text(ROUGH.replace("0.5/s", "100000/s"), encoding="utf-8")
    code, line = refusal("run", tmp_path / "mad.toml", "--out", tmp_path / "run")
    assert code == 78
    assert line.startswith(
        "Error: mad.toml: fault 1 (crash) makes more than 100,000 occurrences (OCCURRENCES_MAX) before 12s: "
    )


# --- when somebody stops it -------------------------------------------------------------------------------------------


def signalled_at(*when: int, number: signal.Signals) -> Any:
    """The hub's process is sent a signal while it handles these of its events."""
    events = count(1)

    def handling(true: Any) -> Any:
        def handle(self: HubCore, event: Any, now: Any) -> Any:
            if next(events) in when:
                signal.raise_signal(number)
            return true(self, event, now)

        return handle

    return mutants.planting.broken(HubCore, "handle", handling)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_cleanly_and_says_when(number: signal.Signals, rough: Path, tmp_path: Path) -> None:
    rough.write_text(ROUGH + '[expect]\nsometimes = ["hub_restarted"]\n', encoding="utf-8")
    before = signal.getsignal(number)
    with signalled_at(100, number=number):
        done = run("run", rough, "--look-at", "11s", "--out", tmp_path / "run")
    assert (done.exit_code, done.stderr) == (0, "")
    assert signal.getsignal(number) == before
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert 0 < found["interrupted_at_s"] == found["virtual_s"] < 12
    assert (found["outcome"], found["missed"], found["violations"]) == ("stopped", [], [])
    judged = {name: found["invariants"][name] for name in ("credit_kept", "bytes_conserved", "live_are_members")}
    assert judged == {"credit_kept": True, "bytes_conserved": None, "live_are_members": None}
    lines = done.stdout.splitlines()
    assert lines[0].startswith("rough, seed 0: stopped at version ")
    assert lines[1] == f"interrupted at {found['virtual_s']:.6f} s of virtual time: what comes later is unknown"
    assert lines[-1] == f"report:     {tmp_path}/run/report.html"
    assert not (tmp_path / "run" / "window.json").exists()


def test_a_second_signal_ends_the_process_at_once(rough: Path, tmp_path: Path) -> None:
    twice = (
        "import signal; from tests.test_sim_run import main, signalled_at\n"
        "with signalled_at(100, 101, number=signal.SIGINT): main()"
    )
    words = [sys.executable, "-c", twice, "run", str(rough), "--out", str(tmp_path / "run")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (("clam",), 78, "Error: 'clam' is neither a file nor a scenario: did you mean 'calm'?"),
        (
            ("something-else",),
            78,
            "Error: 'something-else' is neither a file nor a scenario: `mdgan-sim scenarios` lists those there are",
        ),
        (
            ("calm", "--fidelity", "token"),
            2,
            "Error: Invalid value for '--fidelity': 'token' is not one of 'tokens', 'toy', 'full'.",
        ),
        (
            ("calm", "--set", "training.quorom=1"),
            78,
            "Error: unknown key 'training.quorom' in --set: did you mean 'training.quorum'?",
        ),
        (
            ("calm", "--set", "training.quorum"),
            2,
            "Error: --set 'training.quorum': write it as KEY=VALUE, such as --set training.quorum=0.25",
        ),
    ],
)
def test_a_slip_of_the_pen_is_named_with_what_was_meant_and_nothing_is_made(
    words: tuple[str, ...], code: int, line: str, tmp_path: Path
) -> None:
    assert refusal("run", *words, "--out", tmp_path / "run") == (code, line)
    assert not (tmp_path / "run").exists()


# --- the other commands -----------------------------------------------------------------------------------------------


def test_every_shipped_scenario_is_shown_with_one_paragraph_on_what_it_is_for() -> None:
    abouts = json.loads(run("scenarios", "--json").stdout)
    assert list(abouts) == shipped()
    assert [name for name, about in abouts.items() if len(about) < 80 or "\n\n" in about] == []
    said = run("scenarios").stdout
    assert [line for line in said.splitlines() if not line.startswith(" ")] == shipped()
    assert all(one_line(about) in one_line(said) for about in abouts.values())
    assert [line for line in said.splitlines() if line.endswith("-")] == []
    assert abouts["calm"] == find_scenario("calm").about.strip()


def test_the_world_s_speed_is_measured_in_rows_plain_and_checked() -> None:
    done = run("bench", "world", "--nodes", "10", "--events", "2000", "--repeat", "1", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [(row["nodes"], row["checked"], row["runs"]) for row in rows] == [(10, False, 1), (10, True, 1)]
    for row in rows:
        assert row["events"] >= 2000
        assert row["lowest"] == row["highest"] == row["events_per_cpu_s"] > 0
        assert row["peak_mb"] > 1


def test_a_measurement_that_breaks_off_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no memory left')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("bench", "world", "--nodes", "3", "--events", "1000", "--repeat", "1")
    assert (done.exit_code, done.stdout) == (70, "")
    assert re.fullmatch(r"Error: a run with 3 nodes failed: .*no memory left\n", done.stderr)


def test_the_world_s_speed_is_a_line_for_people_too() -> None:
    done = run("bench", "world", "--nodes", "3", "--events", "1000", "--repeat", "1")
    assert done.exit_code == 0, done.output
    plain, checked = done.stdout.splitlines()
    assert plain.split()[:3] == ["3", "nodes", "plain"]
    assert checked.split()[:3] == ["3", "nodes", "checked"]
    assert plain.split()[-1] == "MB"


def test_a_hub_that_failed_fails_the_run_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "wild.toml"
    rest = 'nodes = 3\nfidelity = "toy"\n[training]\nlr_generator = 3e38\n'
    file.write_text(f'name = "wild"\nabout = "A generator that diverges."\nduration = "20s"\n{rest}')
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "run")])
    assert done.exit_code == ExitCode.UNEXPECTED
    assert "Error: the hub failed: the generator diverged at version 1" in done.output
