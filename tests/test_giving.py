"""What a node gives away, and how it adopts: its side, through its core."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import HUB, Effect, JobDone, Note, Run, Send, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Adopt,
    Bye,
    ByeAck,
    Commit,
    Copy,
    Decline,
    DiscriminatorId,
    Fetch,
    HeldDiscriminator,
    Installed,
    Message,
    Neighbour,
    NodeId,
    Prepared,
    SwapId,
    Tensor,
)
from nodes.giving import GIVEN_MAX
from nodes.jobs import COPY_BYTES_MAX, Install, Moved, Offer, Offered, Save, Shelve, Shelved
from nodes.leaving import FAREWELL_S, HAND_OVER_S
from tests.node_world import FACTS, HELD, PREPARED, SAVED, WELCOME, Node, send, serving, task, trained

BOB = NodeId("bob")
ROW = Tensor("float32", (3,), bytes(12), 0.0)
SWAP = SwapId("+3/1")
MINE = (HELD.discriminator_id, HELD.hop)
ORPHAN = DiscriminatorId("d9-eve")
SPARE = HeldDiscriminator(ORPHAN, 2, HELD.architecture, 7)
FETCH = Fetch(SWAP, BOB, FACTS.node)
ADOPT = Adopt(SWAP, Neighbour(BOB), ORPHAN, ORPHAN, 4)
GIVEN = Copy(SWAP, BOB, FACTS.node, ORPHAN, 3, HELD.architecture, "digest", ROW)
ACCEPTED = Accept(SWAP, BOB, FACTS.node, ORPHAN, 3)
NAME = (ORPHAN, 4)
ADOPTED = HeldDiscriminator(*NAME, HELD.architecture, 0)


def offered(swap_id: SwapId, name: Any, row: Tensor | None = ROW) -> JobDone:
    return JobDone(Offer(swap_id, name), Offered(swap_id, "digest", row, None))


# --- giving -----------------------------------------------------------------------------------------------------------


def test_a_copy_of_what_is_held_is_given_and_nothing_changes_here() -> None:
    node = serving()
    accept = Accept(SWAP, FACTS.node, BOB, *MINE)
    assert node.hear(FETCH) == [send(accept), Run(Offer(SWAP, MINE), beside=True)]
    given = Copy(SWAP, FACTS.node, BOB, *MINE, HELD.architecture, "digest", ROW)
    assert node.take(offered(SWAP, MINE)) == [send(given)]
    assert (node.core.held, node.core.swapping.stage) == (HELD, None)


def test_an_orphan_is_given_from_the_spares() -> None:
    node = serving()
    node.core.spares = (SPARE, replace(SPARE, hop=1))
    assert node.hear(replace(FETCH, wanted=ORPHAN))[1] == Run(Offer(SWAP, (ORPHAN, 2)), beside=True)


def test_what_is_not_here_or_not_any_more_is_gone() -> None:
    node = serving()
    gone = send(Decline(SWAP, FACTS.node, BOB, "gone"))
    assert node.hear(replace(FETCH, wanted=ORPHAN)) == [gone]
    node.hear(FETCH)
    assert node.take(offered(SWAP, MINE, None)) == [gone]


def test_what_cannot_travel_is_not_given() -> None:
    node = serving()
    node.hear(FETCH)
    large = Tensor("float32", (COPY_BYTES_MAX // 4 + 1,), b"", 1.0)
    assert node.take(offered(SWAP, MINE, large)) == [send(Decline(SWAP, FACTS.node, BOB, "bad"))]


def test_whoever_asks_twice_is_given_once_and_too_many_are_told_busy() -> None:
    node = serving()
    asked = [node.hear(replace(FETCH, swap_id=SwapId(f"+3/{number}"))) for number in (*range(GIVEN_MAX), 0, 99)]
    assert [len([one for one in effects if isinstance(one, Run)]) for effects in asked] == [1] * GIVEN_MAX + [0, 0]
    assert asked[-1] == [send(Decline(SwapId("+3/99"), FACTS.node, BOB, "busy"))]


def test_a_node_that_has_nothing_yet_is_busy() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.hear(FETCH) == [send(Decline(SWAP, FACTS.node, BOB, "busy"))]


def leaving() -> Node:
    node = serving()
    assert Run(Save()) in node.hear(Bye("drain"))
    assert node.take(SAVED) == [send(Bye("drain"))]
    return node


def test_a_node_that_leaves_gives_the_hub_what_it_asks_for_and_waits_longer() -> None:
    node = leaving()
    until = node.core.deadline()
    assert until == node.now + nanos(FAREWELL_S)
    fetch = Fetch(SWAP, HUB.node, FACTS.node, HELD.discriminator_id)
    assert node.hear(fetch)[1] == Run(Offer(SWAP, MINE), beside=True)
    assert node.core.deadline() == node.now + nanos(HAND_OVER_S)
    (given,) = node.take(offered(SWAP, MINE))
    assert isinstance(given, Send)
    assert isinstance(given.message, Copy)
    assert given.message.to == HUB.node
    assert node.hear(ByeAck())[0].exit_code == 0  # type: ignore[union-attr]


# --- adopting ---------------------------------------------------------------------------------------------------------


def said(effects: list[Effect]) -> list[Message]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def fetching() -> Node:
    node = serving()
    assert node.hear(ADOPT) == [send(Fetch(SWAP, FACTS.node, BOB, ORPHAN))]
    return node


def prepared() -> Node:
    node = fetching()
    assert node.hear(ACCEPTED) == []
    assert node.hear(GIVEN) == [Run(Shelve(GIVEN, NAME), beside=True)]
    done = node.take(JobDone(Shelve(GIVEN, NAME), Shelved(GIVEN, None, (ADOPTED,))))
    assert done == [send(Prepared(SWAP, BOB, *MINE, ORPHAN, 3))]
    return node


def test_a_node_that_never_trained_adopts_what_the_hub_tells_it_to() -> None:
    node = prepared()
    assert node.hear(Commit(SWAP, *NAME)) == [Run(Install(*NAME, backup=False))]
    installed, note = node.take(JobDone(Install(*NAME, backup=False), Moved(ADOPTED, (ADOPTED,))))
    assert installed == send(Installed(SWAP))
    assert isinstance(note, Note)
    assert (note.what, node.core.held) == ("adopted", ADOPTED)


def test_told_twice_it_begins_once() -> None:
    node = fetching()
    assert node.hear(ADOPT) == []
    node.hear(Abort(SWAP))
    assert node.hear(ADOPT) == []
    assert node.core.swapping.stage is None


def test_it_is_told_before_it_is_ready_and_begins_when_it_is() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.hear(ADOPT) == []
    assert said(node.take(PREPARED)) == [Fetch(SWAP, FACTS.node, BOB, ORPHAN)]


def test_what_was_trained_is_kept() -> None:
    node = serving()
    node.hear(task(1))
    assert node.hear(ADOPT) == []  # the task may be the first
    assert Decline(SWAP, FACTS.node, HUB.node, "busy") in said(node.take(trained(task(1))))
    assert node.core.held == replace(HELD, tasks=1)


@pytest.mark.parametrize("how", ["declined", "silent", "bad"])
def test_what_comes_to_nothing_is_told_to_the_hub(how: str) -> None:
    node = fetching()
    if how == "declined":
        effects, why = node.hear(Decline(SWAP, BOB, FACTS.node, "gone")), "gone"
    elif how == "silent":
        effects, why = node.wait(5), "gone"
    else:
        node.hear(ACCEPTED)
        node.hear(GIVEN)
        effects, why = node.take(JobDone(Shelve(GIVEN, NAME), Shelved(GIVEN, "its digest is another", ()))), "bad"
    assert Decline(SWAP, FACTS.node, HUB.node, why) in said(effects)  # type: ignore[arg-type]
    assert node.core.swapping.stage is None


def test_when_the_hub_calls_it_off_it_trains_what_it_has() -> None:
    node = prepared()
    assert node.hear(Abort(SWAP)) == []
    assert (node.core.swapping.stage, node.core.held) == (None, HELD)
    assert node.hear(Commit(SWAP, *NAME)) == []


def test_a_new_session_settles_what_it_was_to_adopt() -> None:
    node = prepared()
    node.core.swapping.welcomed(node.core.welcome.terms)  # type: ignore[union-attr]
    assert node.core.swapping.stage is None
