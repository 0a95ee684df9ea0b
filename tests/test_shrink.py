"""Shrinking: a failing run becomes a small file that fails in the same way, and nothing is in it that need not be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.play import plan_run
from sim.scenario.distributions import Constant
from sim.scenario.quantities import BitRate, ByteCount, Duration
from sim.scenario.reading import parse_scenario
from sim.scenario.values import (
    Crash,
    Device,
    Expect,
    Fault,
    Heal,
    Join,
    LinkChange,
    Links,
    LinkTerms,
    Partition,
    S,
    Scenario,
    Server,
)
from sim.scenario.writing import dump_scenario
from sim.shrink import AFTER_NS, RUNS_MAX, Failure, Shrinker

AT = 7 * S
FAILURE = Failure("applied_once", AT)


# --- a scenario, with a world that is only said to fail ---------------------------------------------------------------


def partition(*who: str, at: int = S) -> Partition:
    return Partition(at=Duration(at), lasts=Constant(Duration(S)), who=who)


def crash(name: str, at: int = S) -> Crash:
    return Crash(at=Duration(at), who=(name,))


def crowded(*faults: Fault) -> Scenario:
    return Scenario(name="x", duration=Duration(60 * S), nodes=16, fault=faults)


def shrunk(scenario: Scenario, fails: Callable[[Scenario], Any]) -> Scenario:
    """What is left if a scenario fails where this is true of it, at AT."""
    found = Shrinker(lambda one: FAILURE if fails(one) else None).shrink(scenario)
    assert found is not None
    assert found[1] == FAILURE
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
    left = shrunk(scenario, lambda one: one.heal == scenario.heal)
    assert (left.heal, left.duration) == (scenario.heal, AT + AFTER_NS)
    assert parse_scenario(dump_scenario(left), "small.toml") == left
    assert left.expect.sometimes == (), "what a large run would have shown some time, a small one need not"


def test_what_fails_some_time_after_the_heal_is_healed_as_early_as_can_be_and_ends_as_much_earlier() -> None:
    scenario = replace(crowded(crash("n1"), partition("n2", at=3 * S)), heal=Heal(at=Duration(20 * S)))

    def fails(one: Scenario) -> Failure | None:
        if one.heal is None or one.duration < one.heal.at + 16 * S or not strikes(one, Partition, "n2"):
            return None
        return Failure("live_are_members", int(one.heal.at) + 15 * S, "node")

    tried: list[Scenario] = []

    def noted(one: Scenario) -> Failure | None:
        tried.append(one)
        return fails(one)

    found = Shrinker(noted).shrink(scenario)
    assert found is not None
    left, failure = found
    assert left.heal is not None
    assert 3 * S < left.heal.at <= 4 * S
    assert (left.duration, failure.at) == (left.heal.at + 16 * S, left.heal.at + 15 * S)
    assert [fault.lasts for fault in left.fault] == [Constant(Duration(min(S, left.heal.at - 3 * S)))]
    assert parse_scenario(dump_scenario(left), "small.toml") == left
    assert [one for one in tried if plan_run(one).scenario != one] == []


def test_who_is_stopped_tries_nothing_more_and_has_the_smallest_that_was_found() -> None:
    played: list[Scenario] = []

    def fails(one: Scenario) -> Failure:
        played.append(one)
        return FAILURE

    found = Shrinker(fails, stopped=lambda: len(played) >= 3).shrink(crowded(crash("n1"), crash("n2")))
    assert found == (played[-1], FAILURE)
    assert len(played) == 3


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


def test_a_queue_goes_with_the_rate_that_things_wait_for() -> None:
    slow = LinkChange(at=Duration(S), who=("n1",), lasts=Constant(Duration(S)), rate_limit=BitRate(1000))
    links = Links(default=LinkTerms(queue=ByteCount(1000)), up=LinkTerms(loss=0.1))
    tried: list[Scenario] = []

    def fails(one: Scenario) -> bool:
        tried.append(one)
        return bool(one.links.up.loss)

    shrunk(replace(crowded(slow), links=links), fails)
    assert [parse_scenario(dump_scenario(one), "small.toml") for one in tried] == tried


def test_settings_that_hang_together_go_one_after_the_other() -> None:
    refused: list[ConfigurationError] = []

    def fails(scenario: Scenario) -> Failure:
        try:
            plan_run(scenario)
        except ConfigurationError as error:  # a heartbeat longer than what is left of the lease, by default
            refused.append(error)
            raise
        return FAILURE

    slow = {"hub.death_timeout_s": 1000.0, "hub.heartbeat_s": 100.0, "hub.lease_s": 200.0}
    found = Shrinker(fails).shrink(replace(crowded(), settings=slow))
    assert found is not None
    assert found[0].settings == {}
    assert refused


@pytest.mark.parametrize(
    "other",
    [
        Failure("one_owner", AT),
        Failure("applied_once", AT, "hub"),
        Failure("applied_once", AT, cause="KeyError at broker/core.py:1 in handle"),
    ],
)
def test_another_violation_than_the_first_one_does_not_count(other: Failure) -> None:
    def fails(scenario: Scenario) -> Failure:
        return FAILURE if strikes(scenario, Crash, "n7") else other

    found = Shrinker(fails).shrink(crowded(crash("n1"), crash("n7"), crash("n9")))
    assert found is not None
    assert found[0].fault == (crash("n7"),)


def test_there_is_an_end_to_trying_and_what_is_left_then_still_fails() -> None:
    scenario = crowded(*(crash(f"n{index % 16}", at=S + index) for index in range(160)))
    played: Iterator[int] = count()

    def fails(one: Scenario) -> Failure | None:
        next(played)
        return FAILURE if sum(int(fault.at or 0) % 2 for fault in one.fault) == 80 else None

    shrinker = Shrinker(fails)
    found = shrinker.shrink(scenario)
    assert found is not None
    assert shrinker.runs == RUNS_MAX
    assert next(played) <= RUNS_MAX + 1
    assert fails(found[0])


def test_what_still_fails_is_told_while_it_gets_smaller() -> None:
    told: list[str] = []
    Shrinker(lambda _: FAILURE, told.append).shrink(crowded(crash("n1"), crash("n2")))
    assert told[0] == "2 faults, 16 nodes, 8s still fail"
    assert told[-1] == "0 faults, 1 nodes, 8s still fail"
