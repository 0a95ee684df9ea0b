"""Fidelity `full`: the production trainers with torch, real images, and every message through the codec."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from msgspec.structs import replace

from broker import shelf
from broker.checkpoint_files import SavedCheckpoint, newest_checkpoint
from broker.greeting import START
from broker.scoring import NoScores, Real, SnapshotScorer
from broker.service import fit_to_data
from broker.trainer import HubTrainer, Scoring
from mdgan_edge.actors import Trainer
from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.data.sources import load
from mdgan_edge.gan.models import architecture, build_discriminator
from mdgan_edge.gan.scores import Scorer, why_not
from mdgan_edge.messages import HeldDiscriminator, NodeId, Version
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.settings import Settings
from nodes.saved import read_discriminator
from nodes.spares import Spares
from nodes.trainer import NodeTrainer
from sim.shards import Shards


@dataclass(slots=True)
class FileDisk:
    """A node's discriminator file; what it says is read anew each time."""

    file: Path

    @property
    def run_id(self) -> str | None:
        """The run of the saved discriminator."""
        saved = read_discriminator(self.file)
        return saved.run_id if saved else None

    @property
    def held(self) -> HeldDiscriminator | None:
        """The saved discriminator."""
        saved = read_discriminator(self.file)
        return saved.held if saved else None

    @property
    def spares(self) -> tuple[HeldDiscriminator, ...]:
        """What lies beside it."""
        run_id = self.run_id
        return () if run_id is None else Spares(self.file.parent).listed(run_id)


@dataclass(slots=True)
class FolderDisk:
    """The hub's checkpoints and its shelf; what they say is read anew each time."""

    folder: Path

    @property
    def saved(self) -> SavedCheckpoint | None:
        """The newest."""
        return newest_checkpoint(self.folder, lambda _: None)

    @property
    def version(self) -> Version:
        """Of the newest."""
        saved = self.saved
        return START if saved is None else saved.version

    @property
    def norms(self) -> tuple[float, ...]:
        """In the newest."""
        saved = self.saved
        return () if saved is None else saved.norms

    @property
    def orphans(self) -> FolderShelf:
        """Discriminators of nodes that have left."""
        return FolderShelf(self.folder.with_name("orphans"))


@dataclass(frozen=True, slots=True)
class FolderShelf:
    """The hub's shelf; what lies there is read anew each time."""

    folder: Path

    @property
    def listed(self) -> tuple[HeldDiscriminator, ...]:
        """What is there."""
        return shelf.listed(self.folder, None, lambda _: None)


class Full:
    """Torch. The first `nodes` nodes get the shards a swarm of that size would give them, later ones any of these."""

    through_codec = True
    work = 1.0

    def __init__(
        self,
        settings: Settings,
        images: Images,
        nodes: int,
        real: Real | None,
        run: RunDirectory | None,
        cache: Path | None,
    ):
        torch.set_num_threads(1)
        self.settings = settings
        self.architecture = architecture(build_discriminator(settings.model, seed=0))
        model = settings.model
        self.image_shape: tuple[int, int, int] = (model.channels, model.image_size, model.image_size)
        self.shards, self.run = Shards(settings, images, nodes), run
        self._real, self._cache = real, cache
        self._scoring: Scoring | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="mdgan-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._disks = self._kept = 0

    def hub_disk(self) -> FolderDisk:
        return FolderDisk(self._folder / "checkpoints" if self.run is None else self.run.checkpoints)

    def hub(self, disk: Any) -> Trainer:
        return HubTrainer(self.settings, self.run, self.scoring(), disk.saved, disk.folder, disk.orphans.folder)

    def scoring(self) -> Scoring | None:
        """Made once; None without real images."""
        if self._real is not None and self._scoring is None:
            self._scoring = self._made(*self._real)
        return self._scoring

    def _made(self, train: Images, test: Images) -> Scoring:
        if (reason := why_not(train, test)) is not None:
            return NoScores(reason, "warning")
        return SnapshotScorer(self.settings, Scorer.build(train, test, self.settings.training.seed, self._cache))

    def disk(self) -> Any:
        self._disks += 1
        folder = self._folder / f"{self._disks}"
        folder.mkdir()
        return FileDisk(folder / "discriminator.safetensors")

    def keep(self, disk: Any) -> Any:
        self._kept += 1
        kept = FileDisk(disk.file.with_name(f"{self._kept}.safetensors"))  # what lies beside it is always durable
        if disk.file.exists():
            shutil.copyfile(disk.file, kept.file)
        return kept

    def node(self, node: NodeId, disk: Any) -> Trainer:
        return NodeTrainer(node, self.shards.of(node), disk.file)

    def shard_size(self, node: NodeId) -> int:
        return len(self.shards.of(node))

    def labels(self, node: NodeId) -> tuple[int, ...] | None:
        return None if self.settings.node.withhold_labels else (self.shards.of(node).labels or None)

    def secrets(self, node: NodeId) -> frozenset[bytes]:
        return frozenset(image.tobytes() for image in to_unit(self.shards.of(node).x))


AnyFull = TypeVar("AnyFull", bound=Full)


def load_full(
    settings: Settings,
    explicit: frozenset[str],
    nodes: int,
    run: RunDirectory | None,
    kind: type[AnyFull],
    cache: Path | None = None,
) -> AnyFull:
    """Load the images and fit the model to them, as a swarm does."""
    if "hub.data" not in explicit:
        settings = replace(settings, hub=replace(settings.hub, data=settings.swarm.data))
    settings, real = fit_to_data(settings, explicit)
    size, channels = settings.model.image_size, settings.model.channels
    images = load(settings.swarm.data, "train", settings.training.seed, size, channels)
    return kind(settings, images, nodes, real, run, cache)
