"""What the node's core asks of its trainer, and what comes back. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from mdgan_edge.messages import DiscriminatorId, HeldDiscriminator, NodeTerms, Task, Tensor


@dataclass(frozen=True, slots=True)
class Prepare:
    """Hold this discriminator: keep the one at hand, or make a seeded fresh one."""

    run_id: str
    discriminator_id: DiscriminatorId
    hop: int
    fresh: bool
    terms: NodeTerms


@dataclass(frozen=True, slots=True)
class Prepared:
    """The discriminator at hand now."""

    held: HeldDiscriminator


@dataclass(frozen=True, slots=True)
class Train:
    """Do one task: discriminator steps, then feedback."""

    task: Task


@dataclass(frozen=True, slots=True)
class Trained:
    """The answer to a task. `feedback` is None if the discriminator diverged (a loss or gradient is not finite)."""

    task: Task
    feedback: Tensor | None
    loss_d: float
    loss_g: float
    seconds: float
    tasks: int  # how many tasks this discriminator has been trained on


@dataclass(frozen=True, slots=True)
class Save:
    """Write the discriminator and its optimiser to the state folder."""


@dataclass(frozen=True, slots=True)
class Saved:
    """It is on disk."""


NodeJob = Prepare | Train | Save
NodeResult = Prepared | Trained | Saved
