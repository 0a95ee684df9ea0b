"""Between numpy and the wire's Tensor, with the norm that production measures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mdgan_edge.messages import Tensor
from sim.toy.mixture import DIMENSIONS, IMAGE_SHAPE, Points


def to_wire(points: Points) -> Tensor:
    """Points or their gradient (B, 2) as float32 (B, 2, 1, 1), with the L2 norm (nan if not finite)."""
    norm = l2_norm(points.ravel())
    return Tensor("float32", (len(points), *IMAGE_SHAPE), points.tobytes(), norm if math.isfinite(norm) else math.nan)


def from_wire(tensor: Tensor) -> Points:
    """(B, 2), not to be written to."""
    return np.frombuffer(tensor.data, np.float32).reshape(-1, DIMENSIONS)


def row_to_wire(row: NDArray[np.float32]) -> Tensor:
    """A vector (n,) as it is."""
    norm = l2_norm(row)
    return Tensor("float32", row.shape, row.tobytes(), norm if math.isfinite(norm) else math.nan)


def row_from_wire(tensor: Tensor) -> NDArray[np.float32]:
    """(n,), not to be written to."""
    return np.frombuffer(tensor.data, np.float32)


def l2_norm(vector: NDArray[np.float32]) -> float:
    """In float64."""
    wide = vector.astype(np.float64)
    return math.sqrt(np.dot(wide, wide))
