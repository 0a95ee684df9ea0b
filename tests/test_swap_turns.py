"""A node's turn to swap: SEEK before FEEDBACK, what it does when all are busy, and that the hub hears how it ended."""

from __future__ import annotations

from msgspec.structs import replace

from mdgan_edge.actors import Effect, JobDone, Run, Send
from mdgan_edge.messages import (
    Accept,
    Decline,
    DiscriminatorId,
    Feedback,
    GivenUp,
    Message,
    Neighbour,
    NodeId,
    Peers,
    Ping,
    Propose,
    Seek,
    SwapId,
)
from nodes.jobs import Offer, Prepare, Prepared
from nodes.swapping import ANSWER_S, PAUSE_S, ROUNDS_MAX, Stage
from tests.node_world import FACTS, HELD, MINE, NEXT_HEADER, TERMS, WELCOME, Node, task, trained

EVERY_TASK = replace(TERMS, swap_epochs=0.1)  # 100 samples, batches of 10
ANN, BEN, CAY = FACTS.node, NodeId("ben"), NodeId("cay")


def said(effects: list[Effect]) -> list[Message]:
    """What was sent, but for heartbeats."""
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    return [message for message in sent if not isinstance(message, Ping)]


def serving() -> Node:
    node = Node()
    node.wait(0)
    node.hear(replace(WELCOME, terms=EVERY_TASK))
    job = Prepare(WELCOME.run_id, MINE.discriminator_id, MINE.hop, True, EVERY_TASK)
    assert node.take(JobDone(job, Prepared(HELD))) == []
    return node


def seeking() -> Node:
    """It has trained its first task and is due."""
    node = serving()
    node.hear(task(1))
    seek, feedback = said(node.take(trained(task(1))))
    assert isinstance(seek, Seek)
    assert isinstance(feedback, Feedback)
    return node


def proposals(effects: list[Effect]) -> list[Propose]:
    return [message for message in said(effects) if isinstance(message, Propose)]


def declined_by_all(node: Node, *peers: NodeId) -> list[Message]:
    """PEERS come, and each of them is busy; what is said after the last of them."""
    effects = node.hear(Peers(tuple(map(Neighbour, peers))))
    for _ in peers:
        (asked,) = proposals(effects)
        effects = node.hear(Decline(asked.swap_id, asked.to, asked.sender, "busy"))
    return said(effects)


def test_a_node_that_becomes_due_says_so_before_it_answers() -> None:
    seeking()


def test_peers_that_do_not_come_are_asked_for_again_without_giving_up() -> None:
    node = seeking()
    for _ in range(20):
        assert said(node.wait(ANSWER_S)) == [Seek()]
        node.hear(Decline(SwapId("x"), BEN, ANN, "gone"))  # a sign of life
    assert node.core.swapping.stage is Stage.SEEKING


def test_a_node_that_seeks_can_be_asked() -> None:
    node = seeking()
    effects = node.hear(Propose(SwapId("ben/1/1"), BEN, ANN, DiscriminatorId("d2-ben"), 0, HELD.architecture))
    assert said(effects) == [Accept(SwapId("ben/1/1"), ANN, BEN, HELD.discriminator_id, HELD.hop)]
    assert Run(Offer(SwapId("ben/1/1")), beside=True) in effects
    assert said(node.hear(Peers((Neighbour(CAY),)))) == []  # it has found one


def test_a_node_that_pauses_can_be_asked() -> None:
    node = seeking()
    declined_by_all(node, BEN)
    assert node.core.swapping.stage is Stage.PAUSING
    effects = node.hear(Propose(SwapId("cay/1/1"), CAY, ANN, DiscriminatorId("d3-cay"), 0, HELD.architecture))
    assert isinstance(said(effects)[0], Accept)


def test_a_node_that_has_proposed_is_busy() -> None:
    node = seeking()
    node.hear(Peers((Neighbour(BEN),)))
    effects = node.hear(Propose(SwapId("cay/1/1"), CAY, ANN, DiscriminatorId("d3-cay"), 0, HELD.architecture))
    assert said(effects) == [Decline(SwapId("cay/1/1"), ANN, CAY, "busy")]


def test_when_all_are_busy_it_pauses_a_while_and_asks_for_peers_again() -> None:
    node = seeking()
    assert declined_by_all(node, BEN, CAY) == []
    started = node.now
    assert said(node.wait_for_deadline()) == [Seek()]
    assert node.now - started <= PAUSE_S * 1e9


def test_after_so_many_rounds_it_gives_up_and_says_so() -> None:
    node = seeking()
    for _ in range(ROUNDS_MAX - 1):
        assert declined_by_all(node, BEN, CAY) == []
        assert said(node.wait_for_deadline()) == [Seek()]
    assert declined_by_all(node, BEN, CAY) == [GivenUp()]
    assert node.core.swapping.done == {"nobody free": 1}


def test_where_there_is_nobody_it_gives_up_at_once_and_says_so() -> None:
    node = seeking()
    assert said(node.hear(Peers(()))) == [GivenUp()]


def test_a_partner_who_refuses_after_all_ends_the_turn() -> None:
    node = seeking()
    (asked,) = proposals(node.hear(Peers((Neighbour(BEN),))))
    node.hear(Accept(asked.swap_id, BEN, asked.sender, DiscriminatorId("d2-ben"), 0))
    assert said(node.hear(Decline(asked.swap_id, BEN, asked.sender, "bad"))) == [GivenUp()]


def test_who_was_asked_without_being_due_has_no_turn_to_give_up() -> None:
    node = serving()
    asked = Propose(SwapId("ben/1/1"), BEN, ANN, DiscriminatorId("d2-ben"), 0, HELD.architecture)
    assert isinstance(said(node.hear(asked))[0], Accept)
    assert said(node.hear(Decline(asked.swap_id, BEN, ANN, "bad"))) == []


def test_a_new_session_has_no_turn_to_give_up() -> None:
    node = seeking()
    node.hear(replace(WELCOME, terms=EVERY_TASK), NEXT_HEADER)
    assert node.core.swapping.done == {"lost": 1}
    assert node.core.swapping.stage is None
