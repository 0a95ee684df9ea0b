"""How good and how varied generated points are, held against the mixture itself.

None of the scores tells everything: one perfect mode has full quality, and points strewn evenly over the square are
nearer to the ring than half of it is.
"""

from __future__ import annotations

import numpy as np

from sim.toy.mixture import SIGMA, Points, centres, draw_points

DIRECTIONS = 64  # of projections, evenly spread over the half circle
NEAR = 3 * SIGMA  # of a centre; 98.9 % of a Gaussian's points are as near as that
MODE_SHARE = 0.025  # of all points must be near a centre to count as a mode: a fifth of its fair share
NAMES = ("sliced_wasserstein", "modes", "quality")
NOT_FINITE = "the points hold values that are not finite: the generator has diverged"


class Scorer:
    """Knows `count` points of the mixture, and scores as many."""

    def __init__(self, count: int, seed: int) -> None:
        self._real = _projected(draw_points(count, seed))  # (count, 64)

    def scores(self, points: Points) -> dict[str, float | None]:
        """By name; all None where a point (count, 2) is not finite."""
        if not np.isfinite(points).all():
            return dict.fromkeys(NAMES)
        distances = np.linalg.norm(points[:, None] - centres(), axis=2)  # (count, 8)
        shares = (distances < NEAR).mean(axis=0)  # (8,)
        return {
            "sliced_wasserstein": self.sliced_wasserstein(points),
            "modes": int((shares >= MODE_SHARE).sum()),
            "quality": float(shares.sum()),  # the share of points that are near any centre: no two are near enough
        }

    def sliced_wasserstein(self, points: Points) -> float:
        """The root of the mean, over directions u, of W_2^2 between the two sets projected on u (Bonneel et al. 2015).

        In one dimension W_2^2 of two sets of n is the mean of (a_i - b_i)^2 over both in ascending order.
        """
        return float(np.sqrt(np.square(_projected(points) - self._real).mean()))


def _projected(points: Points) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Each column: the points (n, 2) on one direction, ascending; (n, 64)."""
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return np.sort(points.astype(np.float64) @ np.stack((np.cos(angles), np.sin(angles))), axis=0)
