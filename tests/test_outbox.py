"""The outbox and the watch on the link, without sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import zmq
import zmq.utils.z85

from mdgan_edge.actors import Event, Header, Nanos, Peer, Send, nanos
from mdgan_edge.messages import (
    Bye,
    Copy,
    DiscriminatorId,
    Message,
    NodeId,
    Ping,
    Prepared,
    SwapId,
    Task,
    Tensor,
    Welcome,
)
from mdgan_edge.wire.codec import encode
from mdgan_edge.wire.endpoint import Endpoint
from mdgan_edge.wire.link import LinkWatch
from mdgan_edge.wire.outbox import Outbox, Outcome, Outgoing
from mdgan_edge.wire.parts import PART_BYTES
from mdgan_edge.wire.sockets import Socket


@dataclass
class Wire:
    """A socket that takes `room` pieces."""

    room: int
    taken: list[list[bytes]] = field(default_factory=list)

    def transmit(self, frames: object) -> Outcome:
        if not self.room:
            return Outcome.FULL
        self.room -= 1
        self.taken.append(list(frames))  # type: ignore[call-overload]
        return Outcome.SENT


def drained(outbox: Outbox, room: int = 1000) -> list[str]:
    """The names of the whole messages that went out, in order."""
    names: list[str] = []
    outbox.pump(Wire(room).transmit, lambda outgoing, _, whole: names.append(outgoing.kind.__name__) if whole else None)
    return names


def outgoing(kind: type[Message], size: int = 10) -> Outgoing:
    return Outgoing(kind, 1, [encode(Header(), 1, Ping(1))[0], bytes(size)])


def test_a_heartbeat_passes_work_but_no_greeting_and_no_farewell() -> None:
    for slow, expected in ((Task, ["Ping", "Task"]), (Welcome, ["Welcome", "Ping"]), (Bye, ["Bye", "Ping"])):
        outbox = Outbox()
        outbox.offer(outgoing(slow))
        outbox.offer(outgoing(Ping))
        assert drained(outbox) == expected


@pytest.mark.parametrize("other", [Welcome, Bye, Task, Ping, Prepared])
def test_everything_passes_a_copy_also_between_its_parts(other: type[Message]) -> None:
    outbox, before = Outbox(), Wire(2)
    outbox.offer(outgoing(Copy, 3 * PART_BYTES))
    assert outbox.pump(before.transmit, lambda *_: None) is Outcome.FULL
    outbox.offer(outgoing(other))
    assert drained(outbox) == [other.__name__, "Copy"]


def test_copies_leave_one_after_the_other_and_count_as_all_else_against_the_bounds() -> None:
    outbox = Outbox(messages_max=3, bytes_max=1000)
    assert [outbox.offer(outgoing(Copy, 400)) for _ in range(3)] == [True, True, False]
    assert outbox.offer(outgoing(Task))
    assert drained(outbox) == ["Task", "Copy", "Copy"]
    assert [outbox.offer(outgoing(Copy)) for _ in range(4)] == [True, True, True, False]


def test_a_copy_half_sent_starts_again_after_a_rewind() -> None:
    outbox, before, after = Outbox(), Wire(2), Wire(99)
    outbox.offer(outgoing(Copy, 3 * PART_BYTES))
    outbox.pump(before.transmit, lambda *_: None)
    outbox.rewind()
    outbox.pump(after.transmit, lambda *_: None)
    assert after.taken[:2] == before.taken
    assert len(after.taken) == 4


def test_an_outbox_is_bounded_in_messages_and_in_bytes() -> None:
    outbox = Outbox(messages_max=2, bytes_max=200)
    assert [outbox.offer(outgoing(Ping, 8)) for _ in range(3)] == [True, True, False]
    assert drained(outbox) == ["Ping", "Ping"]
    assert [outbox.offer(outgoing(Task, 100)) for _ in range(2)] == [True, False]
    assert drained(outbox) == ["Task"]
    assert outbox.offer(outgoing(Task, 168)), "what was sent makes room"


def test_a_message_half_sent_starts_again_after_a_rewind() -> None:
    outbox, before, after = Outbox(), Wire(2), Wire(99)
    outbox.offer(Outgoing(Task, 1, [encode(Header(), 1, Ping(1))[0], bytes(3 * PART_BYTES)]))
    assert outbox.pump(before.transmit, lambda *_: None) is Outcome.FULL
    outbox.rewind()
    assert outbox.pump(after.transmit, lambda *_: None) is Outcome.SENT
    assert after.taken[:2] == before.taken
    assert len(after.taken) == 4


BROKEN = (zmq.Event.HANDSHAKE_FAILED_NO_DETAIL, 32)


def test_a_hub_that_restarts_in_a_handshake_is_no_key_mismatch() -> None:
    watch = LinkWatch()
    assert [watch.observe(*BROKEN, nanos(0.2 * number)) for number in range(10)] == [None] * 10
    assert watch.observe(zmq.Event.CONNECT_RETRIED, 0, nanos(2.5)) == "unreachable"
    assert [watch.observe(*BROKEN, nanos(3 + 0.2 * number)) for number in range(10)] == [None] * 10
    assert watch.observe(zmq.Event.HANDSHAKE_SUCCEEDED, 0, nanos(5.5)) is None
    assert [watch.observe(*BROKEN, nanos(6 + number)) for number in range(5)] == [None] * 4 + ["key_mismatch"]


def test_the_same_trouble_is_not_told_more_than_once_a_second() -> None:
    watch = LinkWatch()
    told = [watch.observe(zmq.Event.CONNECT_RETRIED, 0, nanos(0.25 * number)) for number in range(9)]
    assert told == ["unreachable", None, None, None] * 2 + ["unreachable"]


class Stalled(Endpoint):
    """Whose peers read nothing."""

    def sockets(self) -> list[Socket]:
        return []

    def receive(self, _: Nanos) -> list[Event]:
        return []

    def close(self) -> None:
        pass

    def _ready(self) -> bool:
        return True

    def _transmit(self, _key: bytes, _frames: Sequence[bytes]) -> Outcome:
        return Outcome.FULL


def test_copies_for_many_stalled_peers_are_bounded_together_and_work_is_not() -> None:
    size = 1000
    copy = Copy(SwapId("a/1/1"), NodeId("a"), NodeId("b"), DiscriminatorId("d"), 0, "kind", "0" * 32, numbers(size))
    hub = Stalled(bulk_bytes_max=10 * 4 * size)
    taken = [hub.send(Send(Peer(NodeId("b"), bytes([link])), copy)) for link in range(20)]
    assert taken == [True] * 9 + [False] * 11
    assert hub.counts.dropped == {"Copy": 11}
    assert hub.send(Send(Peer(NodeId("b"), b"\1"), Ping(1)))


def numbers(count: int) -> Tensor:
    return Tensor("float32", (count,), bytes(4 * count))
