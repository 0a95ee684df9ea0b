"""Who gets in and what a node is told when it does not: on loopback, with real CURVE."""

from __future__ import annotations

import contextlib
import socket as socket_module
import time

import pytest
import zmq
import zmq.utils.z85

from mdgan_edge.actors import (
    HUB,
    Header,
    Heard,
    Peer,
    Send,
)
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import (
    Bye,
    NodeId,
    Ping,
    Pong,
)
from mdgan_edge.wire.codec import encode
from mdgan_edge.wire.keys import generate
from mdgan_edge.wire.parts import PART_BYTES
from mdgan_edge.wire.zap import Member, Revoked, Unknown, ZapHandler
from tests.network import ALICE, PATIENCE_S, Network, feedback, raw_dealer

# --- the link ---------------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_told_and_admitted_once_it_is_registered(network: Network) -> None:
    hub = network.hub()
    node, key = network.stranger(hub.endpoint, Unknown())
    node.send(Send(HUB, Ping(1)))
    network.until(lambda: "not_registered" in network.troubles(node))
    assert network.refusals(hub) == {("unknown key", key)}
    network.register[key] = Member(NodeId("late"))
    assert network.received(hub)[0].sender.node == "late"


def test_a_revoked_key_is_told_and_can_come_back_with_a_new_socket(network: Network) -> None:
    hub = network.hub()
    node, key = network.stranger(hub.endpoint, Revoked())
    network.until(lambda: network.troubles(node) == {"revoked"})
    assert network.refusals(hub) == {("revoked key", key)}
    network.register[key] = Member(ALICE)
    node.reconnect()
    node.send(Send(HUB, Ping(1)))
    assert network.received(hub)[0].sender.node == ALICE


def test_a_register_that_fails_admits_nobody_and_the_handler_lives_on(network: Network) -> None:
    hub = network.hub()
    stray, key = network.stranger(hub.endpoint, Member(NodeId("stray")))
    network.register_works = False
    network.until(lambda: network.troubles(stray) == {"unreachable"})
    assert network.refusals(hub) == {("the register could not be read", key)}
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
    assert network.refusals(hub) == set()


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
