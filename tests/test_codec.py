"""Messages survive the wire format, and nothing else gets through it."""

from __future__ import annotations

import math
import struct
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.actors import Header
from mdgan_edge.messages import (
    DiscriminatorId,
    Epoch,
    Error,
    ErrorCode,
    Feedback,
    Hello,
    Incarnation,
    Message,
    Ping,
    Pong,
    Session,
    Task,
    TaskId,
    Tensor,
    Version,
)
from mdgan_edge.wire.codec import (
    F0,
    F1_BYTES_MAX,
    FRAMES_MAX,
    MAGIC,
    REASON_MAX,
    TYPES,
    Envelope,
    MalformedMessage,
    decode,
    encode,
)

U64 = st.integers(0, 2**64 - 1)
HEADERS = st.builds(Header, epoch=U64, session=U64)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype: Literal["float32", "int64"] = draw(st.sampled_from(["float32", "int64"]))
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    values = np.array(draw(st.lists(st.integers(-1000, 1000), min_size=math.prod(shape), max_size=math.prod(shape))))
    data = values.reshape(shape).astype(dtype)
    return Tensor(dtype, shape, data.tobytes(), float(np.linalg.norm(values)) if dtype == "float32" else 0.0)


def values(of: Any) -> st.SearchStrategy[Any]:
    """Anything of a type that occurs in messages."""
    of = getattr(of, "__supertype__", of)
    if get_origin(of) is Annotated:
        plain_type, limits = get_args(of)
        if plain_type is str:
            return st.text(max_size=min(20, limits.max_length))
        if plain_type is int:
            return st.integers(limits.ge, limits.le)
        return st.floats(limits.ge, limits.le) if plain_type is float else values(plain_type)
    if get_origin(of) in (Union, UnionType):
        return st.one_of(*(values(each) for each in get_args(of)))
    if get_origin(of) is Literal:
        return st.sampled_from(get_args(of))
    if get_origin(of) is tuple:
        first, *others = get_args(of)
        return (
            st.lists(values(first), max_size=5).map(tuple) if ... in others else st.tuples(*map(values, get_args(of)))
        )
    if of is Tensor:
        return tensors()
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        return st.builds(of, **{field.name: values(field.type) for field in msgspec.structs.fields(of)})
    plain = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False),
        str: st.text(max_size=20),
        bool: st.booleans(),
        NoneType: st.none(),
    }
    return plain[of] if of in plain else st.sampled_from(list(of))  # the rest are enums


MESSAGES = st.sampled_from(list(TYPES.values())).flatmap(values)
PONG = Pong(1)
FEEDBACK = Feedback(
    TaskId(7), Version(3), DiscriminatorId("d-1"), 0, 0.5, 0.25, 0.1, Tensor("float32", (2,), struct.pack("<2f", 3, 4))
)


def refusal(frames: list[bytes]) -> str:
    with pytest.raises(MalformedMessage) as caught:
        decode(frames)
    return caught.value.reason


def with_fields(fields: dict[Any, Any], message: Message = PONG, tensor_frames: tuple[bytes, ...] = ()) -> list[bytes]:
    """The frames of a message whose F1 is something else."""
    f0 = F0.pack(MAGIC, 1, encode(Header(), 1, message)[0][5], 0, 2 + len(tensor_frames), 1, 0, 0)
    return [f0, msgspec.msgpack.encode(fields), *tensor_frames]


def feedback_with(descriptors: Any, *tensor_frames: bytes) -> list[bytes]:
    fields = msgspec.msgpack.decode(encode(Header(), 1, FEEDBACK)[1])
    return with_fields({**fields, "tensors": descriptors}, FEEDBACK, tensor_frames)


def test_every_message_of_the_contract_has_a_type_code() -> None:
    assert set(TYPES.values()) == set(get_args(Message))


