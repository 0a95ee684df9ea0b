"""The generator as a safetensors file: what it was trained as, where it stands, and both sets of weights.

`average.*` is the moving average that samples are drawn from, `module.*` the generator itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from torch import nn

from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.gan.generator import GeneratorState
from mdgan_edge.gan.models import build_generator
from mdgan_edge.gan.state import part, read_file
from mdgan_edge.messages import ModelSettings, Version

FORMAT = "mdgan-edge generator 1"


@dataclass(frozen=True, slots=True)
class SavedGenerator:
    """A generator as it was saved: the averaged one, ready to draw from, and the state of the live one."""

    model: ModelSettings
    version: Version
    average: nn.Module
    module: dict[str, torch.Tensor]


def generator_file(state: GeneratorState) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata, as `safetensors.torch.save` takes them."""
    tensors = {f"average.{name}": value.clone().contiguous() for name, value in state.average.state_dict().items()}
    tensors |= {f"module.{name}": value.clone().contiguous() for name, value in state.module.state_dict().items()}
    model = msgspec.json.encode(state.model).decode()
    return tensors, {"format": FORMAT, "model": model, "version": str(state.version)}


def load_generator(path: Path, permitted: str | None = None) -> SavedGenerator:
    """Read what `generator_file` wrote; DataError if it is something else.

    A model that is foreign code (package.module:factory) is only run if it is the `permitted` one.
    """
    try:
        facts, tensors = read_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"cannot read the generator {path}: {error}") from error
    if facts.get("format") != FORMAT:
        raise DataError(f"{path} is not a generator of mdgan-edge: take generator.safetensors of a run directory")
    try:
        model = msgspec.json.decode(facts["model"], type=ModelSettings)
        if ":" in model.name and model.name != permitted:
            text = f"the generator {path} wants to run the model code {model.name!r}: permit it with"
            raise ConfigurationError(f"{text} --model {model.name}")
        average = build_generator(model, seed=0)
        average.load_state_dict(part(tensors, "average."))
        return SavedGenerator(model, Version(int(facts["version"])), average.eval(), part(tensors, "module."))
    except (KeyError, ValueError, RuntimeError, msgspec.DecodeError) as error:
        raise DataError(f"the generator {path} is incomplete or of another network: {error}") from error
