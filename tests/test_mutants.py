"""Who checks the checkers: every planted defect is caught, and without one nothing is."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sim.invariants.names import INVARIANTS
from sim.play import plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import Expect, Heal, S, Scenario
from tests.mutants import MUTANTS, Mutant, adoptions, swaps

SEEDS = 50
SWAPPING = {swaps.__name__, adoptions.__name__}


def small(swapping: bool = False) -> Scenario:
    """`swapping`: all swap often, without a barrier; there is time to see that one waits too long for a decision."""
    expect = Expect(rejoin_within=Duration(15 * S), advance_within=Duration(12 * S), starve_within=Duration(15 * S))
    return replace(
        find_scenario("everything"),
        nodes=10,
        duration=Duration((75 if swapping else 45) * S),
        heal=Heal(at=Duration(14 * S)),
        expect=expect,
        settings={"mode": "async", "training.swap": 0.03} if swapping else {"training.swap": "off"},
    )


def first_caught(seeds: int, swapping: bool, by: str | None = None) -> int | None:
    """The first seed with a violation, of one invariant or of any."""
    for seed in range(seeds):
        violations = play(plan_run(small(swapping), seed), replay=by == "replay_equal").checks.violations
        if any(by in (None, violation.invariant) for violation in violations):
            return seed
    return None


@pytest.mark.parametrize(("mutant", "invariant"), MUTANTS.items(), ids=lambda it: getattr(it, "__name__", it))
def test_a_planted_defect_is_caught_within_fifty_seeds(mutant: Mutant, invariant: str) -> None:
    with mutant():
        caught = first_caught(SEEDS, mutant.__module__ in SWAPPING, invariant)
    assert caught is not None, f"{invariant} does not see that {mutant.__name__}"


@pytest.mark.parametrize("swapping", [False, True])
def test_the_true_code_is_caught_in_none_of_them(swapping: bool) -> None:
    assert first_caught(SEEDS, swapping) is None


def test_nor_is_it_where_nobody_has_patience() -> None:
    with swaps.impatient():
        assert first_caught(SEEDS // 5, swapping=True) is None


def test_every_invariant_has_a_defect_that_it_catches() -> None:
    elsewhere = {"samples_stay", "judged_as_said"}  # need images: tests/test_everything.py
    assert set(MUTANTS.values()) | elsewhere == set(INVARIANTS)
