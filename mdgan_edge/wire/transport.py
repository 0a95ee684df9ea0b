"""Knows the sockets: the hub's ROUTER and the node's DEALER, used by one I/O thread that polls them and never waits.

Each owns its context. What goes from node to node has sockets of its own, see peers.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence

import zmq
from zmq.utils.monitor import parse_monitor_message

from mdgan_edge.actors import HUB, Event, LinkDown, Nanos, NotAdmitted, Peer, PeerEffect, Send, nanos
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.wire.codec import FRAMES_MAX
from mdgan_edge.wire.endpoint import RECEIVE_MAX, Endpoint
from mdgan_edge.wire.keys import KeyPair, check_public_key
from mdgan_edge.wire.link import WATCHED, LinkWatch
from mdgan_edge.wire.outbox import Outcome
from mdgan_edge.wire.peers import PeerPort
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

RETRY_AFTER = nanos(10.0)  # after a trouble with which libzmq would try for ever too fast, or never again


class HubEndpoint(Endpoint):
    """A bound ROUTER that admits only keys `lookup` knows. The sender of what it receives is proven by its key."""

    def __init__(self, endpoint: str, keys: KeyPair, lookup: Lookup) -> None:
        super().__init__()
        self._context: Context = zmq.Context()
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

    def _transmit(self, key: bytes, frames: Sequence[bytes]) -> Outcome:
        return transmit(self._router, [key, *frames] if key else frames)  # a ROUTER knows no peer without a link

    def close(self) -> None:
        if not self._context.closed:
            self._router.close()
            self._zap.socket.close()
            self._context.destroy()


class NodeEndpoint(Endpoint):
    """A DEALER connected to the one hub whose public key is pinned.

    Nothing is given to libzmq while the link is down, and a connection that is lost takes its socket with it: what
    libzmq would send after reconnecting by itself are parts of transfers the hub cannot know.
    """

    def __init__(
        self,
        endpoint: str,
        keys: KeyPair,
        hub_public_key: str,
        handshake_ms: int = HANDSHAKE_MS,
        peer_bind: str = "",
    ) -> None:
        super().__init__()
        self._context: Context = zmq.Context()
        self.endpoint = endpoint
        self._keys = keys
        self._hub_public_key = check_public_key(hub_public_key)
        self._handshake_ms = handshake_ms
        try:
            self.peers = PeerPort(self._context, keys, peer_bind, self.counts)
            self._connect()
        except BaseException:
            self._context.destroy(0)
            raise

    def sockets(self) -> list[Socket]:
        return [self._dealer, self._monitor, *self.peers.sockets()]

    def send(self, effect: Send) -> bool:
        return super().send(effect) if effect.to.node == HUB.node else self.peers.send(effect)

    def flush(self) -> None:
        super().flush()
        self.peers.flush()

    def pending(self) -> bool:
        return super().pending() or self.peers.pending()

    def carry(self, effect: PeerEffect, now: Nanos) -> None:
        """Who may reach this node, and whom it reaches."""
        self.peers.carry(effect, now)

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
        return events + troubles + self.peers.receive(now)

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

    def _transmit(self, key: bytes, frames: Sequence[bytes]) -> Outcome:
        assert not key, "there is one hub"
        return transmit(self._dealer, frames)

    def close(self) -> None:
        if not self._context.closed:
            self.peers.close()
            self._close_sockets()
            self._context.destroy()

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
