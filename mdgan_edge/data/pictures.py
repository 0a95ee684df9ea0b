"""Reads one image file with pillow: upright, without transparency, as (C, H, W) bytes; broken ones are named."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mdgan_edge.data.formats import Shape, block_length
from mdgan_edge.data.images import Pixels
from mdgan_edge.data.pixels import square
from mdgan_edge.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
GREY_MODES = frozenset({"1", "L"})
# What pillow raises for files that are cut off, garbled, or absurdly large.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def is_picture(path: Path) -> bool:
    """Whether the name is that of an image file, and a file lies there."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name; hidden files are passed over."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except PermissionError:
        raise DataError(f"{folder}: may not be read; check its permissions") from None


def check_folder(path: Path, kind: str) -> None:
    """There is such a folder, or a DataError."""
    if not path.exists():
        raise DataError(f"{path}: no such folder; check the path after {kind}:")
    if not path.is_dir():
        raise DataError(f"{path}: is a file; name the folder that holds the images")


def header(path: Path) -> tuple[tuple[int, int], str]:
    """(width, height) and pillow's mode, without decoding."""
    with _opened(path) as image:
        return image.size, image.mode


def is_grey(mode: str) -> bool:
    """Whether an image of this mode of pillow's has no colours."""
    return mode in GREY_MODES or mode.startswith("I")


def blocks(paths: Sequence[Path], resize: int | None, shape: Shape) -> Iterator[Pixels]:
    """The files in order as (n, C, H, W) of this shape; without `resize` they must have its size already."""
    step = block_length(shape)
    for start in range(0, len(paths), step):
        yield np.stack([decode(path, resize, shape[0]) for path in paths[start : start + step]])


def decode(path: Path, resize: int | None, channels: int) -> Pixels:
    """One file as (channels, H, W): first frame, turned as its EXIF says, transparency over white."""
    with _opened(path) as image:
        upright = _plain(ImageOps.exif_transpose(image))
        if resize is not None:
            upright = square(upright, resize)
        array = np.asarray(upright.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in this file; what goes wrong with it, then or in the body, is a DataError that names the file."""
    try:
        with Image.open(path) as image:
            yield image
    except PermissionError:
        raise DataError(f"{path}: may not be read; check its permissions") from None
    except BROKEN:
        raise DataError(f"{path}: is not a whole image of its kind; replace or remove it") from None


def _plain(image: Image.Image) -> Image.Image:
    """Any of pillow's modes to L or RGB; before scaling, because palettes cannot be interpolated."""
    if image.mode.startswith("I"):  # 16 bits: pillow itself would clip them to 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")
