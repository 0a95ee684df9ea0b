"""The losses of docs/algorithm.md 2 without class terms, with their slopes at the logits. Every mean is over the batch.

Both sides of LD are one function l of the margin, which is the logit of a real sample and minus that of a fake one:
l(m) = softplus(-m) = log(1 + e^-m) makes LD = adv(D(Xr), 1) + adv(D(Xd), 0); l(m) = max(1 - m, 0) is the hinge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]  # (B,)


@dataclass(frozen=True, slots=True)
class Loss:
    """Each gives values and slopes (B,): `of_margin` of the discriminator's loss, `of_fake` of LG at fake logits."""

    of_margin: Callable[[Numbers], tuple[Numbers, Numbers]]
    of_fake: Callable[[Numbers], tuple[Numbers, Numbers]]

    def discriminator(self, logits: Numbers, real: int) -> tuple[float, Numbers]:
        """LD and its slope at the logits (B + B',), of which the first `real` are of real samples."""
        signs, shares = np.ones_like(logits), np.full_like(logits, 1 / real)
        signs[real:], shares[real:] = -1, 1 / (len(logits) - real)
        values, slopes = self.of_margin(signs * logits)
        slopes *= signs * shares
        return float(np.dot(shares, values)), slopes

    def generator(self, logits: Numbers) -> tuple[float, Numbers]:
        """LG and its slope at the logits (B,) of generated samples."""
        values, slopes = self.of_fake(logits)
        slopes /= len(logits)
        return float(np.add.reduce(values)) / len(logits), slopes


def _softplus_loss(margin: Numbers) -> tuple[Numbers, Numbers]:
    """log(1 + e^-m), whose slope is -1 / (1 + e^m) = (tanh(m / 2) - 1) / 2, which overflows nowhere."""
    return np.logaddexp(0, -margin), 0.5 * np.tanh(0.5 * margin) - 0.5


def _hinge_loss(margin: Numbers) -> tuple[Numbers, Numbers]:
    return np.maximum(1 - margin, 0), np.where(margin < 1, np.float32(-1), np.float32(0))


def _saturating(logit: Numbers) -> tuple[Numbers, Numbers]:
    """-adv(o, 0)"""
    values, slopes = _softplus_loss(-logit)
    return -values, slopes


def _critic(logit: Numbers) -> tuple[Numbers, Numbers]:
    return -logit, np.full_like(logit, -1)


LOSSES = {
    "non_saturating": Loss(_softplus_loss, _softplus_loss),
    "saturating": Loss(_softplus_loss, _saturating),
    "hinge": Loss(_hinge_loss, _critic),
}
