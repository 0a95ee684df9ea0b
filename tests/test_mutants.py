"""Who checks the checkers: every planted defect is caught, and without one nothing is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

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


def first_caught(seeds: int) -> tuple[int, str] | None:
    for seed in range(seeds):
        violations = play(plan_run(small(), seed)).checks.violations
        if violations:
            return seed, violations[0].invariant
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_defect_is_caught_within_fifty_seeds(mutant: Mutant) -> None:
    with mutant():
        caught = first_caught(SEEDS)
    assert caught is not None, f"no invariant sees that {mutant.__name__}"


def test_the_true_code_is_caught_in_none_of_them() -> None:
    assert first_caught(SEEDS) is None
