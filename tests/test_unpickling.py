"""The pickles of CIFAR-10: whatever one asks for beyond bytes is refused in a line, and nothing in it is ever run."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.data.cifar10 import Cifar10
from mdgan_edge.data.unpickling import KNOWN, Damaged, Kind, Noted, Refused, read_pickle
from mdgan_edge.errors import DataError
from tests.layouts import cifar_batch, noise, python2_pickle, write_cifar

X, Y = noise(3, 3, 32, 32), [1, 2, 3]
BATCHES = [python2_pickle(X, Y), *(pickle.dumps(cifar_batch(X, Y), protocol) for protocol in (2, 5))]


# What a pickle can come to; a blank by itself is of no use to it.
PLAIN = {dict, list, tuple, int, bool, str, bytes, bytearray, type(None), Noted, Kind, *map(type, KNOWN.values())}


class Calls:
    """Pickles into a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def refusal(folder: Path, raw: bytes) -> str:
    """The line that a data_batch_1 of these bytes ends with."""
    (folder / "data_batch_1").write_bytes(raw)
    with pytest.raises(DataError) as caught:
        Cifar10(folder).parts()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["whole", "value", "key of a batch"])
def test_a_command_is_refused_and_not_run(tmp_path: Path, protocol: int, where: str) -> None:
    mark = tmp_path / "it ran"
    bomb = Calls(os.system, f"touch '{mark}'")
    hostile = {"whole": bomb, "value": {b"data": bomb}, "key of a batch": {bomb: 1} | cifar_batch(X, Y)}[where]
    text = refusal(tmp_path, pickle.dumps(hostile, protocol))
    assert "data_batch_1: holds posix.system, which no batch of CIFAR-10 needs; refused" in text
    assert not mark.exists()


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (eval, ("1",), "builtins.eval"),
        (getattr, ("", "join"), "builtins.getattr"),
        (np.load, ("x",), "numpy.load"),
        (np.frombuffer, (b"1",), "frombuffer"),
        (bytearray, (1 << 40,), "builtins.bytearray"),
        (np.dtype, ("O",), "an array of O"),
        (np.dtype, ("i8",), "an array of i8"),
        (np.array, ([1, 2],), "array"),
    ],
)
def test_other_calls_are_refused_by_name(
    tmp_path: Path, function: object, arguments: tuple[object, ...], words: str
) -> None:
    assert words in refusal(tmp_path, pickle.dumps({b"data": Calls(function, *arguments)}, 4))


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
KIND = b"cnumpy\ndtype\nX\x02\0\0\0u1\x85R"
TWICE = b")" + b"".join(b"q%c0h%ch%c\x86" % (i, i, i) for i in range(1, 60))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x80\x02(iposix\nsystem\n.", "opcode INST"),
        (b"\x80\x02(cposix\nsystem\no.", "opcode OBJ"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02Pposix\n.", "opcode PERSID"),
        (b"\x80\x02K\x012\x86.", "opcode DUP"),
        (b"\x80\x02" + TWICE + b"}" + TWICE + b"K\x01s.", "a tuple used twice"),
        (b"\x80\x02)" + b"\x85" * 20_001 + b".", "more than 20000 tuples"),
        (b"\x80\x02]" + b"(l0" * 400_000 + b".", "more than 1000000 opcodes"),
        (b"\x80\x02Nr\xff\xff\xff\xef.", "note 4026531839, more than 1000000"),
        (ARRAY + b")R(K\x01K\x03\x85" + KIND + b"\x89X\x02\0\0\0abtb.", "damaged"),
        (ARRAY + b")R(K\x01K\x03\x85K\x07\x89X\x03\0\0\0abctb.", "an array of something other than bytes"),
        (ARRAY + b")R(K\x01K\x03t" + b"b.", "an array without its five facts"),
        (ARRAY + b"N}X\x01\0\0\0aK\x01sb.", "damaged"),  # attributes for a blank
        (ARRAY + b"}X\x08\0\0\0__call__K\x01sN\x86b.", "damaged"),
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0rot13\x86R.", "a codec other than latin1"),
        (b"B" + struct.pack("<I", 2**31) + b"abc.", "damaged or no pickle"),
        (b"K\x01.", "is a dict of data and labels"),
        (b"", "damaged or no pickle"),
        (b"\xff\xd8\xff\xe0", "damaged or no pickle"),
    ],
)
def test_odd_opcodes_and_shapes_end_in_one_line(tmp_path: Path, raw: bytes, words: str) -> None:
    assert words in refusal(tmp_path, raw)


def test_nothing_that_is_handed_out_can_be_altered() -> None:
    for blank in KNOWN.values():
        assert not hasattr(blank, "__dict__")
        assert not isinstance(blank, type)


@given(st.sampled_from(BATCHES), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_a_batch_with_wrong_bytes_in_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, batch: bytes, place: int, wrong: bytes
) -> None:
    place %= len(batch)
    path = tmp_path_factory.getbasetemp() / "altered"
    path.mkdir(exist_ok=True)
    (path / "data_batch_1").write_bytes(batch[:place] + wrong + batch[place + len(wrong) :])
    with suppress(DataError):
        assert Cifar10(path).parts()[0].count >= 1


@given(st.binary(max_size=60))
def test_any_bytes_give_plain_values_or_an_error_that_is_known(raw: bytes) -> None:
    with suppress(Refused, Damaged):
        assert type(read_pickle(b"\x80\x02" + raw)) in PLAIN


def test_what_a_batch_holds_is_checked(tmp_path: Path) -> None:
    good = cifar_batch(X, Y)
    for change, words in [
        ({b"data": X.reshape(-1)}, "no array of bytes (n, 3072)"),
        ({b"data": b"x"}, "no array of bytes (n, 3072)"),
        ({b"data": X.reshape(3, -1)[:0], b"labels": []}, "no array of bytes (n, 3072)"),
        ({b"labels": [1, 2]}, "2 labels for 3 images"),
        ({b"labels": [1, 2, 10]}, "take CIFAR-10, not CIFAR-100"),
        ({b"labels": [1, 2, "3"]}, "labels is no list of numbers"),
    ]:
        assert words in refusal(tmp_path, pickle.dumps(good | change, 4))
    without = {key: value for key, value in good.items() if key != b"labels"}
    assert "labels is no list" in refusal(tmp_path, pickle.dumps(without | {b"fine_labels": Y}, 4))


def test_an_honest_batch_is_refused_nothing(tmp_path: Path) -> None:
    write_cifar(tmp_path, X, np.array(Y), 1, None)
    part, _ = Cifar10(tmp_path).parts()
    assert np.array_equal(next(part.blocks()), X)
    with pytest.raises(Refused):
        read_pickle(pickle.dumps(Path()))
