"""Broken data: each file ends the command with one line that names it, code 74 or 78, and nothing is written."""

from __future__ import annotations

import gzip
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sim.cli import main
from tests.layouts import (
    cifar_batch,
    idx_bytes,
    noise,
    png_bytes,
    python2_pickle,
    write_celeba,
    write_cifar,
    write_folder,
    write_idx,
)

Y = np.arange(20) % 4
IDX_IMAGES, IDX_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


class Bomb:
    """Runs a command when it is unpickled by someone who trusts it."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, ("touch ran",)


def idx(folder: Path, images: bytes | None = None, labels: bytes | None = None) -> str:
    """An IDX source with these bytes in place of good ones."""
    write_idx(folder, "train", noise(20, 8, 8), Y)
    for name, raw in ((IDX_IMAGES, images), (IDX_LABELS, labels)):
        if raw is not None:
            (folder / name).write_bytes(raw)
    return f"idx:{folder}"


def cifar(folder: Path, raw: bytes) -> str:
    """A CIFAR source whose third batch is these bytes."""
    write_cifar(folder, noise(20, 3, 32, 32), Y)
    (folder / "data_batch_3").write_bytes(raw)
    return f"cifar10:{folder}"


def celeba(folder: Path, table: str | None = None, picture: bytes | None = None) -> str:
    """A CelebA source with this table, and these bytes as its last picture."""
    paths = write_celeba(folder / "c", 4)
    if table is not None:
        (folder / "c" / "list_attr_celeba.txt").write_text(table)
    if picture is not None:
        paths[-1].write_bytes(picture)
    return f"celeba:{folder / 'c'},attribute=Smiling"


def pictures(folder: Path, name: str, raw: bytes) -> str:
    """A folder source with one more file."""
    write_folder(folder, noise(20, 8, 8), Y)
    (folder / name).write_bytes(raw)
    return f"folder:{folder}"


def npz(folder: Path, **arrays: np.ndarray) -> str:
    """An npz source."""
    np.savez(folder / "a.npz", allow_pickle=True, **arrays)
    return f"npz:{folder / 'a.npz'}"


def cut_npz(folder: Path) -> str:
    source = npz(folder, x=noise(20, 8, 8))
    path = folder / "a.npz"
    raw = bytearray(path.read_bytes())
    raw[200:220] = bytes(20)
    path.write_bytes(raw)
    return source


def pipe_for_a_batch(folder: Path) -> str:
    """A CIFAR source whose first batch is a named pipe that nobody writes to."""
    source = cifar(folder, PYTHON2)
    (folder / "data_batch_1").unlink()
    os.mkfifo(folder / "data_batch_1")
    return source


def pipe_for_an_npz(folder: Path) -> str:
    os.mkfifo(folder / "a.npz")
    return f"npz:{folder / 'a.npz'}"


def mixed_files(folder: Path) -> str:
    npz(folder, x=noise(20, 8, 8))
    (folder / "node").mkdir()
    return f"files:{folder}"


def gz(raw: bytes) -> bytes:
    return gzip.compress(raw, 1)


GOOD, GOOD_GZ = idx_bytes(noise(20, 8, 8)), gz(idx_bytes(noise(20, 8, 8)))
PYTHON2 = python2_pickle(noise(4, 3, 32, 32), [1, 2, 3, 4])
PNG = png_bytes(noise(8, 8))
BATCH = cifar_batch(noise(4, 3, 32, 32), [1, 2, 3, 4])

BROKEN: dict[str, tuple[Callable[[Path], str], int, str]] = {
    "idx that is no gzip": (lambda at: idx(at, images=GOOD), 74, "train-images-idx3-ubyte.gz: is damaged"),
    "idx gzip cut off": (lambda at: idx(at, images=GOOD_GZ[:-300]), 74, "idx3-ubyte.gz: is damaged"),
    "idx gzip with wrong bytes": (
        lambda at: idx(at, images=GOOD_GZ[:400] + bytes(40) + GOOD_GZ[440:]),
        74,
        "idx3-ubyte.gz: is damaged",
    ),
    "idx pixels that end too early": (lambda at: idx(at, images=gz(GOOD[:-1])), 74, "ends too early"),
    "idx pixels beyond the last": (lambda at: idx(at, images=gz(GOOD + b"\0")), 74, "is longer than its header says"),
    "idx labels in place of images": (
        lambda at: idx(at, images=gz(idx_bytes(Y.astype(np.uint8)))),
        74,
        "is no IDX file of unsigned bytes in 3 dimension(s)",
    ),
    "idx of floats": (
        lambda at: idx(at, images=gz(b"\0\0\x0d\x03" + GOOD[4:])),
        74,
        "is no IDX file of unsigned bytes",
    ),
    "idx that promises four billion images": (
        lambda at: idx(at, images=gz(GOOD[:4] + b"\xff" * 4 + GOOD[8:])),
        74,
        "says it holds 4294967295 entries",
    ),
    "idx with a label too few": (
        lambda at: idx(at, labels=gz(idx_bytes(Y[:19].astype(np.uint8)))),
        74,
        "19 labels for 20 images",
    ),
    "cifar with a command in it": (
        lambda at: cifar(at, pickle.dumps(BATCH | {b"x": Bomb()})),
        74,
        "holds posix.system",
    ),
    "cifar that is a command": (lambda at: cifar(at, b"cposix\nsystem\n(S'touch ran'\ntR."), 74, "holds posix.system"),
    "cifar cut off": (lambda at: cifar(at, PYTHON2[:-900]), 74, "data_batch_3: is damaged or no pickle"),
    "cifar-100": (
        lambda at: cifar(at, pickle.dumps({b"data": BATCH[b"data"], b"fine_labels": [1, 2, 3, 99]})),
        74,
        "take CIFAR-10, not CIFAR-100",
    ),
    "cifar with labels missing": (
        lambda at: cifar(at, pickle.dumps(BATCH | {b"labels": [1, 2]})),
        74,
        "2 labels for 4 images",
    ),
    "celeba picture cut off": (
        lambda at: celeba(at, picture=b"\xff\xd8\xff\xe0\0\x10JFIF"),
        74,
        "000004.jpg: is not a whole image",
    ),
    "celeba table without a picture": (
        lambda at: celeba(at, table="1\nBald Smiling\n000001.jpg 1 -1\n"),
        74,
        "has no line for 000002.jpg",
    ),
    "celeba table with a torn line": (
        lambda at: celeba(at, table="1\nBald Smiling\n000001.jpg 1\n"),
        74,
        "line 3 has 1 values for 2 columns",
    ),
    "celeba table of something else": (lambda at: celeba(at, table="<html>no</html>\n"), 74, "does not begin like"),
    "celeba without that attribute": (lambda at: celeba(at, table="0\nBald Young\n"), 78, "has no such attribute"),
    "folder with a picture that is text": (lambda at: pictures(at, "1/z.png", b"hello"), 74, "z.png: is not a whole"),
    "folder with half a picture": (
        lambda at: pictures(at, "2/z.png", PNG[:60]),
        74,
        "z.png: is not a whole image",
    ),
    "npz with pickled objects": (
        lambda at: npz(at, x=np.array([Bomb(), None], dtype=object)),
        74,
        "x holds pickled objects",
    ),
    "npz with wrong bytes": (cut_npz, 74, "a.npz: is damaged"),
    "npz with NaN": (lambda at: npz(at, x=np.full((4, 8, 8), np.nan)), 74, "hold NaN or infinity"),
    "npz that never ends": (lambda _: "npz:/dev/zero", 74, "/dev/zero: is no regular file"),
    "npz that is a named pipe": (pipe_for_an_npz, 74, "a.npz: is no regular file"),
    "cifar with a named pipe": (pipe_for_a_batch, 74, "data_batch_1: is no regular file"),
    "files of two kinds": (mixed_files, 74, "holds npz files and folders"),
}


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file with its bytes, every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_there_are_more_than_twenty() -> None:
    assert len(BROKEN) >= 20


@pytest.mark.parametrize("command", [["data", "inspect"], ["swarm", "--steps", "1", "--out", "run", "--data"]], ids=len)
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_its_code_and_nothing_written(
    name: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, code, words = BROKEN[name]
    (tmp_path / "data").mkdir()
    (tmp_path / "cache").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MDGAN_CACHE", str(tmp_path / "cache"))
    source = make(tmp_path / "data")
    before = listing(tmp_path)
    done = CliRunner().invoke(main, [*command, source])
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr
    assert listing(tmp_path) == before
