"""What a dead node owned: the hub looks for a backup of it, and keeps that until it has an owner again."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from broker.jobs import Forget, Keep, Kept
from broker.left_behind import FETCH_AGAIN_S, RESCUE_S, RESCUES_MAX
from broker.ownership import HOPS_AHEAD
from broker.report import run_report
from broker.whereabouts import ORPHANS_MAX
from mdgan_edge.actors import HUB, Effect, JobDone, Note, RegisterChanged
from mdgan_edge.bounds import HOP_MAX
from mdgan_edge.messages import (
    Bye,
    ByeAck,
    Decline,
    DiscriminatorId,
    Fetch,
    HeldDiscriminator,
    Installed,
    NodeId,
    Prepared,
    SwapId,
)
from tests.hub_world import ALICE, BOB, CAROL, FACTS, HubWorld, hello, sent, training_world
from tests.test_adoptions import ALICES, BOBS, copy, jobs, keeping, kept, notes, put
from tests.test_hand_overs import fetched, swapped_world

MALLORY = NodeId("mallory")
DEATH_S = 31.0


def bob_dies(world: HubWorld) -> list[Effect]:
    """Bob owned Alice's, of which she has a backup."""
    effects = world.pass_time(DEATH_S, pinging=[node for node in (ALICE, CAROL, MALLORY) if node in world.headers])
    assert world.state(BOB) == "dead"
    return effects


def asked(effects: list[Effect]) -> Fetch:
    ((node, fetch),) = sent(effects, Fetch)
    assert (node, fetch.wanted) == (ALICE, ALICES)
    assert isinstance(fetch, Fetch)
    return fetch


def test_a_backup_of_what_a_dead_node_owned_is_put_onto_the_shelf_and_its_giver_goes_on() -> None:
    world = swapped_world(CAROL)
    fetch = asked(bob_dies(world))
    effects = kept(world, ALICE, fetch, ALICES, 0)
    assert (notes(effects), sent(effects, ByeAck)) == (["orphan_kept"], [])
    assert (world.state(ALICE), world.core.shelving.whereabouts.shelf) == ("active", (ALICES,))
    swaps = run_report(world.core)["swaps"]
    assert (swaps["orphans_kept"], swaps["handed_over"]) == (1, 0)
    assert sent(world.pass_time(RESCUE_S, pinging=[ALICE, CAROL]), Fetch) == []


def test_who_is_busy_or_silent_is_asked_again_for_a_while() -> None:
    world = swapped_world(CAROL)
    first = asked(bob_dies(world))
    world.say(ALICE, Decline(first.swap_id, ALICE, HUB.node, "busy"))
    second = asked(world.pass_time(1.5, pinging=[ALICE, CAROL]))
    third = asked(world.pass_time(FETCH_AGAIN_S + 0.5, pinging=[ALICE, CAROL]))
    assert first != second == third
    world.pass_time(RESCUE_S, pinging=[ALICE, CAROL])
    assert sent(world.pass_time(RESCUE_S, pinging=[ALICE, CAROL]), Fetch) == []


def test_nothing_is_kept_of_an_owner_who_is_back_with_it() -> None:
    world = swapped_world(CAROL)
    keep = keeping(world, ALICE, asked(bob_dies(world)), ALICES)
    world.say(BOB, hello(2, HeldDiscriminator(ALICES, 1, FACTS.architecture, 5)))
    assert jobs(put(world, keep), Forget) == [Forget((ALICES,))]
    assert world.core.shelving.whereabouts.shelf == ()


def test_what_it_has_given_away_since_is_not_asked_for() -> None:
    world = swapped_world(CAROL)
    world.core.swaps.adoptions.gave_away(ALICE, BOBS, 1)
    assert sent(bob_dies(world), Fetch) == []


def test_nobody_makes_room_for_it() -> None:
    world = swapped_world(CAROL)
    for number in range(ORPHANS_MAX):
        world.core.shelving.whereabouts.shelve(DiscriminatorId(f"d{number}-old"), 0)
    assert sent(bob_dies(world), Fetch) == []


def test_a_giver_that_leaves_gives_its_own_first_and_then_this() -> None:
    world = swapped_world(CAROL)
    asked(bob_dies(world))
    ((_, own),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    assert (own.wanted, fetched(kept(world, ALICE, own, BOBS, 1))) == (BOBS, [ALICES])


def test_a_copy_that_could_not_be_written_ends_in_a_line_and_is_not_asked_for_again() -> None:
    world = swapped_world(CAROL)
    keep = keeping(world, ALICE, asked(bob_dies(world)), ALICES)
    effects = world.handle(JobDone(keep, Kept(keep.copy.swap_id, "the disk is full")))
    assert [one.why for one in effects if isinstance(one, Note)] == ["the disk is full"]
    assert sent(world.pass_time(RESCUE_S, pinging=[ALICE, CAROL]), Fetch) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"discriminator_id": BOBS},
        {"hop": 2 + HOPS_AHEAD},
        {"architecture": "d-100"},
    ],
    ids=str,
)
def test_what_is_not_what_was_asked_for_is_not_kept_nor_asked_for_again(wrong: dict[str, Any]) -> None:
    world = swapped_world(CAROL)
    given = replace(copy(asked(bob_dies(world)), ALICE, ALICES), **wrong)
    assert jobs(world.say(ALICE, given), Keep) == []
    assert sent(world.pass_time(RESCUE_S, pinging=[ALICE, CAROL]), Fetch) == []


