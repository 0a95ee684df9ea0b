"""Who checks the checkers: every planted defect is caught, and without one nothing is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sim.invariants.names import INVARIANTS
from sim.play import plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import Expect, Heal, S, Scenario
from tests.mutants import MUTANTS, Mutant

SEEDS = 50


def small() -> Scenario:
    expect = Expect(rejoin_within=Duration(15 * S), advance_within=Duration(12 * S), starve_within=Duration(15 * S))
    return replace(
        find_scenario("everything"), nodes=10, duration=Duration(45 * S), heal=Heal(at=Duration(14 * S)), expect=expect
    )


def first_caught(seeds: int, by: str | None = None) -> int | None:
    """The first seed with a violation, of one invariant or of any."""
    for seed in range(seeds):
        violations = play(plan_run(small(), seed), replay=by == "replay_equal").checks.violations
        if any(by in (None, violation.invariant) for violation in violations):
            return seed
    return None


@pytest.mark.parametrize(("mutant", "invariant"), MUTANTS.items(), ids=lambda it: getattr(it, "__name__", it))
def test_a_planted_defect_is_caught_within_fifty_seeds(mutant: Mutant, invariant: str) -> None:
    with mutant():
        assert first_caught(SEEDS, invariant) is not None, f"{invariant} does not see that {mutant.__name__}"


def test_the_true_code_is_caught_in_none_of_them() -> None:
    assert first_caught(SEEDS) is None


def test_every_invariant_has_a_defect_that_it_catches() -> None:
    elsewhere = {"samples_stay", "judged_as_said"}  # need images: tests/test_everything.py
    assert set(MUTANTS.values()) | elsewhere == set(INVARIANTS)