@given(HEADERS, U64, MESSAGES)
def test_any_message_survives_the_wire(header: Header, seq: int, message: Message) -> None:
    back = decode(encode(header, seq, message))
    assert back[:2] == (header, seq)
    assert type(back[2]) is type(message)
    for name in message.__struct_fields__:
        sent, came = getattr(message, name), getattr(back[2], name)
        if isinstance(sent, Tensor):
            assert (came.dtype, came.shape, came.data) == (sent.dtype, sent.shape, sent.data)
            assert came.norm == pytest.approx(sent.norm)
        else:
            assert came == sent


def test_a_batch_that_goes_to_two_nodes_is_the_same_bytes_object() -> None:
    batch = Tensor("float32", (1, 1, 2, 2), bytes(16))
    labels = Tensor("int64", (1,), bytes(8))
    task = Task(TaskId(1), Version(0), 10.0, 1, batch, batch, y_g=labels)
    for frames in (encode(Header(), 1, task), encode(Header(Epoch(2), Session(3)), 2, task)):
        assert [
            frame is data for frame, data in zip(frames[2:], (batch.data, batch.data, labels.data), strict=True)
        ] == [True] * 3


def test_the_norm_is_measured_on_arrival_and_never_taken_from_the_sender() -> None:
    liar = msgspec.structs.replace(FEEDBACK, feedback=Tensor("float32", (2,), struct.pack("<2f", 3, 4), norm=1e9))
    _, _, message = decode(encode(Header(), 1, liar))
    assert isinstance(message, Feedback)
    assert message.feedback.norm == 5.0


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_tensor_that_is_not_finite_has_the_norm_nan(poison: float) -> None:
    bad = Tensor("float32", (2,), struct.pack("<2f", 1, poison))
    _, _, message = decode(encode(Header(), 1, msgspec.structs.replace(FEEDBACK, feedback=bad)))
    assert isinstance(message, Feedback)
    assert math.isnan(message.feedback.norm)


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_random_bytes_are_malformed_and_nothing_worse(frames: list[bytes]) -> None:
    with pytest.raises(MalformedMessage):
        decode(frames)


@given(st.sampled_from(list(TYPES)), st.binary(max_size=200), st.lists(st.binary(max_size=16), max_size=3))
def test_random_fields_behind_a_good_header_never_crash(code: int, f1: bytes, rest: list[bytes]) -> None:
    reason = ""
    try:
        decode([Envelope(code, 2 + len(rest), 1, 0, 0).pack(), f1, *rest])
    except MalformedMessage as wrong:
        reason = wrong.reason
    assert len(reason) <= REASON_MAX


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(MESSAGES, st.data())
def test_one_wrong_field_never_crashes(message: Message, data: st.DataObject) -> None:
    frames = encode(Header(), 1, message)
    fields = msgspec.msgpack.decode(frames[1])
    fields[data.draw(st.sampled_from([*fields, "tensors"]))] = data.draw(JSON)
    check = None
    try:
        decode([frames[0], msgspec.msgpack.encode(fields), *frames[2:]])
    except MalformedMessage as wrong:
        check = wrong.check
    assert check in {None, "schema", "descriptors", "byte count", "msgpack"}


@given(MESSAGES, st.data())
def test_a_mutated_message_never_crashes(message: Message, data: st.DataObject) -> None:
    frames = encode(Header(), 1, message)
    which = data.draw(st.integers(0, len(frames) - 1))
    mutated = bytearray(frames[which])
    for _ in range(data.draw(st.integers(1, 3))):
        if mutated:
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    frames[which] = bytes(mutated[: data.draw(st.integers(0, len(mutated)))])
    reason = ""
    try:
        decode(frames)
    except MalformedMessage as wrong:
        reason = wrong.reason
    assert len(reason) <= REASON_MAX


def test_each_check_of_the_header_is_named() -> None:
    good = encode(Header(), 1, Pong(1))
    f0 = good[0]
    assert refusal([]) == "frame count: 0"
    assert refusal([f0] * (FRAMES_MAX + 1)) == f"frame count: {FRAMES_MAX + 1}"
    assert refusal([*good, b""]) == "frame count: 3 instead of 2"
    assert refusal([f0[:-1], good[1]]) == "header: 31 bytes"
    assert refusal([b"EGDM" + f0[4:], good[1]]) == "magic"
    assert refusal([f0[:4] + b"\x09" + f0[5:], good[1]]) == "version: 9"
    assert refusal([f0[:5] + b"\xc8" + f0[6:], good[1]]) == "type: 200"
    assert refusal([f0[:6] + b"\x01" + f0[7:], good[1]]) == "flags: 1"


