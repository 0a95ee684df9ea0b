"""Knows what waits to be sent to one peer, in which order, and how much may wait.

Lives from the first message the socket would not take to the last one it took. Order: as offered, except that a
heartbeat passes work, also between the parts of one large message; it never passes a greeting or a farewell. And
everything passes a copy of a discriminator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mdgan_edge.messages import Copy, Feedback, Message, Ping, Pong, Receipt, Refuse, Task
from mdgan_edge.wire.parts import PART_BYTES, size, split

OUTBOX_MESSAGES_MAX = 256
OUTBOX_BYTES_MAX = 128 * 1024 * 1024
BULK_BYTES_MAX = 256 * 1024 * 1024  # of bulk, over all outboxes of an endpoint: stalled peers must not fill its memory

HEARTBEATS = (Ping, Pong)
WORK = (Task, Feedback, Receipt, Refuse)
BULK = (Copy,)  # megabytes that nobody waits for


class Outcome(Enum):
    """What the socket did with a piece."""

    SENT = auto()
    FULL = auto()
    GONE = auto()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An encoded message; `seq` is also the id of its transfer if it goes in parts."""

    kind: type[Message]
    seq: int
    frames: Sequence[bytes]

    def pieces(self) -> Iterator[Sequence[bytes]]:
        """What goes to the socket, one multipart each."""
        return iter([self.frames]) if size(self.frames) <= PART_BYTES else split(self.frames, self.seq)


Transmit = Callable[[Sequence[bytes]], Outcome]


class _Lane:
    """Messages that leave one after the other, piece by piece."""

    def __init__(self) -> None:
        self.waiting: deque[Outgoing] = deque()
        self._pieces: Iterator[Sequence[bytes]] = iter(())  # what is left of the first one ...
        self._piece: Sequence[bytes] | None = None  # ... and the piece of it that goes next

    def piece(self) -> Sequence[bytes]:
        """What goes next."""
        if self._piece is None:
            self._pieces = self.waiting[0].pieces()
            self._piece = next(self._pieces)
        return self._piece

    def advance(self) -> bool:
        """On to the next piece; whether that was the last of its message."""
        self._piece = next(self._pieces, None)
        if self._piece is None:
            self.waiting.popleft()
        return self._piece is None

    def rewind(self) -> None:
        """From the first piece of the first message."""
        self._piece = None


class Outbox:
    """A bounded queue of three lanes: heartbeats, whatever else, and what may take its time."""

    def __init__(self, messages_max: int = OUTBOX_MESSAGES_MAX, bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._fast, self._slow, self._bulk = _Lane(), _Lane(), _Lane()

    def __len__(self) -> int:
        return sum(len(lane.waiting) for lane in (self._fast, self._slow, self._bulk))

    @property
    def bulk_bytes(self) -> int:
        """What waits in the lane that may take its time."""
        return sum(size(outgoing.frames) for outgoing in self._bulk.waiting)

    def offer(self, outgoing: Outgoing) -> bool:
        """Queue a whole message; False, and nothing queued, if it does not fit."""
        total = self._bytes + size(outgoing.frames)
        if len(self) >= self._messages_max or total > self._bytes_max:
            return False
        self._bytes = total
        self._lane_for(outgoing.kind).waiting.append(outgoing)
        return True

    def _lane_for(self, kind: type[Message]) -> _Lane:
        if issubclass(kind, BULK):
            return self._bulk
        may_pass = issubclass(kind, HEARTBEATS) and all(issubclass(other.kind, WORK) for other in self._slow.waiting)
        return self._fast if may_pass else self._slow

    def pump(self, transmit: Transmit, sent: Callable[[Outgoing, int, bool], None]) -> Outcome:
        """Send until nothing is left (SENT) or the socket stops us; `sent` learns of each (message, bytes, whole)."""
        while lane := next((lane for lane in (self._fast, self._slow, self._bulk) if lane.waiting), None):
            outgoing, piece = lane.waiting[0], lane.piece()
            if (outcome := transmit(piece)) is not Outcome.SENT:
                return outcome
            whole = lane.advance()
            if whole:
                self._bytes -= size(outgoing.frames)
            sent(outgoing, size(piece), whole)
        return Outcome.SENT

    def rewind(self) -> None:
        """The connection is a new one: a message that went in part goes again from its first part."""
        for lane in (self._fast, self._slow, self._bulk):
            lane.rewind()
