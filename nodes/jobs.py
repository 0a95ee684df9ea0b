"""What the node's core asks of its trainer and what comes back, and how these follow from messages and become one."""

from __future__ import annotations

import msgspec

from mdgan_edge.messages import DiscriminatorId, Feedback, HeldDiscriminator, NodeTerms, Task, Tensor, Welcome


class Prepare(msgspec.Struct, frozen=True, gc=False):
    """Hold this discriminator: keep the one at hand, or make a seeded fresh one.

    `labels`: the classes whose samples are judged, whatever discriminator it is; None for all.
    """

    run_id: str
    discriminator_id: DiscriminatorId
    hop: int
    fresh: bool
    terms: NodeTerms
    labels: tuple[int, ...] | None = None


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """The discriminator at hand now."""

    held: HeldDiscriminator


class Train(msgspec.Struct, frozen=True, gc=False):
    """Do one task: discriminator steps, then feedback."""

    task: Task


class Trained(msgspec.Struct, frozen=True, gc=False):
    """The answer to a task. `feedback` is None if the discriminator diverged (a loss or gradient is not finite)."""

    task: Task
    feedback: Tensor | None
    loss_d: float
    loss_g: float
    seconds: float
    tasks: int  # how many tasks this discriminator has been trained on


class Save(msgspec.Struct, frozen=True, gc=False):
    """Write the discriminator and its optimiser to the state folder."""


class Saved(msgspec.Struct, frozen=True, gc=False):
    """It is on disk."""


NodeJob = Prepare | Train | Save
NodeResult = Prepared | Trained | Saved


def prepare(welcome: Welcome, fresh: bool, labels: tuple[int, ...] | None) -> Prepare:
    """What the hub's WELCOME asks of the trainer of a node that has said that its shard holds `labels`."""
    assigned, terms = welcome.discriminator, welcome.terms
    judged = labels if terms.label_aware else None
    return Prepare(welcome.run_id, assigned.discriminator_id, assigned.hop, fresh, terms, judged)


def answer(result: Trained, held: HeldDiscriminator) -> Feedback:
    """The message that answers a task that went well."""
    assert result.feedback is not None
    return Feedback(
        task_id=result.task.task_id,
        version=result.task.version,
        discriminator_id=held.discriminator_id,
        hop=held.hop,
        loss_d=result.loss_d,
        loss_g=result.loss_g,
        seconds=result.seconds,
        feedback=result.feedback,
    )