def test_a_younger_copy_which_the_giver_was_to_get_in_a_swap_is_as_good() -> None:
    world = swapped_world(CAROL)
    assert notes(kept(world, ALICE, asked(bob_dies(world)), ALICES, 1 + HOPS_AHEAD)) == ["orphan_kept"]
    assert world.core.shelving.whereabouts.holders(ALICES)[HUB.node] == 1 + HOPS_AHEAD


# --- several that have a copy -----------------------------------------------------------------------------------------


def with_mallory(hop: int) -> HubWorld:
    """Mallory says to have a copy as well; Alice surely has one."""
    world = swapped_world(CAROL)
    world.say(MALLORY, hello(run_id=FACTS.run_id, spares=(HeldDiscriminator(ALICES, hop, FACTS.architecture, 5),)))
    return world


@pytest.mark.parametrize("hop", [0, 2, 500, HOP_MAX])
def test_who_surely_has_one_is_asked_first_whatever_others_say(hop: int) -> None:
    asked(bob_dies(with_mallory(hop)))


def asked_then(world: HubWorld, seconds: float) -> list[NodeId]:
    return [node for node, _ in sent(world.pass_time(seconds, pinging=[ALICE, CAROL, MALLORY]), Fetch)]


def test_if_that_one_has_none_the_next_is_asked_and_nobody_twice() -> None:
    world = with_mallory(2)
    first = asked(bob_dies(world))
    world.say(ALICE, Decline(first.swap_id, ALICE, HUB.node, "gone"))
    assert asked_then(world, RESCUE_S) == [MALLORY] * math.ceil(RESCUE_S / FETCH_AGAIN_S)


def test_nobody_is_asked_for_what_has_moved_further_than_it_can_have() -> None:
    world = with_mallory(2 + HOPS_AHEAD)
    first = asked(bob_dies(world))
    world.say(ALICE, Decline(first.swap_id, ALICE, HUB.node, "gone"))
    assert asked_then(world, RESCUE_S) == []


def test_who_dies_before_it_has_given_makes_way_for_the_next() -> None:
    world = with_mallory(2)
    asked(bob_dies(world))
    world.say(ALICE, ByeAck())
    assert asked_then(world, 1.5) == [MALLORY]


def test_what_a_revoked_node_gives_is_not_taken() -> None:
    world = swapped_world(CAROL)
    fetch = asked(bob_dies(world))
    world.handle(RegisterChanged(revoked=frozenset({ALICE}), drained=frozenset()))
    assert jobs(world.say(ALICE, copy(fetch, ALICE, ALICES)), Keep) == []


# --- many at once -----------------------------------------------------------------------------------------------------


def pairs_die(count: int) -> tuple[HubWorld, list[Effect]]:
    """So many pairs have swapped, and one of each is dead."""
    pairs = [(NodeId(f"a{number}"), NodeId(f"b{number}")) for number in range(count)]
    world = training_world(CAROL, *(node for pair in pairs for node in pair))
    for number, (one, other) in enumerate(pairs):
        mine, theirs = (world.core.members.known(node).discriminator_id for node in (one, other))
        swap = SwapId(f"{one}/1/{number}")
        world.say(one, Prepared(swap, other, mine, 0, theirs, 0))
        world.say(other, Prepared(swap, one, theirs, 0, mine, 0))
        for node in (one, other):
            world.say(node, Installed(swap))
    return world, world.pass_time(DEATH_S, pinging=[CAROL, *(one for one, _ in pairs)])


def test_only_so_many_copies_come_at_once_and_then_the_next() -> None:
    world, effects = pairs_die(RESCUES_MAX + 1)
    fetches = sent(effects, Fetch)
    assert len(fetches) == RESCUES_MAX
    (node, fetch), *_ = fetches
    kept(world, node, fetch, fetch.wanted, 0)
    assert len(sent(world.pass_time(1.5, pinging=[CAROL, *(one for one, _ in fetches)]), Fetch)) == 1


def test_a_node_that_leaves_does_not_wait_for_them() -> None:
    world, _ = pairs_die(RESCUES_MAX)
    assert len(sent(world.say(CAROL, Bye("stopped")), Fetch)) == 1


def test_nobody_makes_room_for_what_comes_when_the_shelf_has_become_full() -> None:
    world, effects = pairs_die(2)
    shelf = world.core.shelving.whereabouts
    for number in range(ORPHANS_MAX - 1):
        shelf.shelve(DiscriminatorId(f"d{number}-old"), 0)
    for node, fetch in sent(effects, Fetch):
        kept(world, node, fetch, fetch.wanted, 0)
    assert (len(shelf.shelf), shelf.shelf[0]) == (ORPHANS_MAX, "d0-old")


def test_newcomers_that_begin_afresh_need_none() -> None:
    world = swapped_world(CAROL, newcomer="fresh")
    assert sent(bob_dies(world), Fetch) == []
