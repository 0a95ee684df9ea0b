"""Reads a folder of image files: flat (no labels), or one sub-folder for each class.

Sub-folders that are all named by numbers give those numbers as labels; others count from 0 in sorted order. An empty
sub-folder still counts, so that nodes which lack a class can agree on labels by keeping an empty folder for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mdgan_edge.data.images import LABEL_MAX, Pixels
from mdgan_edge.data.pixels import Channels, RawImages, check_size, square
from mdgan_edge.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})
GREY_MODES = frozenset({"1", "L"})
# What pillow raises for files that are cut off, garbled, or absurdly large.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file and the label that its sub-folder gives it."""

    path: Path
    label: int | None


def read(root: Path, resize: int | None, channels: Channels | None) -> RawImages:
    """All images below `root`, sorted by path: grey if all files are, else RGB; everything wrong is a DataError."""
    files = find(root)
    headers = [_header(file.path) for file in files]
    if resize is None:
        _check_sizes(files, [size for size, _ in headers], root)
    wanted = channels or (1 if all(mode in GREY_MODES or mode.startswith("I") for _, mode in headers) else 3)
    x = np.stack([_pixels(file.path, resize, wanted) for file in files])
    y = None if files[0].label is None else np.array([file.label for file in files], dtype=np.int64)
    return RawImages(x, y)


def find(root: Path) -> list[ImageFile]:
    """The image files of a flat folder or of its class folders; other files and hidden ones are passed over."""
    if not root.exists():
        raise DataError(f"{root}: no such folder; check the path after folder:")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; name the folder that holds the images")
    flat = [ImageFile(path, None) for path in _images_in(root)]
    classed = [ImageFile(path, label) for label, folder in _class_folders(root) for path in _images_in(folder)]
    if flat and classed:
        raise DataError(f"{flat[0].path}: lies beside class folders; move it into one of them, or away")
    if not flat and not classed:
        raise DataError(f"{root}: holds no images ({' '.join(sorted(SUFFIXES))}), nor do folders one level down")
    return flat or classed


def _images_in(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except PermissionError:
        raise DataError(f"{folder}: may not be read; check its permissions") from None


def _class_folders(root: Path) -> list[tuple[int, Path]]:
    folders = [path for path in _entries(root) if path.is_dir()]
    if all(path.name.isascii() and path.name.isdecimal() and int(path.name) <= LABEL_MAX for path in folders):
        return sorted((int(path.name), path) for path in folders)
    return list(enumerate(folders))


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """(width, height) and pillow's mode, without decoding."""
    with _opened(path) as image:
        return image.size, image.mode


def _check_sizes(files: list[ImageFile], sizes: list[tuple[int, int]], root: Path) -> None:
    for file, (width, height) in zip(files, sizes, strict=True):
        if (width, height) != sizes[0]:
            raise DataError(
                f"{root}: mixed sizes: {files[0].path.name} is {sizes[0][0]}x{sizes[0][1]}, "
                f"{file.path.name} is {width}x{height}; use --resize"
            )
    width, height = sizes[0]
    check_size(height, width, str(root))


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


def _pixels(path: Path, resize: int | None, channels: Channels) -> Pixels:
    """One file as (channels, H, W): first frame, turned as its EXIF says, transparency over white."""
    with _opened(path) as image:
        upright = _plain(ImageOps.exif_transpose(image))
        if resize is not None:
            upright = square(upright, resize)
        array = np.asarray(upright.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _plain(image: Image.Image) -> Image.Image:
    """Any of pillow's modes to L or RGB; before scaling, because palettes cannot be interpolated."""
    if image.mode.startswith("I"):  # 16 bits: pillow itself would clip them to 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("L" if image.mode in GREY_MODES else "RGB")
