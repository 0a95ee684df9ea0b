"""Whoever dies at whatever moment of a journey: no discriminator is lost or doubled, and nobody waits for ever.

Every moment is after one of the events between its beginning and its end; a hub that decides can also die half way
through what follows from it. A tenth of all messages is lost, a tenth comes twice.
"""

from __future__ import annotations

import pytest

from mdgan_edge.messages import NodeId
from tests.journey_crashes import AWAY_S, Blow, Target, target
from tests.journeys import ADOPTION, HAND_OVER, KINDS, SWAP, Kind
from tests.mutants import adoptions, swaps

SEEDS_LONG = 100
SHORT = [  # seeds whose journey is short
    *((SWAP, seed) for seed in (2, 6, 12)),
    *((ADOPTION, seed) for seed in (4, 8)),  # from the hub's shelf, from a dead one's partner
    *((HAND_OVER, seed) for seed in (4, 9)),
]
EVERY = 3  # in the suite: one moment of so many, and who dies is soon back; all of what is torn


def met(kind: Kind, seed: int) -> Target:
    one = target(kind, seed)
    assert one is not None
    return one


def assert_survived(one: Target, blow: Blow) -> None:
    violations = one.played(blow).checks.violations
    assert violations == [], f"{one}, {blow}"


def found(one: Target, blows: list[Blow]) -> set[str]:
    return {violation.invariant for blow in blows for violation in one.played(blow).checks.violations}


@pytest.mark.parametrize(("kind", "seed"), SHORT, ids=str)
def test_a_death_on_a_journey_loses_nothing_doubles_nothing_and_leaves_nobody_in_doubt(kind: Kind, seed: int) -> None:
    one = met(kind, seed)
    blows = [blow for blow in one.blows() if blow.away_s == AWAY_S]
    for blow in (*blows[seed % EVERY :: EVERY], *(blow for blow in blows if blow.carried is not None)):
        assert_survived(one, blow)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS_LONG))
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_death_at_any_event_of_a_journey_does(kind: Kind, seed: int) -> None:
    one = target(kind, seed)
    if one is None:
        pytest.skip(f"there is no {kind} on which the hub decides")
    for blow in one.blows():
        assert_survived(one, blow)


@pytest.mark.parametrize(
    ("kind", "seed", "parties"),
    [
        (SWAP, 2, {"proposer": "n1", "partner": "n0", "hub": "hub"}),
        (ADOPTION, 8, {"taker": "late", "giver": "n0", "hub": "hub"}),
        (HAND_OVER, 4, {"leaver": "n1", "hub": "hub"}),
    ],
    ids=str,
)
def test_a_blow_falls_on_the_journey_that_it_is_meant_for(kind: Kind, seed: int, parties: dict[str, NodeId]) -> None:
    one = met(kind, seed)
    calm = one.played()
    assert calm.parties == parties
    for party, who in parties.items():
        struck = one.played(Blow(party, 3))
        assert struck.died == who, party


def test_a_node_that_forgets_its_shadow_does_not_survive_a_swap() -> None:
    one = met(SWAP, 2)
    decided = one.played().decisions[0]
    blows = [blow for blow in one.blows() if blow.party != "hub" and blow.index >= decided]
    with swaps.a_node_forgets_its_shadow_when_it_starts():
        assert found(one, blows) == {"discriminator_not_lost"}


def test_nor_an_adoption() -> None:
    one = met(ADOPTION, 4)
    blows = [Blow("taker", index) for index in one.played().decisions]
    assert found(one, blows) == set()
    with swaps.a_node_forgets_its_shadow_when_it_starts():
        assert found(one, blows) == {"discriminator_not_lost"}


def test_a_hub_that_takes_what_it_keeps_for_its_own_does_not_survive_a_hand_over() -> None:
    one = met(HAND_OVER, 9)
    blows = [Blow("hub", index) for index in one.played().decisions]
    assert found(one, blows) == set()
    with adoptions.a_hub_that_starts_anew_takes_what_it_keeps_for_its_own():
        assert one.played().checks.violations == [], "nobody dies"
        assert found(one, blows) == {"discriminator_not_lost"}


def test_a_bye_to_the_hub_before_is_none_to_this_one_even_if_the_sessions_have_one_number() -> None:
    assert found(met(HAND_OVER, 35), [Blow("hub", 1, away_s=16)]) == set()
