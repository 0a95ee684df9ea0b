"""The toy data: eight Gaussians on a ring in the plane, as images of two channels and one pixel.

A point (a, b) in [-1, 1]^2 is an image (2, 1, 1) in 256 levels a channel, 0.0078 apart, which is a fifth of the
standard deviation. The label of a sample is the Gaussian it was drawn from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdgan_edge.data.images import Images, from_unit
from mdgan_edge.streams import stream_seed

Points = NDArray[np.float32]  # (n, 2)

NAME = "ring"
MODES = 8
DIMENSIONS = 2
IMAGE_SHAPE = (DIMENSIONS, 1, 1)
RADIUS = 0.7
SIGMA = 0.04  # of each Gaussian, in each direction; the centres of neighbours are 13 sigma apart


def centres() -> Points:
    """(8, 2): the means, at equal angles."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    return (RADIUS * np.stack((np.cos(angles), np.sin(angles)), axis=1)).astype(np.float32)


def draw_points(count: int, seed: int) -> Points:
    """(count, 2): sample i belongs to mode i mod 8, so that all modes have the same share."""
    noise = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), np.float32)
    return centres()[np.arange(count) % MODES] + np.float32(SIGMA) * noise


def draw_images(count: int, run_seed: int) -> Images:
    """The training data of a run."""
    points = draw_points(count, stream_seed(run_seed, "ring"))
    return Images(from_unit(points).reshape(count, *IMAGE_SHAPE), np.arange(count) % MODES, NAME)
