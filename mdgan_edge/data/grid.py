"""Images side by side in one PNG, large enough to look at."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdgan_edge.data.images import Pixels, from_unit
from mdgan_edge.errors import DataError

GAP = 2  # pixels between tiles and around them
GAP_GREY = 96  # neither the black nor the white of a digit


def grid_png(images: NDArray[np.float32], columns: int = 10, scale: int = 2) -> bytes:
    """`images` (n, C, H, W) in [-1, 1], n >= 1, row by row; each pixel becomes `scale` x `scale` pixels."""
    assert images.ndim == 4
    assert len(images) >= 1
    assert columns >= 1
    assert scale >= 1
    tiles = from_unit(images).transpose(0, 2, 3, 1)  # (n, H, W, C)
    canvas = _tiled(tiles.repeat(scale, axis=1).repeat(scale, axis=2), min(columns, len(tiles)))
    picture = Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def save_grid(path: Path, images: NDArray[np.float32], columns: int = 10, scale: int = 2) -> None:
    """Write the grid so that a reader sees the old file or the new one, never half of it; DataError if it cannot be."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(grid_png(images, columns, scale))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error.strerror}); check the folder and the space left") from None


def _tiled(tiles: Pixels, columns: int) -> Pixels:
    """(n, h, w, C) to one canvas (H, W, C); places without an image stay grey."""
    count, height, width, channels = tiles.shape
    rows = -(-count // columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), GAP_GREY, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        top = GAP + index // columns * (height + GAP)
        left = GAP + index % columns * (width + GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas
