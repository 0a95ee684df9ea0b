"""What a node says in HELLO that it has is no discriminator unless the hub has given that name and lost sight of it."""

from __future__ import annotations

import dataclasses

import pytest

from broker.adoptions import HOPS_AHEAD
from broker.core import HubCore
from mdgan_edge.actors import HUB, Header, Persist
from mdgan_edge.bounds import HOP_MAX
from mdgan_edge.messages import (
    Abort,
    Adopt,
    Bye,
    Commit,
    Decline,
    DiscriminatorId,
    Fetch,
    HeldDiscriminator,
    Neighbour,
    NodeId,
    Prepared,
    SwapId,
)
from tests.hub_world import ALICE, BOB, CAROL, DAVE, FACTS, HubWorld, hello, sent, training_world
from tests.test_adoptions import ALICES, BOBS, adopts, hand_over, prepared, told_to_adopt, trained_world

INVENTED = ("garbage", "../generator", "d" + "9" * 80 + "-x", "d1-bob", "d90-x", "")
SWAP = SwapId("alice/1/1")


def says_to_have(world: HubWorld, node: NodeId, name: str, hop: int) -> None:
    spare = HeldDiscriminator(DiscriminatorId(name), hop, FACTS.architecture, 5)
    world.say(node, hello(1, world.held(node), spares=(spare,)), Header())


def swapped_world(*nodes: NodeId) -> HubWorld:
    """Alice owns bob's, and bob hers, with one hop each."""
    world = trained_world(ALICE, BOB, *nodes)
    world.say(ALICE, Prepared(SWAP, BOB, ALICES, 0, BOBS, 0))
    assert sent(world.say(BOB, Prepared(SWAP, ALICE, BOBS, 0, ALICES, 0)), Commit)
    return world


@pytest.mark.parametrize("name", INVENTED)
def test_what_the_hub_has_never_given_a_name_nobody_is_told_to_fetch(name: str) -> None:
    world = trained_world(ALICE, BOB)
    says_to_have(world, ALICE, name, 3)
    assert told_to_adopt(world).wanted is None


def test_nor_what_gave_way_to_an_adoption_before_it_was_trained() -> None:
    world = trained_world(ALICE)
    fresh = "d2-dave"
    prepared(world, DAVE, told_to_adopt(world), ALICES)
    says_to_have(world, ALICE, fresh, 0)
    assert told_to_adopt(world, CAROL).wanted is None


@pytest.mark.parametrize(("hop", "wanted"), [(1 + HOPS_AHEAD, ALICES), (2 + HOPS_AHEAD, None), (HOP_MAX, None)])
def test_a_spare_that_has_moved_further_than_can_be_is_not_fetched(hop: int, wanted: str | None) -> None:
    world = swapped_world(CAROL)
    says_to_have(world, ALICE, BOBS, 1)  # she has no other spare any more
    says_to_have(world, CAROL, ALICES, hop)
    world.say(BOB, Bye("stopped"))
    adopt = told_to_adopt(world)
    assert adopt.wanted == wanted
    assert adopt.hop <= HOP_MAX


def test_what_its_owner_came_back_without_is_still_known() -> None:
    world = swapped_world()
    adopt = told_to_adopt(world, BOB, 2)
    assert (adopt.giver.node, adopt.wanted, adopt.hop) == (ALICE, ALICES, 2)
    prepared(world, BOB, adopt, ALICES)
    assert world.core.ownership.hop_of(ALICES) == 2


def test_who_says_it_got_a_copy_of_what_no_hub_gave_a_name_does_not_get_it_on_record() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    effects = prepared(world, DAVE, adopt, DiscriminatorId("garbage"))
    assert sent(effects, Abort) == [(DAVE, Abort(adopt.swap_id))]
    assert [effect for effect in effects if isinstance(effect, Persist)] == []


def test_the_name_of_a_copy_is_counted_before_anybody_hears_of_it() -> None:
    world = trained_world(ALICE)
    effects = world.greet(DAVE)
    named = [number for number, effect in enumerate(effects) if isinstance(effect, Persist)][-1]
    assert [type(effect) for effect in effects[:named]].count(Adopt) == 0
    record = effects[named]
    assert isinstance(record, Persist)
    assert (record.record.owners, record.record.issued) == ((), 3)
    again = HubCore(world.settings, dataclasses.replace(FACTS, issued=record.record.issued), world.now)
    assert again.ownership.new_id(DAVE) == "d4-dave"


def test_a_hub_that_is_asked_for_nothing_it_has_says_so() -> None:
    hub = NodeId(HUB.node)
    world = trained_world(hub)  # no such name is let into a register; an older one may have it
    adopt = told_to_adopt(world)
    asked = world.say(DAVE, Fetch(adopt.swap_id, DAVE, HUB.node, adopt.wanted))
    assert sent(asked, Decline) == [(DAVE, Decline(adopt.swap_id, HUB.node, DAVE, "gone"))]


def test_and_so_it_does_when_the_orphan_that_it_was_to_give_has_its_owner_again() -> None:
    world, _ = hand_over(trained_world(ALICE, BOB), ALICE)
    assert told_to_adopt(world).giver == Neighbour(HUB.node)
    world.say(ALICE, hello(2, world.held(ALICE)))
    asked = world.say(DAVE, Fetch(SwapId(""), DAVE, HUB.node))
    assert sent(asked, Decline) == [(DAVE, Decline(SwapId(""), HUB.node, DAVE, "gone"))]


def test_before_the_start_spares_count_for_nothing() -> None:
    world = training_world(ALICE)
    says_to_have(world, ALICE, "d7-x", 0)
    assert adopts(world.greet(DAVE)) == []
