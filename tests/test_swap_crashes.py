"""Whoever dies at whatever moment of a swap: no discriminator is lost or doubled, and nobody waits for ever.

Every moment is after one of the events between the proposal and the end of a swap that the hub puts on record; a hub
that decides can also die half way through what follows from it. A tenth of all messages is lost, a tenth comes twice.
"""

from __future__ import annotations

import pytest

from tests.mutants.swaps import a_node_forgets_its_shadow_when_it_starts
from tests.swap_crashes import Blow, Target, target

SEEDS_LONG = 100
SHORT = (2, 6, 12)  # seeds whose swap is short
EVERY = 3  # in the suite: one moment of so many; all of what is torn


def assert_survived(target: Target, blow: Blow) -> None:
    violations = target.played(blow).checks.violations
    assert violations == [], f"{target}, {blow}"


@pytest.mark.parametrize("seed", SHORT)
def test_a_death_in_a_swap_loses_nothing_doubles_nothing_and_leaves_nobody_in_doubt(seed: int) -> None:
    one = target(seed, nodes=2 + seed % 2)
    blows = one.blows()
    for blow in (*blows[seed % EVERY :: EVERY], *(blow for blow in blows if blow.carried is not None)):
        assert_survived(one, blow)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS_LONG))
def test_no_death_at_any_event_of_a_swap_does(seed: int) -> None:
    one = target(seed, nodes=2 + seed % 2)
    for blow in one.blows():
        assert_survived(one, blow)


def test_a_blow_falls_on_the_swap_that_it_is_meant_for() -> None:
    one = target(SHORT[0], nodes=2)
    calm = one.played()
    assert calm.swap is not None
    assert calm.swap.swap_id == one.swap_id
    for blow in (Blow("hub", calm.commits[0]), Blow("proposer", 3), Blow("partner", 3)):
        struck = one.played(blow)
        sometimes = struck.checks.sometimes
        assert sometimes["hub_restarted" if blow.party == "hub" else "restarted"] == 1, blow


def test_a_node_that_forgets_its_shadow_does_not_survive_them() -> None:
    one = target(SHORT[0], nodes=2)
    decided = one.played().commits[0]
    blows = [blow for blow in one.blows() if blow.party != "hub" and blow.index >= decided]
    with a_node_forgets_its_shadow_when_it_starts():
        found = {violation.invariant for blow in blows for violation in one.played(blow).checks.violations}
    assert found == {"discriminator_not_lost"}
