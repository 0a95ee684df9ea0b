"""Many leave at once that have swapped with each other and with the dead: what they have is not lost with them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sim.invariants.names import Violation
from sim.play import plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import Heal, MassExit, S, Scenario
from tests.mutants import adoptions

SEEDS = 8


def leaving() -> Scenario:
    """Some have swapped; then some crash for good, and when these are dead, most of the others leave."""
    scenario = find_scenario("mass-exit")
    crash = MassExit(at=Duration(20 * S), who="fraction:0.4", how="crash", within=Duration(S))
    leave = MassExit(at=Duration(26 * S), who="fraction:0.8", how="leave", within=Duration(S))
    return replace(
        scenario,
        nodes=12,
        duration=Duration(45 * S),
        heal=Heal(at=Duration(44 * S)),
        fault=(crash, leave),
        settings={**scenario.settings, "training.swap": 0.2, "hub.lease_s": 2.0, "hub.death_timeout_s": 4.0},
    )


def violations(seed: int) -> list[Violation]:
    return play(plan_run(leaving(), seed)).checks.violations


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_with_those_that_leave(seed: int) -> None:
    assert violations(seed) == []


@pytest.mark.parametrize(
    "mutant",
    [
        adoptions.a_backup_excuses_and_goes_with_the_last_that_has_it,
        adoptions.orphans_go_with_the_last_that_has_them,
        adoptions.what_nodes_once_said_to_have_counts_for_ever,
    ],
)
def test_that_it_would_be_is_seen_if_nobody_looked_for_it_before(mutant: Any) -> None:
    with mutant(), adoptions.nobody_looks_for_what_the_dead_owned():
        found = {violation.invariant for seed in range(SEEDS) for violation in violations(seed)}
    assert found == {"handed_over"}
