"""The networks: a generator and a discriminator for every image size, built by name and by seed.

Generator: (z (B, latent), y (B,) int64 or None) -> images (B, C, H, W) in [-1, 1].
Discriminator: images (B, C, H, W) -> (logit (B,), class logits (B, classes), or None without classes).
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import importlib
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.networks import CnnDiscriminator, CnnGenerator, MlpDiscriminator, MlpGenerator
from mdgan_edge.gan.paper import PLANS, PaperDiscriminator, PaperGenerator
from mdgan_edge.messages import ModelSettings

IMAGE_SIZE_MIN = 8  # pixels
IMAGE_SIZE_MAX = 64
TRIAL_BATCH = 2
NAMES = ("auto", "mlp", "cnn28", "cnn32", "cnn", *PLANS)
FIXED_SIZES = {"cnn28": 28, "cnn32": 32, **{name: plan.image_size for name, plan in PLANS.items()}}
AUTOMATIC = {28: "cnn28", 32: "cnn32"}  # pixels: the model of "auto"; "cnn" for all other sizes
NORMALISED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def build_generator(settings: ModelSettings, seed: int) -> nn.Module:
    """The generator of `settings`; the same seed gives the same bits, torch's global stream stays untouched."""
    settings = resolve(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in settings.name:
            return _from_factory(settings)[0]
        if settings.name in PLANS:
            return PaperGenerator(settings, PLANS[settings.name])
        return MlpGenerator(settings) if settings.name == "mlp" else CnnGenerator(settings)


def build_discriminator(settings: ModelSettings, seed: int) -> nn.Module:
    """The discriminator of `settings`; see build_generator."""
    settings = resolve(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminator = _discriminator(settings)
        if settings.spectral_norm:
            _normalise(discriminator)
        return discriminator


def _discriminator(settings: ModelSettings) -> nn.Module:
    if ":" in settings.name:
        return _from_factory(settings)[1]
    if settings.name in PLANS:
        return PaperDiscriminator(settings, PLANS[settings.name])
    return MlpDiscriminator(settings) if settings.name == "mlp" else CnnDiscriminator(settings)


def _normalise(discriminator: nn.Module) -> None:
    """Divide each layer's weight by its largest singular value (Miyato et al. 2018).

    That value is estimated by one power iteration per forward. Its two vectors are buffers: they travel with the
    parameters, so a discriminator goes on to the last bit wherever it is loaded.
    """
    for layer in [module for module in discriminator.modules() if isinstance(module, NORMALISED)]:
        spectral_norm(layer)


def resolve(settings: ModelSettings) -> ModelSettings:
    """The settings with "auto" replaced by a model's name, every range checked; raises ConfigurationError."""
    _check_ranges(settings)
    name = settings.name
    if name == "auto":
        return msgspec.structs.replace(settings, name=AUTOMATIC.get(settings.image_size, "cnn"))
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
