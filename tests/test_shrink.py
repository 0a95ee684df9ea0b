"""Shrinking: a failing run becomes a small file that fails in the same way, and nothing is in it that need not be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from broker.core import HubCore
from mdgan_edge.errors import ConfigurationError
from sim.cli import main
from sim.play import plan_run
from sim.scenario.distributions import Constant
from sim.scenario.quantities import BitRate, Duration
from sim.scenario.reading import find_scenario, parse_scenario, read_scenario
from sim.scenario.values import (
    Crash,
    Device,
    Expect,
    Fault,
    Heal,
    Join,
    Links,
    LinkTerms,
    Partition,
    S,
    Scenario,
    Server,
)
from sim.scenario.writing import dump_scenario
from sim.shrink import AFTER_NS, RUNS_MAX, Failure, Shrinker
from tests import mutants
from tests.test_mutants import small

AT = 7 * S
FEW = 5  # faults that a person can hold in mind
BURIED = 4  # a seed of `small` with many faults, one of which shows that leavers are still given work

CALM = 'name = "quiet"\nduration = "8s"\nnodes = 2\n'

# --- a scenario, with a world that is only said to fail ---------------------------------------------------------------


def partition(*who: str, at: int = S) -> Partition:
    return Partition(at=Duration(at), lasts=Constant(Duration(S)), who=who)


def crash(name: str, at: int = S) -> Crash:
    return Crash(at=Duration(at), who=(name,))


def crowded(*faults: Fault) -> Scenario:
    return Scenario(name="x", duration=Duration(60 * S), nodes=16, fault=faults)


def shrunk(scenario: Scenario, fails: Callable[[Scenario], Any]) -> Scenario:
    """What is left if a scenario fails where this is true of it, at AT."""
    found = Shrinker(lambda one: ("applied_once", AT) if fails(one) else None).shrink(scenario)
    assert found is not None
    assert found[1] == ("applied_once", AT)
    assert fails(found[0])
    return found[0]


def strikes(scenario: Scenario, kind: type, name: str) -> bool:
    return any(isinstance(fault, kind) and name in fault.who for fault in scenario.fault)


def test_what_does_not_fail_is_played_once_and_left_alone() -> None:
    shrinker = Shrinker(lambda _: None)
    assert shrinker.shrink(crowded(crash("n1"))) is None
    assert shrinker.runs == 1


def test_of_a_fault_that_strikes_many_the_one_node_that_matters_is_left() -> None:
    scenario = crowded(crash("n2"), partition("n1", "n3", "n9"), crash("n5"), partition("n12"))
    left = shrunk(scenario, lambda one: strikes(one, Partition, "n3"))
    assert left.fault == (partition("n3"),)
    assert left.nodes == 4  # n0 to n3: it takes n3 to cut it off


def test_what_needs_two_faults_keeps_both_in_their_order() -> None:
    scenario = crowded(*(crash(f"n{index}", at=S + index) for index in range(12)))
    left = shrunk(scenario, lambda one: strikes(one, Crash, "n1") and strikes(one, Crash, "n10"))
    assert left.fault == (crash("n1", S + 1), crash("n10", S + 10))


def test_faults_of_a_node_that_never_joins_go_with_its_joining() -> None:
    joins = Join(at=Duration(S), who=("x1",))
    scenario = crowded(joins, crash("x1", 2 * S), crash("n1", 3 * S))
    assert shrunk(scenario, lambda one: strikes(one, Crash, "n1")).fault == (crash("n1", 3 * S),)
    assert shrunk(scenario, lambda one: strikes(one, Crash, "x1")).fault == (joins, crash("x1", 2 * S))


def test_a_run_ends_a_second_after_what_it_shows_and_has_no_later_faults() -> None:
    late = Join(at=Duration(20 * S), who=("x1",))
    healed = replace(crowded(crash("n1"), crash("x1"), late), heal=Heal(at=Duration(30 * S)))
    tried: list[Scenario] = []

    def fails(scenario: Scenario) -> bool:
        tried.append(scenario)
        return strikes(scenario, Crash, "n1")

    left = shrunk(healed, fails)
    assert (left.duration, left.heal, left.fault) == (AT + AFTER_NS, None, (crash("n1"),))
    assert [one for one in tried if plan_run(one).scenario != one] == []


def test_a_run_that_must_be_long_stays_long() -> None:
    scenario = crowded(crash("n1"))
    left = shrunk(scenario, lambda one: one.duration == scenario.duration)
    assert (left.duration, left.fault, left.nodes) == (scenario.duration, (), 1)


def test_a_run_cut_off_soon_after_its_heal_is_still_a_file_that_can_be_read() -> None:
    expect = Expect(rejoin_within=Duration(15 * S), sometimes=("died",))
    scenario = replace(crowded(), heal=Heal(at=Duration(5 * S)), expect=expect)
    left = shrunk(scenario, lambda one: one.heal is not None)
    assert (left.heal, left.duration) == (scenario.heal, AT + AFTER_NS)
    assert parse_scenario(dump_scenario(left), "small.toml") == left
    assert left.expect.sometimes == (), "what a large run would have shown some time, a small one need not"


def test_only_what_matters_is_other_than_it_is_by_default() -> None:
    terms = LinkTerms(loss=0.1, rate=BitRate(1_000_000), duplicate=0.5)
    settings = {"training.steps": 9, "training.credit": 4, "training.quorum": 3, "hub.evaluate_every": 5}
    scenario = replace(
        crowded(),
        links=Links(default=terms, up=terms),
        device=Device(speed_sigma=0.5),
        server=Server(step=Constant(Duration(S))),
        settings=settings,
    )
    left = shrunk(scenario, lambda one: one.links.up.loss and "training.credit" in one.settings)
    assert left.links == Links(up=LinkTerms(loss=0.1))
    assert (left.device, left.server) == (Device(), Server())
    assert left.settings == {"training.steps": 9, "training.credit": 4, "hub.evaluate_every": 5}


def test_settings_that_hang_together_go_one_after_the_other() -> None:
    refused: list[ConfigurationError] = []

    def fails(scenario: Scenario) -> Failure:
        try:
            plan_run(scenario)
        except ConfigurationError as error:  # a heartbeat longer than what is left of the lease, by default
            refused.append(error)
            raise
        return ("applied_once", AT)

    slow = {"hub.death_timeout_s": 1000.0, "hub.heartbeat_s": 100.0, "hub.lease_s": 200.0}
    found = Shrinker(fails).shrink(replace(crowded(), settings=slow))
    assert found is not None
    assert found[0].settings == {}
    assert refused


def test_another_violation_than_the_first_one_does_not_count() -> None:
    def fails(scenario: Scenario) -> Failure:
        return ("applied_once" if strikes(scenario, Crash, "n7") else "one_owner", AT)

    found = Shrinker(fails).shrink(crowded(crash("n1"), crash("n7"), crash("n9")))
    assert found is not None
    assert found[0].fault == (crash("n7"),)


def test_there_is_an_end_to_trying_and_what_is_left_then_still_fails() -> None:
    scenario = crowded(*(crash(f"n{index % 16}", at=S + index) for index in range(160)))
    played: Iterator[int] = count()

    def fails(one: Scenario) -> Failure | None:
        next(played)
        return ("applied_once", AT) if sum(int(fault.at or 0) % 2 for fault in one.fault) == 80 else None

    shrinker = Shrinker(fails)
    found = shrinker.shrink(scenario)
    assert found is not None
    assert shrinker.runs == RUNS_MAX
    assert next(played) <= RUNS_MAX + 1
    assert fails(found[0])


def test_what_still_fails_is_told_while_it_gets_smaller() -> None:
    told: list[str] = []
    Shrinker(lambda _: ("applied_once", AT), told.append).shrink(crowded(crash("n1"), crash("n2")))
    assert told[0] == "2 faults, 16 nodes, 8s still fail"
    assert told[-1] == "0 faults, 1 nodes, 8s still fail"


# --- the command, with a planted defect -------------------------------------------------------------------------------


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_a_defect_under_many_faults_becomes_a_small_file_that_shows_it_again_and_passes_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compiled = plan_run(small(), BURIED).scenario
    assert len(compiled.fault) > 3 * FEW
    Path("buried.toml").write_text(dump_scenario(compiled), encoding="utf-8")
    with mutants.hub.leavers_are_still_given_work():
        assert run("run", "buried.toml").exit_code == 70
        found = Path(f"runs/everything-{BURIED}")
        (violation,) = json.loads((found / "run.json").read_text())["violations"]
        done = run("shrink", found)
        assert (done.exit_code, done.stderr) == (0, "")
        repro = found / "repro.toml"
        assert f"again: mdgan-sim run {repro}" in done.stdout
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
