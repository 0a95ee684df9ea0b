"""Knows the sockets between nodes: a ROUTER for those that call, a short-lived DEALER for each node that is called.

They belong to the I/O thread of a node's endpoint and live in its context. An admission is given, good for any number
of connections, and expires or is taken back; every message is held against it, since a connection outlives it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import zmq

from mdgan_edge.actors import HUB, Admit, Dial, Event, HangUp, Nanos, Peer, PeerEffect, TurnAway, nanos
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import PEER_ENDPOINT_MAX, NodeId
from mdgan_edge.wire.codec import FRAMES_MAX
from mdgan_edge.wire.endpoint import RECEIVE_MAX, Counts, Endpoint
from mdgan_edge.wire.keys import KeyPair, check_public_key
from mdgan_edge.wire.outbox import Outcome
from mdgan_edge.wire.parts import TRANSFER_BYTES_MAX, Assembler
from mdgan_edge.wire.sockets import Context, Socket, bind, dealer, read, router, transmit, user_id
from mdgan_edge.wire.zap import Admission, Member, Unknown, ZapHandler

ADMITTED_MAX = 256  # nodes that may call; the one admitted first makes room
ADMITTED_FOR = nanos(120.0)  # longer than a swap can take: asking in vain, then copies, then the hub's decision
CALLS_MAX = 4  # nodes that are called at once; a core calls one
PEER_HANDSHAKE_MS = 1000  # who comes before the hub's notice is turned away, and tries again so soon
PEER_BACKLOG = 64
PEER_ASSEMBLY_BYTES_MAX = 2 * TRANSFER_BYTES_MAX
PORT_MAX = (1 << 16) - 1
NO_LINGER_MS = 0  # whoever hangs up has nothing to say any more

# An address, not a name: looking a name up would hold up everything else that the context's thread carries.
_ADDRESS = re.compile(r"tcp://(?:(?P<four>[0-9.]{7,15})|\[(?P<six>[0-9A-Fa-f:.]{2,45})\]):(?P<port>[0-9]{1,5})")
_ANYWHERE = ("tcp://0.0.0.0:", "tcp://[::]:")


@dataclass(frozen=True, slots=True)
class _Admitted:
    public_key: str
    until: Nanos


def endpoint_to_tell(said: str, bound: str | None) -> str | None:
    """What others are told: what the operator said, else what was bound; None if they cannot reach this node."""
    if bound is None:
        if said:
            raise ConfigurationError("node.peer_endpoint means nothing without node.peer_bind: say where to listen")
        return None
    if not said and bound.startswith(_ANYWHERE):
        text = f"{bound} listens on every address: say with node.peer_endpoint by which one other nodes reach it"
        raise ConfigurationError(text)
    if not _is_address(said or bound):
        text = f"node.peer_endpoint {said or bound!r} is no address to connect to: write tcp://ADDRESS:PORT, no name"
        raise ConfigurationError(text)
    return said or bound


def _is_address(endpoint: str) -> bool:
    found = _ADDRESS.fullmatch(endpoint) if len(endpoint) <= PEER_ENDPOINT_MAX else None
    if found is None or not 1 <= int(found["port"]) <= PORT_MAX:
        return False
    try:
        IPv4Address(found["four"]) if found["four"] else IPv6Address(found["six"])
    except AddressValueError:
        return False
    return True


class PeerPort(Endpoint):
    """To and from other nodes. With an empty `listen` nobody can call, but others can be called."""

    def __init__(self, context: Context, keys: KeyPair, listen: str, counts: Counts) -> None:
        super().__init__(counts, Assembler(assembly_bytes_max=PEER_ASSEMBLY_BYTES_MAX))
        self.endpoint: str | None = None  # what was bound
        self.turned_away = 0  # messages of nodes that are not admitted (any more)
        self._context, self._keys = context, keys
        self._now = Nanos(0)
        self._admitted: dict[NodeId, _Admitted] = {}  # the oldest first
        self._calls: dict[NodeId, Socket] = {}
        self._zap: ZapHandler | None = None
        self._router: Socket | None = None
        if listen:
            self._listen(listen)

    def _listen(self, listen: str) -> None:
        self._zap = ZapHandler(self._context, self._lookup)
        self._router = router(self._context, self._keys, ipv6="[" in listen)
        self._router.setsockopt(zmq.LINGER, NO_LINGER_MS)
        self._router.setsockopt(zmq.BACKLOG, PEER_BACKLOG)
        try:
            bind(self._router, listen)
        except ConfigurationError as wrong:
            raise ConfigurationError(f"node.peer_bind: {wrong}") from None
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT)

    def carry(self, effect: PeerEffect, now: Nanos) -> None:
        """Who may call, and whom to call. A node named as the hub is could speak for it, and is nobody here."""
        match effect:
            case Admit(node, public_key) if node != HUB.node:
                self._admitted.pop(node, None)
                self._admitted[node] = _Admitted(public_key, Nanos(now + ADMITTED_FOR))
                if len(self._admitted) > ADMITTED_MAX:
                    del self._admitted[next(iter(self._admitted))]
            case Dial(node, public_key, endpoint) if node != HUB.node:
                self._hang_up(node)
                self._dial(node, public_key, endpoint)
            case HangUp(node):
                self._hang_up(node)
            case TurnAway(node):
                self._admitted.pop(node, None)
                self._assembler.drop(node)
            case _:
                pass

    @property
    def refused(self) -> Counter[str]:
        """Connections that were not admitted, by reason."""
        return Counter() if self._zap is None else self._zap.refused

    def sockets(self) -> list[Socket]:
        listening = [self._router, self._zap.socket] if self._router is not None and self._zap is not None else []
        return [*listening, *self._calls.values()]

    def receive(self, now: Nanos) -> list[Event]:
        self._now = now
        self._expire(now)
        events: list[Event] = []
        for node, socket in self._calls.items():
            for _ in range(RECEIVE_MAX):
                if not (frames := read(socket, FRAMES_MAX + 1)):
                    break
                events += self._open(Peer(node), [frame.bytes for frame in frames], now)
        return events + self._receive_calls(now) if self._router is not None else events

    def _receive_calls(self, now: Nanos) -> list[Event]:
        assert self._router is not None
        assert self._zap is not None
        self._zap.serve()
        self._zap.drain_refusals()  # they are counted by reason
        events: list[Event] = []
        for _ in range(RECEIVE_MAX):
            if not (frames := read(self._router, FRAMES_MAX + 2)):
                break
            node = user_id(frames[-1])
            if node is None or not self._is_admitted(node):
                self.turned_away += 1
                continue
            link, *rest = [frame.bytes for frame in frames]
            events += self._open(Peer(node, link), rest, now)
        return events

    def close(self) -> None:
        for node in list(self._calls):
            self._hang_up(node)
        if self._router is not None and self._zap is not None:
            self._router.close()
            self._zap.socket.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _lookup(self, public_key: str) -> Admission:
        """Who is not known may be known in a moment, so nobody is told never to come again."""
        admitted = self._admitted.items()
        node = next((node for node, one in admitted if one.public_key == public_key and self._now < one.until), None)
        return Unknown() if node is None else Member(node)

    def _is_admitted(self, node: NodeId) -> bool:
        admitted = self._admitted.get(node)
        return admitted is not None and self._now < admitted.until

    def _dial(self, node: NodeId, public_key: str, endpoint: str) -> None:
        """What another node has said of itself may be wrong: then what is sent there is unroutable."""
        assert len(self._calls) < CALLS_MAX, "calls are not ended"
        try:
            key = check_public_key(public_key)
        except ConfigurationError:
            return
        if not _is_address(endpoint):
            return
        socket = dealer(self._context, self._keys, key, ipv6="[" in endpoint, handshake_ms=PEER_HANDSHAKE_MS)
        socket.setsockopt(zmq.LINGER, NO_LINGER_MS)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError:
            socket.close()
            return
        self._calls[node] = socket

    def _hang_up(self, node: NodeId) -> None:
        socket = self._calls.pop(node, None)
        if socket is not None:
            socket.close()
            self._outboxes.pop(self._key(Peer(node)), None)
            self._assembler.drop(node)

    def _ready(self) -> bool:
        return True

    def _key(self, to: Peer) -> bytes:
        """A link is whatever a caller made it, so the two kinds are told apart."""
        return b"<" + to.link if to.link else b">" + to.node.encode()

    def _transmit(self, key: bytes, frames: Sequence[bytes]) -> Outcome:
        if key.startswith(b"<"):
            return Outcome.GONE if self._router is None else transmit(self._router, [key[1:], *frames])
        socket = self._calls.get(NodeId(key[1:].decode()))
        return Outcome.GONE if socket is None else transmit(socket, frames)
