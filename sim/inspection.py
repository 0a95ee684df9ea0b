"""What `mdgan-sim data inspect` finds in a source: parts, classes, shards, oddities, and a picture of some images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mdgan_edge.data.formats import block_length
from mdgan_edge.data.grid import save_grid
from mdgan_edge.data.images import Images, Pixels, to_unit
from mdgan_edge.data.pixels import Channels
from mdgan_edge.data.shards import class_counts, parse_shard, shard_text, take
from mdgan_edge.data.sources import Opened, choose, open_source, permuted

COLUMNS = 10  # images in a row of the grid
ROWS_MAX = 50  # classes or nodes that get a row
SCALE = 2
UNEVEN = 10  # times as many images of one class as of another are worth a warning


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look at; `shards` None: not dealt out."""

    source: str
    shards: str | None
    nodes: int
    seed: int
    resize: int | None
    channels: Channels | None


def inspect(asked: Asked, out: Path | None) -> dict[str, Any]:
    """Plain values for JSON; `out`: where the grid goes. The errors of loading and dealing pass through."""
    opened = open_source(asked.source, asked.resize, asked.channels)
    train = permuted(choose(opened, "train"), "train", asked.seed)
    test = permuted(choose(opened, "test"), "test", asked.seed)
    shards = _dealt(train, asked)
    if out is not None:
        save_grid(out, to_unit(_rows(list(shards.values()) or _by_class(train))), COLUMNS, SCALE)
    return {
        "source": asked.source,
        "shape": list(train.shape),
        "dtype": str(train.pixels.dtype),
        "train": _counted(train),
        "test": _counted(test) | {"set_apart_by_the_source": opened.test is not None},
        "cache": None if opened.entry is None else {"path": str(opened.entry.path), "hash": opened.entry.digest},
        "shards": {name: _counted(shard) for name, shard in shards.items()},
        "warnings": _warnings(opened, train, test),
        "grid": None if out is None else str(out),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    channels, height, width = found["shape"]
    apart = (
        "set apart by the source" if found["test"]["set_apart_by_the_source"] else "a tenth, the same for every seed"
    )
    yield f"{found['source']}: {channels}x{height}x{width}, {found['dtype']}"
    yield f"train  {_told(found['train'])}"
    yield f"test   {_told(found['test'])} ({apart})"
    if found["cache"]:
        yield f"cache  {found['cache']['path']}"
        yield f"hash   {found['cache']['hash']}"
    for name, shard in found["shards"].items():
        yield f"{name}  {_told(shard)}"
    for warning in found["warnings"]:
        yield f"! {warning}"
    if found["grid"]:
        yield f"grid   {found['grid']}"


def _dealt(train: Images, asked: Asked) -> dict[str, Images]:
    """Every shard under the text that `mdgan-node run --shard` takes."""
    if asked.shards is None:
        return {}
    texts = [shard_text(asked.shards, rank, asked.nodes) for rank in range(asked.nodes)]
    return {text: take(train, parse_shard(text), asked.seed) for text in texts}


def _counted(images: Images) -> dict[str, Any]:
    counts = {str(label): count for label, count in class_counts(images).items()}
    return {"images": len(images), "classes": counts or None}


def _told(part: Mapping[str, Any]) -> str:
    classes = part["classes"]
    counts = "no labels" if classes is None else " ".join(f"{label}:{count}" for label, count in classes.items())
    return f"{part['images']:>6} images  {counts}"


def _by_class(images: Images) -> list[Images]:
    """Of each class what there is of it; without labels ten rows of anything."""
    if images.y is None:
        places = np.arange(len(images))
        return [images.subset(row) for row in np.array_split(places[: COLUMNS**2], COLUMNS) if len(row)]
    return [images.subset(np.flatnonzero(images.y == label)) for label in images.labels]


def _rows(rows: list[Images]) -> Pixels:
    """Up to COLUMNS images of each, places without one in grey: (rows * COLUMNS, C, H, W)."""
    shown = rows[:ROWS_MAX]
    tiles = np.full((len(shown), COLUMNS, *shown[0].shape), 128, dtype=np.uint8)
    for row, images in zip(tiles, shown, strict=True):
        some = images.at(np.arange(min(COLUMNS, len(images))))
        row[: len(some)] = some
    return tiles.reshape(-1, *shown[0].shape)


def _warnings(opened: Opened, train: Images, test: Images) -> list[str]:
    return [*_about_labels(opened.train, train), *_about_pixels(train, test)]


def _about_labels(whole: Images, train: Images) -> Iterator[str]:
    if whole.y is None:
        return
    counts = class_counts(train)
    if len(counts) == 1:
        yield f"only one class: every label is {train.labels[0]}"
    elif bool((np.diff(whole.y) >= 0).all()):
        yield "the source is sorted by class; here it is permuted, elsewhere its first images may be of one class"
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[many] > UNEVEN * counts[few]:
        yield f"classes are uneven: {counts[many]} images of class {many}, {counts[few]} of class {few}"


def _about_pixels(train: Images, test: Images) -> Iterator[str]:
    seen = [digest for digest, _ in _each(train)]
    known = set(seen)
    if twins := len(seen) - len(known):
        yield f"{twins} of {len(train)} training images are copies of others"
    if leaked := sum(digest in known for digest, _ in _each(test)):
        yield f"{leaked} of {len(test)} test images are training images as well: scores will flatter"
    if blank := sum(constant for _, constant in _each(train)):
        yield f"{blank} of {len(train)} training images have one colour all over"


def _each(images: Images) -> Iterator[tuple[bytes, bool]]:
    """(hash, whether every channel has one value) of every image, a block at a time."""
    step = block_length(images.shape)
    for start in range(0, len(images), step):
        block = images.at(np.arange(start, min(start + step, len(images))))
        flat = block.reshape(*block.shape[:2], -1)
        constant = (flat == flat[:, :, :1]).all(axis=(1, 2))
        for image, same in zip(block, constant.tolist(), strict=True):
            yield hashlib.blake2b(image.data, digest_size=16).digest(), same
