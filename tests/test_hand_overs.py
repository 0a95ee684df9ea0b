"""Nodes that leave, and what the hub takes over before it lets them go."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from broker.jobs import Forget, Keep, Kept
from broker.report import run_report
from broker.shelving import HAND_OVER_S, HAND_OVERS_MAX
from mdgan_edge.actors import HUB, Effect, JobDone, Note, Run
from mdgan_edge.messages import (
    Accept,
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
from tests.hub_world import ALICE, BOB, CAROL, EIGHT, FACTS, HubWorld, hello, sent, training_world
from tests.test_adoptions import ALICES, BOBS, copy, jobs, keeping, kept, notes, put, told_to_adopt


def test_a_node_that_leaves_is_let_go_when_what_it_owns_is_on_disk() -> None:
    world = training_world(ALICE, BOB)
    bye = world.say(ALICE, Bye("stopped"))
    fetch = Fetch(SwapId("=7/1"), HUB.node, ALICE, ALICES)
    assert (sent(bye, Fetch), sent(bye, ByeAck)) == ([(ALICE, fetch)], [])
    assert world.say(ALICE, Accept(fetch.swap_id, ALICE, HUB.node, ALICES, 0)) == []
    given = copy(fetch, ALICE, ALICES)
    assert world.say(ALICE, given) == [Run(Keep(given, FACTS.run_id))]
    assert world.say(ALICE, given) == []  # it came twice
    effects = world.handle(JobDone(Keep(given, FACTS.run_id), Kept(fetch.swap_id, None)))
    assert (notes(effects), sent(effects, ByeAck)) == (["handed_over"], [(ALICE, ByeAck())])
    assert run_report(world.core)["swaps"]["handed_over"] == 1


def test_bye_said_twice_is_not_acknowledged_before_that() -> None:
    world = training_world(ALICE, BOB)
    first, second = (world.say(ALICE, Bye("stopped")) for _ in range(2))
    assert sent(first, Fetch) == sent(second, Fetch)
    assert sent(second, ByeAck) == []


def fetched(effects: list[Effect]) -> list[DiscriminatorId | None]:
    return [fetch.wanted for _, fetch in sent(effects, Fetch)]


def swapped_world(*more: NodeId, **training: Any) -> HubWorld:
    """Alice and Bob have swapped: each has a backup of what the other owns."""
    world = training_world(ALICE, BOB, *more, **training)
    swap = SwapId("alice/1/1")
    world.say(ALICE, Prepared(swap, BOB, ALICES, 0, BOBS, 0))
    world.say(BOB, Prepared(swap, ALICE, BOBS, 0, ALICES, 0))
    for node in (ALICE, BOB):
        world.say(node, Installed(swap))
    return world


def test_what_a_node_owns_is_taken_over_even_if_a_partner_has_a_backup_which_is_older() -> None:
    world = swapped_world(CAROL)
    assert fetched(world.say(BOB, Bye("stopped"))) == [ALICES]


def test_if_both_leave_that_have_swapped_nothing_is_lost() -> None:
    world = swapped_world(CAROL)
    assert fetched(world.say(ALICE, Bye("stopped"))) == [BOBS]
    assert fetched(world.say(BOB, Bye("stopped"))) == [ALICES]


def dead_partner() -> HubWorld:
    """Bob, who owned Alice's, is dead: her backup is the last copy."""
    world = swapped_world(CAROL)
    world.pass_time(31, pinging=[ALICE, CAROL])
    assert world.state(BOB) == "dead"
    return world


