"""Knows how a message too large for one piece is cut into parts and put together again.

A transfer lives from its first part to its last, or until a part is missing, overlaps, or does not come in time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import msgspec

from mdgan_edge.actors import LOST_PART, NANOS_PER_SECOND, Nanos, Peer
from mdgan_edge.messages import NodeId
from mdgan_edge.wire.codec import FRAMES_MAX, PART_TYPE, MalformedMessage, read_envelope, read_fields, read_struct

PART_BYTES = 256 * 1024  # nothing larger travels as one ZeroMQ message
PART_OVERHEAD = 256  # what the header and the fields of a part may take of it
TRANSFER_BYTES_MAX = 64 * 1024 * 1024
TRANSFERS_PER_NODE = 4
ASSEMBLY_BYTES_MAX = 256 * 1024 * 1024  # of all nodes together
TRANSFER_IDLE = Nanos(30 * NANOS_PER_SECOND)
VOIDED_REMEMBERED = 16  # transfers per node whose later parts are passed over in silence


class PartFields(msgspec.Struct, frozen=True):
    """F1 of a part. `lengths`: bytes of each frame of the message, in the first part only."""

    transfer: int
    offset: int
    total: int
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """A message put together: its frames and the bytes that came for it, part headers included."""

    frames: list[bytes]
    wire_bytes: int


def size(frames: Sequence[bytes | memoryview]) -> int:
    """Bytes of the frames."""
    return sum(len(frame) for frame in frames)


def split(frames: Sequence[bytes], transfer: int, part_bytes: int = PART_BYTES) -> Iterator[list[bytes]]:
    """The parts of a message, each a message of at most `part_bytes`; one part at a time is copied, never all."""
    total = size(frames)
    assert total <= TRANSFER_BYTES_MAX, f"a message of {total} bytes cannot be sent"
    f0 = replace(read_envelope(frames), type=PART_TYPE, frames=3).pack()
    lengths = tuple(len(frame) for frame in frames)
    offset = 0
    for chunk in _chunks(frames, part_bytes - PART_OVERHEAD):
        fields = PartFields(transfer, offset, total, lengths if offset == 0 else ())
        yield [f0, msgspec.msgpack.encode(fields), chunk]
        offset += len(chunk)


def _chunks(frames: Sequence[bytes], chunk_bytes: int) -> Iterator[bytes]:
    chunk = bytearray()
    for frame in frames:
        rest = memoryview(frame)
        while len(rest):
            taken = rest[: chunk_bytes - len(chunk)]
            chunk += taken
            rest = rest[len(taken) :]
            if len(chunk) == chunk_bytes:
                yield bytes(chunk)
                chunk.clear()
    if chunk:
        yield bytes(chunk)


def is_part(frames: Sequence[bytes]) -> bool:
    """Whether these frames say they are a part; MalformedMessage if their header cannot be read."""
    return read_envelope(frames).type == PART_TYPE


@dataclass(slots=True)
class _Transfer:
    """One message on its way in."""

    total: int
    lengths: tuple[int, ...]
    heard_at: Nanos
    chunks: list[bytes] = field(default_factory=list)
    received: int = 0
    wire_bytes: int = 0

    def whole(self) -> Whole:
        joined = memoryview(b"".join(self.chunks))
        cuts = accumulate(self.lengths, initial=0)
        return Whole([bytes(joined[start:end]) for start, end in pairwise(cuts)], self.wire_bytes)


_Key = tuple[bytes, int]  # the link a transfer comes over, and its id


@dataclass(slots=True)
class _Inbox:
    """The transfers of one node, over all its links."""

    open: dict[_Key, _Transfer] = field(default_factory=dict)
    voided: deque[_Key] = field(default_factory=lambda: deque(maxlen=VOIDED_REMEMBERED))


class Assembler:
    """Puts parts together, per node and within bounds. Lives as long as its endpoint."""

    def __init__(
        self,
        transfers_per_node: int = TRANSFERS_PER_NODE,
        transfer_bytes_max: int = TRANSFER_BYTES_MAX,
        assembly_bytes_max: int = ASSEMBLY_BYTES_MAX,
    ) -> None:
        self.held_bytes = 0
        self._transfers_per_node = transfers_per_node
        self._transfer_bytes_max = transfer_bytes_max
        self._assembly_bytes_max = assembly_bytes_max
        self._inboxes: dict[NodeId, _Inbox] = {}

    def accept(self, sender: Peer, frames: Sequence[bytes], now: Nanos) -> Whole | None:
        """Take one part; the whole message if it was the last. MalformedMessage once for each transfer it voids."""
        if len(frames) != 3:
            raise MalformedMessage("frame count", f"{len(frames)} in a part")
        part, chunk = read_struct(read_fields(frames[1]), PartFields), frames[2]
        inbox = self._inboxes.setdefault(sender.node, _Inbox())
        key = (sender.link, part.transfer)
        if key in inbox.voided:
            return None
        try:
            transfer = self._transfer(inbox, key, part, now)
            self._check_fits(transfer, part, chunk)
        except MalformedMessage:
            self._void(inbox, key)
            raise
        transfer.chunks.append(chunk)
        transfer.received += len(chunk)
        transfer.wire_bytes += size(frames)
        transfer.heard_at = now
        self.held_bytes += len(chunk)
        if transfer.received < transfer.total:
            return None
        self._close(inbox, key)
        return transfer.whole()

    def expire(self, now: Nanos) -> int:
        """Void the transfers that were idle too long; how many."""
        count = 0
        for node, inbox in list(self._inboxes.items()):
            idle = [key for key, transfer in inbox.open.items() if now - transfer.heard_at > TRANSFER_IDLE]
            for key in idle:
                self._void(inbox, key)
            count += len(idle)
            if not inbox.open and not inbox.voided:
                del self._inboxes[node]
        return count

    def drop(self, node: NodeId) -> None:
        """Forget what this node has begun: it is heard no more."""
        inbox = self._inboxes.pop(node, _Inbox())
        self.held_bytes -= sum(transfer.received for transfer in inbox.open.values())

    def clear(self) -> None:
        """Forget everything: the connection it came over is gone."""
        self._inboxes.clear()
        self.held_bytes = 0

    def _transfer(self, inbox: _Inbox, key: _Key, part: PartFields, now: Nanos) -> _Transfer:
        if (known := inbox.open.get(key)) is not None:
            return known
        if part.offset != 0:
            raise MalformedMessage(LOST_PART, "the first part is missing")
        if len(inbox.open) >= self._transfers_per_node:
            raise MalformedMessage(LOST_PART, "too many transfers at once")
        if not 0 < part.total <= self._transfer_bytes_max:
            raise MalformedMessage("part", f"a transfer of {part.total} bytes")
        if len(part.lengths) > FRAMES_MAX or min(part.lengths, default=-1) < 0 or sum(part.lengths) != part.total:
            raise MalformedMessage("part", "frame lengths do not make the total")
        inbox.open[key] = _Transfer(part.total, part.lengths, now)
        return inbox.open[key]

    def _check_fits(self, transfer: _Transfer, part: PartFields, chunk: bytes) -> None:
        if part.total != transfer.total:
            raise MalformedMessage("part", "the total changed")
        if part.offset != transfer.received:
            if part.offset > transfer.received:
                raise MalformedMessage(LOST_PART, f"a part before byte {part.offset} is missing")
            raise MalformedMessage("part", f"a part before byte {part.offset} overlaps")
        if not 0 < len(chunk) <= part.total - part.offset:
            raise MalformedMessage("part", f"{len(chunk)} bytes do not fit")
        if self.held_bytes + len(chunk) > self._assembly_bytes_max:
            raise MalformedMessage(LOST_PART, "too many bytes of all nodes")

    def _void(self, inbox: _Inbox, key: _Key) -> None:
        self._close(inbox, key)
        inbox.voided.append(key)

    def _close(self, inbox: _Inbox, key: _Key) -> None:
        transfer = inbox.open.pop(key, None)
        if transfer is not None:
            self.held_bytes -= transfer.received
