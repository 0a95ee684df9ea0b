"""What every endpoint does: encodes, keeps what cannot be sent yet, decodes and puts together, counts.

An endpoint lives from its construction, when it binds or connects, to `close`. The order of messages to one peer is
kept (see outbox for what may pass what). That a message was sent means nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from mdgan_edge.actors import Event, Garbled, Heard, Nanos, Peer, Received, Send, nanos
from mdgan_edge.wire.codec import MalformedMessage, decode, encode
from mdgan_edge.wire.outbox import BULK, BULK_BYTES_MAX, Outbox, Outcome, Outgoing
from mdgan_edge.wire.parts import Assembler, is_part, size
from mdgan_edge.wire.sockets import Socket

RECEIVE_MAX = 256  # messages per call of receive
EXPIRE_EVERY = nanos(1.0)

PART, GARBLED = "Part", "Garbled"  # names in Counts of bytes that are no whole message (yet)


@dataclass(slots=True)
class Counts:
    """What went through an endpoint, by the name of the message; bytes as given to ZeroMQ, before encryption."""

    messages_sent: Counter[str] = field(default_factory=Counter)
    bytes_sent: Counter[str] = field(default_factory=Counter)
    messages_received: Counter[str] = field(default_factory=Counter)
    bytes_received: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)  # the peer's outbox was full, or all were of copies
    garbled: Counter[str] = field(default_factory=Counter)  # by the first check that failed
    unroutable: int = 0  # messages to a connection that is gone
    idle_transfers: int = 0  # given up because their next part did not come


class Endpoint(ABC):
    """What those of the hub, of a node, and between nodes have in common."""

    def __init__(
        self,
        counts: Counts | None = None,
        assembler: Assembler | None = None,
        bulk_bytes_max: int = BULK_BYTES_MAX,
    ) -> None:
        self.counts = counts or Counts()
        self._assembler = assembler or Assembler()
        self._outboxes: dict[bytes, Outbox] = {}
        self._bulk_bytes_max = bulk_bytes_max
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
        key = self._key(effect.to)
        outbox = self._outboxes.setdefault(key, Outbox())
        if self._is_too_much(outgoing) or not outbox.offer(outgoing):
            self.counts.dropped[outgoing.kind.__name__] += 1
            return False
        return not self._ready() or self._pump(key, outbox)

    def _is_too_much(self, outgoing: Outgoing) -> bool:
        if not issubclass(outgoing.kind, BULK):
            return False
        return sum(one.bulk_bytes for one in self._outboxes.values()) + size(outgoing.frames) > self._bulk_bytes_max

    def flush(self) -> None:
        """Try again what could not be sent."""
        if self._ready():
            for key, outbox in list(self._outboxes.items()):
                self._pump(key, outbox)

    def pending(self) -> bool:
        """Whether `flush` is wanted soon."""
        return self._ready() and bool(self._outboxes)

    @abstractmethod
    def close(self) -> None:
        """Close every socket; a second call does nothing."""

    @abstractmethod
    def _ready(self) -> bool:
        """Whether there is any use in sending."""

    def _key(self, to: Peer) -> bytes:
        """Of the outbox."""
        return to.link

    @abstractmethod
    def _transmit(self, key: bytes, frames: Sequence[bytes]) -> Outcome:
        """Give one piece to the socket that leads there."""

    def _pump(self, key: bytes, outbox: Outbox) -> bool:
        """False if the peer is gone, and with it what waited for it."""
        outcome = outbox.pump(lambda frames: self._transmit(key, frames), self._count_sent)
        if outcome is Outcome.GONE:
            self.counts.unroutable += len(outbox)
        if outcome is not Outcome.FULL:
            self._outboxes.pop(key, None)
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
        return Received(sender, header, message, wire_bytes)
