"""Reads the pickles of CIFAR-10 without trust: plain values and byte arrays come out, nothing of ours or theirs is run.

Pickle is a small language that calls what it names. Here it may name what a numpy array of bytes is written with, and
each such name stands for a blank of our own that only takes notes; numpy itself is not called, and no class or function
is handed out that a pickle could alter. Opcodes that these files do not need are refused before anything is read, and
so is a tuple used twice: hashing tuples of tuples takes for ever.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np

from mdgan_edge.data.images import Pixels

OPCODES = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT",
    "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "EMPTY_LIST", "APPEND", "APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "PUT", "BINPUT",
    "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
})  # fmt: skip
OPCODES_MAX = 1_000_000  # of 10,000 images with labels and names: some 50,000
TUPLES_MAX = 20_000
# What pickle, and reshape, raise when bytes are wrong.
ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, ImportError,
    OverflowError, RecursionError, MemoryError,
)  # fmt: skip
BYTES_TYPES = frozenset({"u1", "|u1", "uint8"})


class Refused(ValueError):
    """The pickle asks for something that these files do not need."""


class Damaged(ValueError):
    """These bytes are no pickle, or a torn one."""


class Noted:
    """An array of bytes as the pickle describes it."""

    __slots__ = ("array",)
    __hash__ = None  # type: ignore[assignment]  # never a key

    def __setstate__(self, state: Any) -> None:
        """(version, shape, dtype, whether in Fortran's order, bytes), as numpy writes them."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise Refused("an array without its five facts")
        _, shape, kind, fortran, raw = state
        self.array = _array(raw, kind, shape, "F" if fortran else "C")


class Kind:
    """The element type of an array; only bytes are taken."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: of no meaning for bytes."""


class MakeNoted:
    """For numpy's _reconstruct: an array that is not filled yet."""

    __slots__ = ()

    def __call__(self, *_: Any) -> Noted:
        """What is asked for does not matter: it is judged when the bytes come."""
        return Noted()


class MakeKind:
    """For numpy.dtype."""

    __slots__ = ()

    def __call__(self, name: Any = None, *_: Any) -> Kind:
        """The one element type; Refused for any other."""
        if name not in BYTES_TYPES:
            raise Refused(f"an array of {name!s:.20}")
        return Kind()


class FromBuffer:
    """For numpy's _frombuffer, which newer pickles use."""

    __slots__ = ()

    def __call__(self, raw: Any, kind: Any, shape: Any, order: Any) -> Noted:
        """An array at once."""
        noted = Noted()
        noted.array = _array(raw, kind, shape, order)
        return noted


class Encode:
    """For _codecs.encode, with which Python 3 writes bytes into old pickles."""

    __slots__ = ()

    def __call__(self, text: Any, codec: Any = None) -> bytes:
        """Latin 1, which old pickles use, and no other codec."""
        if not isinstance(text, str) or codec != "latin1":
            raise Refused("text in a codec other than latin1")
        return text.encode("latin1")


class Marker:
    """For numpy.ndarray, which is only mentioned."""

    __slots__ = ()


KNOWN: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): Marker(),
    ("numpy", "dtype"): MakeKind(),
    ("_codecs", "encode"): Encode(),
    **{(f"numpy.{core}.multiarray", "_reconstruct"): MakeNoted() for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): FromBuffer() for core in ("core", "_core")},
}


class Reader(pickle.Unpickler):
    """Knows the names in KNOWN and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """The blank for a name; Refused for whatever else a pickle wants to call."""
        try:
            return KNOWN[(module, name)]
        except KeyError:
            raise Refused(f"{module}.{name}"[:80]) from None


def read_pickle(raw: bytes) -> Any:
    """The value: dict, list, tuple, number, text, bytes, None, Noted. Refused or Damaged for all else.

    Texts of Python 2 become str by Latin 1, which loses nothing.
    """
    try:
        _check_opcodes(raw)
        return Reader(io.BytesIO(raw), encoding="latin1").load()
    except Refused:
        raise
    except ERRORS as error:
        raise Damaged(str(error)) from None


def _check_opcodes(raw: bytes) -> None:
    tuples: set[int] = set()  # places in the memo that hold one
    memoized = count = 0
    last = ""
    for number, (name, argument) in enumerate(_opcodes(raw)):
        if name not in OPCODES or number > OPCODES_MAX:
            raise Refused(f"opcode {name}" if name not in OPCODES else f"more than {OPCODES_MAX} opcodes")
        if "PUT" in name or name == "MEMOIZE":
            place = memoized if name == "MEMOIZE" else int(argument)
            memoized += 1
            if place > OPCODES_MAX:  # pickle would make a table of that length
                raise Refused(f"note {place}, more than {OPCODES_MAX}")
            (tuples.add if "TUPLE" in last else tuples.discard)(place)
            continue
        if "GET" in name and int(argument) in tuples:
            raise Refused("a tuple used twice")
        count += "TUPLE" in name
        if count > TUPLES_MAX:
            raise Refused(f"more than {TUPLES_MAX} tuples")
        last = name


def _opcodes(raw: bytes) -> Iterator[tuple[str, Any]]:
    for opcode, argument, _ in pickletools.genops(raw):
        yield opcode.name, argument


def _array(raw: Any, kind: Any, shape: Any, order: Any) -> Pixels:
    plain = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    data = raw.encode("latin1") if isinstance(raw, str) else raw  # a string of Python 2
    if not isinstance(kind, Kind) or not plain or not isinstance(data, (bytes, bytearray)) or order not in ("C", "F"):
        raise Refused("an array of something other than bytes")
    array: Pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape, order=order)
    return array
