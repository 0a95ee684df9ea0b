"""What the sockets do to messages: on loopback, with real CURVE, random ports, and deadlines instead of sleeps."""

from __future__ import annotations

import contextlib
import socket as socket_module
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
import zmq
import zmq.utils.z85

from mdgan_edge.actors import HUB, Event, Garbled, Header, Heard, LinkDown, Nanos, Peer, Received, Send, nanos
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import (
    Bye,
    DiscriminatorId,
    Epoch,
    Feedback,
    Message,
    NodeId,
    Ping,
    Pong,
    Receipt,
    Session,
    Task,
    TaskId,
    Tensor,
    Verdict,
    Version,
    Welcome,
)
from mdgan_edge.wire.codec import encode
from mdgan_edge.wire.keys import KeyPair, generate
from mdgan_edge.wire.link import LinkWatch
from mdgan_edge.wire.outbox import OUTBOX_MESSAGES_MAX, Outbox, Outcome, Outgoing
from mdgan_edge.wire.parts import PART_BYTES
from mdgan_edge.wire.sockets import FRAME_BYTES_MAX, QUEUE_MESSAGES, dealer
from mdgan_edge.wire.transport import Endpoint, HubEndpoint, NodeEndpoint, Waker
from mdgan_edge.wire.zap import Admission, Member, Revoked, Unknown, ZapHandler

ALICE = NodeId("alice")
PATIENCE_S = 12.0
LOOPBACK = "tcp://127.0.0.1:0"


def clock() -> Nanos:
    return Nanos(time.monotonic_ns())


End = TypeVar("End", bound=Endpoint)


