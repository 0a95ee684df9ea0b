"""Where images come from: `digits`, `npz:FILE` or `folder:DIR`; parts, permutation, size and channels.

Parts. `train` and `test` never overlap. A source that sets a test part apart (digits, x_test of an npz) keeps it; of
any other, a tenth is held out, the same tenth whatever the seed, so that a hub and nodes with other seeds agree on it.
`all` is what is not set apart by the source itself: for a node whose folder or file is its own.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mdgan_edge.data import folder, npz
from mdgan_edge.data.images import SIZE_MAX, SIZE_MIN, Images, Indices
from mdgan_edge.data.pixels import RawImages, with_channels, with_size
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.streams import stream_seed

Part = Literal["train", "test", "all"]
Kind = Literal["digits", "npz", "folder"]

DIGITS = Path(__file__).with_name("digits.npz")
HELD_OUT = 0.1  # fraction of a source without a test part
HELD_OUT_SEED = 0  # not the caller's: hub and nodes must hold out the same images
USAGE = "use digits, npz:FILE or folder:DIR"


def load(
    source: str, part: Part, seed: int, resize: int | None = None, channels: Literal[1, 3] | None = None
) -> Images:
    """The images of one part, in an order drawn from `seed`; DataError or ConfigurationError says what to mend.

    `resize` (pixels) crops to the central square and scales; without it images must be square and 8..64 pixels.
    `channels` turns grey into colour (three equal channels) or colour into grey (ITU-R 601); None keeps them.
    """
    kind, path = parse_source(source)
    if resize is not None and not SIZE_MIN <= resize <= SIZE_MAX:
        raise ConfigurationError(f"resize {resize}: choose {SIZE_MIN} to {SIZE_MAX} pixels")
    if kind == "folder":
        raw = _part(folder.read(path, resize, channels), None, part, source)
    else:
        raw = _part(*npz.read(path), part, source)
    x = with_channels(with_size(raw.x, resize, source), channels)
    order = np.random.default_rng(stream_seed(seed, "permute", part)).permutation(len(x))
    return Images(x, raw.y, source).subset(order)


def parse_source(source: str) -> tuple[Kind, Path]:
    """The kind of a source and the path behind it."""
    kind, colon, rest = source.partition(":")
    match kind:
        case "digits" if not colon:
            return "digits", DIGITS
        case "npz" | "folder" if rest:
            return ("npz" if kind == "npz" else "folder"), Path(rest).expanduser()
        case _:
            raise ConfigurationError(f"data source {source!r}: {_hint(source, kind)}{USAGE}")


def part_for_node(shard: str) -> Part:
    """What a node loads: data that is dealt out is shared with the hub, which holds a part back for its scores."""
    return "all" if shard == "all" else "train"


def _hint(source: str, kind: str) -> str:
    if Path(source).expanduser().is_dir():
        return f"did you mean 'folder:{source}'? "
    if Path(source).expanduser().is_file():
        return f"did you mean 'npz:{source}'? "
    near = difflib.get_close_matches(kind, get_args(Kind), n=1)
    return f"did you mean {near[0]!r}? " if near and near[0] != kind else ""


def _part(train: RawImages, test: RawImages | None, part: Part, source: str) -> RawImages:
    """The part asked for, in the source's own order."""
    if test is not None:
        return test if part == "test" else train
    if part == "all":
        return train
    if len(train.x) < 2:
        raise DataError(f"{source}: one image cannot be split into a training and a test part; add more images")
    held_out, kept = _held_out(len(train.x))
    return train.subset(held_out if part == "test" else kept)


def _held_out(count: int) -> tuple[Indices, Indices]:
    """Indices of the held-out tenth (at least one image) and of the rest."""
    order = np.random.default_rng(HELD_OUT_SEED).permutation(count)
    test_count = max(1, round(HELD_OUT * count))
    return order[:test_count], order[test_count:]
