"""Images out of a trained generator, as a picture or as an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mdgan_edge.data.grid import save_grid
from mdgan_edge.data.images import from_unit
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.gan.generator import sample_images
from mdgan_edge.gan.saved import load_generator

COLUMNS = 10


def draw(source: Path, count: int, seed: int, label: int | None, model: str | None, out: Path) -> None:
    """Write `count` images of the generator at `source` to `out`: a .png grid, or an .npz with x uint8 and y."""
    saved = load_generator(source, model)
    if label is not None and not 0 <= label < saved.model.classes:
        has = f"classes 0 to {saved.model.classes - 1}" if saved.model.classes else "no classes"
        raise ConfigurationError(f"--label {label}: this generator has {has}")
    torch.set_num_threads(1)
    images, labels = sample_images(saved.average, saved.model, count, seed, label=label)  # (n, C, H, W), (n,)
    if out.suffix == ".png":
        save_grid(out, images.numpy(), COLUMNS)
        return
    arrays = {"x": from_unit(images.numpy())} | ({} if labels is None else {"y": labels.numpy()})
    try:
        np.savez_compressed(out, **arrays)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}") from error
