"""Our own networks: an MLP for any image size, the paper's for 28 pixels, and small CNNs.

Generator: (z (B, latent), y (B,) int64 or None) -> images (B, C, H, W) in [-1, 1].
Discriminator: images (B, C, H, W) -> (logit (B,), class logits (B, classes), or None without classes).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mdgan_edge.messages import ModelSettings

TWO_STAGES_MAX = 32  # pixels; larger images take a third halving
MLP_WIDTH = 512  # the paper's
CLASS_CODE_NORM = 4.0  # z is 10 long at the default latent size; as long as z, every image of a class is the same
CLASS_CODE_SEED = 0
LABEL_WEIGHT = 2.0  # of the one-hot label beside z: with 1 digits appear 100 steps later, with 5 they vary less


@dataclass(frozen=True, slots=True)
class CnnWidths:
    """Channels of the maps between noise and image, the smallest map first in both networks."""

    generator: tuple[int, ...]
    discriminator: tuple[int, ...]


TWO_STAGES = CnnWidths(generator=(44, 24), discriminator=(48, 24))
THREE_STAGES = CnnWidths(generator=(48, 32, 16), discriminator=(64, 32, 16))


class MlpGenerator(nn.Module):
    """latent-512-512-pixels, for MNIST the paper's 716,560 parameters.

    The label costs no parameter: a fixed random vector per class is added to z. Every class draws from its own cloud,
    hardly overlapping the others, and no part of z is lost.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self._shape = (settings.channels, settings.image_size, settings.image_size)
        pixels = settings.channels * settings.image_size**2
        self.layers = nn.Sequential(
            nn.Linear(settings.latent_size, MLP_WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(MLP_WIDTH, MLP_WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(MLP_WIDTH, pixels),
            nn.Tanh(),
        )
        self.code: Tensor
        self.register_buffer("code", class_code(settings.classes, settings.latent_size), persistent=False)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if len(self.code):
            assert y is not None, "a conditional generator needs labels"
            z = z + self.code[y]  # (B, latent)
        images: Tensor = self.layers(z).reshape(-1, *self._shape)
        return images


class MlpDiscriminator(nn.Module):
    """pixels-512-512-(1 + classes), for MNIST the paper's 670,219 parameters."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(settings.channels * settings.image_size**2, MLP_WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(MLP_WIDTH, MLP_WIDTH),
            nn.LeakyReLU(0.2),
            nn.Linear(MLP_WIDTH, 1 + settings.classes),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return heads(self.layers(x))


class CnnGenerator(nn.Module):
    """Noise and one-hot label to a small map, then doublings (transposed convolutions) up to the image.

    Sizes that are no multiple of the doublings are cropped on the way.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        widths = _widths(settings)
        self._classes = settings.classes
        self._sizes = _halvings(settings.image_size, len(widths.generator))
        first = self._sizes[0]
        deepest, thinnest = widths.generator[0], widths.generator[-1]
        self.project = nn.Sequential(
            nn.Linear(settings.latent_size + settings.classes, deepest * first**2, bias=False),
            nn.Unflatten(1, (deepest, first, first)),
            nn.BatchNorm2d(deepest),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        for wide, narrow in itertools.pairwise(widths.generator):
            self.stages.append(
                nn.Sequential(
                    nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(narrow),
                    nn.ReLU(),
                )
            )
        self.stages.append(
            nn.Sequential(nn.ConvTranspose2d(thinnest, settings.channels, 4, stride=2, padding=1), nn.Tanh())
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self._classes:
            assert y is not None, "a conditional generator needs labels"
            label = LABEL_WEIGHT * functional.one_hot(y, self._classes).to(z.dtype)  # (B, classes)
            z = torch.cat([z, label], 1)
        x: Tensor = self.project(z)
        for stage, size in zip(self.stages, self._sizes[1:], strict=True):
            x = stage(x)[:, :, :size, :size]
        return x.contiguous()


class CnnDiscriminator(nn.Module):
    """Strided convolutions down to a small map, then one linear layer to all heads.

    No BatchNorm: real and generated batches pass apart, and their statistics would give them away.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        widths = _widths(settings)
        channels = (settings.channels, *reversed(widths.discriminator))
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(channels):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        last = _halvings(settings.image_size, len(widths.discriminator))[0]
        layers += [nn.Flatten(), nn.Linear(channels[-1] * last**2, 1 + settings.classes)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return heads(self.layers(x))


def heads(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 1 + classes) as (logit, class logits)."""
    return scores[:, 0], scores[:, 1:] if scores.shape[1] > 1 else None


def class_code(classes: int, latent_size: int) -> Tensor:
    """One fixed direction in latent space per class: float32 (classes, latent)."""
    rng = torch.Generator().manual_seed(CLASS_CODE_SEED)
    return CLASS_CODE_NORM * functional.normalize(torch.randn(classes, latent_size, generator=rng), dim=1)


def _halvings(size: int, count: int) -> list[int]:
    """Sizes of the maps from smallest to image, each half the next, rounded up: (28, 2) -> [7, 14, 28]."""
    return [-(-size // 2**stage) for stage in range(count, -1, -1)]


def _widths(settings: ModelSettings) -> CnnWidths:
    return TWO_STAGES if settings.image_size <= TWO_STAGES_MAX else THREE_STAGES
