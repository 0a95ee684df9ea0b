"""Reads CIFAR-10 as its authors give it for Python: data_batch_1 to data_batch_5 and test_batch, each a pickled dict.

A batch holds `data` (n, 3072), bytes, the red, green and blue plane of each 32x32 image, and `labels`, n numbers from 0
to 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdgan_edge.data.formats import Part, Parts
from mdgan_edge.data.images import Labels, Pixels
from mdgan_edge.data.pictures import check_folder, entries
from mdgan_edge.data.unpickling import Damaged, Noted, Refused, read_pickle
from mdgan_edge.errors import DataError

SHAPE = (3, 32, 32)
CLASSES = 10
FILE_BYTES_MAX = 64 * 1024 * 1024  # the originals have 31 MB
INNER = "cifar-10-batches-py"  # the folder in the authors' archive


@dataclass(frozen=True, slots=True)
class Cifar10:
    """The batches in one folder, or in the folder of that archive within it; test_batch may be missing."""

    root: Path

    def files(self) -> list[tuple[str, Path]]:
        """The training batches by number, then the test batch."""
        batches = self._batches()
        return [(path.name, path) for path in [*batches, *self._test()]]

    def parts(self) -> Parts:
        """Each batch is read for its labels, and again when its pixels are wanted: one is in memory at a time."""
        test = self._test()
        return _part(self._batches()), _part(test) if test else None

    def _folder(self) -> Path:
        check_folder(self.root, "cifar10")
        inner = self.root / INNER
        return inner if inner.is_dir() else self.root

    def _batches(self) -> list[Path]:
        found = [path for path in entries(self._folder()) if re.fullmatch(r"data_batch_\d{1,3}", path.name)]
        if not found:
            raise DataError(f"{self.root}: holds no data_batch_1; unpack the version for Python and name its folder")
        return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))

    def _test(self) -> list[Path]:
        path = self._folder() / "test_batch"
        return [path] if path.is_file() else []


def _part(paths: list[Path]) -> Part:
    labels = [_read(path)[1] for path in paths]

    def blocks() -> Iterator[Pixels]:
        for path in paths:
            yield _read(path)[0]

    y = np.concatenate(labels)
    return Part(len(y), SHAPE, y, blocks)


def _read(path: Path) -> tuple[Pixels, Labels]:
    """Images (n, 3, 32, 32) and labels (n,) of one batch."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError(f"{path}: is larger than {FILE_BYTES_MAX >> 20} MiB, so it is no batch of CIFAR-10")
        batch = read_pickle(path.read_bytes())
    except Refused as error:
        raise DataError(
            f"{path}: holds {error}, which no batch of CIFAR-10 needs; refused, do not trust this file"
        ) from None
    except PermissionError:
        raise DataError(f"{path}: may not be read; check its permissions") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except Damaged:
        raise DataError(f"{path}: is damaged or no pickle; unpack the archive again") from None
    return _checked(batch, path)


def _checked(batch: Any, path: Path) -> tuple[Pixels, Labels]:
    if not isinstance(batch, dict):
        raise DataError(f"{path}: is no batch of CIFAR-10, which is a dict of data and labels")
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    data, labels = named.get("data"), named.get("labels")
    x = getattr(data, "array", None) if isinstance(data, Noted) else None
    if x is None or x.ndim != 2 or x.shape[1] != np.prod(SHAPE) or not len(x):
        raise DataError(f"{path}: data is no array of bytes (n, 3072); take the version of CIFAR-10 for Python")
    if not isinstance(labels, list) or not all(type(one) is int and 0 <= one < CLASSES for one in labels):
        raise DataError(f"{path}: labels is no list of numbers from 0 to 9; take CIFAR-10, not CIFAR-100")
    if len(labels) != len(x):
        raise DataError(f"{path}: {len(labels)} labels for {len(x)} images; unpack the archive again")
    return np.ascontiguousarray(x).reshape(-1, *SHAPE), np.array(labels, dtype=np.int64)
