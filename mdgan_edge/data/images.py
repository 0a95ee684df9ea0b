"""Labelled images in memory, as bytes from 0 to 255, and how those become numbers in [-1, 1] and back."""

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
    """`x` (m, C, H, W), m >= 1, C 1 or 3, H == W; `y` (m,) or None if the source has no labels; `name` for people."""

    x: Pixels
    y: Labels | None
    name: str

    def __post_init__(self) -> None:
        """Whoever reads a source has refused what would fail here."""
        assert self.x.dtype == np.uint8
        assert self.x.ndim == 4
        assert len(self.x) >= 1
        assert self.y is None or (self.y.dtype == np.int64 and self.y.shape == self.x.shape[:1])

    def __len__(self) -> int:
        """How many images."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        _, channels, height, width = self.x.shape
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
        return Images(self.x[indices], None if self.y is None else self.y[indices], self.name)


def to_unit(x: Pixels) -> NDArray[np.float32]:
    """0..255 to [-1, 1], any shape."""
    return x.astype(np.float32) / np.float32(127.5) - np.float32(1)


def from_unit(x: NDArray[np.float32]) -> Pixels:
    """[-1, 1] to 0..255, any shape; what lies outside is clipped, what is not a number becomes grey."""
    known = np.nan_to_num(x, nan=0.0, posinf=1.0, neginf=-1.0)
    levels: Pixels = np.rint((np.clip(known, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return levels
