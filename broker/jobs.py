"""What the hub's core asks of its trainer, and what comes back. Values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mdgan_edge.messages import NodeId, TaskId, Tensor, Version


@dataclass(frozen=True, slots=True)
class Batch:
    """One generated batch as it goes to nodes: images float32 (B, C, H, W), labels int64 (B,) or None."""

    images: Tensor
    labels: Tensor | None


@dataclass(frozen=True, slots=True)
class MakeBatches:
    """Generate batches 0..count-1 of `version`, one forward each."""

    version: Version
    count: int


@dataclass(frozen=True, slots=True)
class BatchesMade:
    """All batches of one version, in order of their index."""

    version: Version
    batches: tuple[Batch, ...]

    @property
    def finite(self) -> bool:
        """Whether every pixel of every batch is a number."""
        return all(math.isfinite(batch.images.norm) for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Contribution:
    """One admitted feedback: the answer to `task_id`, on batch `index` of `version`; weighs alpha(s) times clipping."""

    task_id: TaskId
    node: NodeId
    version: Version
    index: int
    weight: float
    feedback: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """Take the generator from `version` to the next.

    `contributions` are ordered by (version, index, node), which is rank order within a batch; their sum is divided by
    `divisor`. Snapshots older than `oldest` are not needed any more.
    """

    version: Version
    contributions: tuple[Contribution, ...]
    divisor: float
    lr_scale: float
    oldest: Version


@dataclass(frozen=True, slots=True)
class Stepped:
    """The generator is at `version` now; `gradient_norm` is the L2 norm of the merged gradient."""

    version: Version
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Save the generator, draw a grid of samples and score the averaged generator as it is at `version`."""

    version: Version
    final: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scores by name; None where the hub cannot give one, and `missing` says why; `trouble`: what was not saved."""

    version: Version
    scores: Mapping[str, float | None]
    missing: str | None
    trouble: str | None
    seconds: float


HubJob = MakeBatches | Step | Evaluate
HubResult = BatchesMade | Stepped | Evaluated
