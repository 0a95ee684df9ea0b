"""Knows the sockets: the hub's ROUTER and the node's DEALER, used by one I/O thread that polls them and never waits.

An endpoint lives from its construction, when it binds or connects, to `close`; it owns its context. The order of
messages to one peer is kept (see outbox for the one exception). That a message was sent means nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import zmq
from zmq.utils.monitor import parse_monitor_message

from mdgan_edge.actors import HUB, Event, Garbled, Heard, LinkDown, Nanos, NotAdmitted, Peer, Received, Send, nanos
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.wire.codec import FRAMES_MAX, MalformedMessage, decode, encode
from mdgan_edge.wire.keys import KeyPair, check_public_key
from mdgan_edge.wire.link import WATCHED, LinkWatch
from mdgan_edge.wire.outbox import Outbox, Outcome, Outgoing
from mdgan_edge.wire.parts import Assembler, is_part, size
from mdgan_edge.wire.sockets import (
    HANDSHAKE_MS,
    Context,
    Socket,
    bind,
    dealer,
    read,
    read_monitor,
    router,
    transmit,
    user_id,
)
from mdgan_edge.wire.zap import Lookup, ZapHandler

RECEIVE_MAX = 256  # messages per call of receive
EXPIRE_EVERY = nanos(1.0)
RETRY_AFTER = nanos(10.0)  # after a trouble with which libzmq would try for ever too fast, or never again

PART, GARBLED = "Part", "Garbled"  # names in Counts of bytes that are no whole message (yet)


@dataclass(slots=True)
class Counts:
    """What went through an endpoint, by the name of the message; bytes as given to ZeroMQ, before encryption."""

    messages_sent: Counter[str] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    messages_received: Counter[str] = field(default_factory=Counter)
    bytes_received: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)  # the peer's outbox was full
    garbled: Counter[str] = field(default_factory=Counter)  # by the first check that failed
    unroutable: int = 0  # messages to a connection that is gone
    idle_transfers: int = 0  # given up because their next part did not come


class Endpoint(ABC):
    """What hub and node have in common."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._context: Context = zmq.Context()
        self._assembler = Assembler()
        self._outboxes: dict[bytes, Outbox] = {}
        self._seq = 0
        self._expire_at = Nanos(0)

    @abstractmethod
    def sockets(self) -> list[Socket]:
        """What to poll for POLLIN; a node's change whenever the connection was lost, so ask before each poll."""

    @abstractmethod
    def receive(self, now: Nanos) -> list[Event]:
        """What has come in, at most RECEIVE_MAX messages."""

    def send(self, effect: Send) -> bool:
        """Encode and send, or keep for `flush`; False if it was dropped (see counts)."""
        self._seq += 1
        outgoing = Outgoing(type(effect.message), self._seq, encode(effect.header, self._seq, effect.message))
        outbox = self._outboxes.setdefault(effect.to.link, Outbox())
        if not outbox.offer(outgoing):
            self.counts.dropped[outgoing.kind.__name__] += 1
            return False
        return not self._ready() or self._pump(effect.to.link, outbox)

    def flush(self) -> None:
        """Try again what could not be sent."""
        if self._ready():
            for link, outbox in list(self._outboxes.items()):
                self._pump(link, outbox)

    def pending(self) -> bool:
        """Whether `flush` is wanted soon."""
        return self._ready() and bool(self._outboxes)

    def close(self) -> None:
        """Close every socket and the context; a second call does nothing."""
        if not self._context.closed:
            self._close_sockets()
            self._context.destroy()

    @abstractmethod
    def _ready(self) -> bool:
        """Whether there is any use in sending."""

    @abstractmethod
    def _socket(self) -> Socket: ...

    @abstractmethod
    def _close_sockets(self) -> None: ...

    def _pump(self, link: bytes, outbox: Outbox) -> bool:
        """False if the peer is gone, and with it what waited for it."""
        address = [link] if link else []  # a node has one peer and needs none; a ROUTER knows no peer without a link
        socket = self._socket()
        outcome = outbox.pump(lambda frames: transmit(socket, [*address, *frames]), self._count_sent)
        if outcome is Outcome.GONE:
            self.counts.unroutable += len(outbox)
        if outcome is not Outcome.FULL:
            self._outboxes.pop(link, None)
        return outcome is not Outcome.GONE

    def _count_sent(self, outgoing: Outgoing, byte_count: int, whole: bool) -> None:
        self.counts.bytes_sent[outgoing.kind.__name__] += byte_count
        self.counts.messages_sent[outgoing.kind.__name__] += whole

    def _expire(self, now: Nanos) -> None:
        if now >= self._expire_at:
            self._expire_at = Nanos(now + EXPIRE_EVERY)
            self.counts.idle_transfers += self._assembler.expire(now)

    def _open(self, sender: Peer, frames: Sequence[bytes], now: Nanos) -> list[Event]:
        """The events of one multipart."""
        try:
            if is_part(frames):
                return self._open_part(sender, frames, now)
            return [self._open_whole(sender, frames, size(frames))]
        except MalformedMessage as wrong:
            self.counts.garbled[wrong.check] += 1
            self.counts.bytes_received[GARBLED] += size(frames)
            return [Garbled(sender, wrong.check, wrong.reason)]

    def _open_part(self, sender: Peer, frames: Sequence[bytes], now: Nanos) -> list[Event]:
        whole = self._assembler.accept(sender, frames, now)
        if whole is None:
            self.counts.bytes_received[PART] += size(frames)
            return [Heard(sender)]
        received = self._open_whole(sender, whole.frames, whole.wire_bytes)
        self.counts.bytes_received[PART] -= whole.wire_bytes - size(frames)  # they are counted by name now
        return [Heard(sender), received]

    def _open_whole(self, sender: Peer, frames: Sequence[bytes], wire_bytes: int) -> Received:
        header, _, message = decode(frames)
        name = type(message).__name__
        self.counts.messages_received[name] += 1
        self.counts.bytes_received[name] += wire_bytes
        return Received(sender, header, message)


