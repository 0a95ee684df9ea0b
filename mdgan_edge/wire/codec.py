"""Knows how a message becomes frames and back: [fixed header][msgpack map][raw tensor bytes ...].

Decoding checks the cheap things first and names the first check that failed. Nothing here knows sockets or parts.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import msgpack  # type: ignore[import-untyped]
import msgspec
import numpy as np

from mdgan_edge.actors import Header
from mdgan_edge.messages import (
    ITEM_BYTES,
    PROTOCOL_VERSION,
    Abort,
    Accept,
    Adopt,
    Bye,
    ByeAck,
    Commit,
    Copy,
    Decline,
    Dtype,
    Epoch,
    Error,
    Expect,
    Feedback,
    Fetch,
    GivenUp,
    Hello,
    Installed,
    Message,
    Peers,
    Ping,
    Pong,
    Prepared,
    Propose,
    Receipt,
    Refuse,
    Seek,
    Session,
    Task,
    Tensor,
    Welcome,
)

MAGIC = b"MDGE"
F0 = struct.Struct("<4sBBBBQQQ")  # magic, version, type, flags, frame count, seq, epoch, session
NO_FLAGS = 0

TENSORS_MAX = 8
FRAMES_MAX = 2 + TENSORS_MAX
F1_BYTES_MAX = 16 * 1024
STRING_BYTES_MAX = 4096
ARRAY_MAX = 4096  # items; also the number of classes a node can name
MAP_MAX = 64  # keys
DIMENSIONS_MAX = 4
DIMENSION_MAX = 1 << 24  # a discriminator travels as one row of numbers
REASON_MAX = 200  # characters of a reason that may quote a peer

DESCRIPTORS = "tensors"  # the key of F1 that no message may use as a field
Body = TypeVar("Body", bound=msgspec.Struct)

PART_TYPE = 64  # not a message: a piece of one, see parts

TYPES: Mapping[int, type[Message]] = {
    1: Hello,
    2: Welcome,
    3: Ping,
    4: Pong,
    5: Task,
    6: Feedback,
    7: Receipt,
    8: Refuse,
    9: Bye,
    10: ByeAck,
    11: Error,
    12: Seek,
    13: Peers,
    14: Propose,
    15: Accept,
    16: Decline,
    17: Copy,
    18: Prepared,
    19: Commit,
    20: Abort,
    21: Installed,
    22: GivenUp,
    23: Expect,
    24: Adopt,
    25: Fetch,
}


class MalformedMessage(Exception):
    """Bytes that are not a message of ours. `check` is one of a few fixed words, `reason` adds the detail."""

    def __init__(self, check: str, detail: str = "") -> None:
        self.check = check
        self.reason = f"{check}: {detail}"[:REASON_MAX] if detail else check
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fixed header of every message and part."""

    type: int
    frames: int
    seq: int
    epoch: int
    session: int

    def pack(self) -> bytes:
        """The 32 bytes of F0."""
        return F0.pack(MAGIC, PROTOCOL_VERSION, self.type, NO_FLAGS, self.frames, self.seq, self.epoch, self.session)


class Vocabulary:
    """The messages that two sides can say to each other, by the number that stands for each on the wire."""

    def __init__(self, types: Mapping[int, type[Any]]) -> None:
        self._kinds = {message: _kind(code, message) for code, message in types.items()}
        self._by_code = {kind.code: kind for kind in self._kinds.values()}

    def encode(self, header: Header, seq: int, message: Any) -> list[bytes]:
        """The frames of a message; tensor frames are the very `Tensor.data` objects, uncopied."""
        kind = self._kinds[type(message)]
        tensors = [(name, tensor) for name in kind.tensors if (tensor := getattr(message, name)) is not None]
        fields: dict[str, Any] = {name: getattr(message, name) for name in kind.plain}
        if tensors:
            fields[DESCRIPTORS] = [(name, tensor.dtype, tensor.shape) for name, tensor in tensors]
        f1 = msgspec.msgpack.encode(fields)
        assert len(f1) <= F1_BYTES_MAX, f"{type(message).__name__} has {len(f1)} bytes of fields"
        for name, tensor in tensors:
            assert len(tensor.data) == _byte_count(tensor.dtype, tensor.shape), f"{name} is not {tensor.shape}"
        f0 = Envelope(kind.code, 2 + len(tensors), seq, header.epoch, header.session).pack()
        return [f0, f1, *(tensor.data for _, tensor in tensors)]

    def decode(self, frames: Sequence[bytes]) -> tuple[Header, int, Any]:
        """(header, seq, message) of whole frames; MalformedMessage names the first check that failed."""
        envelope = read_envelope(frames)
        kind = self._by_code.get(envelope.type)
        if kind is None:
            raise MalformedMessage("type", str(envelope.type))
        fields = read_fields(frames[1])
        body = read_struct(fields, kind.body)
        tensors = _read_tensors(fields.get(DESCRIPTORS, []), frames[2:], kind)
        plain = {name: getattr(body, name) for name in kind.plain}
        message = kind.build(**plain, **tensors)
        return Header(Epoch(envelope.epoch), Session(envelope.session)), envelope.seq, message


def encode(header: Header, seq: int, message: Message) -> list[bytes]:
    """The frames of a message of the protocol."""
    return PROTOCOL.encode(header, seq, message)


