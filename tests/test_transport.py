"""What the sockets do to messages: on loopback, with real CURVE, random ports, and deadlines instead of sleeps."""

from __future__ import annotations

import threading

import pytest
import zmq
import zmq.utils.z85

from mdgan_edge.actors import (
    HUB,
    Garbled,
    Header,
    Heard,
    Peer,
    Received,
    Send,
)
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import (
    Bye,
    Epoch,
    Feedback,
    Ping,
    Pong,
    Receipt,
    Session,
    TaskId,
    Verdict,
)
from mdgan_edge.wire.outbox import OUTBOX_MESSAGES_MAX
from mdgan_edge.wire.parts import PART_BYTES
from mdgan_edge.wire.sockets import FRAME_BYTES_MAX, QUEUE_MESSAGES
from mdgan_edge.wire.transport import HubEndpoint, Waker
from tests.network import ALICE, Network, feedback, raw_dealer

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
    assert [event.detail for event in network.events[hub] if isinstance(event, Garbled)] == [
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


# --- opening and closing ----------------------------------------------------------------------------------------------


def test_a_port_in_use_is_explained(network: Network) -> None:
    hub = network.hub()
    with pytest.raises(ConfigurationError, match=f"{hub.endpoint} is in use; stop what listens there"):
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
