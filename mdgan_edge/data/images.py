"""Labelled images as bytes from 0 to 255, in memory or mapped from a file, and how those become numbers in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.intp]

SIZE_MIN = 8  # pixels a side
SIZE_MAX = 64
LABEL_MAX = 999


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """m >= 1 images and what is known of each; a subset shares the pixels of the whole and copies none.

    `pixels` (M, C, H, W), C 1 or 3, H == W, possibly mapped from a file; `y` (m,) labels, None if there are none;
    `name` for people; `rows` (m,) which of `pixels`, in which order, None: all as they lie; `origin` (m,) which file of
    the source each came from, None where that means nothing.
    """

    pixels: Pixels
    y: Labels | None
    name: str
    rows: Indices | None = None
    origin: Indices | None = None

    def __post_init__(self) -> None:
        """Whoever reads a source has refused what would fail here."""
        assert self.pixels.dtype == np.uint8
        assert self.pixels.ndim == 4
        assert len(self) >= 1
        assert self.y is None or (self.y.dtype == np.int64 and self.y.shape == (len(self),))
        assert self.origin is None or self.origin.shape == (len(self),)

    def __len__(self) -> int:
        """How many images."""
        return len(self.pixels) if self.rows is None else len(self.rows)

    @property
    def x(self) -> Pixels:
        """All images in order, (m, C, H, W): copied into memory at each call unless they are all of `pixels`."""
        return self.pixels if self.rows is None else self.pixels[self.rows]

    def at(self, places: Indices) -> Pixels:
        """The images at these places, (n, C, H, W); only these are read."""
        return self.pixels[places if self.rows is None else self.rows[places]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def classes(self) -> int:
        """The highest label plus one, or 0 without labels. A part of a data set may show less than the whole."""
        return 0 if self.y is None else int(self.y.max()) + 1

    @property
    def labels(self) -> tuple[int, ...]:
        """The labels that occur, ascending."""
        return () if self.y is None else tuple(np.unique(self.y).tolist())

    def subset(self, indices: Indices) -> Images:
        """These images, in this order."""
        rows = indices if self.rows is None else self.rows[indices]
        y = None if self.y is None else self.y[indices]
        return Images(self.pixels, y, self.name, rows, None if self.origin is None else self.origin[indices])


def to_unit(x: Pixels) -> NDArray[np.float32]:
    """0..255 to [-1, 1], any shape."""
    return x.astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_unit(x: NDArray[np.float32]) -> Pixels:
    """[-1, 1] to 0..255, any shape; what lies outside is clipped, what is not a number becomes grey."""
    known = np.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0)
    levels: Pixels = np.rint((np.clip(known, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return levels
