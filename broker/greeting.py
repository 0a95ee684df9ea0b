"""Who may come in: what the hub answers to HELLO. Pure functions of the greeting, the settings and the register."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.member import Member
from broker.ownership import Owner
from mdgan_edge.actors import Note
from mdgan_edge.messages import (
    PROTOCOL_VERSION,
    AssignedDiscriminator,
    Epoch,
    Error,
    ErrorCode,
    HeldDiscriminator,
    Hello,
    NodeId,
    NodeTerms,
    Version,
    Welcome,
)
from mdgan_edge.settings import Settings

START = Version(0)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is settled before the hub's core starts."""

    run_id: str
    epoch: Epoch
    architecture: str  # fingerprint of the discriminator
    image_shape: tuple[int, int, int]  # (channels, height, width)
    version: Version = START  # where the generator stands: that of the checkpoint, after a restart
    owners: tuple[Owner, ...] = ()  # as an earlier process of the same run left them
    issued: int = 0  # how many names of discriminators it had given
    shelf: tuple[HeldDiscriminator, ...] = ()  # discriminators that the hub has taken over, the oldest first
    norms: tuple[float, ...] = ()  # of feedback merged of late, as in the checkpoint
    keys: Mapping[NodeId, str] = field(default_factory=dict)  # public keys of all in the register


def refusal(hello: Hello, known: Owner | None, revoked: bool, settings: Settings, facts: RunFacts) -> Error | None:
    """Why this node cannot come in, in words for its operator; None if it can."""
    if not hello.protocol_min <= PROTOCOL_VERSION <= hello.protocol_max:
        theirs = f"{hello.protocol_min} to {hello.protocol_max}"
        text = f"the hub speaks protocol {PROTOCOL_VERSION}, this node {theirs}: install the same version on both"
        return Error(ErrorCode.VERSION, text, fatal=True)
    if revoked:
        return Error(ErrorCode.FORBIDDEN, "this node was revoked at the hub", fatal=True)
    if known is not None and hello.incarnation < known.incarnation:
        text = "a newer start of this node has taken over: is the same --state folder used twice?"
        return Error(ErrorCode.SUPERSEDED, text, fatal=True)
    text_or_none = _misfit(hello, settings, facts)
    return Error(ErrorCode.ARCHITECTURE, text_or_none, fatal=True) if text_or_none else None


def _misfit(hello: Hello, settings: Settings, facts: RunFacts) -> str | None:
    model, batch = settings.model, settings.training.batch_size
    if tuple(hello.image_shape) != facts.image_shape:
        wanted, got = _shape_text(facts.image_shape), _shape_text(hello.image_shape)
        remedy = f"start the node with --resize {model.image_size} --channels {model.channels}"
        return f"the hub trains on images of {wanted}, this shard holds {got}: {remedy}"
    if hello.model is not None and hello.model != model.name:
        remedy = f"start it with --model {model.name}"
        return f"the hub trains model {model.name!r}, this node is set to {hello.model!r}: {remedy}"
    if hello.shard_size < batch:
        return f"a shard of {hello.shard_size} images is smaller than the batch of {batch}: give the node more images"
    if model.classes and not hello.labelled:
        return (
            f"the hub trains a model of {model.classes} classes, this shard has no labels: give the node labelled "
            "images (one folder per class), or run the hub with --set model.classes=0"
        )
    return None


def welcome(node: NodeId, assigned: AssignedDiscriminator, settings: Settings, facts: RunFacts) -> Welcome:
    """What a node that comes in must know."""
    return Welcome(
        run_id=facts.run_id,
        node_id=node,
        heartbeat_s=settings.hub.heartbeat_s,
        lease_s=settings.hub.lease_s,
        credit=settings.training.credit,
        staleness_max=settings.training.staleness_max,
        discriminator=assigned,
        architecture=facts.architecture,
        terms=node_terms(settings),
    )


def spares_then(
    assigned: AssignedDiscriminator, held: HeldDiscriminator | None, spares: tuple[HeldDiscriminator, ...]
) -> tuple[HeldDiscriminator, ...]:
    """What lies beside it once a node has done as it was told.

    If that is to hold a spare from now on, what it held is its backup, in the place of the one before; but what was
    never trained it forgets.
    """
    if assigned.action != "install" or held is None or not held.is_trained:
        return spares
    mine = (assigned.discriminator_id, assigned.hop)
    return (*(one for one in spares if (one.discriminator_id, one.hop) == mine), held)


def no_session(epoch: Epoch | None, facts: RunFacts) -> Error:
    """What a node hears that speaks in a session the hub does not know."""
    code = ErrorCode.NO_SESSION if epoch == facts.epoch else ErrorCode.EPOCH
    return Error(code, "say HELLO: the hub knows no such session")


def joined(member: Member, assigned: AssignedDiscriminator, hello: Hello) -> Note:
    """What the journal says of a node that came in."""
    facts = {
        "node": member.node,
        "incarnation": member.incarnation,
        "shard_size": member.shard_size,
        "discriminator": assigned.discriminator_id,
        "action": assigned.action,
        "software": hello.software,
    }
    return Note("joined", "came back" if member.tally.rejoined else "new here", facts)


def node_terms(settings: Settings) -> NodeTerms:
    """The part of the settings that a node trains by."""
    training = settings.training
    return NodeTerms(
        model=settings.model,
        seed=training.seed,
        batch_size=training.batch_size,
        loss=training.loss,
        lr=training.lr_discriminator,
        betas=(training.beta1, training.beta2),
        gradient_penalty=training.gradient_penalty,
        label_aware=training.label_aware,
        swap_epochs=0.0 if training.swap == "off" else training.swap,
        swap_optimizer=training.swap_optimizer,
    )


def _shape_text(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels in {channels} channel(s)"
