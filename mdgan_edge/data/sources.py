"""Where images come from: the text of a source, its parts, permutation, size and channels.

Parts. `train` and `test` never overlap. A source that sets a test part apart keeps it; of any other, a tenth is held
out, the same tenth whatever the seed, so that a hub and nodes with other seeds agree on it. `all` is what is not set
apart by the source itself: for a node whose folder or file is its own.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never, get_args

import numpy as np

from mdgan_edge.cache import cache_folder
from mdgan_edge.data.cache import Entry, Stored, cached, content_key
from mdgan_edge.data.celeba import CelebA
from mdgan_edge.data.cifar10 import Cifar10
from mdgan_edge.data.files import Files
from mdgan_edge.data.folder import Folder
from mdgan_edge.data.formats import Format, Part, Parts, fitted
from mdgan_edge.data.idx import Idx
from mdgan_edge.data.images import SIZE_MAX, SIZE_MIN, Images, Indices
from mdgan_edge.data.npz import Npz
from mdgan_edge.data.pixels import Channels
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.streams import stream_seed

PartName = Literal["train", "test", "all"]
Kind = Literal["digits", "npz", "idx", "cifar10", "celeba", "folder", "files"]

DIGITS = Path(__file__).with_name("digits.npz")
HELD_OUT = 0.1  # fraction of a source without a test part
HELD_OUT_SEED = 0  # not the caller's: hub and nodes must hold out the same images
USAGE = "use digits, npz:FILE, idx:DIR, cifar10:DIR, celeba:DIR[,attribute=NAME], folder:DIR or files:DIR"
ATTRIBUTE = ",attribute="
# What lies in a folder of each kind, for people who leave the kind away.
TELLTALES = (
    ("idx", "*-images?idx3-ubyte*"), ("cifar10", "data_batch_*"), ("cifar10", "*/data_batch_*"),
    ("celeba", "*_celeba*"), ("files", "*.npz"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """What a source's text says; `attribute` of CelebA only."""

    kind: Kind
    path: Path
    attribute: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """All images of a source as it orders them; `entry`: where they are cached, None for the embedded digits."""

    train: Images
    test: Images | None
    entry: Entry | None


def load(source: str, part: PartName, seed: int, resize: int | None = None, channels: Channels | None = None) -> Images:
    """The images of one part, in an order drawn from `seed`; DataError or ConfigurationError says what to mend.

    `resize` (pixels) crops to the central square and scales; without it images must be square and 8..64 pixels.
    `channels` turns grey into colour (three equal channels) or colour into grey (ITU-R 601); None keeps them.
    """
    return permuted(choose(open_source(source, resize, channels), part), part, seed)


def open_source(source: str, resize: int | None = None, channels: Channels | None = None) -> Opened:
    """Everything that `load` chooses from, its pixels mapped from the cache; decoded first if they are not there."""
    said = parse_source(source)
    if resize is not None and not SIZE_MIN <= resize <= SIZE_MAX:
        raise ConfigurationError(f"resize {resize}: choose {SIZE_MIN} to {SIZE_MAX} pixels")
    one = _format(said, resize, channels)

    def look() -> Parts:
        fit = [None if part is None else fitted(part, resize, channels, source) for part in one.parts()]
        assert fit[0] is not None
        return fit[0], fit[1]

    if said.kind == "digits":  # small, and there already
        train, test = look()
        return Opened(_whole(train, source), None if test is None else _whole(test, source), None)
    facts = f"{said.kind} attribute={said.attribute} resize={resize} channels={channels}"
    key = content_key(facts, one.files())

    def check() -> None:
        if content_key(facts, one.files()) != key:
            raise DataError(f"{source}: changed while it was read; load it again when nobody writes to it")

    entry = cached(cache_folder(os.environ), key, look, check)
    return Opened(_mapped(entry.train, source), None if entry.test is None else _mapped(entry.test, source), entry)


def choose(opened: Opened, part: PartName) -> Images:
    """The images of one part, as the source orders them."""
    if opened.test is not None:
        return opened.test if part == "test" else opened.train
    if part == "all":
        return opened.train
    if len(opened.train) < 2:
        name = opened.train.name
        raise DataError(f"{name}: one image cannot be split into a training and a test part; add more images")
    held_out, kept = _held_out(len(opened.train))
    return opened.train.subset(held_out if part == "test" else kept)


def permuted(images: Images, part: PartName, seed: int) -> Images:
    """In an order drawn from `seed`: many sources are sorted by class."""
    return images.subset(np.random.default_rng(stream_seed(seed, "permute", part)).permutation(len(images)))


def parse_source(source: str) -> Source:
    """The kind of a source and what stands behind it."""
    kind, colon, rest = source.partition(":")
    if kind == "digits" and not colon:
        return Source("digits", DIGITS)
    path, comma, attribute = rest.rpartition(ATTRIBUTE) if kind == "celeba" and ATTRIBUTE in rest else (rest, "", "")
    if not path or (comma and not attribute):
        raise ConfigurationError(f"data source {source!r}: {_hint(source, kind)}{USAGE}")
    for known in get_args(Kind):
        if kind == known != "digits":
            return Source(known, Path(path).expanduser(), attribute or None)
    raise ConfigurationError(f"data source {source!r}: {_hint(source, kind)}{USAGE}")


def part_for_node(shard: str) -> PartName:
    """What a node loads: data that is dealt out is shared with the hub, which holds a part back for its scores."""
    return "all" if shard == "all" else "train"


def _format(said: Source, resize: int | None, channels: Channels | None) -> Format:
    match said.kind:
        case "digits" | "npz":
            return Npz(said.path)
        case "idx":
            return Idx(said.path)
        case "cifar10":
            return Cifar10(said.path)
        case "celeba":
            return CelebA(said.path, said.attribute, resize, channels)
        case "folder":
            return Folder(said.path, resize, channels)
        case "files":
            return Files(said.path, resize, channels)
        case _:
            assert_never(said.kind)


def _whole(part: Part, name: str) -> Images:
    return Images(np.concatenate(list(part.blocks())), part.y, name)


def _mapped(part: Stored, name: str) -> Images:
    return Images(part.pixels, part.y, name, origin=part.origin)


def _hint(source: str, kind: str) -> str:
    path = Path(source).expanduser()
    if source and path.is_dir():
        found = next((name for name, pattern in TELLTALES if next(path.glob(pattern), None)), "folder")
        return f"did you mean '{found}:{source}'? "
    if path.is_file():
        return f"did you mean 'npz:{source}'? "
    near = difflib.get_close_matches(kind, get_args(Kind), n=1)
    return f"did you mean {near[0]!r}? " if near and near[0] != kind else ""


def _held_out(count: int) -> tuple[Indices, Indices]:
    """Indices of the held-out tenth (at least one image) and of the rest."""
    order = np.random.default_rng(HELD_OUT_SEED).permutation(count)
    test_count = max(1, round(HELD_OUT * count))
    return order[:test_count], order[test_count:]
