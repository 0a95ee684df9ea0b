"""What the hub's core asks of its trainer, and what comes back. Values only."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from mdgan_edge.messages import Copy, DiscriminatorId, NodeId, SwapId, TaskId, Tensor, Version


class Batch(msgspec.Struct, frozen=True, gc=False):
    """One generated batch as it goes to nodes: images float32 (B, C, H, W), labels int64 (B,) or None."""

    images: Tensor
    labels: Tensor | None


class MakeBatches(msgspec.Struct, frozen=True, gc=False):
    """Generate batches 0..count-1 of `version`, one forward each."""

    version: Version
    count: int


class BatchesMade(msgspec.Struct, frozen=True, gc=False):
    """All batches of one version, in order of their index."""

    version: Version
    batches: tuple[Batch, ...]

    @property
    def finite(self) -> bool:
        """Whether every pixel of every batch is a number."""
        return all(math.isfinite(batch.images.norm) for batch in self.batches)


class Contribution(msgspec.Struct, frozen=True, gc=False):
    """One admitted feedback: the answer to `task_id`, on batch `index` of `version`.

    `weight`: alpha(s) omega times clipping; `part`: alpha(s) omega, its part of the divisor; `labels`: the classes its
    node judges, None for all.
    """

    task_id: TaskId
    node: NodeId
    version: Version
    index: int
    weight: float
    feedback: Tensor
    part: float = 1.0
    labels: tuple[int, ...] | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """Take the generator from `version` to the next.

    `contributions` are ordered by (version, index, node), which is rank order within a batch; their sum is divided by
    `divisor`, the sum of their parts. Snapshots older than `oldest` are not needed any more.
    """

    version: Version
    contributions: tuple[Contribution, ...]
    divisor: float
    lr_scale: float
    oldest: Version


class Stepped(msgspec.Struct, frozen=True, gc=False):
    """The generator is at `version` now; `gradient_norm` is the L2 norm of the merged gradient."""

    version: Version
    gradient_norm: float
    seconds: float


class Evaluate(msgspec.Struct, frozen=True, gc=False):
    """Save the generator, draw a grid of samples and score the averaged generator as it is at `version`."""

    version: Version
    final: bool


class Evaluated(msgspec.Struct, frozen=True, gc=False):
    """Scores by name; None where the hub cannot give one, and `missing` says why; `trouble`: what was not saved."""

    version: Version
    scores: Mapping[str, float | None]
    missing: str | None
    trouble: str | None
    seconds: float


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """Keep all that is needed to go on from `version` should the hub die. `norms`: of feedback merged of late."""

    version: Version
    run_id: str
    norms: tuple[float, ...] = ()


class Checkpointed(msgspec.Struct, frozen=True, gc=False):
    """It is on disk, unless `trouble` says why not; then the one before still is."""

    version: Version
    trouble: str | None


class Keep(msgspec.Struct, frozen=True, gc=False):
    """Put a discriminator that has no owner onto the shelf, durably."""

    copy: Copy
    run_id: str


class Kept(msgspec.Struct, frozen=True, gc=False):
    """It is there, unless `trouble` says why not."""

    swap_id: SwapId
    trouble: str | None


class Give(msgspec.Struct, frozen=True, gc=False):
    """Make a copy of one from the shelf, for the node that is to own it."""

    swap_id: SwapId
    to: NodeId
    discriminator_id: DiscriminatorId


class Given(msgspec.Struct, frozen=True, gc=False):
    """The copy; None if it is not there, or cannot be read."""

    swap_id: SwapId
    to: NodeId
    discriminator_id: DiscriminatorId
    copy: Copy | None


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Take these from the shelf."""

    discriminators: tuple[DiscriminatorId, ...]


class Forgotten(msgspec.Struct, frozen=True, gc=False):
    """They are gone."""


ShelfJob = Keep | Give | Forget
HubJob = MakeBatches | Step | Evaluate | Checkpoint | ShelfJob
HubResult = BatchesMade | Stepped | Evaluated | Checkpointed | Kept | Given | Forgotten
