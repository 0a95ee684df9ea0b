"""How images are dealt out: what a node's `shard` setting means, and which images that is.

Every node computes the whole deal and keeps its own part, so all must load the same source with the same seed. The
parts are disjoint, and those of iid, dirichlet, labels and by-file cover everything.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from mdgan_edge.data.images import LABEL_MAX, Images, Indices, Labels
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.streams import stream_seed

# Dirichlet shares may be tiny: a smaller part is filled up to this many images (fewer if there are not enough).
SHARD_MIN = 10
NODES_MAX = 10_000
USAGE = "use all, classes=0-4, classes=1,3,7, iid:3/8, dirichlet=0.3:3/8, labels=2:3/8 or by-file:3/8"
STRATEGY_USAGE = "use iid, dirichlet=0.3, labels=2 or by-file"


@dataclass(frozen=True, slots=True)
class Everything:
    """All images."""


@dataclass(frozen=True, slots=True)
class OnlyClasses:
    """The images of these classes, ascending."""

    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Iid:
    """Part `rank` (0-based) of `nodes` equal parts of the shuffled images."""

    rank: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Dirichlet:
    """Each class is split in shares drawn from a symmetric Dirichlet: the smaller alpha, the more unlike the nodes."""

    alpha: float
    rank: int
    nodes: int


@dataclass(frozen=True, slots=True)
class LabelSkew:
    """Each node holds `labels` classes; a class is split evenly among its holders."""

    labels: int
    rank: int
    nodes: int


@dataclass(frozen=True, slots=True)
class ByFile:
    """The images of file or folder `rank` (0-based, by name) of a source that has one for each of `nodes` nodes."""

    rank: int
    nodes: int


ShardSpec = Everything | OnlyClasses | Iid | Dirichlet | LabelSkew | ByFile
Dealt = Iid | Dirichlet | LabelSkew


def parse_shard(text: str) -> ShardSpec:
    """What the setting says; ConfigurationError if it is nonsense."""
    head, _, rank_text = text.partition(":")
    kind, equals, value = head.partition("=")
    if kind == "all" and head == text and not equals:
        return Everything()
    if kind == "classes" and head == text and equals:
        return OnlyClasses(_label_list(value, text))
    if kind == "iid" and not equals:
        return Iid(*_rank(rank_text, text))
    if kind == "dirichlet" and equals:
        return Dirichlet(_alpha(value, text), *_rank(rank_text, text))
    if kind == "labels" and equals:
        return LabelSkew(_count(value, text), *_rank(rank_text, text))
    if kind == "by-file" and not equals:
        return ByFile(*_rank(rank_text, text))
    near = difflib.get_close_matches(kind, ["all", "classes", "iid", "dirichlet", "labels", "by-file"], n=1)
    hint = f"did you mean {near[0]!r}? " if near and near[0] != kind else ""
    raise ConfigurationError(f"shard {text!r}: {hint}{USAGE}")


def shard_text(strategy: str, rank: int, nodes: int) -> str:
    """The shard setting of one node of a swarm that deals by `strategy`: iid, dirichlet=0.3, labels=2 or by-file."""
    if strategy.partition("=")[0] not in ("iid", "dirichlet", "labels", "by-file") or ":" in strategy:
        raise ConfigurationError(f"shards {strategy!r}: {STRATEGY_USAGE}")
    text = f"{strategy}:{rank}/{nodes}"
    parse_shard(text)
    return text


def take(images: Images, spec: ShardSpec, seed: int) -> Images:
    """The images of one shard, in their order in `images`; ConfigurationError if the data cannot be dealt that way."""
    match spec:
        case Everything():
            return images
        case OnlyClasses(labels):
            y = _labels_of(images, "classes=")
            _check_present(labels, images)
            return images.subset(np.flatnonzero(np.isin(y, labels)))
        case Iid() | Dirichlet() | LabelSkew():
            return images.subset(np.sort(_deal(images, spec, seed)[spec.rank]))
        case ByFile():
            return images.subset(_of_file(images, spec))
        case _:
            assert_never(spec)


def class_counts(images: Images) -> dict[int, int]:
    """How many images of each class that occurs; empty without labels."""
    if images.y is None:
        return {}
    labels, counts = np.unique(images.y, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


def describe(images: Images) -> str:
    """One line for people: how many images, of which shape, and how many of each class."""
    channels, height, width = images.shape
    head = f"{len(images)} images {channels}x{height}x{width}"
    counts = class_counts(images)
    return (
        f"{head}, classes {' '.join(f'{label}:{n}' for label, n in counts.items())}" if counts else f"{head}, no labels"
    )


def _of_file(images: Images, spec: ByFile) -> Indices:
    if images.origin is None:
        raise ConfigurationError(
            f"by-file wants a file or folder for each node, which {images.name} has not; use files:DIR"
        )
    files = int(images.origin.max()) + 1
    if files != spec.nodes:
        raise ConfigurationError(
            f"by-file: {images.name} holds files of {files} nodes, not {spec.nodes}; use as many nodes"
        )
    chosen = np.flatnonzero(images.origin == spec.rank)
    if not len(chosen):
        raise ConfigurationError(
            f"by-file: no image of file {spec.rank} of {images.name} is left to train on; add more"
        )
    return chosen


def _deal(images: Images, spec: Dealt, seed: int) -> list[Indices]:
    """The indices of every rank; the same whichever rank asks."""
    if spec.nodes > len(images):
        raise ConfigurationError(
            f"{spec.nodes} nodes share {len(images)} images of {images.name}: some would get none; use fewer nodes"
        )
    chance = np.random.default_rng(stream_seed(seed, "shard", type(spec).__name__))
    match spec:
        case Iid():
            return np.array_split(chance.permutation(len(images)), spec.nodes)
        case Dirichlet():
            return _deal_dirichlet(_labels_of(images, "dirichlet="), spec, chance)
        case LabelSkew():
            return _deal_labels(_labels_of(images, "labels="), spec, chance)
        case _:
            assert_never(spec)


def _deal_dirichlet(y: Labels, spec: Dirichlet, chance: np.random.Generator) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in range(spec.nodes)]
    for label in np.unique(y):
        indices = chance.permutation(np.flatnonzero(y == label))
        shares = _shares(spec, chance)
        cuts = np.rint(np.cumsum(shares)[:-1] * len(indices)).astype(np.intp)
        for part, piece in zip(parts, np.split(indices, cuts), strict=True):
            part.append(piece)
    return _filled_up([np.concatenate(part) for part in parts], min(SHARD_MIN, len(y) // spec.nodes))


def _shares(spec: Dirichlet, chance: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One draw (nodes,), summing to 1. For a minute alpha all of it underflows: then one node gets everything."""
    shares = chance.dirichlet(np.full(spec.nodes, spec.alpha))
    winner = int(chance.integers(spec.nodes))
    if not np.isfinite(shares).all() or shares.sum() < 0.5:
        shares = np.zeros(spec.nodes)
        shares[winner] = 1.0
    return shares