class HubEndpoint(Endpoint):
    """A bound ROUTER that admits only keys `lookup` knows. The sender of what it receives is proven by its key."""

    def __init__(self, endpoint: str, keys: KeyPair, lookup: Lookup) -> None:
        super().__init__()
        try:
            self._zap = ZapHandler(self._context, lookup)
            self._router = router(self._context, keys, ipv6="[" in endpoint)
            bind(self._router, endpoint)
        except BaseException:
            self._context.destroy(0)
            raise
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT)

    def sockets(self) -> list[Socket]:
        return [self._router, self._zap.socket]

    def receive(self, now: Nanos) -> list[Event]:
        self._zap.serve()
        self._expire(now)
        events: list[Event] = [
            NotAdmitted(refused.public_key, refused.address, refused.reason) for refused in self._zap.drain_refusals()
        ]
        for _ in range(RECEIVE_MAX):
            if not (frames := read(self._router, FRAMES_MAX + 2)):
                break
            if (node := user_id(frames[-1])) is None:
                self.counts.garbled["user id"] += 1
                continue
            link, *rest = [frame.bytes for frame in frames]
            events += self._open(Peer(node, link), rest, now)
        return events

    def _ready(self) -> bool:
        return True

    def _socket(self) -> Socket:
        return self._router

    def _close_sockets(self) -> None:
        self._router.close()
        self._zap.socket.close()


