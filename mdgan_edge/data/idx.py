"""Reads MNIST's IDX files: train-images-idx3-ubyte and its three companions in one folder, plain or as .gz.

Layout, from the MNIST database's own page: two zero bytes, a type byte (8: unsigned bytes), the number of dimensions,
each dimension as 4 bytes with the high byte first, then the bytes.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from mdgan_edge.data.formats import IMAGES_MAX, Part, Parts, Shape, block_length, check_agree
from mdgan_edge.data.images import Labels, Pixels
from mdgan_edge.data.pictures import check_folder
from mdgan_edge.errors import DataError

PARTS = ("train", "t10k")
UNSIGNED_BYTES = 8
SIDE_MAX = 4096  # pixels: more is no image but a damaged header


@dataclass(frozen=True, slots=True)
class Idx:
    """The files in one folder; the t10k files, if there, are the test part. Labels may be missing in both parts."""

    root: Path

    def files(self) -> list[tuple[str, Path]]:
        """Those that are there, images before labels."""
        check_folder(self.root, "idx")
        if _find(self.root, "train", "images") is None:
            raise DataError(f"{self.root}: holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz; add it")
        found = [(f"{part}-{kind}", _find(self.root, part, kind)) for part in PARTS for kind in ("images", "labels")]
        return [(name, path) for name, path in found if path is not None]

    def parts(self) -> Parts:
        """The 60,000 and 10,000, or whatever the headers say."""
        paths = dict(self.files())
        train, test = (_part(paths, part) for part in PARTS)
        assert train is not None
        if test is not None:
            check_agree(train, test, str(self.root), PARTS)
        return train, test


def _find(root: Path, part: str, kind: str) -> Path | None:
    """The plain file or the .gz, with the dash or the dot that some copies have in its name."""
    end = "idx3-ubyte" if kind == "images" else "idx1-ubyte"
    names = [f"{part}-{kind}{joint}{end}{suffix}" for joint in "-." for suffix in ("", ".gz")]
    return next((root / name for name in names if (root / name).is_file()), None)


def _part(paths: dict[str, Path], part: str) -> Part | None:
    images, labels = paths.get(f"{part}-images"), paths.get(f"{part}-labels")
    if images is None:
        return None
    with _opened(images) as file:
        count, height, width = _dimensions(file, 3, images)
    if not (1 <= height <= SIDE_MAX and 1 <= width <= SIDE_MAX):
        raise DataError(f"{images}: says its images are {width}x{height}; copy it again")
    shape = (1, height, width)
    y = None if labels is None else _labels(labels, count)
    return Part(count, shape, y, lambda: _blocks(images, count, shape))


def _labels(path: Path, images: int) -> Labels:
    with _opened(path) as file:
        (count,) = _dimensions(file, 1, path)
        if count != images:
            raise DataError(f"{path}: {count} labels for {images} images; take the files of one data set")
        y = np.frombuffer(_exactly(file, count, path), dtype=np.uint8).astype(np.int64)
        _check_end(file, path)
    return y


def _blocks(path: Path, count: int, shape: Shape) -> Iterator[Pixels]:
    with _opened(path) as file:
        _dimensions(file, 3, path)
        step = block_length(shape)
        for start in range(0, count, step):
            length = min(step, count - start)
            raw = _exactly(file, length * shape[1] * shape[2], path)
            yield np.frombuffer(raw, dtype=np.uint8).reshape(length, *shape)
        _check_end(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The unpacked bytes; what goes wrong with them, then or in the body, is a DataError that names the file."""
    try:
        with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except PermissionError:
        raise DataError(f"{path}: may not be read; check its permissions") from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: is damaged ({error}); copy it again") from None


def _dimensions(file: BinaryIO, wanted: int, path: Path) -> tuple[int, ...]:
    magic = _exactly(file, 4, path)
    if magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTES or magic[3] != wanted:
        raise DataError(f"{path}: is no IDX file of unsigned bytes in {wanted} dimension(s); copy it again")
    dimensions = struct.unpack(f">{wanted}I", _exactly(file, 4 * wanted, path))
    if not 1 <= dimensions[0] <= IMAGES_MAX:
        raise DataError(f"{path}: says it holds {dimensions[0]} entries; 1 to {IMAGES_MAX} are possible")
    return dimensions


def _exactly(file: BinaryIO, count: int, path: Path) -> bytes:
    raw = file.read(count)
    if len(raw) < count:
        raise DataError(f"{path}: ends too early; copy it again")
    return raw


def _check_end(file: BinaryIO, path: Path) -> None:
    if file.read(1):
        raise DataError(f"{path}: is longer than its header says; copy it again")
