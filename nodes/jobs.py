"""What the node's core asks of its trainer and what comes back, and how these follow from messages and become one."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from mdgan_edge.messages import (
    Copy,
    DiscriminatorId,
    Feedback,
    HeldDiscriminator,
    NodeId,
    NodeTerms,
    SwapId,
    Task,
    Tensor,
    Welcome,
)

COPY_BYTES_MAX = 60 * 1024 * 1024  # of the tensors of a copy: a message may have 64 MiB
SHADOW, BACKUP = SLOTS = ("shadow", "backup")  # what comes in a swap; what was given away in the last one


class Prepare(msgspec.Struct, frozen=True, gc=False):
    """Hold this discriminator: keep the one at hand, take the spare of its name, or make a seeded fresh one.

    `labels`: the classes whose samples are judged, whatever discriminator it is; None for all.
    """

    run_id: str
    discriminator_id: DiscriminatorId
    hop: int
    fresh: bool
    terms: NodeTerms
    labels: tuple[int, ...] | None = None


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """The discriminator at hand now, and what there is beside it."""

    held: HeldDiscriminator
    spares: tuple[HeldDiscriminator, ...] = ()


class Train(msgspec.Struct, frozen=True, gc=False):
    """Do one task: discriminator steps, then feedback."""

    task: Task


class Trained(msgspec.Struct, frozen=True, gc=False):
    """The answer to a task. `feedback` is None if the discriminator diverged (a loss or gradient is not finite).

    `trouble`: or because it came from the disk or from another node, and cannot be trained with at all.
    """

    task: Task
    feedback: Tensor | None
    loss_d: float
    loss_g: float
    seconds: float
    tasks: int  # how many tasks this discriminator has been trained on
    trouble: str | None = None


class Save(msgspec.Struct, frozen=True, gc=False):
    """Write the discriminator and its optimiser to the state folder."""


class Saved(msgspec.Struct, frozen=True, gc=False):
    """It is on disk."""


Name = tuple[DiscriminatorId, int]


class Offer(msgspec.Struct, frozen=True, gc=False):
    """Make a copy of the discriminator of this name, held or spare; None: of the one that is held."""

    swap_id: SwapId
    name: Name | None = None


class Offered(msgspec.Struct, frozen=True, gc=False):
    """The copy, as numbers: float32 (n,) and int64 (m,). `numbers` is None if there is none of that name any more."""

    swap_id: SwapId
    digest: str
    numbers: Tensor | None
    counters: Tensor | None


class Shelve(msgspec.Struct, frozen=True, gc=False):
    """Check a copy and put it into the shadow slot, durably, under the name it will have."""

    copy: Copy
    name: Name | None = None  # None: its own, moved once more

    @property
    def shelf_name(self) -> Name:
        """The name it will have."""
        return self.name or (self.copy.discriminator_id, self.copy.hop + 1)


class Shelved(msgspec.Struct, frozen=True, gc=False):
    """It is there, or why it cannot be; and what the node has beside what it holds.

    `theirs`: the trouble is with the copy, and not with this node.
    """

    copy: Copy
    trouble: str | None
    spares: tuple[HeldDiscriminator, ...]
    theirs: bool = True


class Install(msgspec.Struct, frozen=True, gc=False):
    """Hold the spare of this name from now on; what was held becomes the backup, if that is wanted."""

    discriminator_id: DiscriminatorId
    hop: int
    backup: bool = True


class Moved(msgspec.Struct, frozen=True, gc=False):
    """What is held now, durably, and what there is beside it."""

    held: HeldDiscriminator
    spares: tuple[HeldDiscriminator, ...]


SwapJob = Offer | Shelve | Install
NodeJob = Prepare | Train | Save | SwapJob
NodeResult = Prepared | Trained | Saved | Offered | Shelved | Moved


def name_of(one: HeldDiscriminator) -> Name:
    """What tells it from every other, at any time."""
    return one.discriminator_id, one.hop


def holdings(
    result: Offered | Shelved | Moved, held: HeldDiscriminator, spares: tuple[HeldDiscriminator, ...]
) -> tuple[HeldDiscriminator, tuple[HeldDiscriminator, ...]]:
    """What is held, and what lies beside it, after such a result."""
    match result:
        case Moved(held, spares):
            return held, spares
        case Shelved(spares=spares):
            return held, spares
        case Offered():
            return held, spares


def copy_of(offered: Offered, sender: NodeId, to: NodeId, held: HeldDiscriminator) -> Copy:
    """The message that carries a copy."""
    assert offered.numbers is not None
    mine = (held.discriminator_id, held.hop, held.architecture)
    return Copy(offered.swap_id, sender, to, *mine, offered.digest, offered.numbers, offered.counters)


def prepare(welcome: Welcome, fresh: bool, labels: tuple[int, ...] | None) -> Prepare:
    """What the hub's WELCOME asks of the trainer of a node that has said that its shard holds `labels`."""
    assigned, terms = welcome.discriminator, welcome.terms
    judged = labels if terms.label_aware else None
    return Prepare(welcome.run_id, assigned.discriminator_id, assigned.hop, fresh, terms, judged)


def anew(welcome: Welcome, held: HeldDiscriminator, labels: tuple[int, ...] | None) -> Prepare:
    """A fresh discriminator under the name of one that diverged."""
    return replace(prepare(welcome, True, labels), discriminator_id=held.discriminator_id, hop=held.hop)


def names_another(job: Prepare | None, held: HeldDiscriminator) -> bool:
    """Whether the trainer is to hold another discriminator than this one."""
    return job is not None and (job.discriminator_id, job.hop) != (held.discriminator_id, held.hop)


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
