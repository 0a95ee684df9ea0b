"""What quarantine and suspicion mean for a swap that is under way."""

from __future__ import annotations

from broker.member import MALFORMED_MAX
from mdgan_edge.actors import Garbled, Note
from mdgan_edge.messages import Accept, Decline, Installed, NodeId, Peers, Propose, Seek
from tests.hub_world import ALICE, BOB, CAROL, FACTS, HubWorld, sent, training_world
from tests.journey_crashes import is_open
from tests.test_hub_swaps import BY_BOB, SWAP, TO_BOB, A, B, abort_to, committed, half_done, owned, told


def quarantined(world: HubWorld, node: NodeId) -> HubWorld:
    for _ in range(MALFORMED_MAX):
        world.handle(Garbled(world.member(node).peer, "header", "not msgpack"))
    assert world.member(node).quarantined_until > world.now
    return world


def test_a_node_in_quarantine_is_not_left_in_doubt_and_takes_its_partner_out_of_it_too() -> None:
    world = quarantined(half_done(), BOB)
    assert told(world.say(BOB, BY_BOB)) == abort_to(ALICE, BOB)
    assert sent(world.say(BOB, Seek()), Peers) == [(BOB, Peers(()))]
    assert owned(world, ALICE, BOB) == [(A, 0), (B, 0)]


def test_what_is_on_record_is_carried_out_in_quarantine_too() -> None:
    world = quarantined(committed(), BOB)
    assert told(world.say(BOB, BY_BOB)) == [(BOB, TO_BOB)]
    world.say(ALICE, Installed(SWAP))
    world.say(BOB, Installed(SWAP))
    assert not is_open(world.core.swaps, SWAP)


def test_a_suspect_that_has_asked_gets_its_answer_through_the_hub_and_is_not_asked_itself() -> None:
    world = training_world(ALICE, BOB, quorum=1, warm_up_tasks=0, hub={"lease_s": 2.0})
    world.answer(BOB)
    world.pass_time(15.0, pinging=[ALICE, BOB])  # her task is not answered
    world.work_all()
    while world.tasks[BOB]:
        world.answer(BOB)
    assert (world.state(ALICE), world.state(BOB)) == ("suspect", "active")
    propose = Propose(SWAP, ALICE, BOB, A, 0, FACTS.architecture)
    assert sent(world.say(ALICE, propose), Propose) == [(BOB, propose)]
    accept = Accept(SWAP, BOB, ALICE, B, 0)
    assert sent(world.say(BOB, accept), Accept) == [(ALICE, accept)]
    asked = world.say(BOB, Propose(SWAP, BOB, ALICE, B, 0, FACTS.architecture))
    assert sent(asked, Decline) == [(BOB, Decline(SWAP, ALICE, BOB, "gone"))]


def test_who_speaks_in_the_name_of_another_is_not_heard_and_soon_in_quarantine() -> None:
    world = training_world(ALICE, BOB, CAROL)
    spoofed = Note("malformed", "Propose is not its to say to a hub", {"node": CAROL}, "warning")
    said = [world.say(CAROL, Propose(SWAP, ALICE, BOB, A, 0, FACTS.architecture)) for _ in range(MALFORMED_MAX)]
    assert [effects[0] for effects in said] == [spoofed] * MALFORMED_MAX
    assert world.member(CAROL).quarantined_until > world.now