def test_each_check_of_the_fields_is_named() -> None:
    f0 = encode(Header(), 1, Pong(1))[0]
    assert refusal([f0, bytes(F1_BYTES_MAX + 1)]) == f"field size: {F1_BYTES_MAX + 1} bytes"
    assert refusal([f0, b"\x93"]).startswith("msgpack: ")
    assert refusal([f0, msgspec.msgpack.encode([1])]) == "msgpack: not a map of names"
    assert refusal(with_fields({1: 2})).startswith("msgpack: ")
    assert refusal(with_fields({"echo": 1, "unknown": {1: 2}})).startswith("msgpack: ")
    assert refusal(with_fields({"echo": b"binary"})).startswith("msgpack: ")
    assert refusal(with_fields({"echo": msgspec.msgpack.Ext(1, b"x")})).startswith("msgpack: ")
    assert refusal(with_fields({"echo": 1, "long": "x" * 5000})).startswith("msgpack: ")
    assert refusal(with_fields({"echo": 1, "long": [0] * 5000})).startswith("msgpack: ")
    assert refusal([f0, b"\x81\xa1x" + b"\x91" * 10_000 + b"\x90"]).startswith("msgpack: ")


def test_an_error_of_the_schema_names_the_field() -> None:
    assert "`$.echo`" in refusal(with_fields({"echo": "one"}))
    assert "`echo`" in refusal(with_fields({}))
    hello = Hello(Incarnation(1), 1, 1, "test", 10, (1, 28, 28), (1, 2), 2)
    fields = msgspec.msgpack.decode(encode(Header(), 1, hello)[1])
    assert "`$.image_shape" in refusal(with_fields({**fields, "image_shape": [1, "28", 28]}, hello))


def test_an_unknown_field_is_ignored() -> None:
    assert decode(with_fields({"echo": 5, "colour": "green"}))[2] == Pong(5)


def test_a_field_that_may_be_missing_may_be_missing() -> None:
    assert decode(with_fields({"echo": 5}, Ping(5)))[2] == Ping(5)
    error = Error(ErrorCode.BUSY, "later")
    assert decode(with_fields({"code": "BUSY", "text": "later"}, error))[2] == error


def test_each_check_of_the_tensors_is_named() -> None:
    data = bytes(8)
    assert decode(feedback_with([["feedback", "float32", [2]]], data))
    assert "`$[0][1]`" in refusal(feedback_with([["feedback", "float16", [2]]], data))
    assert refusal(feedback_with("feedback", data)).startswith("descriptors: ")
    assert refusal(feedback_with([], data)).startswith("descriptors: ")
    assert refusal(feedback_with([["x_d", "float32", [2]]], data)).startswith("descriptors: ")
    assert refusal(feedback_with([["feedback", "float32", [2]]] * 2, data, data)).startswith("descriptors: ")
    assert refusal(feedback_with([["feedback", "float32", [2]]])) == "descriptors: 1 for 0 tensor frames"
    assert refusal(feedback_with([["feedback", "float32", [1, 1, 1, 1, 2]]], data)).startswith("descriptors: ")
    for size in (0, -2, 2**25, 2**63):
        assert refusal(feedback_with([["feedback", "float32", [size]]], data)).startswith("descriptors: ")
    assert refusal(feedback_with([["feedback", "float32", [3]]], data)).startswith("byte count: feedback has 8")
    assert refusal(feedback_with([["feedback", "int64", [2]]], data)).startswith("byte count: feedback has 8")


def test_a_long_text_of_ours_is_our_bug_and_stays_here() -> None:
    with pytest.raises(AssertionError, match="bytes of fields"):
        encode(Header(), 1, Error(ErrorCode.PROTOCOL, "x" * F1_BYTES_MAX))
