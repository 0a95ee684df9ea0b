"""The losses of docs/algorithm.md 2 without class terms, with their slopes at the logits. Every mean is over the batch.

softplus(o) = log(1 + e^o), so BCE with logits is adv(o, 1) = mean softplus(-o) and adv(o, 0) = mean softplus(o).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]  # (B,)
Sloped = tuple[float, Logits]  # a loss and dL/do (B,)
OfDiscriminator = Callable[[Logits, Logits], tuple[float, Logits, Logits]]


@dataclass(frozen=True, slots=True)
class Loss:
    """LD of (real, fake) logits with its slopes at both, and LG of fake logits with its slope."""

    discriminator: OfDiscriminator
    generator: Callable[[Logits], Sloped]


def _bce(logit: Logits, target: float) -> Sloped:
    """adv(o, t); the slope is (sigmoid(o) - t) / B."""
    loss = np.logaddexp(0, -logit if target else logit).mean()
    slope: Logits = (_sigmoid(logit) - target) / len(logit)
    return float(loss), slope


def _sigmoid(logit: Logits) -> Logits:
    half: Logits = 0.5 * np.tanh(0.5 * logit) + 0.5  # overflows nowhere
    return half


def _bce_discriminator(real: Logits, fake: Logits) -> tuple[float, Logits, Logits]:
    loss_real, slope_real = _bce(real, 1.0)
    loss_fake, slope_fake = _bce(fake, 0.0)
    return loss_real + loss_fake, slope_real, slope_fake


def _non_saturating_generator(logit: Logits) -> Sloped:
    return _bce(logit, 1.0)


def _saturating_generator(logit: Logits) -> Sloped:
    loss, slope = _bce(logit, 0.0)
    return -loss, -slope


def _hinge_discriminator(real: Logits, fake: Logits) -> tuple[float, Logits, Logits]:
    loss = np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean()
    slope_real = np.where(real < 1, np.float32(-1 / len(real)), np.float32(0))
    slope_fake = np.where(fake > -1, np.float32(1 / len(fake)), np.float32(0))
    return float(loss), slope_real, slope_fake


def _hinge_generator(logit: Logits) -> Sloped:
    return -float(logit.mean()), np.full_like(logit, -1 / len(logit))


LOSSES = {
    "non_saturating": Loss(_bce_discriminator, _non_saturating_generator),
    "saturating": Loss(_bce_discriminator, _saturating_generator),
    "hinge": Loss(_hinge_discriminator, _hinge_generator),
}
