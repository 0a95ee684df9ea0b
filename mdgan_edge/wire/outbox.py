"""Knows what waits to be sent to one peer, in which order, and how much may wait.

Lives from the first message the socket would not take to the last one it took. Order: as offered, except that a
heartbeat passes work, also between the parts of one large message; it never passes a greeting or a farewell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mdgan_edge.messages import Feedback, Message, Ping, Pong, Receipt, Refuse, Task
from mdgan_edge.wire.parts import PART_BYTES, size, split

OUTBOX_MESSAGES_MAX = 256
OUTBOX_BYTES_MAX = 128 * 1024 * 1024

HEARTBEATS = (Ping, Pong)
WORK = (Task, Feedback, Receipt, Refuse)


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


class Outbox:
    """A bounded queue with a fast lane for heartbeats."""

    def __init__(self, messages_max: int = OUTBOX_MESSAGES_MAX, bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._fast: deque[Outgoing] = deque()
        self._slow: deque[Outgoing] = deque()
        self._pieces: Iterator[Sequence[bytes]] = iter(())  # what is left of the first slow message ...
        self._piece: Sequence[bytes] | None = None  # ... and the piece of it that goes next

    def __len__(self) -> int:
        return len(self._fast) + len(self._slow)

    def offer(self, outgoing: Outgoing) -> bool:
        """Queue a whole message; False, and nothing queued, if it does not fit."""
        total = self._bytes + size(outgoing.frames)
        if len(self) >= self._messages_max or total > self._bytes_max:
            return False
        self._bytes = total
        may_pass = issubclass(outgoing.kind, HEARTBEATS) and all(issubclass(o.kind, WORK) for o in self._slow)
        (self._fast if may_pass else self._slow).append(outgoing)
        return True

    def pump(self, transmit: Transmit, sent: Callable[[Outgoing, int, bool], None]) -> Outcome:
        """Send until nothing is left (SENT) or the socket stops us; `sent` learns of each (message, bytes, whole)."""
        while len(self):
            fast = bool(self._fast)
            outgoing = self._fast[0] if fast else self._slow[0]
            piece = outgoing.frames if fast else self._slow_piece()
            if (outcome := transmit(piece)) is not Outcome.SENT:
                return outcome
            whole = fast or self._advance()
            if whole:
                (self._fast if fast else self._slow).popleft()
                self._bytes -= size(outgoing.frames)
            sent(outgoing, size(piece), whole)
        return Outcome.SENT

    def rewind(self) -> None:
        """The connection is a new one: a message that went in part goes again from its first part."""
        self._piece = None

    def _slow_piece(self) -> Sequence[bytes]:
        if self._piece is None:
            self._pieces = self._slow[0].pieces()
            self._piece = next(self._pieces)
        return self._piece

    def _advance(self) -> bool:
        """On to the next piece of the first slow message; whether there is none."""
        self._piece = next(self._pieces, None)
        return self._piece is None
