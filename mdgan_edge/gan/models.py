"""The networks: a generator and a discriminator for every image size, built by name and by seed.

Generator: (z (B, latent), y (B,) int64 or None) -> images (B, C, H, W) in [-1, 1].
Discriminator: images (B, C, H, W) -> (logit (B,), class logits (B, classes), or None without classes).
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
import itertools
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import ModelSettings

IMAGE_SIZE_MIN = 8  # pixels
IMAGE_SIZE_MAX = 64
TWO_STAGES_MAX = 32  # pixels; larger images take a third halving
MLP_WIDTH = 512  # the paper's
CLASS_CODE_NORM = 4.0  # z is 10 long at the default latent size; as long as z, every image of a class is the same
CLASS_CODE_SEED = 0
LABEL_WEIGHT = 2.0  # of the one-hot label beside z: with 1 digits appear 100 steps later, with 5 they vary less
TRIAL_BATCH = 2
NAMES = ("auto", "mlp", "cnn28", "cnn32", "cnn")
FIXED_SIZES = {"cnn28": 28, "cnn32": 32}


@dataclass(frozen=True, slots=True)
class CnnWidths:
    """Channels of the maps between noise and image, the smallest map first in both networks."""

    generator: tuple[int, ...]
    discriminator: tuple[int, ...]


TWO_STAGES = CnnWidths(generator=(44, 24), discriminator=(48, 24))
THREE_STAGES = CnnWidths(generator=(48, 32, 16), discriminator=(64, 32, 16))


def build_generator(settings: ModelSettings, seed: int) -> nn.Module:
    """The generator of `settings`; the same seed gives the same bits, torch's global stream stays untouched."""
    settings = resolve(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in settings.name:
            return _from_factory(settings)[0]
        if settings.name == "mlp":
            return MlpGenerator(settings)
        return CnnGenerator(settings, _widths(settings))


def build_discriminator(settings: ModelSettings, seed: int) -> nn.Module:
    """The discriminator of `settings`; see build_generator."""
    settings = resolve(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in settings.name:
            return _from_factory(settings)[1]
        if settings.name == "mlp":
            return MlpDiscriminator(settings)
        return CnnDiscriminator(settings, _widths(settings))


def resolve(settings: ModelSettings) -> ModelSettings:
    """The settings with "auto" replaced by a model's name, every range checked; raises ConfigurationError."""
    _check_ranges(settings)
    name = settings.name
    if name == "auto":
        named = {size: fixed for fixed, size in FIXED_SIZES.items()}
        return msgspec.structs.replace(settings, name=named.get(settings.image_size, "cnn"))
    if ":" not in name and name not in NAMES:
        raise ConfigurationError(_unknown_model(name))
    size = FIXED_SIZES.get(name, settings.image_size)
    if size != settings.image_size:
        raise ConfigurationError(
            f'model {name} is for images of {size} pixels, not {settings.image_size}: use "auto" or "cnn", '
            f"or resize the images to {size}."
        )
    return settings


def architecture(module: nn.Module) -> str:
    """A fingerprint of what a state dict of `module` looks like: 32 hex digits over names, dtypes and shapes."""
    lines = (f"{name} {tensor.dtype} {tuple(tensor.shape)}\n" for name, tensor in sorted(module.state_dict().items()))
    return hashlib.blake2b("".join(lines).encode(), digest_size=16).hexdigest()


def parameter_count(module: nn.Module) -> int:
    """How many numbers training moves."""
    return sum(parameter.numel() for parameter in module.parameters())


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
        self.register_buffer("code", _class_code(settings.classes, settings.latent_size), persistent=False)

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
        return _heads(self.layers(x))


class CnnGenerator(nn.Module):
    """Noise and one-hot label to a small map, then doublings (transposed convolutions) up to the image.

    Sizes that are no multiple of the doublings are cropped on the way.
    """

    def __init__(self, settings: ModelSettings, widths: CnnWidths) -> None:
        super().__init__()
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

    def __init__(self, settings: ModelSettings, widths: CnnWidths) -> None:
        super().__init__()
        channels = (settings.channels, *reversed(widths.discriminator))
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise(channels):
            layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
        last = _halvings(settings.image_size, len(widths.discriminator))[0]
        layers += [nn.Flatten(), nn.Linear(channels[-1] * last**2, 1 + settings.classes)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return _heads(self.layers(x))


def _heads(scores: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 1 + classes) as (logit, class logits)."""
    return scores[:, 0], scores[:, 1:] if scores.shape[1] > 1 else None


def _class_code(classes: int, latent_size: int) -> Tensor:
    """One fixed direction in latent space per class: float32 (classes, latent)."""
    rng = torch.Generator().manual_seed(CLASS_CODE_SEED)
    return CLASS_CODE_NORM * functional.normalize(torch.randn(classes, latent_size, generator=rng), dim=1)


def _halvings(size: int, count: int) -> list[int]:
    """Sizes of the maps from smallest to image, each half the next, rounded up: (28, 2) -> [7, 14, 28]."""
    return [-(-size // 2**stage) for stage in range(count, -1, -1)]


def _widths(settings: ModelSettings) -> CnnWidths:
    return TWO_STAGES if settings.image_size <= TWO_STAGES_MAX else THREE_STAGES


def _check_ranges(settings: ModelSettings) -> None:
    if not IMAGE_SIZE_MIN <= settings.image_size <= IMAGE_SIZE_MAX:
        raise ConfigurationError(
            f"image_size is {settings.image_size}: resize the images to {IMAGE_SIZE_MIN}..{IMAGE_SIZE_MAX} pixels."
        )
    if settings.channels not in (1, 3):
        raise ConfigurationError(f"channels is {settings.channels}: use 1 (grey) or 3 (colour).")
    if settings.latent_size < 1:
        raise ConfigurationError(f"latent_size is {settings.latent_size}: use 1 or more, 100 is usual.")
    if settings.classes < 0:
        raise ConfigurationError(f"classes is {settings.classes}: use 0 for images without labels.")


def _unknown_model(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose another."
    return f"unknown model {name!r}: {hint} Models: {', '.join(NAMES)}, or your own as package.module:factory."


def _from_factory(settings: ModelSettings) -> tuple[nn.Module, nn.Module]:
    """A user's own pair: factory(settings) -> (generator, discriminator), tried once before it is believed."""
    factory = _import_factory(settings.name)
    try:
        pair = factory(settings)
    except Exception as error:
        raise ConfigurationError(f"model {settings.name} failed to build: {error!r}. Mend the factory.") from error
    match pair:
        case (nn.Module() as generator, nn.Module() as discriminator):
            _try_pair(settings, generator, discriminator)
            return generator, discriminator
        case _:
            raise ConfigurationError(
                f"model {settings.name} must return (generator, discriminator), two torch.nn.Module, "
                f"not {type(pair).__name__}."
            )


def _import_factory(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"model {name}: cannot import {module_name!r} ({error}); install it here or put it on PYTHONPATH."
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        near = difflib.get_close_matches(attribute, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ConfigurationError(f"model {name}: {module_name} has no function {attribute!r}{hint}")
    return factory


def _try_pair(settings: ModelSettings, generator: nn.Module, discriminator: nn.Module) -> None:
    """Run copies once, so that the trial moves no BatchNorm statistics."""
    y = torch.zeros(TRIAL_BATCH, dtype=torch.int64) if settings.classes else None
    try:
        with torch.no_grad():
            images = copy.deepcopy(generator)(torch.randn(TRIAL_BATCH, settings.latent_size), y)
            size = (TRIAL_BATCH, settings.channels, settings.image_size, settings.image_size)
            _expect(settings, "the generator's images", images, size)
            logit, class_logits = copy.deepcopy(discriminator)(images)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"model {settings.name} failed a trial run: {error!r}. Mend its forward.") from error
    _expect(settings, "the discriminator's logit", logit, (TRIAL_BATCH,))
    if settings.classes:
        _expect(settings, "the discriminator's class logits", class_logits, (TRIAL_BATCH, settings.classes))
    elif class_logits is not None:
        raise ConfigurationError(f"model {settings.name}: with classes = 0 the class logits must be None.")


def _expect(settings: ModelSettings, what: str, found: object, shape: tuple[int, ...]) -> None:
    """Raise unless `found` is a float32 tensor of `shape`."""
    if not isinstance(found, Tensor):
        raise ConfigurationError(f"model {settings.name}: {what} must be a tensor, not {type(found).__name__}.")
    if tuple(found.shape) != shape or found.dtype != torch.float32:
        raise ConfigurationError(
            f"model {settings.name}: {what} must be float32 {shape}, not {found.dtype} {tuple(found.shape)}."
        )
