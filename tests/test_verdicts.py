"""A verdict is true only where something was looked at: a run that could not show it says null."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import JobDone
from mdgan_edge.messages import Tensor
from nodes.jobs import Train, Trained
from sim.invariants.liveness import MEMBERS, NAMES
from sim.invariants.names import AT_THE_END
from sim.play import plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import Expect, Heal, S
from sim.trace import label
from tests.mutants import hub, world
from tests.node_world import task

EXPECT = Expect(rejoin_within=Duration(2 * S), advance_within=Duration(3 * S), starve_within=Duration(4 * S))
SWAPS = {"swap_decided_once", "no_swap_in_doubt", "spares_known"}  # for want of a swap
LIVENESS = NAMES - SWAPS


def unknown(seconds: int, heal: int | None = 0, **settings: object) -> set[str]:
    """What a calm run of so many seconds leaves open of what has to hold after the heal."""
    scenario = replace(
        find_scenario("calm"),
        duration=Duration(seconds * S),
        expect=EXPECT,
        heal=None if heal is None else Heal(at=Duration(heal * S)),
        settings={"training.steps": 10_000, "training.swap": "off"},
    )
    verdicts = play(plan_run(scenario, 0, None, settings)).checks.verdicts()
    assert False not in verdicts.values()
    return {name for name, verdict in verdicts.items() if verdict is None} & (NAMES | SWAPS)


def test_before_anybody_had_time_to_come_back_nothing_is_known_of_liveness() -> None:
    assert unknown(seconds=1) == LIVENESS | SWAPS


def test_without_a_heal_nothing_is_promised() -> None:
    assert unknown(seconds=12, heal=None) == LIVENESS | SWAPS
    swapping = unknown(seconds=12, heal=None, **{"training.swap": 0.1})
    assert swapping == LIVENESS | SWAPS - {"swap_decided_once"}


def test_members_are_known_of_before_there_was_time_to_advance_or_to_starve() -> None:
    assert unknown(seconds=4) == (LIVENESS - MEMBERS) | SWAPS


def test_all_is_known_after_long_enough() -> None:
    assert unknown(seconds=12) == SWAPS


def test_that_no_swap_is_in_doubt_is_known_only_where_it_would_have_been_decided_by_then() -> None:
    assert unknown(seconds=12, **{"training.swap": 0.1}) == {"no_swap_in_doubt"}
    assert unknown(seconds=45, **{"training.swap": 0.1}) == set()


def test_where_nobody_trains_for_want_of_a_quorum_nothing_is_known_of_the_version() -> None:
    assert unknown(seconds=12, **{"hub.nodes_min": 9}) == {"version_advances", "no_starvation"} | SWAPS


def test_where_no_node_names_its_classes_nothing_is_known_of_what_they_judge() -> None:
    assert play(plan_run(find_scenario("calm"))).checks.verdicts()["judged_as_said"] is None


def test_a_run_in_which_nothing_happened_shows_nothing() -> None:
    scenario = replace(find_scenario("calm"), duration=Duration(1), heal=None)
    assert set(play(plan_run(scenario, 0)).checks.verdicts().values()) == {None}


def test_after_a_violation_what_is_looked_at_in_the_end_is_unknown_unless_it_is_found_false() -> None:
    with hub.a_step_skips_a_version():
        verdicts = play(plan_run(find_scenario("wan"), 0), replay=True).checks.verdicts()
    assert verdicts["version_by_one"] is False
    assert {name: verdicts[name] for name in AT_THE_END} == dict.fromkeys(AT_THE_END)
    with hub.a_step_skips_a_version(), world.what_is_lost_is_not_counted():
        checks = play(plan_run(find_scenario("lossy-burst"), 0)).checks
    assert [violation.invariant for violation in checks.violations] == ["version_by_one", "bytes_conserved"]


@pytest.mark.parametrize("loss", [0.25, 0.25000000000000006])
def test_the_digest_knows_what_a_job_has_computed_to_the_last_bit(loss: float) -> None:
    done = JobDone(Train(task(1)), Trained(task(1), Tensor("f32", (1,), b"", 1.0), loss, 0.5, 1.0, 1))
    assert label(done) == f"done Train {loss!r} 0.5"