def test_the_last_copy_of_an_orphan_is_taken_over_after_what_the_node_owns() -> None:
    world = dead_partner()
    ((_, first),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    effects = kept(world, ALICE, first, BOBS, 1)
    ((_, second),) = sent(effects, Fetch)
    assert (first.wanted, second.wanted, sent(effects, ByeAck)) == (BOBS, ALICES, [])
    assert sent(kept(world, ALICE, second, ALICES, 0), ByeAck) == [(ALICE, ByeAck())]
    assert world.core.shelving.whereabouts.shelf == (BOBS, ALICES)


def test_if_the_node_cannot_give_what_it_owns_it_is_asked_for_the_orphan_still() -> None:
    world = dead_partner()
    ((_, first),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    effects = world.say(ALICE, Decline(first.swap_id, ALICE, HUB.node, "gone"))
    assert (notes(effects), fetched(effects)) == (["not_handed_over"], [ALICES])


def test_when_time_is_over_all_that_goes_with_the_node_is_named() -> None:
    world = dead_partner()
    world.say(ALICE, Bye("stopped"))
    said = [one for one in world.pass_time(HAND_OVER_S + 0.5, pinging=[CAROL]) if isinstance(one, Note)]
    assert [(one.what, one.facts["discriminator"]) for one in said] == [
        ("not_handed_over", BOBS),
        ("not_handed_over", ALICES),
    ]


def test_an_orphan_whose_owner_is_back_meanwhile_is_not_kept() -> None:
    world = dead_partner()
    ((_, own),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    ((_, orphan),) = sent(kept(world, ALICE, own, BOBS, 1), Fetch)
    world.say(BOB, hello(2, HeldDiscriminator(ALICES, 1, FACTS.architecture, 5)))
    effects = kept(world, ALICE, orphan, ALICES, 0)
    assert (jobs(effects, Forget), sent(effects, ByeAck)) == ([Forget((ALICES,))], [(ALICE, ByeAck())])


def test_a_copy_that_nobody_has_asked_for_yet_is_not_taken() -> None:
    world = training_world(*EIGHT)
    for node in EIGHT[:HAND_OVERS_MAX]:
        world.say(node, Bye("stopped"))
    last = EIGHT[HAND_OVERS_MAX]
    world.say(last, Bye("stopped"))
    guessed = Fetch(SwapId(f"=7/{HAND_OVERS_MAX + 1}"), HUB.node, last)
    assert world.say(last, copy(guessed, last, world.welcomes[last].discriminator.discriminator_id)) == []


@pytest.mark.parametrize("sure", [True, False])
def test_an_orphan_of_which_somebody_there_surely_has_a_copy_is_not_asked_for(sure: bool) -> None:
    world = dead_partner()
    spare = HeldDiscriminator(ALICES, 0, FACTS.architecture, 5)
    world.say(CAROL, replace(hello(1, world.held(CAROL)), spares=(spare,)))
    if sure:
        world.core.shelving.whereabouts.gave_away(CAROL, ALICES, 0)
    ((_, fetch),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    assert fetched(kept(world, ALICE, fetch, BOBS, 1)) == ([] if sure else [ALICES])  # what HELLO says may be gone


@pytest.mark.parametrize("said", ["another", "declined", "not kept"])
def test_a_node_that_cannot_give_goes_all_the_same(said: str) -> None:
    world = training_world(ALICE, BOB)
    ((_, fetch),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    if said == "another":
        effects = world.say(ALICE, copy(fetch, ALICE, BOBS))
    elif said == "declined":
        effects = world.say(ALICE, Decline(fetch.swap_id, ALICE, HUB.node, "busy"))
    else:
        (keep,) = jobs(world.say(ALICE, copy(fetch, ALICE, ALICES)), Keep)
        effects = world.handle(JobDone(keep, Kept(fetch.swap_id, "the disk is full")))
    assert (notes(effects), sent(effects, ByeAck)) == (["not_handed_over"], [(ALICE, ByeAck())])


def test_a_node_that_says_nothing_more_is_forgotten_in_time() -> None:
    world = training_world(ALICE, BOB)
    world.say(ALICE, Bye("stopped"))
    assert notes(world.pass_time(HAND_OVER_S + 0.5, pinging=[BOB])) == ["not_handed_over"]
    assert sent(world.say(ALICE, Bye("stopped")), ByeAck) == [(ALICE, ByeAck())]


def test_only_some_hand_over_at_once_and_each_in_its_turn() -> None:
    world = training_world(*EIGHT)
    asked = [sent(world.say(node, Bye("stopped")), Fetch) for node in EIGHT[:6]]
    assert [len(one) for one in asked] == [1] * HAND_OVERS_MAX + [0, 0]
    ((first, fetch),) = asked[0]
    assert [node for node, _ in sent(world.say(first, Decline(fetch.swap_id, first, HUB.node, "gone")), Fetch)] == [
        EIGHT[HAND_OVERS_MAX]
    ]


def test_what_is_not_on_disk_yet_counts_though_its_node_is_back() -> None:
    world = training_world(ALICE, BOB)
    asked = []
    for _ in range(HAND_OVERS_MAX + 1):
        fetches = sent(world.say(ALICE, Bye("stopped")), Fetch)
        asked += [keeping(world, ALICE, fetch, ALICES) for _, fetch in fetches]
        world.say(ALICE, hello(1, world.held(ALICE)))
    assert len(asked) == HAND_OVERS_MAX
    world.say(ALICE, Bye("stopped"))
    assert fetched(put(world, asked[0])) == [ALICES]


def leaves_and_is_back(held: bool) -> tuple[HubWorld, Keep]:
    """Alice says HELLO, with what she owns or without, while her copy is being written."""
    world = training_world(ALICE, BOB)
    ((_, fetch),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    keep = keeping(world, ALICE, fetch, ALICES)
    world.say(ALICE, hello(2, world.held(ALICE) if held else None))
    return world, keep


def test_who_is_back_with_what_it_owns_needs_no_copy() -> None:
    world, keep = leaves_and_is_back(held=True)
    assert jobs(put(world, keep), Forget) == [Forget((ALICES,))]
    assert world.core.shelving.whereabouts.shelf == ()


def test_of_what_its_owner_is_back_without_the_copy_is_kept() -> None:
    world, keep = leaves_and_is_back(held=False)
    assert jobs(put(world, keep), Forget) == []
    assert told_to_adopt(world).wanted == ALICES


def test_a_copy_that_is_needed_again_is_not_removed_with_the_one_before() -> None:
    world, first = leaves_and_is_back(held=True)
    ((_, fetch),) = sent(world.say(ALICE, Bye("stopped")), Fetch)
    second = keeping(world, ALICE, fetch, ALICES)
    assert jobs(put(world, first), Forget) == []  # it would be done after the second is written
    put(world, second)
    assert world.core.shelving.whereabouts.shelf == (ALICES,)


def test_at_the_end_of_a_run_nothing_is_taken_over() -> None:
    world = training_world(ALICE, steps=1, quorum=1, warm_up_tasks=0)
    world.answer(ALICE)
    world.work_all()
    assert sent(world.say(ALICE, Bye("stopped")), ByeAck) == [(ALICE, ByeAck())]
