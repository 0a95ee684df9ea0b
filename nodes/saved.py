"""A node's discriminator and its optimiser as a safetensors file: of which run, which one, how often trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from mdgan_edge.errors import DataError
from mdgan_edge.gan.state import read_file
from mdgan_edge.messages import HeldDiscriminator
from mdgan_edge.rundir import write_atomic

FORMAT = "mdgan-edge discriminator 1"


@dataclass(frozen=True, slots=True)
class SavedDiscriminator:
    """A discriminator as it lies on disk: which one, of which run, and its tensors by name."""

    run_id: str
    held: HeldDiscriminator
    tensors: dict[str, torch.Tensor]


def write_discriminator(path: Path, saved: SavedDiscriminator) -> None:
    """Replace what is on disk as a whole."""
    facts = {"format": FORMAT, "run_id": saved.run_id, "held": msgspec.json.encode(saved.held).decode()}
    write_atomic(path, save(saved.tensors, facts))


def read_discriminator(path: Path) -> SavedDiscriminator | None:
    """What is on disk; None if there is nothing, DataError if it cannot be read."""
    if not path.exists():
        return None
    mend = f"move {path} away to start with a fresh discriminator"
    try:
        facts, tensors = read_file(path)
        if facts.get("format") != FORMAT:
            raise DataError(f"not a discriminator of mdgan-edge: {mend}")
        held = msgspec.json.decode(facts["held"], type=HeldDiscriminator)
        return SavedDiscriminator(facts["run_id"], held, tensors)
    except (OSError, SafetensorError, msgspec.DecodeError, KeyError) as error:
        raise DataError(f"cannot read the discriminator ({error}): {mend}") from error