@dataclass
class Network:
    """A hub, a register, and what came in at every endpoint."""

    hub_keys: KeyPair = field(default_factory=generate)
    register: dict[str, Admission] = field(default_factory=dict)
    register_works: bool = True
    ends: list[Endpoint] = field(default_factory=list)
    events: dict[Endpoint, list[Event]] = field(default_factory=dict)

    def hub(self, endpoint: str = LOOPBACK) -> HubEndpoint:
        return self._add(HubEndpoint(endpoint, self.hub_keys, self.lookup))

    def node(self, endpoint: str, name: str = ALICE, hub_key: str | None = None) -> NodeEndpoint:
        keys = generate()
        self.register[keys.public] = Member(NodeId(name))
        return self._add(NodeEndpoint(endpoint, keys, hub_key or self.hub_keys.public))

    def stranger(self, endpoint: str, admission: Admission) -> tuple[NodeEndpoint, str]:
        keys = generate()
        self.register[keys.public] = admission
        return self._add(NodeEndpoint(endpoint, keys, self.hub_keys.public, handshake_ms=1000)), keys.public

    def pair(self) -> tuple[HubEndpoint, NodeEndpoint, Peer]:
        """A hub and a node that have heard of each other."""
        hub = self.hub()
        node = self.node(hub.endpoint)
        node.send(Send(HUB, Ping(0)))
        return hub, node, self.received(hub)[0].sender

    def lookup(self, key: str) -> Admission:
        assert self.register_works
        return self.register.get(key, Unknown())

    def _add(self, end: End) -> End:
        self.ends.append(end)
        self.events[end] = []
        return end

    def close(self, end: Endpoint) -> None:
        self.ends.remove(end)
        end.close()

    def turn(self) -> None:
        """What a service's loop does, once for every endpoint."""
        poller = zmq.Poller()
        for end in self.ends:
            for socket in end.sockets():
                poller.register(socket, zmq.POLLIN)
        poller.poll(5 if any(end.pending() for end in self.ends) else 50)
        for end in self.ends:
            self.events[end] += end.receive(clock())
            end.flush()

    def until(self, wanted: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not wanted():
            assert time.monotonic() < deadline, (
                f"not in {patience_s} s; seen: {[str(e)[:300] for e in self.events.values()]}"
            )
            self.turn()

    def received(self, end: Endpoint, count: int = 1) -> list[Received]:
        """Wait for this many messages."""
        self.until(lambda: len(self.messages(end)) >= count)
        return self.messages(end)

    def messages(self, end: Endpoint) -> list[Received]:
        return [event for event in self.events[end] if isinstance(event, Received)]

    def troubles(self, end: Endpoint) -> set[str]:
        return {event.trouble for event in self.events[end] if isinstance(event, LinkDown)}


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    try:
        yield network
    finally:
        for end in network.ends:
            end.close()


@contextlib.contextmanager
def raw_dealer(network: Network, name: str = "mallory") -> Iterator[zmq.Socket[bytes]]:
    """A socket that is admitted and then does what our own endpoint would not do."""
    keys, context = generate(), zmq.Context[zmq.Socket[bytes]]()
    network.register[keys.public] = Member(NodeId(name))
    socket = dealer(context, keys, network.hub_keys.public, ipv6=False, handshake_ms=5000)
    try:
        yield socket
    finally:
        context.destroy(0)


def feedback(number: int, size: int) -> Feedback:
    tensor = Tensor("float32", (size // 4096, 1024), bytes(size))
    return Feedback(TaskId(number), Version(0), DiscriminatorId("d"), 0, 0.0, 0.0, 0.0, tensor)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_messages_go_both_ways_and_carry_their_header(network: Network) -> None:
    hub, node, alice = network.pair()
    assert (alice.node, bool(alice.link)) == (ALICE, True)
    header = Header(Epoch(3), Session(2**64 - 1))
    hub.send(Send(alice, Receipt(TaskId(1), Verdict.MERGED), header))
    assert network.received(node) == [Received(HUB, header, Receipt(TaskId(1), Verdict.MERGED))]


def test_the_order_of_messages_to_one_peer_is_kept(network: Network) -> None:
    hub, node, alice = network.pair()
    for number in range(200):
        hub.send(Send(alice, Receipt(TaskId(number), Verdict.MERGED)))
        node.send(Send(HUB, Pong(number)))
    assert [event.message for event in network.received(hub, 201)[1:]] == [Pong(number) for number in range(200)]
    assert [event.message for event in network.received(node, 200)] == [
        Receipt(TaskId(number), Verdict.MERGED) for number in range(200)
    ]


def test_a_large_message_arrives_whole_with_signs_of_life_between(network: Network) -> None:
    hub, node, alice = network.pair()
    node.send(Send(HUB, feedback(1, 10 * PART_BYTES)))
    arrived = network.received(hub, 2)[1].message
    assert isinstance(arrived, Feedback)
    assert arrived.feedback == feedback(1, 10 * PART_BYTES).feedback
    assert network.events[hub].count(Heard(alice)) == 11
    assert hub.counts.bytes_received == node.counts.bytes_sent
    assert hub.counts.messages_received == node.counts.messages_sent == {"Ping": 1, "Feedback": 1}


def test_a_heartbeat_passes_between_the_parts_of_a_large_message(network: Network) -> None:
    hub, node, _ = network.pair()
    node.send(Send(HUB, feedback(1, 200 * PART_BYTES)))
    assert node.pending(), "200 parts fit into no queue"
    node.send(Send(HUB, Ping(1)))
    assert [event.message for event in network.received(hub, 3)[1:]] == [Ping(1), feedback(1, 200 * PART_BYTES)]


def test_bytes_that_are_no_message_are_told_with_their_sender_and_counted(network: Network) -> None:
    hub = network.hub()
    with raw_dealer(network) as socket:
        socket.connect(hub.endpoint)
        socket.send_multipart([b"hello", b"world"])
        socket.send_multipart([b"x"] * 1000)
        network.until(lambda: len(network.events[hub]) == 2)
    assert [event.reason for event in network.events[hub] if isinstance(event, Garbled)] == [
        "header: 5 bytes",
        "frame count: 11",
    ]
    assert {event.sender.node for event in network.events[hub] if isinstance(event, Garbled)} == {"mallory"}
    assert hub.counts.garbled == {"header": 1, "frame count": 1}


def test_an_oversized_frame_never_arrives_and_the_hub_lives_on(network: Network) -> None:
    hub, node, _ = network.pair()
    with raw_dealer(network) as socket:
        socket.connect(hub.endpoint)
        socket.send_multipart([b"x", bytes(FRAME_BYTES_MAX + 1)])
        watch = socket.get_monitor_socket(zmq.Event.DISCONNECTED)
        network.until(lambda: bool(watch.poll(0)))
        watch.close()
        socket.disable_monitor()
    node.send(Send(HUB, Ping(5)))
    assert network.received(hub, 2)[1].message == Ping(5)
    assert not hub.counts.garbled


def test_a_peer_that_is_gone_is_counted_and_forgotten(network: Network) -> None:
    hub, node, alice = network.pair()
    network.close(node)
    network.until(lambda: not hub.send(Send(alice, Ping(1))))
    assert hub.counts.unroutable == 1
    assert not hub.pending()
    assert not hub.send(Send(Peer(ALICE), Ping(1))), "a peer that never came is no different"


def test_what_a_slow_peer_does_not_read_is_kept_up_to_a_bound(network: Network) -> None:
    hub, node, alice = network.pair()
    network.ends.remove(node)  # it stays connected, but reads nothing
    taken = 0
    while hub.send(Send(alice, feedback(taken, PART_BYTES // 2))):
        taken += 1
        assert taken < 10 * OUTBOX_MESSAGES_MAX, "nothing bounds it"
    assert hub.pending()
    assert taken >= OUTBOX_MESSAGES_MAX + QUEUE_MESSAGES
    assert (hub.counts.dropped, hub.counts.unroutable) == ({"Feedback": 1}, 0)
    network.ends.append(node)
    assert [event.message for event in network.received(node, taken)] == [
        feedback(number, PART_BYTES // 2) for number in range(taken)
    ]
    network.until(lambda: not hub.pending())


# --- the link ---------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_told_and_admitted_once_it_is_registered(network: Network) -> None:
    hub = network.hub()
    node, key = network.stranger(hub.endpoint, Unknown())
    node.send(Send(HUB, Ping(1)))
    network.until(lambda: "not_registered" in network.troubles(node))
    assert {(r.status, r.reason, r.public_key) for r in hub.drain_refusals()} == {(300, "unknown key", key)}
    assert hub.drain_refusals() == []
    network.register[key] = Member(NodeId("late"))
    assert network.received(hub)[0].sender.node == "late"


def test_a_revoked_key_is_told_and_can_come_back_with_a_new_socket(network: Network) -> None:
    hub = network.hub()
    node, key = network.stranger(hub.endpoint, Revoked())
    network.until(lambda: network.troubles(node) == {"revoked"})
    assert [(r.status, r.reason) for r in hub.drain_refusals()] == [(400, "revoked key")]
    network.register[key] = Member(ALICE)
    node.reconnect()
    node.send(Send(HUB, Ping(1)))
    assert network.received(hub)[0].sender.node == ALICE


def test_a_register_that_fails_admits_nobody_and_the_handler_lives_on(network: Network) -> None:
    hub = network.hub()
    stray, _ = network.stranger(hub.endpoint, Member(NodeId("stray")))
    network.register_works = False
    network.until(lambda: network.troubles(stray) == {"unreachable"})
    assert [r.status for r in hub.drain_refusals()] == [500]
    network.register_works = True
    network.node(hub.endpoint).send(Send(HUB, Ping(1)))
    assert network.received(hub)[0].sender.node == ALICE


def test_a_wrong_hub_key_is_told_and_does_not_loop(network: Network) -> None:
    hub = network.hub()
    node = network.node(hub.endpoint, hub_key=generate().public)
    network.until(lambda: network.troubles(node) == {"key_mismatch"})
    network.events[node].clear()
    until = time.monotonic() + 1.0
    network.until(lambda: time.monotonic() > until)
    assert network.events[node] == []
    assert hub.drain_refusals() == []


def test_no_hub_is_told_as_unreachable(network: Network) -> None:
    hub = network.hub()
    network.close(hub)
    node = network.node(hub.endpoint)
    network.until(lambda: network.troubles(node) == {"unreachable"})


def test_a_name_that_does_not_resolve_is_unreachable(network: Network) -> None:
    node = network.node("tcp://no-such-host.invalid:5555")
    network.until(lambda: network.troubles(node) == {"unreachable"})


def test_a_hub_that_comes_back_on_its_port_hears_the_node_again(network: Network) -> None:
    hub, node, _ = network.pair()
    network.close(hub)
    network.until(lambda: not node.pending() and bool(network.troubles(node)))
    node.send(Send(HUB, Bye("kept")))
    assert not node.pending(), "while the link is down there is nothing to poll for"
    hub = network.hub(hub.endpoint)
    first = network.received(hub)[0]
    assert (first.sender.node, first.message) == (ALICE, Bye("kept"))
    hub.send(Send(first.sender, Pong(1)))
    assert network.received(node)[0].message == Pong(1)
    assert network.troubles(node) == {"unreachable"}


def test_a_message_cut_off_by_a_hub_that_dies_goes_again_whole(network: Network) -> None:
    hub, node, _ = network.pair()
    large = feedback(1, 200 * PART_BYTES)
    node.send(Send(HUB, large))
    assert node.pending()
    network.until(lambda: any(isinstance(event, Heard) for event in network.events[hub]))
    network.close(hub)
    network.until(lambda: bool(network.troubles(node)))
    hub = network.hub(hub.endpoint)
    assert network.received(hub)[0].message == large
    assert not hub.counts.garbled


def test_a_new_socket_forgets_what_waited_for_the_old_one(network: Network) -> None:
    hub, node, alice = network.pair()
    network.close(hub)
    network.until(lambda: bool(network.troubles(node)))
    node.send(Send(HUB, Bye("forgotten")))
    node.reconnect()
    node.send(Send(HUB, Ping(2)))
    hub = network.hub(hub.endpoint)
    first = network.received(hub)[0]
    assert first.message == Ping(2)
    assert first.sender.link != alice.link or first.sender == alice


# --- identity ---------------------------------------------------------------------------------------------------------


def test_the_sender_is_named_by_its_key_whatever_it_claims(network: Network) -> None:
    hub = network.hub()
    with raw_dealer(network, name="mallory") as socket:
        socket.setsockopt(zmq.ROUTING_ID, b"alice")
        socket.setsockopt(zmq.METADATA, b"X-User-Id:alice")
        socket.connect(hub.endpoint)
        socket.send_multipart(encode(Header(), 1, Ping(1)))
        assert network.received(hub)[0].sender == Peer(NodeId("mallory"), b"alice")


def test_a_client_without_curve_that_names_itself_is_hung_up_on(network: Network) -> None:
    hub, node, _ = network.pair()
    host, port = hub.endpoint.removeprefix("tcp://").split(":")
    with socket_module.create_connection((host, int(port)), timeout=PATIENCE_S) as raw:
        raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x07User-Id\0\0\0\x05alice"
        raw.sendall(bytes([4, len(ready)]) + ready)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass
    node.send(Send(HUB, Ping(1)))
    assert [event.message for event in network.received(hub, 2)] == [Ping(0), Ping(1)]


def test_two_handlers_in_one_context_are_refused() -> None:
    context = zmq.Context[zmq.Socket[bytes]]()
    try:
        first = ZapHandler(context, lambda _: Unknown())
        with pytest.raises(ConfigurationError, match="another ZAP handler"):
            ZapHandler(context, lambda _: Unknown())
        assert not first.socket.closed
    finally:
        context.destroy(0)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, b"200"),
        ({0: b"2.0"}, b"500"),
        ({2: b"other"}, b"400"),
        ({2: b""}, b"400"),
        ({5: b"PLAIN"}, b"400"),
        ({5: b"NULL"}, b"400"),
        ({6: b"short"}, b"400"),
    ],
)
def test_only_curve_in_our_domain_is_admitted(change: dict[int, bytes], status: bytes) -> None:
    context = zmq.Context[zmq.Socket[bytes]]()
    try:
        handler = ZapHandler(context, lambda _: Member(ALICE))
        asking = context.socket(zmq.REQ)
        asking.connect("inproc://zeromq.zap.01")
        request = [b"1.0", b"7", b"mdgan-edge", b"127.0.0.1", b"", b"CURVE", bytes(32)]
        asking.send_multipart([change.get(place, frame) for place, frame in enumerate(request)])
        handler.serve()
        assert asking.poll(1000)
        reply = asking.recv_multipart()
        assert reply[:3] == [b"1.0", b"7", status]
        assert reply[4] == (b"alice" if status == b"200" else b"")
    finally:
        context.destroy(0)


# --- opening and closing ----------------------------------------------------------------------------------------------


def test_a_port_in_use_is_explained(network: Network) -> None:
    hub = network.hub()
    with pytest.raises(ConfigurationError, match=f"{hub.endpoint} is in use; stop the other hub"):
        network.hub(hub.endpoint)


@pytest.mark.parametrize(
    "endpoint", ["nonsense", "tcp://127.0.0.1", "udp://127.0.0.1:1", "tcp://192.0.2.1:5555", "tcp://:x"]
)
def test_an_endpoint_that_cannot_be_bound_is_explained(network: Network, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="tcp://"):
        network.hub(endpoint)


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp://127.0.0.1", "foo://127.0.0.1:1"])
def test_an_endpoint_that_cannot_be_connected_is_explained(network: Network, endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="write tcp://HOST:PORT"):
        network.node(endpoint)


def test_an_endpoint_is_closed_exactly_once(network: Network) -> None:
    hub, node, _ = network.pair()
    for end in (node, hub, node, hub):
        end.close()
    network.ends.clear()
    HubEndpoint(hub.endpoint, network.hub_keys, network.lookup).close()  # the port is free at once


def test_what_was_sent_before_the_close_still_arrives(network: Network) -> None:
    hub, node, alice = network.pair()
    sent = [feedback(number, PART_BYTES // 2) for number in range(QUEUE_MESSAGES - 2)]
    for message in sent:
        hub.send(Send(alice, message))
    hub.send(Send(alice, Bye("completed")))
    assert not hub.pending()
    network.close(hub)
    assert [event.message for event in network.received(node, QUEUE_MESSAGES - 1)] == [*sent, Bye("completed")]


def test_a_waker_ends_the_poll_of_another_thread() -> None:
    waker = Waker()
    try:
        poller = zmq.Poller()
        poller.register(waker, zmq.POLLIN)
        assert poller.poll(0) == []
        threading.Thread(target=waker.wake).start()
        assert poller.poll(5000) != []
        waker.drain()
        assert poller.poll(0) == []
        for _ in range(100_000):
            waker.wake()  # never blocks
        assert poller.poll(0) != []
        waker.drain()
        assert poller.poll(0) == []
    finally:
        waker.close()


# --- the outbox and the watch on the link, without sockets ------------------------------------------------------------


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
