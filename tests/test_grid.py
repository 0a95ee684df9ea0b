"""The grid: what is where in the picture, and that a reader never sees half a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdgan_edge.data.grid import GAP, GAP_GREY, grid_png, save_grid
from mdgan_edge.errors import DataError


def shades(count: int, channels: int = 1, size: int = 8) -> np.ndarray:
    """`count` images of one shade each, from black to white."""
    return np.linspace(-1, 1, count, dtype=np.float32)[:, None, None, None] * np.ones(
        (1, channels, size, size), np.float32
    )


def picture(png: bytes) -> np.ndarray:
    """The pixels of a PNG."""
    return np.asarray(Image.open(io.BytesIO(png)))


def test_tiles_lie_row_by_row_with_a_gap_between_them() -> None:
    pixels = picture(grid_png(shades(6), columns=3, scale=2))
    step = 8 * 2 + GAP
    assert pixels.shape == (2 * step + GAP, 3 * step + GAP)
    centres = pixels[GAP + 8 :: step, GAP + 8 :: step]
    assert centres.tolist() == [[0, 51, 102], [153, 204, 255]]
    assert (pixels[:GAP] == GAP_GREY).all()
    assert (pixels[:, step : step + GAP] == GAP_GREY).all()


def test_a_pixel_becomes_a_sharp_square() -> None:
    image = np.full((1, 1, 8, 8), -1, np.float32)
    image[0, 0, 2, 5] = 1
    pixels = picture(grid_png(image, columns=1, scale=3))[GAP:-GAP, GAP:-GAP]
    expected = np.zeros((24, 24), np.uint8)
    expected[6:9, 15:18] = 255
    assert np.array_equal(pixels, expected)


def test_colours_keep_their_channels() -> None:
    image = np.full((1, 3, 8, 8), -1, np.float32)
    image[:, 2] = 1
    assert picture(grid_png(image, columns=4, scale=1))[5, 5].tolist() == [0, 0, 255]


def test_a_last_row_that_is_not_full_leaves_grey() -> None:
    pixels = picture(grid_png(shades(3), columns=2, scale=1))
    assert (pixels[-8:, -8:] == GAP_GREY).all()


def test_values_out_of_range_or_not_finite_still_make_a_picture() -> None:
    image = np.full((1, 1, 8, 8), np.nan, np.float32)
    image[0, 0, 0] = [5, -5, np.inf, -np.inf, 1, -1, 0, np.nan]
    row = picture(grid_png(image, columns=1, scale=1))[GAP, GAP:-GAP]
    assert row.tolist() == [255, 0, 255, 0, 255, 0, 128, 128]


def test_a_saved_grid_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "samples.png"
    target.write_text("old")
    save_grid(target, shades(4), columns=2, scale=1)
    assert target.read_bytes() == grid_png(shades(4), columns=2, scale=1)
    assert list(tmp_path.iterdir()) == [target]


def test_a_grid_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent/samples\.png.*check the folder"):
        save_grid(tmp_path / "absent" / "samples.png", shades(1))
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="taken"):
        save_grid(tmp_path / "taken", shades(1))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
