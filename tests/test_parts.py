"""A large message arrives whole or not at all, and what waits for its rest is bounded."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.actors import Nanos, Peer
from mdgan_edge.messages import NodeId
from mdgan_edge.wire.codec import FRAMES_MAX, PART_TYPE, Envelope, MalformedMessage, read_envelope
from mdgan_edge.wire.parts import (
    PART_BYTES,
    PART_OVERHEAD,
    TRANSFER_IDLE,
    TRANSFERS_PER_NODE,
    VOIDED_REMEMBERED,
    Assembler,
    PartFields,
    is_part,
    size,
    split,
)

ALICE, BOB = Peer(NodeId("alice"), b"link-a"), Peer(NodeId("bob"), b"link-b")
NOW = Nanos(0)
SMALL = PART_OVERHEAD + 16  # bytes of a part with 16 of content
FRAMES = st.lists(st.binary(max_size=100), min_size=1, max_size=FRAMES_MAX - 1).map(lambda rest: message(*rest))


def message(*rest: bytes) -> list[bytes]:
    """Frames that look like a message: only the header has to be right."""
    return [Envelope(1, 1 + len(rest), 9, 2, 3).pack(), *rest]


def feed(assembler: Assembler, parts: list[list[bytes]], sender: Peer = ALICE) -> tuple[list[list[bytes]], list[str]]:
    """The messages that came out, and the reasons for those that did not."""
    whole, reasons = [], []
    for part in parts:
        try:
            if (done := assembler.accept(sender, part, NOW)) is not None:
                whole.append(done.frames)
        except MalformedMessage as wrong:
            reasons.append(wrong.reason)
    return whole, reasons


def part_of(frames: list[bytes], chunk: bytes = b"x", **changes: object) -> list[bytes]:
    """A part whose fields were tampered with."""
    fields = {**msgspec.structs.asdict(msgspec.msgpack.decode(frames[1], type=PartFields)), **changes}
    return [frames[0], msgspec.msgpack.encode(fields), chunk]


@given(FRAMES)
def test_any_message_survives_in_parts(frames: list[bytes]) -> None:
    assembler = Assembler()
    parts = list(split(frames, 7, SMALL))
    assert all(is_part(part) and size(part) <= SMALL for part in parts)
    assert feed(assembler, parts) == ([frames], [])
    assert assembler.held_bytes == 0


def test_a_part_of_a_real_message_is_never_larger_than_the_limit() -> None:
    frames = message(*[bytes(200_001)] * (FRAMES_MAX - 1))
    parts = list(split(frames, 2**63))
    assert max(map(size, parts)) <= PART_BYTES
    assert len(parts) == -(-size(frames) // (PART_BYTES - PART_OVERHEAD))
    assert feed(Assembler(), parts) == ([frames], [])


def test_a_part_carries_the_header_of_its_message() -> None:
    (part, *_) = split(message(bytes(50)), 7, SMALL)
    assert read_envelope(part) == Envelope(PART_TYPE, 3, 9, 2, 3)


@given(st.lists(FRAMES, min_size=2, max_size=4), st.data())
def test_a_dropped_part_voids_exactly_its_transfer(messages: list[list[bytes]], data: st.DataObject) -> None:
    transfers = [list(split(frames, number, SMALL)) for number, frames in enumerate(messages)]
    hurt = data.draw(st.integers(0, len(transfers) - 1))
    lost = data.draw(st.integers(0, len(transfers[hurt]) - 1))
    was_last = lost == len(transfers[hurt]) - 1
    del transfers[hurt][lost]
    assembler = Assembler()
    whole, reasons = feed(assembler, [part for transfer in transfers for part in transfer])
    assert whole == [frames for number, frames in enumerate(messages) if number != hurt]
    assert len(reasons) == (0 if was_last else 1)
    assert assembler.expire(Nanos(TRANSFER_IDLE + 1)) == (1 if was_last and transfers[hurt] else 0)
    assert assembler.held_bytes == 0


@given(FRAMES, FRAMES, st.randoms())
def test_transfers_may_be_mixed_and_senders_do_not_disturb_each_other(
    first: list[bytes], second: list[bytes], random: object
) -> None:
    queues = [(ALICE, list(split(first, 1, SMALL))), (BOB, list(split(second, 1, SMALL)))]
    assembler, whole = Assembler(), {}
    while any(parts for _, parts in queues):
        sender, parts = random.choice([queue for queue in queues if queue[1]])  # type: ignore[attr-defined]
        if (done := assembler.accept(sender, parts.pop(0), NOW)) is not None:
            whole[sender] = done.frames
    assert whole == {ALICE: first, BOB: second}


def test_a_repeated_part_overlaps() -> None:
    parts = list(split(message(bytes(100)), 7, SMALL))
    assert feed(Assembler(), [parts[0], parts[1], parts[1], *parts[2:]]) == (
        [],
        ["part: a part before byte 16 overlaps"],
    )


def test_the_same_transfer_over_another_link_is_another_transfer() -> None:
    parts = list(split(message(bytes(100)), 7, SMALL))
    assembler = Assembler()
    assert feed(assembler, parts[:2]) == ([], [])
    assert feed(assembler, parts[2:], Peer(ALICE.node, b"new")) == ([], ["lost part: the first part is missing"])
    assert feed(assembler, parts, Peer(ALICE.node, b"newer"))[0] == [message(bytes(100))]


def test_fields_of_a_part_that_make_no_sense_are_refused() -> None:
    first, second, *_ = split(message(bytes(100)), 7, SMALL)

    def reasons(*parts: list[bytes]) -> list[str]:
        return feed(Assembler(), list(parts))[1]

    assert reasons(first[:2]) == ["frame count: 2 in a part"]
    assert reasons(part_of(first, total="many")) == ["schema: Expected `int`, got `str` - at `$.total`"]
    assert reasons(part_of(first, total=0, lengths=[])) == ["part: a transfer of 0 bytes"]
    assert reasons(part_of(first, total=2**40, lengths=[2**40])) == [f"part: a transfer of {2**40} bytes"]
    assert reasons(part_of(first, lengths=[])) == ["part: frame lengths do not make the total"]
    assert reasons(part_of(first, lengths=[-1, 133])) == ["part: frame lengths do not make the total"]
    assert reasons(part_of(first, lengths=[1] * 132)) == ["part: frame lengths do not make the total"]
    assert reasons(part_of(first, chunk=bytes(133))) == ["part: 133 bytes do not fit"]
    assert reasons(part_of(first, chunk=b"")) == ["part: 0 bytes do not fit"]
    assert reasons(first, part_of(second, total=131)) == ["part: the total changed"]


def test_a_node_has_only_so_many_transfers_even_over_many_links() -> None:
    assembler = Assembler()
    first, *_ = split(message(bytes(100)), 7, SMALL)
    for number in range(TRANSFERS_PER_NODE):
        assert feed(assembler, [first], Peer(ALICE.node, b"%d" % number)) == ([], [])
    assert feed(assembler, [first], Peer(ALICE.node, b"x")) == ([], ["lost part: too many transfers at once"])
    assert feed(assembler, [first], BOB) == ([], [])


def test_the_bytes_of_all_nodes_are_bounded() -> None:
    assembler = Assembler(assembly_bytes_max=40)
    first, second, *_ = split(message(bytes(100)), 7, SMALL)
    assert feed(assembler, [first], ALICE) == ([], [])
    assert feed(assembler, [first, second], BOB) == ([], ["lost part: too many bytes of all nodes"])
    assert assembler.held_bytes == 16, "what was voided is given back, what was not is kept"
    assert feed(assembler, [second], ALICE) == ([], [])


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 80)), max_size=60))
def test_no_sequence_of_parts_breaks_the_bounds(moves: list[tuple[int, int, int]]) -> None:
    assembler = Assembler(transfers_per_node=2, transfer_bytes_max=100, assembly_bytes_max=150)
    first, *_ = split(message(bytes(40)), 7, SMALL)
    for transfer, length, offset in moves:
        part = part_of(first, chunk=bytes(length), transfer=transfer % 5, offset=offset if offset % 2 else 0)
        feed(assembler, [part], ALICE if transfer % 2 else BOB)
        assert 0 <= assembler.held_bytes <= 150
    assembler.expire(Nanos(TRANSFER_IDLE + 1))
    assert assembler.held_bytes == 0


def test_a_transfer_that_stands_still_is_given_up() -> None:
    assembler = Assembler()
    parts = list(split(message(bytes(100)), 7, SMALL))
    assembler.accept(ALICE, parts[0], NOW)
    assembler.accept(ALICE, parts[1], Nanos(TRANSFER_IDLE))
    assert assembler.expire(Nanos(2 * TRANSFER_IDLE)) == 0, "each part is a sign of life"
    assert assembler.expire(Nanos(2 * TRANSFER_IDLE + 1)) == 1
    assert feed(assembler, parts[2:]) == ([], []), "the rest is passed over in silence"


def test_only_so_many_voided_transfers_are_remembered() -> None:
    assembler = Assembler()
    _, second, *_ = split(message(bytes(100)), 7, SMALL)
    late = [part_of(second, transfer=number) for number in range(VOIDED_REMEMBERED + 1)]
    assert len(feed(assembler, late)[1]) == VOIDED_REMEMBERED + 1
    assert len(feed(assembler, late[1:])[1]) == 0
    assert len(feed(assembler, late[:1])[1]) == 1


def test_a_message_too_large_for_any_receiver_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="cannot be sent"):
        next(split(message(*[bytes(8 * 1024 * 1024)] * 9), 1))
