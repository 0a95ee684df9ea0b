"""A hub, its register and nodes on loopback for the tests of the sockets: real CURVE, random ports, deadlines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import zmq
import zmq.utils.z85
from msgspec.structs import replace

from mdgan_edge.actors import (
    HUB,
    Event,
    LinkDown,
    Nanos,
    NotAdmitted,
    Peer,
    Received,
    Send,
)
from mdgan_edge.messages import (
    DiscriminatorId,
    Feedback,
    NodeId,
    Ping,
    TaskId,
    Tensor,
    Version,
)
from mdgan_edge.wire.keys import KeyPair, generate
from mdgan_edge.wire.sockets import dealer
from mdgan_edge.wire.transport import Endpoint, HubEndpoint, NodeEndpoint
from mdgan_edge.wire.zap import Admission, Member, Unknown

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

    def peer(self, endpoint: str, keys: KeyPair, listen: str) -> NodeEndpoint:
        """A node that others can call if it listens."""
        self.register[keys.public] = Member(ALICE)
        return self._add(NodeEndpoint(endpoint, keys, self.hub_keys.public, peer_bind=listen))

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
        """Without the bytes they came in, which have tests of their own."""
        return [replace(event, wire_bytes=0) for event in self.events[end] if isinstance(event, Received)]

    def refusals(self, hub: HubEndpoint) -> set[tuple[str, str]]:
        """(reason, public key) of the connections turned away."""
        return {(event.reason, event.public_key) for event in self.events[hub] if isinstance(event, NotAdmitted)}

    def troubles(self, end: Endpoint) -> set[str]:
        return {event.trouble for event in self.events[end] if isinstance(event, LinkDown)}


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
