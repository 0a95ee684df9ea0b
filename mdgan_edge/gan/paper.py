"""The paper's convolutional networks, as far as its text gives them; docs/models.md says what had to be decided.

Generator: one linear layer, then 5 x 5 transposed convolutions that double the map. Discriminator: six 3 x 3
convolutions of 16 to 512 kernels, minibatch discrimination, one linear layer. Shapes as in networks.py.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdgan_edge.gan.networks import class_code, heads
from mdgan_edge.messages import ModelSettings

DISCRIMINATOR_KERNELS = (16, 32, 64, 128, 256, 512)
SIMILARITIES = 5  # per image, from minibatch discrimination
SIMILARITY_SIZE = 3  # numbers that two images are compared by, for each similarity


@dataclass(frozen=True, slots=True)
class PaperPlan:
    """One image size: the first map (channels, side), the kernels after it without the image's, the strides of D."""

    image_size: int
    first: tuple[int, int]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def last_map(self) -> int:
        """The side of D's last map, in pixels."""
        side = self.image_size
        for stride in self.strides:
            side = -(-side // stride)
        return side


PLANS = {
    "paper28": PaperPlan(28, first=(128, 7), kernels=(32,), strides=(2, 1, 2, 1, 1, 1)),
    "paper32": PaperPlan(32, first=(384, 4), kernels=(192, 96), strides=(2, 1, 2, 1, 2, 1)),
    "paper64": PaperPlan(64, first=(256, 8), kernels=(128, 64), strides=(2, 2, 2, 1, 2, 1)),
}


class PaperGenerator(nn.Module):
    """latent -> first map -> doublings up to the image. The label costs no parameter, see MlpGenerator."""

    def __init__(self, settings: ModelSettings, plan: PaperPlan) -> None:
        super().__init__()
        channels, side = plan.first
        layers: list[nn.Module] = [nn.Linear(settings.latent_size, channels * side**2)]
        layers += [nn.ReLU(), nn.Unflatten(1, (channels, side, side))]
        for wide, narrow in itertools.pairwise((channels, *plan.kernels, settings.channels)):
            layers.append(nn.ConvTranspose2d(wide, narrow, 5, stride=2, padding=2, output_padding=1))
            layers.append(nn.ReLU())
        layers[-1] = nn.Tanh()
        self.layers = nn.Sequential(*layers)
        self.code: Tensor
        self.register_buffer("code", class_code(settings.classes, settings.latent_size), persistent=False)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if len(self.code):
            assert y is not None, "a conditional generator needs labels"
            z = z + self.code[y]  # (B, latent)
        images: Tensor = self.layers(z)  # (B, C, H, W)
        return images


class PaperDiscriminator(nn.Module):
    """Six convolutions, minibatch discrimination, all heads in one linear layer."""

    def __init__(self, settings: ModelSettings, plan: PaperPlan) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        pairs = itertools.pairwise((settings.channels, *DISCRIMINATOR_KERNELS))
        for (narrow, wide), stride in zip(pairs, plan.strides, strict=True):
            layers += [nn.Conv2d(narrow, wide, 3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
        features = DISCRIMINATOR_KERNELS[-1] * plan.last_map**2
        layers += [nn.Flatten(), MinibatchDiscrimination(features)]
        layers.append(nn.Linear(features + SIMILARITIES, 1 + settings.classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return heads(self.layers(x))


class MinibatchDiscrimination(nn.Module):
    """Features (B, F) to (B, F + SIMILARITIES): how alike each image is to the others of its batch, beside it.

    o_ik = sum over j != i of exp(-|M_ik - M_jk|_1) with M = T f (Salimans et al. 2016). So what a discriminator says of
    an image depends on the batch it comes in. Of a batch of one it is 0.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, SIMILARITIES * SIMILARITY_SIZE, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        m = self.project(features).unflatten(1, (SIMILARITIES, SIMILARITY_SIZE))  # (B, K, D)
        apart = (m[:, None] - m[None]).abs().sum(3)  # (B, B, K)
        alike = torch.exp(-apart).sum(1) - 1  # (B, K); an image is as alike to itself as can be
        return torch.cat([features, alike], 1)
