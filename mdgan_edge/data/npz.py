"""Reads images and labels from a numpy .npz file, whatever of the common key names and layouts it uses."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdgan_edge.data.formats import ARRAY_BYTES_MAX, Part, Parts, check_agree, in_memory
from mdgan_edge.data.images import LABEL_MAX, Labels
from mdgan_edge.data.pixels import as_pixels, channels_first
from mdgan_edge.errors import DataError

Array = NDArray[Any]

# (images, labels) of the training part, in the order in which they are looked for; x_train may bring x_test with it.
KEYS = (("x_train", "y_train"), ("x", "y"), ("images", "labels"))
WANTED = frozenset({"x_test", "y_test"}.union(*KEYS))
KEYS_SHOWN = 8
# What zipfile, zlib and numpy raise for files with wrong bytes in them.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Npz:
    """One .npz file; its arrays can only be read whole."""

    path: Path

    def files(self) -> list[tuple[str, Path]]:
        """The file itself."""
        check_file(self.path)
        return [("npz", self.path)]

    def parts(self) -> Parts:
        """x_train or its like and, if the file sets one apart, x_test."""
        arrays, names = _arrays(self.path)
        keys = next((pair for pair in KEYS if pair[0] in arrays), None)
        if keys is None:
            shown = ", ".join(names[:KEYS_SHOWN]) or "none"
            raise DataError(
                f"{self.path}: no images under x_train, x or images; its keys are: {shown}; "
                "rename the one with the images"
            )
        train = _part(arrays, *keys, self.path)
        if keys[0] != "x_train" or "x_test" not in arrays:
            return train, None
        test = _part(arrays, "x_test", "y_test", self.path)
        check_agree(train, test, str(self.path), ("x_train", "x_test"))
        return train, test


def check_file(path: Path) -> None:
    """There is such a file, or a DataError."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder; use folder:{path} for a folder of images")
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path after npz:")


def _arrays(path: Path) -> tuple[dict[str, Array], list[str]]:
    """The arrays that bear a known name, and the names of all."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path}: is not an npz file; write one with numpy.savez_compressed")
        _check_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            return {key: _array(archive, key, path) for key in archive.files if key in WANTED}, archive.files
    except PermissionError:
        raise DataError(f"{path}: may not be read; check its permissions") from None
    except DAMAGED as error:
        raise DataError(f"{path}: is damaged ({_one_line(error)}); copy or write it again") from None


def _check_sizes(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.removesuffix(".npy") in WANTED and member.file_size > ARRAY_BYTES_MAX:
                size = f"{member.file_size / 2**30:.0f} GiB"
                raise DataError(
                    f"{path}: {member.filename} is {size} unpacked, more than {ARRAY_BYTES_MAX >> 30} GiB; "
                    "write the images as files and use folder:"
                )


def _array(archive: Any, key: str, path: Path) -> Array:
    try:
        array = archive[key]
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise DataError(f"{path}: {key} holds pickled objects; store it as a plain array of uint8") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: {key} is not a numpy array; write the file with numpy.savez_compressed")
    return array


def _part(arrays: dict[str, Array], x_key: str, y_key: str, path: Path) -> Part:
    where = f"{path}: {x_key}"
    x = as_pixels(channels_first(arrays[x_key], where), where)
    if y_key not in arrays:
        return in_memory(x, None)
    return in_memory(x, _labels(arrays[y_key], len(x), f"{path}: {y_key}"))


def _labels(y: Array, count: int, where: str) -> Labels:
    """Whole numbers (m,) or (m, 1), one per image."""
    if y.dtype.kind not in "ui" or y.ndim not in (1, 2) or y.size != len(y):
        raise DataError(f"{where}: labels must be one whole number per image, these are {y.dtype} of shape {y.shape}")
    flat = y.reshape(-1)
    if len(flat) != count:
        raise DataError(f"{where}: {len(flat)} labels for {count} images; give one label per image")
    low, high = int(flat.min()), int(flat.max())
    if low < 0 or high > LABEL_MAX:
        raise DataError(f"{where}: labels must be 0 to {LABEL_MAX}, these are {low} to {high}; number them from 0")
    return flat.astype(np.int64)


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
