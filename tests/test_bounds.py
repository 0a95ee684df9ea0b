"""Every number and text on the wire has bounds, and what is beyond them is malformed to whoever gets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import msgspec.inspect as kinds
import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Header
from mdgan_edge.bounds import COUNT_MAX, HOP_MAX
from mdgan_edge.config import load_settings
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.messages import (
    Accept,
    Copy,
    DiscriminatorId,
    HeldDiscriminator,
    Hello,
    Incarnation,
    Message,
    NodeId,
    Prepared,
    Propose,
    SwapId,
    Tensor,
)
from mdgan_edge.wire.codec import TYPES, MalformedMessage, decode, encode
from nodes.store import NodeStore

HELLO = Hello(Incarnation(1), 1, 1, "evil", 1000, (1, 28, 28), None, True)
SWAP, ANN, BOB, D = SwapId("ann/1/1"), NodeId("ann"), NodeId("bob"), DiscriminatorId("d1-ann")


def unbounded(kind: kinds.Type, where: str) -> Iterator[str]:
    """Where in a type there is a number, a text or a list of any size; a tensor's are the codec's business."""
    match kind:
        case kinds.IntType(ge=None) | kinds.IntType(le=None) | kinds.StrType(max_length=None):
            yield where
        case kinds.UnionType(types=types) | kinds.TupleType(item_types=types):
            for one in types:
                yield from unbounded(one, where)
        case kinds.VarTupleType(item_type=item, max_length=longest):
            if longest is None:
                yield where
            yield from unbounded(item, f"{where}[]")
        case kinds.StructType(cls=cls, fields=fields) if cls is not Tensor:
            for field in fields:
                yield from unbounded(field.type, f"{where}.{field.name}")
        case kinds.DictType() | kinds.ListType() | kinds.SetType() | kinds.AnyType() | kinds.BytesType():
            yield f"{where} is a {type(kind).__name__}"
        case _:
            pass  # bounded by what it is: an enum, a literal, a float, a bool


@pytest.mark.parametrize("message", TYPES.values(), ids=lambda message: message.__name__)
def test_every_number_and_text_of_a_message_has_bounds(message: type[Message]) -> None:
    assert list(unbounded(kinds.type_info(message), message.__name__)) == []


def test_a_field_without_bounds_would_be_seen() -> None:
    class Careless(msgspec.Struct):
        count: int
        least: int | None
        words: tuple[str, ...]
        held: HeldDiscriminator

    found = list(unbounded(kinds.type_info(Careless), "Careless"))
    assert found == ["Careless.count", "Careless.least", "Careless.words", "Careless.words[]"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (replace(HELLO, incarnation=Incarnation(1 << 63)), "incarnation"),
        (replace(HELLO, incarnation=Incarnation(-1)), "incarnation"),
        (replace(HELLO, discriminator=HeldDiscriminator(D, HOP_MAX + 1, "f", 0)), "hop"),
        (replace(HELLO, labels=(COUNT_MAX + 1,)), "labels"),
        (replace(HELLO, software="x" * 1000), "software"),
        (Propose(SWAP, ANN, BOB, D, HOP_MAX, "f"), "hop"),
        (Accept(SWAP, ANN, BOB, D, (1 << 64) - 1), "hop"),
        (Accept(SwapId("a" * 1000), ANN, BOB, D, 0), "swap_id"),
        (Copy(SWAP, ANN, BOB, D, (1 << 64) - 1, "f", "g", Tensor("float32", (1,), bytes(4))), "hop"),
        (Prepared(SWAP, BOB, D, HOP_MAX, D, 0), "held_hop"),
    ],
)
def test_what_is_beyond_its_bounds_is_malformed_and_the_field_is_named(message: Message, field: str) -> None:
    with pytest.raises(MalformedMessage, match=f"schema: .*{field}"):
        decode(encode(Header(), 1, message))


def test_what_a_node_has_shelved_of_a_copy_at_the_bound_it_can_tell_the_hub() -> None:
    copy = Copy(SWAP, ANN, BOB, D, HOP_MAX - 1, "f", "g", Tensor("float32", (1,), bytes(4)))
    *_, read = decode(encode(Header(), 1, copy))
    hello = replace(HELLO, spares=(HeldDiscriminator(D, read.hop + 1, "f", 0),))
    assert decode(encode(Header(), 1, hello))[2] == hello


# --- where such numbers are kept and set ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["-1", str(COUNT_MAX), str(1 << 63)])
def test_an_incarnation_that_no_hub_would_hear_is_refused_with_what_is_wrong(tmp_path: Path, text: str) -> None:
    store = NodeStore.create(tmp_path / "ann", "ann")
    (store.folder / "incarnation").write_text(text)
    with pytest.raises(DataError, match=f"says {text}: it must hold a number of 0 to"):
        store.next_incarnation()


@pytest.mark.parametrize(
    ("key", "value"), [("swap", "1e308"), ("swap", "0"), ("credit", "100000"), ("discriminator_steps", "9999999")]
)
def test_a_setting_that_could_not_be_told_to_a_node_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"training\.{key}"):
        load_settings(None, {}, {f"training.{key}": value})
