"""Arrays of pixels as a source gives them, and the way to (m, C, H, W) bytes of one size and one number of channels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdgan_edge.data.images import SIZE_MAX, SIZE_MIN, Pixels
from mdgan_edge.errors import DataError

Channels = Literal[1, 3]

# ITU-R 601 luma in 1/65536, as pillow computes it: npz files and folders must give the same grey.
LUMA = (19595, 38470, 7471)


def as_pixels(x: NDArray[np.generic], where: str) -> Pixels:
    """Integers in 0..255 as they are, floats in [0, 1] times 255; anything else is a DataError."""
    if x.size == 0:
        raise DataError(f"{where}: holds no images; its shape is {x.shape}")
    if x.dtype.kind in "ui":
        return _from_integers(x, where)
    if x.dtype.kind == "f":
        return _from_floats(x.astype(np.float32, copy=False), where)
    raise DataError(f"{where}: pixels are {x.dtype}; store them as uint8, or as floats from 0 to 1")


def _from_integers(x: NDArray[np.generic], where: str) -> Pixels:
    low, high = int(x.min()), int(x.max())
    if low < 0 or high > 255:
        raise DataError(f"{where}: whole-number pixels must be 0 to 255, these are {low} to {high}; rescale them")
    if high == 1:
        raise DataError(f"{where}: whole-number pixels of only 0 and 1 are all but black; multiply them by 255")
    return x.astype(np.uint8, copy=False)


def _from_floats(x: NDArray[np.float32], where: str) -> Pixels:
    if not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise DataError(f"{where}: {bad} images hold NaN or infinity; remove or repair them")
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise DataError(
            f"{where}: float pixels must lie in 0 to 1, these span {low:g} to {high:g}; divide them, or store uint8"
        )
    pixels: Pixels = np.rint(x * 255).astype(np.uint8)
    return pixels


def channels_first(x: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """(m, H, W), (m, H, W, C) or (m, C, H, W) to (m, C, H, W); C is 1 or 3."""
    if x.ndim == 3:
        return x[:, None]
    if x.ndim == 4 and x.shape[1] in (1, 3):
        return x
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    raise DataError(
        f"{where}: images of shape {x.shape}; store (m, H, W), (m, H, W, C) or (m, C, H, W) with 1 or 3 channels C"
    )


def check_size(height: int, width: int, where: str) -> None:
    """Square and 8..64 pixels, or a DataError: the networks know no other images."""
    if height != width:
        raise DataError(f"{where}: images are {width}x{height}, not square; use --resize to crop and scale them")
    if not SIZE_MIN <= height <= SIZE_MAX:
        raise DataError(
            f"{where}: images are {width}x{height}, the sides must be {SIZE_MIN} to {SIZE_MAX} pixels; use --resize"
        )


def with_size(x: Pixels, resize: int | None, where: str) -> Pixels:
    """(m, C, H, W) to (m, C, resize, resize); checked and unchanged without `resize`."""
    height, width = x.shape[2:]
    if resize is None:
        check_size(height, width, where)
        return x
    if height == width == resize:
        return x
    return np.stack([_resized(image, resize) for image in x])


def _resized(image: Pixels, size: int) -> Pixels:
    """One image (C, H, W) to (C, size, size), each channel alone."""
    planes = [np.asarray(square(Image.fromarray(plane), size), dtype=np.uint8) for plane in image]
    return np.stack(planes)


def square(image: Image.Image, size: int) -> Image.Image:
    """The central square of an image, scaled to `size` pixels a side (Lanczos)."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    cropped = image.crop((left, top, left + side, top + side))  # resize(box=...) would let pixels outside bleed in
    return cropped.resize((size, size), Image.Resampling.LANCZOS)


def with_channels(x: Pixels, channels: Channels | None) -> Pixels:
    """(m, 1 or 3, H, W) to (m, channels, H, W)."""
    if channels is None or x.shape[1] == channels:
        return x
    if channels == 3:
        return np.repeat(x, 3, axis=1)
    red, green, blue = (x[:, c].astype(np.uint32) * np.uint32(weight) for c, weight in enumerate(LUMA))
    grey: Pixels = ((red + green + blue + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint8)
    return grey[:, None]
