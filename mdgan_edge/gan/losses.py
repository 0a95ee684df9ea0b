"""The losses of generator and discriminator, each a small function pair chosen by name.

A discriminator returns (logit (B,), class logits (B, classes) or None). Where it returns class logits, the mean
cross-entropy with the labels is added with weight 1 (ACGAN). Every mean is over the batch.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdgan_edge.errors import ConfigurationError


def discriminator_loss(
    name: str,
    discriminator: nn.Module,
    x_real: Tensor,
    y_real: Tensor | None,
    x_fake: Tensor,
    y_fake: Tensor | None,
    gradient_penalty: float,
) -> Tensor:
    """LD on x_real (B, C, H, W), y_real (B,) against x_fake, y_fake; the batches may differ in length.

    `gradient_penalty` weighs the penalty of wgan_gp, which draws from torch's global stream; others ignore it.
    """
    adversarial = _adversarial(name)
    logit_real, classes_real = discriminator(x_real)  # (B,), (B, classes) | None
    logit_fake, classes_fake = discriminator(x_fake)
    loss = adversarial.discriminator(logit_real, logit_fake)
    loss = loss + _class_loss(classes_real, y_real) + _class_loss(classes_fake, y_fake)
    if adversarial.penalised:
        loss = loss + gradient_penalty * _gradient_penalty(discriminator, x_real, x_fake)
    return loss


def generator_loss(name: str, discriminator: nn.Module, x_fake: Tensor, y_fake: Tensor | None) -> Tensor:
    """LG on x_fake (B, C, H, W) and y_fake (B,): what the generator wants small."""
    logit, classes = discriminator(x_fake)  # (B,), (B, classes) | None
    return _adversarial(name).generator(logit) + _class_loss(classes, y_fake)


def _non_saturating_generator(logit: Tensor) -> Tensor:
    return _bce(logit, 1.0)


def _saturating_generator(logit: Tensor) -> Tensor:
    return -_bce(logit, 0.0)


def _bce_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return _bce(real, 1.0) + _bce(fake, 0.0)


def _hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def _critic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


def _critic_generator(logit: Tensor) -> Tensor:
    return -logit.mean()


def _bce(logit: Tensor, target: float) -> Tensor:
    """adv(o, t): binary cross-entropy with logits, mean over the batch."""
    return functional.binary_cross_entropy_with_logits(logit, torch.full_like(logit, target))


def _class_loss(class_logits: Tensor | None, labels: Tensor | None) -> Tensor | float:
    """cls(X, y): mean cross-entropy, nothing for a discriminator without class logits."""
    if class_logits is None:
        return 0.0
    assert labels is not None, "a discriminator with class logits needs labels"
    return functional.cross_entropy(class_logits, labels)


def _gradient_penalty(discriminator: nn.Module, x_real: Tensor, x_fake: Tensor) -> Tensor:
    """mean((|dD/dx| - 1)^2) at random points between real and fake samples (Gulrajani et al. 2017)."""
    count = min(len(x_real), len(x_fake))
    mix = torch.rand(count, 1, 1, 1, dtype=x_real.dtype)
    between = torch.lerp(x_real[:count].detach(), x_fake[:count].detach(), mix).requires_grad_()
    logit, _ = discriminator(between)
    (slope,) = torch.autograd.grad(logit.sum(), between, create_graph=True)  # (B, C, H, W)
    lengths = torch.linalg.vector_norm(slope.flatten(1), dim=1)  # (B,)
    penalty: Tensor = (lengths - 1).square().mean()
    return penalty


@dataclass(frozen=True, slots=True)
class _Adversarial:
    """One named pair: LD of (real, fake) logits and LG of fake logits, both without class terms."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    penalised: bool = False


_LOSSES = {
    "non_saturating": _Adversarial(_bce_discriminator, _non_saturating_generator),
    "saturating": _Adversarial(_bce_discriminator, _saturating_generator),
    "hinge": _Adversarial(_hinge_discriminator, _critic_generator),
    "wgan_gp": _Adversarial(_critic_discriminator, _critic_generator, penalised=True),
}


def _adversarial(name: str) -> _Adversarial:
    if name in _LOSSES:
        return _LOSSES[name]
    near = difflib.get_close_matches(name, _LOSSES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose another."
    raise ConfigurationError(f"unknown loss {name!r}: {hint} Losses: {', '.join(_LOSSES)}.")
