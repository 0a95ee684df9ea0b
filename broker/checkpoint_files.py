"""Checkpoints as files of a run directory: written whole, the last few kept, and a torn one passed over.

`checkpoints/version-000050.safetensors` holds the generator, its average and Adam state; the metadata say of
which run, and which norms the feedback had of late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save

from mdgan_edge.errors import DataError
from mdgan_edge.gan.generator import GeneratorState
from mdgan_edge.gan.state import all_finite, read_file
from mdgan_edge.messages import ModelSettings, Version
from mdgan_edge.rundir import write_atomic

FORMAT = "mdgan-edge checkpoint 1"
KEPT = 3
PATTERN = "version-*.safetensors"


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """What a run can go on from."""

    run_id: str
    version: Version
    model: ModelSettings
    tensors: dict[str, torch.Tensor]
    norms: tuple[float, ...] = ()  # of feedback merged of late

    def restore(self, state: GeneratorState) -> None:
        """Put the generator where it stood. Raises DataError if it is of another network."""
        try:
            state.load(self.tensors, self.version)
        except (KeyError, ValueError, RuntimeError) as error:
            raise DataError(f"the checkpoint of version {self.version} is of another network: {error}") from error


def write_checkpoint(folder: Path, state: GeneratorState, run_id: str, norms: tuple[float, ...] = ()) -> None:
    """Add one and remove older ones beyond KEPT. Raises DataError if it is not finite, or the disk will not have it."""
    tensors = state.tensors()
    if not all_finite(tensors.values()):
        raise DataError(f"the generator of version {state.version} is not finite: it is not kept")
    facts = {
        "format": FORMAT,
        "run_id": run_id,
        "version": str(state.version),
        "model": msgspec.json.encode(state.model).decode(),
        "norms": msgspec.json.encode(norms).decode(),
    }
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make {folder}: {error.strerror or error}") from error
    path = folder / f"version-{state.version:06d}.safetensors"
    write_atomic(path, save(tensors, facts))
    kept = checkpoint_files(folder)
    for old in kept[kept.index(path) :][KEPT:]:  # those above it are torn, or of a run that could not be gone on with
        old.unlink(missing_ok=True)
    for half_written in folder.glob(f".{PATTERN}.*.tmp"):  # by a process that died over it
        half_written.unlink(missing_ok=True)


def checkpoint_files(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob(PATTERN), key=lambda path: (len(path.name), path.name), reverse=True)


def newest_checkpoint(folder: Path, told: Callable[[str], None]) -> SavedCheckpoint | None:
    """The newest that can be gone on from; `told` hears of those that cannot."""
    for path in checkpoint_files(folder):
        try:
            return _read(path)
        except DataError as error:
            told(f"{error}: going back to the one before")
    return None


def _read(path: Path) -> SavedCheckpoint:
    try:
        facts, tensors = read_file(path)
        if facts.get("format") != FORMAT:
            raise DataError(f"{path} is not a checkpoint of mdgan-edge")
        model = msgspec.json.decode(facts["model"], type=ModelSettings)
        norms = msgspec.json.decode(facts.get("norms", "[]"), type=tuple[float, ...])
        if not all_finite(tensors.values()):
            raise DataError(f"the generator in {path} is not finite")
        return SavedCheckpoint(facts["run_id"], Version(int(facts["version"])), model, tensors, norms)
    except (OSError, SafetensorError, KeyError, ValueError, msgspec.DecodeError) as error:
        raise DataError(f"cannot read the checkpoint {path}: {error}") from error