def decode(frames: Sequence[bytes]) -> tuple[Header, int, Message]:
    """(header, seq, message) of whole frames; MalformedMessage names the first check that failed."""
    header, seq, message = PROTOCOL.decode(frames)
    return header, seq, message


def read_envelope(frames: Sequence[bytes]) -> Envelope:
    """F0, after the number of frames was found to be right."""
    if not 2 <= len(frames) <= FRAMES_MAX:
        raise MalformedMessage("frame count", str(len(frames)))
    if len(frames[0]) != F0.size:
        raise MalformedMessage("header", f"{len(frames[0])} bytes")
    magic, version, type_, flags, count, seq, epoch, session = F0.unpack(frames[0])
    if magic != MAGIC:
        raise MalformedMessage("magic")
    if version != PROTOCOL_VERSION:
        raise MalformedMessage("version", str(version))
    if flags != NO_FLAGS:
        raise MalformedMessage("flags", str(flags))
    if count != len(frames):
        raise MalformedMessage("frame count", f"{len(frames)} instead of {count}")
    return Envelope(type_, count, seq, epoch, session)


def read_fields(f1: bytes) -> dict[str, Any]:
    """The msgpack map of F1, within every limit above."""
    if len(f1) > F1_BYTES_MAX:
        raise MalformedMessage("field size", f"{len(f1)} bytes")
    try:
        fields = msgpack.unpackb(
            f1,
            raw=False,
            strict_map_key=True,
            max_str_len=STRING_BYTES_MAX,
            max_bin_len=0,
            max_array_len=ARRAY_MAX,
            max_map_len=MAP_MAX,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as wrong:
        raise MalformedMessage("msgpack", str(wrong) or type(wrong).__name__) from None
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise MalformedMessage("msgpack", "not a map of names")
    return fields


def read_struct(fields: Mapping[str, Any], body: type[Body]) -> Body:
    """The fields as a frozen struct; unknown keys are ignored, an error names the field."""
    try:
        return msgspec.convert(fields, body)
    except msgspec.ValidationError as wrong:
        raise MalformedMessage("schema", str(wrong)) from None


# --- tensors --------------------------------------------------------------------------------------------------------


class _Descriptor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    name: str
    dtype: Dtype
    shape: tuple[int, ...]


def _read_tensors(descriptors: Any, frames: Sequence[bytes], kind: _Kind) -> dict[str, Tensor]:
    described = _read_descriptors(descriptors, kind)
    if len(described) != len(frames):
        raise MalformedMessage("descriptors", f"{len(described)} for {len(frames)} tensor frames")
    for descriptor, data in zip(described, frames, strict=True):
        if len(data) != _byte_count(descriptor.dtype, descriptor.shape):
            raise MalformedMessage("byte count", f"{descriptor.name} has {len(data)} for {descriptor.shape}")
    return {
        descriptor.name: Tensor(descriptor.dtype, descriptor.shape, data, _norm(descriptor.dtype, data))
        for descriptor, data in zip(described, frames, strict=True)
    }


def _read_descriptors(raw: Any, kind: _Kind) -> list[_Descriptor]:
    try:
        described = msgspec.convert(raw, list[_Descriptor])
    except msgspec.ValidationError as wrong:
        raise MalformedMessage("descriptors", str(wrong)) from None
    names = [descriptor.name for descriptor in described]
    if len(set(names)) != len(names) or not kind.needed <= set(names) <= set(kind.tensors):
        raise MalformedMessage("descriptors", f"tensors {names!r}")
    for descriptor in described:
        shape = descriptor.shape
        if len(shape) > DIMENSIONS_MAX or not all(1 <= size <= DIMENSION_MAX for size in shape):
            raise MalformedMessage("descriptors", f"{descriptor.name} has shape {shape}")
    return described


def _byte_count(dtype: Dtype, shape: Sequence[int]) -> int:
    return math.prod(shape) * ITEM_BYTES[dtype]


def _norm(dtype: Dtype, data: bytes) -> float:
    if dtype != "float32":
        return 0.0
    values = np.frombuffer(data, dtype="<f4").astype(np.float64)
    return float(np.sqrt(values @ values)) if np.isfinite(values).all() else math.nan


# --- the schema of each message -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    code: int
    build: Callable[..., Any]
    body: type[msgspec.Struct]  # the message without its tensors
    plain: tuple[str, ...]
    tensors: tuple[str, ...]
    needed: frozenset[str]  # tensors that may not be missing


def _kind(code: int, message: type[Any]) -> _Kind:
    fields = msgspec.structs.fields(message)
    assert DESCRIPTORS not in {field.name for field in fields}
    tensors = {field.name: field for field in fields if field.type is Tensor or Tensor in get_args(field.type)}
    plain = [field for field in fields if field.name not in tensors]
    body = msgspec.defstruct(
        f"{message.__name__}Fields",
        [(f.name, f.type) if f.required else (f.name, f.type, f.default) for f in plain],
        frozen=True,
        kw_only=True,
    )
    needed = frozenset(name for name, field in tensors.items() if field.required)
    return _Kind(code, message, body, tuple(field.name for field in plain), tuple(tensors), needed)


PROTOCOL = Vocabulary(TYPES)
