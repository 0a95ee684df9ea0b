"""What every format gives: the files it reads, its parts with their labels, and the pixels of a part block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mdgan_edge.data.images import Indices, Labels, Pixels
from mdgan_edge.data.pixels import Channels, check_size, with_channels, with_size
from mdgan_edge.errors import DataError

BLOCK_BYTES = 8 * 1024 * 1024  # of pixels that are in memory at a time
IMAGES_MAX = 10_000_000  # in a part
ARRAY_BYTES_MAX = 4 * 1024**3  # of an array that can only be read whole

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """`count` images of one shape, looked through but not yet decoded.

    `y` (count,) labels or None. `blocks` decodes: each call gives (n, C, H, W) bytes until all have come, in the
    source's order; DataError for what is wrong with them. `origin` (count,): which file each is from, where it matters.
    """

    count: int
    shape: Shape
    y: Labels | None
    blocks: Callable[[], Iterator[Pixels]]
    origin: Indices | None = None


Parts = tuple[Part, Part | None]  # for training; set apart for testing by the source itself


class Format(Protocol):
    """One way in which images lie on disk. Everything wrong with them is a DataError or ConfigurationError."""

    def files(self) -> Sequence[tuple[str, Path]]:
        """Every file whose bytes decide what is read, in the order of reading, under a name that does too."""
        ...

    def parts(self) -> Parts:
        """Look through the files: counts, labels, shapes."""
        ...


def in_memory(x: Pixels, y: Labels | None) -> Part:
    """An array (m, C, H, W) that is there already."""
    return Part(len(x), (x.shape[1], x.shape[2], x.shape[3]), y, lambda: iter([x]))


def block_length(shape: Shape) -> int:
    """How many images of this shape make a block."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def fitted(part: Part, resize: int | None, channels: Channels | None, where: str) -> Part:
    """The same images, square, of `resize` pixels and `channels` channels; None: as they are, which is checked."""
    if resize is None:
        check_size(part.shape[1], part.shape[2], where)
    size = resize or part.shape[1]
    shape = (channels or part.shape[0], size, size)

    def blocks() -> Iterator[Pixels]:
        for block in part.blocks():
            step = block_length(shape)
            for start in range(0, len(block), step):
                yield with_channels(with_size(block[start : start + step], resize, where), channels)

    return dataclasses.replace(part, shape=shape, blocks=blocks)


def check_agree(train: Part, test: Part, where: str, names: tuple[str, str]) -> None:
    """A training and a test part have the same shape, and labels both or neither."""
    if train.shape != test.shape:
        raise DataError(
            f"{where}: {names[0]} holds images of shape {train.shape}, {names[1]} of {test.shape}; make them equal"
        )
    if (train.y is None) != (test.y is None):
        raise DataError(f"{where}: has labels for one of {names[0]} and {names[1]} only; add the other, or remove both")