def _filled_up(parts: list[Indices], least: int) -> list[Indices]:
    """Move images from the largest part to each that has fewer than `least`: no new draw, so it always ends."""
    parts = list(parts)
    for poor in range(len(parts)):
        while len(parts[poor]) < least:
            rich = max(range(len(parts)), key=lambda rank: len(parts[rank]))
            moved = min(least - len(parts[poor]), len(parts[rich]) - least)
            parts[poor] = np.concatenate([parts[poor], parts[rich][:moved]])
            parts[rich] = parts[rich][moved:]
    return parts


def _deal_labels(y: Labels, spec: LabelSkew, chance: np.random.Generator) -> list[Indices]:
    """Deal the shuffled classes round and round, `labels` to a node: all are held equally often, give or take one."""
    classes = chance.permutation(np.unique(y))
    _check_skew(len(classes), spec)
    parts: list[list[Indices]] = [[] for _ in range(spec.nodes)]
    for position, label in enumerate(classes):
        hands = range(position, spec.labels * spec.nodes, len(classes))
        holders = [hand // spec.labels for hand in hands]
        indices = chance.permutation(np.flatnonzero(y == label))
        if len(indices) < len(holders):
            raise ConfigurationError(
                f"labels={spec.labels}: {len(holders)} nodes are to share class {label}, "
                f"which has {len(indices)} images; use fewer nodes"
            )
        for holder, piece in zip(holders, np.array_split(indices, len(holders)), strict=True):
            parts[holder].append(piece)
    return [np.concatenate(part) for part in parts]


def _check_skew(classes: int, spec: LabelSkew) -> None:
    if spec.labels > classes:
        raise ConfigurationError(f"labels={spec.labels}: the data has only {classes} classes; ask for at most as many")
    if spec.labels * spec.nodes < classes:
        raise ConfigurationError(
            f"labels={spec.labels}: {spec.nodes} nodes hold {spec.labels * spec.nodes} of {classes} classes, "
            f"the rest would be lost; use labels={-(-classes // spec.nodes)} or more nodes"
        )


def _labels_of(images: Images, wanted_by: str) -> Labels:
    if images.y is None:
        raise ConfigurationError(f"{wanted_by} needs labels, which {images.name} has not; use all or iid")
    return images.y


def _check_present(labels: tuple[int, ...], images: Images) -> None:
    lacking = sorted(set(labels) - set(images.labels))
    if lacking:
        held = ",".join(map(str, images.labels))
        raise ConfigurationError(f"classes={lacking[0]}: {images.name} has no such class; it has {held}")


def _label_list(value: str, text: str) -> tuple[int, ...]:
    """0-4 or 1,3,7 or both mixed."""
    labels: set[int] = set()
    for piece in value.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", piece, re.ASCII)
        if match is None:
            raise ConfigurationError(f"shard {text!r}: {piece!r} is no class; write classes=0-4 or classes=1,3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > LABEL_MAX:
            raise ConfigurationError(f"shard {text!r}: {piece!r}: classes ascend and are at most {LABEL_MAX}")
        labels.update(range(first, last + 1))
    return tuple(sorted(labels))


def _rank(value: str, text: str) -> tuple[int, int]:
    """(rank, nodes) of "3/8"."""
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", value, re.ASCII)
    if match is None:
        raise ConfigurationError(f"shard {text!r}: say which part of how many, as in :3/8 (parts count from 0)")
    rank, nodes = int(match[1]), int(match[2])
    if not 1 <= nodes <= NODES_MAX:
        raise ConfigurationError(f"shard {text!r}: {nodes} nodes; use 1 to {NODES_MAX}")
    if rank >= nodes:
        raise ConfigurationError(f"shard {text!r}: part {rank} of {nodes}; parts count from 0 to {nodes - 1}")
    return rank, nodes


def _alpha(value: str, text: str) -> float:
    try:
        alpha = float(value)
    except ValueError:
        alpha = -1.0
    if not 0 < alpha <= 1e6:
        raise ConfigurationError(f"shard {text!r}: alpha {value!r} must be a number above 0 (at most 1e6), such as 0.3")
    return alpha


def _count(value: str, text: str) -> int:
    if re.fullmatch(r"[1-9]\d{0,2}", value, re.ASCII) is None:
        raise ConfigurationError(f"shard {text!r}: {value!r} must be a number of classes from 1 to 999, such as 2")
    return int(value)