class NodeEndpoint(Endpoint):
    """A DEALER connected to the one hub whose public key is pinned.

    Nothing is given to libzmq while the link is down, and a connection that is lost takes its socket with it: what
    libzmq would send after reconnecting by itself are parts of transfers the hub cannot know.
    """

    def __init__(self, endpoint: str, keys: KeyPair, hub_public_key: str, handshake_ms: int = HANDSHAKE_MS) -> None:
        super().__init__()
        self.endpoint = endpoint
        self._keys = keys
        self._hub_public_key = check_public_key(hub_public_key)
        self._handshake_ms = handshake_ms
        try:
            self._connect()
        except BaseException:
            self._context.destroy(0)
            raise

    def sockets(self) -> list[Socket]:
        return [self._dealer, self._monitor]

    def receive(self, now: Nanos) -> list[Event]:
        self._expire(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._replace_socket()
        was_up = self._link.up
        troubles = self._watch_link(now)
        events: list[Event] = []
        for _ in range(RECEIVE_MAX):
            if not (frames := read(self._dealer, FRAMES_MAX + 1)):
                break
            events += self._open(HUB, [frame.bytes for frame in frames], now)
        if was_up and not self._link.up:
            self._replace_socket()
        self.flush()
        return events + troubles

    def reconnect(self) -> None:
        """Close the socket, forget what waits to be sent, and connect with a new one."""
        self._outboxes.clear()
        self._replace_socket()

    def _connect(self) -> None:
        self._retry_at: Nanos | None = None
        self._link = LinkWatch()
        self._dealer = dealer(
            self._context, self._keys, self._hub_public_key, ipv6="[" in self.endpoint, handshake_ms=self._handshake_ms
        )
        self._monitor: Socket = self._dealer.get_monitor_socket(WATCHED)
        self._monitor.linger = 0
        try:
            self._dealer.connect(self.endpoint)
        except zmq.ZMQError as wrong:
            raise ConfigurationError(f"cannot connect to {self.endpoint}: {wrong}; write tcp://HOST:PORT") from None

    def _replace_socket(self) -> None:
        self._close_sockets(linger_ms=0)
        self._assembler.clear()
        for outbox in self._outboxes.values():
            outbox.rewind()
        self._connect()

    def _watch_link(self, now: Nanos) -> list[LinkDown]:
        troubles: list[LinkDown] = []
        while frames := read_monitor(self._monitor):
            if self._retry_at is not None:
                continue  # the last words of a connection we closed ourselves
            happened = parse_monitor_message(frames)
            event = happened["event"]
            trouble = self._link.observe(event, happened["value"], now)
            if trouble is not None:
                troubles.append(LinkDown(trouble))
            if trouble == "key_mismatch" or event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self._pause(now)
        return troubles

    def _pause(self, now: Nanos) -> None:
        """Stop libzmq's own reconnecting, which would be much too fast or has ended; try again later."""
        self._retry_at = Nanos(now + RETRY_AFTER)
        with contextlib.suppress(zmq.ZMQError):  # ENOENT: it has ended
            self._dealer.disconnect(self.endpoint)

    def _ready(self) -> bool:
        return self._link.up

    def _socket(self) -> Socket:
        return self._dealer

    def _close_sockets(self, linger_ms: int | None = None) -> None:
        self._dealer.disable_monitor()
        self._monitor.close()
        self._dealer.close(linger_ms)


class Waker:
    """A pipe that ends another thread's poll. Lives as long as the service's loop."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """What to poll for POLLIN."""
        return self._reading

    def wake(self) -> None:
        """End the poll, from any thread; a full pipe wakes as well."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._writing, b"\0")

    def drain(self) -> None:
        """Take back every wake so far; to be called before looking at what woke."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._reading, 4096):
                pass

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._reading)
        os.close(self._writing)


class Poll:
    """Waits for whatever the endpoint's sockets or the waker have."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._sockets: list[Socket] = []
        self._poller = zmq.Poller()

    def wait(self, endpoint: Endpoint, timeout_s: float) -> None:
        """At most so long. The sockets are asked for anew: a reconnect changes them."""
        sockets = endpoint.sockets()
        if sockets != self._sockets:
            self._sockets, self._poller = sockets, zmq.Poller()
            self._poller.register(self._waker.fileno(), zmq.POLLIN)
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)
        self._poller.poll(math.ceil(timeout_s * 1000))
