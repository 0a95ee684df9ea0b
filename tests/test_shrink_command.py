"""The command shrink: what it leaves beside a failing run, what it says, and how it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.core import HubCore
from nodes.core import NodeCore
from sim import shrink as shrink_module
from sim.cli import main
from sim.play import plan_run
from sim.running_shrink import fails
from sim.scenario.reading import find_scenario, read_scenario
from sim.scenario.values import (
    S,
    Scenario,
)
from sim.scenario.writing import dump_scenario
from sim.shrink import Shrinker
from tests import mutants
from tests.test_mutants import small

FEW = 5  # faults that a person can hold in mind
BURIED = 4  # a seed of `small` with many faults, one of which shows that leavers are still given work

CALM = 'name = "quiet"\nduration = "8s"\nnodes = 2\n'


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_defect_under_many_faults_becomes_a_small_file_that_shows_it_again_and_passes_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compiled = plan_run(small(swapping=False), BURIED).scenario
    assert len(compiled.fault) > 3 * FEW
    Path("buried.toml").write_text(dump_scenario(compiled), encoding="utf-8")
    with mutants.hub.leavers_are_still_given_work():
        assert run("run", "buried.toml").exit_code == 70
        found = Path(f"runs/everything-{BURIED}")
        (violation,) = json.loads((found / "run.json").read_text())["violations"]
        done = run("shrink", found)
        assert (done.exit_code, done.stderr) == (0, "")
        repro = found / "repro.toml"
        assert done.stdout.splitlines()[-1] == f"again: mdgan-sim run {repro} --out {found}-small --force"
        left = read_scenario(repro)
        assert 1 <= len(left.fault) <= FEW
        assert left.nodes < compiled.nodes
        assert left.about.startswith(f"Violates {violation['invariant']} at ")
        again = run("run", repro, "--json")  # into a directory of its own, without being told so
        assert again.exit_code == 70
        assert [one["invariant"] for one in json.loads(again.stdout)["violations"]] == [violation["invariant"]]
        said = json.loads(run("shrink", found, "--json").stdout)
        assert (said["faults"], said["invariant"]) == (len(left.fault), violation["invariant"])
    assert run("run", repro, "--force").exit_code == 0


def test_a_failing_run_of_a_scenario_whose_settings_hang_together_is_shrunk_too(tmp_path: Path) -> None:
    with mutants.hub.a_step_skips_a_version():
        assert run("run", "calm", "--out", tmp_path / "run").exit_code == 70
        assert run("shrink", tmp_path / "run").exit_code == 0
    left = read_scenario(tmp_path / "run" / "repro.toml")
    assert left.nodes == 1
    assert left.duration < find_scenario("calm").duration


def test_a_hub_that_does_not_do_the_same_again_is_shrunk_with_a_replay(tmp_path: Path) -> None:
    calls = count(1)

    def forgetful(true: Any) -> Any:
        def handle(self: HubCore, event: Any, now: Any) -> Any:
            effects = true(self, event, now)
            return effects[:-1] if effects and next(calls) % 50 == 0 else effects

        return handle

    (tmp_path / "quiet.toml").write_text(CALM, encoding="utf-8")
    with mutants.planting.broken(HubCore, "handle", forgetful):
        assert run("run", tmp_path / "quiet.toml", "--out", tmp_path / "run").exit_code == 70
        assert json.loads((tmp_path / "run" / "run.json").read_text())["invariants"]["replay_equal"] is False
        done = run("shrink", tmp_path / "run")
    assert "replay_equal is violated" in done.stdout, done


def test_a_core_that_raises_is_said_in_one_short_line_and_shrunk_to_the_same_exception_at_the_same_place(
    tmp_path: Path,
) -> None:
    def raising(true: Any) -> Any:
        def handle(self: Any, event: Any, now: Any) -> Any:
            if now > 3 * S:
                raise KeyError("no such thing")
            return true(self, event, now)

        return handle

    (tmp_path / "quiet.toml").write_text(CALM, encoding="utf-8")
    with mutants.planting.broken(NodeCore, "handle", raising):
        done = run("run", tmp_path / "quiet.toml", "--out", tmp_path / "run")
        (one,) = json.loads((tmp_path / "run" / "run.json").read_text())["violations"]
        what = r"\w+: KeyError at tests/test_shrink_command.py:[0-9]+ in handle: 'no such thing'"
        assert re.fullmatch(what, one["what"])
        assert done.exit_code == 70
        journal = [json.loads(line) for line in (tmp_path / "run" / "journal.jsonl").read_text().splitlines()]
        assert journal[-1]["traceback"][-1] == "KeyError: 'no such thing'"
        assert run("shrink", tmp_path / "run").exit_code == 0
        failure = fails(read_scenario(tmp_path / "run" / "repro.toml"))
    assert failure is not None
    assert failure.side == "node"
    assert failure.cause in one["what"]


def test_a_shrinking_that_is_stopped_leaves_the_smallest_file_that_it_has_found(tmp_path: Path) -> None:
    (tmp_path / "quiet.toml").write_text(CALM.replace("nodes = 2", "nodes = 12"), encoding="utf-8")
    with mutants.hub.a_step_skips_a_version():
        assert run("run", tmp_path / "quiet.toml", "--out", tmp_path / "run").exit_code == 70
        calls = count(1)

        def interrupting(true: Any) -> Any:
            def shrunk(self: Any, scenario: Scenario) -> bool:
                if next(calls) == 3:
                    signal.raise_signal(signal.SIGTERM)
                return bool(true(self, scenario))

            return shrunk

        with mutants.planting.broken(Shrinker, "_same", interrupting):
            done = run("shrink", tmp_path / "run")
        assert (done.exit_code, done.stderr) == (0, "")
        assert "stopped: with more runs it may become smaller" in done.stdout
        left = read_scenario(tmp_path / "run" / "repro.toml")
        assert left.nodes == 3
        assert (failure := fails(left)) is not None
        assert failure.invariant == "version_by_one"


def test_that_the_runs_did_not_suffice_is_said(tmp_path: Path) -> None:
    (tmp_path / "quiet.toml").write_text(CALM, encoding="utf-8")
    with mutants.hub.a_step_skips_a_version(), mutants.planting.broken(shrink_module, "RUNS_MAX", lambda _: 3):
        assert run("run", tmp_path / "quiet.toml", "--out", tmp_path / "run").exit_code == 70
        done = run("shrink", tmp_path / "run")
        assert done.exit_code == 0
    assert "3 runs (RUNS_MAX) were played: it may become smaller if its own run is shrunk" in done.stdout


def test_the_command_that_plays_a_small_run_again_can_be_copied_as_often_as_one_likes(tmp_path: Path) -> None:
    (tmp_path / "quiet.toml").write_text(CALM, encoding="utf-8")
    folder = tmp_path / "a run"
    with mutants.hub.a_step_skips_a_version():
        assert run("run", tmp_path / "quiet.toml", "--out", folder).exit_code == 70
        shown = [run("shrink", folder).stdout.splitlines()[-1].removeprefix("again: ")]
        shown.append(json.loads((folder / "run.json").read_text())["replay"])
        for again in shown:
            for _ in range(2):
                assert run(*shlex.split(again)[1:]).exit_code == 70, again


def test_a_run_whose_scenario_is_broken_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    (tmp_path / "scenario.toml").write_text("name = ", encoding="utf-8")
    done = run("shrink", tmp_path)
    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr.startswith(f"Error: {tmp_path}/scenario.toml is not valid TOML: ")


def test_a_run_that_violates_nothing_cannot_be_shrunk(tmp_path: Path) -> None:
    (tmp_path / "quiet.toml").write_text(CALM, encoding="utf-8")
    assert run("run", tmp_path / "quiet.toml", "--out", tmp_path / "run").exit_code == 0
    done = run("shrink", tmp_path / "run")
    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr == f"Error: {tmp_path}/run holds a run that violates nothing: there is nothing to shrink\n"
    assert not (tmp_path / "run" / "repro.toml").exists()


def test_a_run_that_failed_only_since_a_counter_stayed_zero_cannot_be_shrunk(tmp_path: Path) -> None:
    (tmp_path / "hopeful.toml").write_text(CALM + '[expect]\nsometimes = ["died"]\n', encoding="utf-8")
    assert run("run", tmp_path / "hopeful.toml", "--out", tmp_path / "run").exit_code == 70
    done = run("shrink", tmp_path / "run")
    assert (done.exit_code, done.stdout) == (78, "")
    said = "failed only by expect.sometimes (died): a counter that stayed zero cannot be shrunk"
    assert done.stderr == f"Error: {tmp_path}/run holds a run that {said}\n"


def test_a_folder_that_is_no_virtual_run_cannot_be_shrunk(tmp_path: Path) -> None:
    done = run("shrink", tmp_path)
    assert (done.exit_code, done.stdout) == (74, "")
    assert f"{tmp_path} is not a run directory" in done.stderr
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    done = run("shrink", tmp_path)
    assert (done.exit_code, done.stdout) == (74, "")
    assert f"{tmp_path} is not a run of `mdgan-sim run`" in done.stderr
