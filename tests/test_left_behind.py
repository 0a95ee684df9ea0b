"""What a dead node owned: the hub looks for a backup of it, and keeps that until it has an owner again."""

from __future__ import annotations

from broker.jobs import Forget, Keep, Kept
from broker.report import run_report
from broker.shelving import HAND_OVER_S, RESCUE_S
from broker.whereabouts import HOPS_AHEAD, ORPHANS_MAX
from mdgan_edge.actors import HUB, Effect, JobDone, Note
from mdgan_edge.messages import Bye, ByeAck, Decline, DiscriminatorId, Fetch, HeldDiscriminator, NodeId
from tests.hub_world import ALICE, BOB, CAROL, FACTS, HubWorld, hello, sent
from tests.test_adoptions import ALICES, BOBS, copy, jobs, keeping, kept, notes, put
from tests.test_hand_overs import fetched, swapped_world

DAVE = NodeId("dave")
DEATH_S = 31.0


def bob_dies(world: HubWorld) -> list[Effect]:
    """Bob owned Alice's, of which she has a backup."""
    effects = world.pass_time(DEATH_S, pinging=[ALICE, CAROL])
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
    third = asked(world.pass_time(HAND_OVER_S + 1.5, pinging=[ALICE, CAROL]))
    assert len({first.swap_id, second.swap_id, third.swap_id}) == 3
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


def test_nor_is_another_than_the_one_that_was_asked_for() -> None:
    world = swapped_world(CAROL)
    assert jobs(world.say(ALICE, copy(asked(bob_dies(world)), ALICE, BOBS)), Keep) == []
    assert sent(world.pass_time(RESCUE_S, pinging=[ALICE, CAROL]), Fetch) == []


def test_a_younger_copy_which_the_giver_was_to_get_in_a_swap_is_as_good() -> None:
    world = swapped_world(CAROL)
    assert notes(kept(world, ALICE, asked(bob_dies(world)), ALICES, 1 + HOPS_AHEAD)) == ["orphan_kept"]
    assert world.core.shelving.whereabouts.holders(ALICES)[HUB.node] == 1 + HOPS_AHEAD


def test_one_that_has_moved_further_than_can_be_is_refused() -> None:
    world = swapped_world(CAROL)
    assert jobs(world.say(ALICE, copy(asked(bob_dies(world)), ALICE, ALICES, 2 + HOPS_AHEAD)), Keep) == []


def test_newcomers_that_begin_afresh_need_none() -> None:
    world = swapped_world(CAROL, newcomer="fresh")
    assert sent(bob_dies(world), Fetch) == []
