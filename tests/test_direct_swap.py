"""How a node's core goes about a swap with a node that can be called itself, and one that does not answer the call."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import (
    LOST_PART,
    Admit,
    Dial,
    Effect,
    Garbled,
    HangUp,
    Header,
    Heard,
    JobDone,
    Note,
    Peer,
    Received,
    Run,
    Send,
    TurnAway,
)
from mdgan_edge.messages import (
    Abort,
    Accept,
    Commit,
    Copy,
    Decline,
    DiscriminatorId,
    Epoch,
    Expect,
    GivenUp,
    HeldDiscriminator,
    Installed,
    Message,
    Neighbour,
    NodeId,
    Peers,
    Ping,
    Prepared,
    Propose,
    Seek,
    SwapId,
    Tensor,
)
from nodes.jobs import Install, Moved, Offer, Offered, Shelve, Shelved
from nodes.swapping import ANSWER_S, COPY_S, PEER_CONNECT_S, Stage
from tests.node_world import (
    FACTS,
    HEADER,
    HELD,
    KEPT,
    LEASE_S,
    NEXT_HEADER,
    TERMS,
    WELCOME,
    Node,
    send,
    serving,
    task,
    trained,
)

ANN, BOB = FACTS.node, NodeId("bob")
BOBS_ADDRESS = "tcp://192.0.2.9:5756"
NEIGHBOUR = Neighbour(BOB, "bobs-key", BOBS_ADDRESS)
DIAL = Dial(BOB, "bobs-key", BOBS_ADDRESS)
THEIRS = HeldDiscriminator(DiscriminatorId("d2-bob"), 3, HELD.architecture, 9)
MOVED = replace(THEIRS, hop=4)
PEER_HEADER = Header(HEADER.epoch)
MINE = SwapId("ann/4/1")
BOBS = SwapId("bob/1/1")
CALLED = Peer(BOB)  # bob, when it was called
CALLER = Peer(BOB, b"a link")  # bob, when it has called
NUMBERS = Tensor("float32", (100,), bytes(400))
CAME_IN = 600  # bytes of a copy on the wire
SILENT = Note("peer_silent", "no answer in 3 s: asking through the hub", {"node": BOB})


def proposal(swap_id: SwapId = MINE, of: HeldDiscriminator = HELD, sender: NodeId = ANN, to: NodeId = BOB) -> Propose:
    return Propose(swap_id, sender, to, of.discriminator_id, of.hop, of.architecture)


def acceptance(of: HeldDiscriminator, swap_id: SwapId, sender: NodeId, to: NodeId) -> Accept:
    return Accept(swap_id, sender, to, of.discriminator_id, of.hop)


def copy(of: HeldDiscriminator, swap_id: SwapId, sender: NodeId, to: NodeId) -> Copy:
    return Copy(swap_id, sender, to, of.discriminator_id, of.hop, of.architecture, "digest", NUMBERS)


def across(message: Message, to: Peer = CALLED) -> Send:
    return Send(to, message, PEER_HEADER)


def from_bob(node: Node, message: Message, by: Peer = CALLED, header: Header = PEER_HEADER) -> list[Effect]:
    return node.take(Received(by, header, message, CAME_IN if isinstance(message, Copy) else 60))


def asking(*peers: Neighbour) -> tuple[Node, list[Effect]]:
    """A node that is due for a swap after its first task, and what it does when it hears of these."""
    node = serving()
    node.core.swapping.welcomed(replace(TERMS, swap_epochs=0.1))
    assert node.hear(task(1))
    assert node.take(trained(task(1)))[0] == send(Seek())
    return node, node.hear(Peers(peers))


def due(*peers: Neighbour) -> Node:
    return asking(*peers)[0]


def offered(swap_id: SwapId) -> JobDone:
    return JobDone(Offer(swap_id), Offered(swap_id, "digest", NUMBERS, None))


def shelved(of: Copy, trouble: str | None = None) -> JobDone:
    return JobDone(Shelve(of), Shelved(of, trouble, ()))


# --- the node that asks -----------------------------------------------------------------------------------------------


def test_a_node_says_in_its_greeting_where_others_reach_it() -> None:
    (hello,) = Node(peer_endpoint="tcp://192.0.2.1:5756").wait(0)
    assert isinstance(hello, Send)
    assert hello.message.peer_endpoint == "tcp://192.0.2.1:5756"  # type: ignore[union-attr]


def test_a_peer_that_can_be_called_is_called_and_asked_itself() -> None:
    assert asking(NEIGHBOUR)[1] == [DIAL, across(proposal())]


def test_a_peer_that_cannot_be_called_is_asked_through_the_hub() -> None:
    assert asking(Neighbour(BOB))[1] == [send(proposal())]


def test_a_whole_swap_goes_over_the_one_call_which_ends_with_it() -> None:
    node = due(NEIGHBOUR)
    theirs = copy(THEIRS, MINE, BOB, ANN)
    assert from_bob(node, acceptance(THEIRS, MINE, BOB, ANN)) == [Run(Offer(MINE), beside=True)]
    assert node.take(offered(MINE)) == [across(copy(HELD, MINE, ANN, BOB))]
    assert from_bob(node, theirs) == [Run(Shelve(theirs), beside=True)]
    names = (HELD.discriminator_id, HELD.hop, THEIRS.discriminator_id, THEIRS.hop)
    assert node.take(shelved(theirs)) == [send(Prepared(MINE, BOB, *names, direct=True, direct_bytes=CAME_IN))]
    install = Install(MOVED.discriminator_id, MOVED.hop)
    assert node.hear(Commit(MINE, MOVED.discriminator_id, MOVED.hop)) == [Run(install)]
    facts = {"discriminator": MOVED.discriminator_id, "hop": 4, "from": BOB, "direct": True}
    assert node.take(JobDone(install, Moved(MOVED, ()))) == [
        HangUp(BOB),
        send(Installed(MINE)),
        Note("swapped", "the hub has put it on record", facts),
    ]


def test_a_peer_that_does_not_answer_its_call_in_time_is_asked_through_the_hub() -> None:
    node = due(NEIGHBOUR)
    assert node.wait(PEER_CONNECT_S - 0.1) == [send(Ping(1))]
    assert node.wait(0.1) == [HangUp(BOB), SILENT, send(proposal())]


def test_what_was_asked_through_the_hub_goes_through_the_hub_to_its_end() -> None:
    node = due(NEIGHBOUR)
    node.wait(PEER_CONNECT_S)
    theirs = copy(THEIRS, MINE, BOB, ANN)
    assert node.hear(acceptance(THEIRS, MINE, BOB, ANN)) == [Run(Offer(MINE), beside=True)]
    assert node.take(offered(MINE)) == [send(copy(HELD, MINE, ANN, BOB))]
    assert node.hear(theirs) == [Run(Shelve(theirs), beside=True)]
    names = (HELD.discriminator_id, HELD.hop, THEIRS.discriminator_id, THEIRS.hop)
    assert node.take(shelved(theirs)) == [send(Prepared(MINE, BOB, *names))]


def test_a_peer_that_answers_neither_way_is_left_alone() -> None:
    node = due(NEIGHBOUR)
    node.wait(PEER_CONNECT_S)
    node.wait(ANSWER_S)
    assert node.core.swapping.stage is Stage.PAUSING


def test_a_peer_that_is_busy_is_hung_up_on_and_the_next_one_is_called() -> None:
    carl = Neighbour(NodeId("carl"), "carls-key", "tcp://192.0.2.10:5756")
    node, (dial, asked) = asking(NEIGHBOUR, carl)
    assert isinstance(dial, Dial)
    one, other = (NEIGHBOUR, carl) if dial == DIAL else (carl, NEIGHBOUR)
    said = Decline(MINE, one.node, ANN, "busy")
    assert other.endpoint is not None
    assert from_bob(node, said, Peer(one.node)) == [
        HangUp(one.node),
        Dial(other.node, other.public_key, other.endpoint),
        across(proposal(SwapId("ann/4/2"), to=other.node), Peer(other.node)),
    ]
    assert asked == across(proposal(to=one.node), Peer(one.node))


def test_a_swap_that_comes_to_nothing_ends_its_call() -> None:
    node = due(NEIGHBOUR)
    from_bob(node, acceptance(THEIRS, MINE, BOB, ANN))
    node.take(offered(MINE))
    theirs = copy(THEIRS, MINE, BOB, ANN)
    from_bob(node, theirs)
    node.take(shelved(theirs))
    assert node.hear(Abort(MINE)) == [HangUp(BOB), send(GivenUp())]


def test_copies_that_never_come_end_the_call() -> None:
    node = due(NEIGHBOUR)
    from_bob(node, acceptance(THEIRS, MINE, BOB, ANN))
    assert HangUp(BOB) in node.wait(COPY_S)


def test_a_bad_copy_is_declined_through_the_hub_since_the_call_ends_with_it() -> None:
    node = due(NEIGHBOUR)
    from_bob(node, acceptance(THEIRS, MINE, BOB, ANN))
    theirs = copy(THEIRS, MINE, BOB, ANN)
    from_bob(node, theirs)
    assert node.take(shelved(theirs, "its digest is wrong")) == [
        HangUp(BOB),
        Note("bad_copy", "its digest is wrong", {"from": BOB}, "warning"),
        send(Decline(MINE, ANN, BOB, "bad")),
        send(GivenUp()),
    ]


# --- the node that is asked -------------------------------------------------------------------------------------------


def test_whom_the_hub_says_to_expect_is_admitted() -> None:
    assert serving().hear(Expect(BOB, "bobs-key")) == [Admit(BOB, "bobs-key")]


def test_a_node_that_is_asked_in_a_call_answers_on_it() -> None:
    node = serving()
    asked = from_bob(node, proposal(BOBS, THEIRS, BOB, ANN), CALLER)
    assert asked == [across(acceptance(HELD, BOBS, ANN, BOB), CALLER), Run(Offer(BOBS), beside=True)]
    assert node.take(offered(BOBS)) == [across(copy(HELD, BOBS, ANN, BOB), CALLER)]


def test_a_node_that_is_asked_again_through_the_hub_answers_that_way() -> None:
    node = serving()
    asked = proposal(BOBS, THEIRS, BOB, ANN)
    from_bob(node, asked, CALLER)
    node.take(offered(BOBS))
    assert node.hear(asked) == [send(acceptance(HELD, BOBS, ANN, BOB)), Run(Offer(BOBS), beside=True)]
    assert node.take(offered(BOBS)) == [send(copy(HELD, BOBS, ANN, BOB))]


def test_a_copy_that_is_being_made_is_not_made_twice_but_goes_the_way_that_was_asked_last() -> None:
    node = serving()
    asked = proposal(BOBS, THEIRS, BOB, ANN)
    from_bob(node, asked, CALLER)
    assert node.hear(asked) == [send(acceptance(HELD, BOBS, ANN, BOB))]
    assert node.take(offered(BOBS)) == [send(copy(HELD, BOBS, ANN, BOB))]


def test_what_is_said_twice_by_the_same_way_is_answered_once() -> None:
    node = serving()
    asked = proposal(BOBS, THEIRS, BOB, ANN)
    from_bob(node, asked, CALLER)
    assert from_bob(node, asked, CALLER) == []


def test_a_busy_node_says_so_in_the_call_it_is_asked_in() -> None:
    node = due(NEIGHBOUR)
    assert node.core.swapping.stage is Stage.ASKING
    by = Peer(NodeId("carl"), b"another link")
    asked = proposal(SwapId("carl/1/1"), THEIRS, by.node, ANN)
    assert from_bob(node, asked, by) == [across(Decline(asked.swap_id, ANN, by.node, "busy"), by)]


# --- what is not taken from other nodes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [proposal(BOBS, THEIRS, NodeId("carl"), ANN), proposal(BOBS, THEIRS, BOB, NodeId("carl")), Ping(1), Abort(BOBS)],
)
def test_a_node_that_speaks_for_others_or_as_the_hub_is_turned_away(message: Message) -> None:
    why = f"{type(message).__name__} is not for it to say"
    refused = Note("peer_refused", why, {"node": BOB}, "warning")
    assert from_bob(serving(), message, CALLER) == [refused, TurnAway(BOB)]


def test_a_node_that_sends_what_is_no_message_is_turned_away() -> None:
    note = Note("malformed", "magic", {"from": BOB}, "warning")
    assert serving().take(Garbled(CALLER, "magic")) == [note, TurnAway(BOB)]


def test_a_node_of_which_a_part_is_lost_is_only_noted() -> None:
    assert serving().take(Garbled(CALLER, LOST_PART)) == [Note("malformed", LOST_PART, {"from": BOB}, "warning")]


@pytest.mark.parametrize("header", [Header(), Header(Epoch(2)), HEADER, NEXT_HEADER])
def test_a_node_that_knows_another_start_of_the_hub_or_claims_a_session_is_not_answered(header: Header) -> None:
    assert from_bob(serving(), proposal(BOBS, THEIRS, BOB, ANN), CALLER, header) == []


def test_what_other_nodes_say_is_no_sign_of_life_of_the_hub() -> None:
    node, effects = serving(), list[Effect]()
    for _ in range(round(LEASE_S / 0.5)):
        node.take(Heard(CALLER))
        from_bob(node, Decline(BOBS, BOB, ANN, "busy"), CALLER)
        effects += node.wait(0.5)
    assert [one.what for one in effects if isinstance(one, Note)] == ["hub_silent"]


def test_a_new_session_ends_the_call_of_a_swap_that_is_lost_with_the_old_one() -> None:
    node = due(NEIGHBOUR)
    node.hear(WELCOME, NEXT_HEADER)
    assert node.take(KEPT) == [HangUp(BOB)]
