"""Writes images in each layout that a source can have: what tests read back."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = os.environ.get("MDGAN_TEST_DATA")  # a folder with mnist_70k.npz and cifar10_10k.npz
ATTRIBUTES = ("Bald", "Smiling", "Young")


def shared(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file in the folder that MDGAN_TEST_DATA names, or the test is skipped."""
    if SHARED is None or not (Path(SHARED) / name).exists():
        pytest.skip(f"{name} is not in the folder that MDGAN_TEST_DATA names")
    with np.load(Path(SHARED) / name, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def labelled(x: np.ndarray, y: np.ndarray | None) -> set[tuple[bytes, int | None]]:
    """Images and labels, whatever their order."""
    labels = [None] * len(x) if y is None else y.tolist()
    return {(image.tobytes(), label) for image, label in zip(x, labels, strict=True)}


# --- IDX


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, part: str, x: np.ndarray, y: np.ndarray | None, gz: bool = True, joint: str = "-") -> None:
    """Images (n, H, W) and labels (n,) of `train` or `t10k`."""
    folder.mkdir(exist_ok=True)
    arrays = {f"images{joint}idx3-ubyte": x} | ({} if y is None else {f"labels{joint}idx1-ubyte": y.astype(np.uint8)})
    for name, array in arrays.items():
        raw = idx_bytes(array)
        (folder / f"{part}-{name}{'.gz' if gz else ''}").write_bytes(gzip.compress(raw, 1) if gz else raw)


# --- CIFAR-10


def cifar_batch(x: np.ndarray, y: Sequence[int]) -> dict[bytes, object]:
    """Images (n, 3, 32, 32) as the dict of a batch."""
    names = [b"image_%d.png" % index for index in range(len(x))]
    return {b"batch_label": b"a batch", b"labels": list(y), b"data": x.reshape(len(x), -1), b"filenames": names}


def python2_pickle(x: np.ndarray, y: Sequence[int]) -> bytes:
    """The batch as Python 2 wrote it: protocol 2, texts and pixels as its strings."""

    def text(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)

    minus = number(-1) * 2
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
    kind += b"(" + number(3) + text(b"|") + b"NNN" + minus + number(0) + b"tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
    )
    array += b"(" + number(1) + number(len(x)) + number(3072) + b"\x86" + kind + b"\x89" + text(x.tobytes()) + b"tb"
    labels = b"](" + b"".join(number(one) for one in y) + b"e"
    return (
        b"\x80\x02}(" + text(b"data") + array + text(b"labels") + labels + text(b"batch_label") + text(b"one") + b"u."
    )


def write_cifar(folder: Path, x: np.ndarray, y: np.ndarray, batches: int = 5, protocol: int | None = 2) -> None:
    """Images (n, 3, 32, 32) as `batches` training batches; protocol None: as Python 2."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(x)), batches), start=1):
        write_batch(folder / f"data_batch_{number}", x[rows], y[rows], protocol)


def write_batch(path: Path, x: np.ndarray, y: np.ndarray, protocol: int | None = 2) -> None:
    """One batch."""
    path.write_bytes(
        python2_pickle(x, y.tolist()) if protocol is None else pickle.dumps(cifar_batch(x, y.tolist()), protocol)
    )


# --- CelebA


def celeba_values(count: int) -> np.ndarray:
    """(count, attributes) of -1 and 1."""
    return np.random.default_rng(1).choice([-1, 1], size=(count, len(ATTRIBUTES)))


def write_celeba(folder: Path, count: int, csv: bool = False, inner: str = "img_align_celeba") -> list[Path]:
    """`count` portraits of 178x218 pixels, image n of shade 2 n in its central square, black above and below."""
    pictures = folder / inner
    pictures.mkdir(parents=True)
    paths = [pictures / f"{index + 1:06}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        pixels = np.zeros((218, 178, 3), np.uint8)
        pixels[20:198] = 2 * index
        Image.fromarray(pixels).save(path, quality=95)
    rows = [[path.name, *map(str, values)] for path, values in zip(paths, celeba_values(count), strict=True)]
    if csv:
        lines = [",".join(["image_id", *ATTRIBUTES]), *map(",".join, rows)]
    else:
        lines = [str(count), " ".join(ATTRIBUTES), *map("  ".join, rows)]
    (folder / f"list_attr_celeba.{'csv' if csv else 'txt'}").write_text("\n".join(lines) + "\n")
    return paths


# --- folders


def png_bytes(image: np.ndarray) -> bytes:
    """An image (H, W) as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_folder(folder: Path, x: np.ndarray, y: np.ndarray | None, names: Sequence[str] = ()) -> None:
    """Images (n, H, W) as PNG, below folders of their classes if they have labels."""
    for index, image in enumerate(x):
        path = folder if y is None else folder / (names[y[index]] if names else str(y[index]))
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{index:05}.png").write_bytes(png_bytes(image))
