"""What a node says of itself, and what the hub's refusals and the socket's troubles mean for its operator. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mdgan_edge.actors import Header, LinkTrouble
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    PROTOCOL_VERSION,
    AssignedDiscriminator,
    ErrorCode,
    HeldDiscriminator,
    Hello,
    Incarnation,
    ModelSettings,
    NodeId,
)

# What ends the node when the hub says it; the other codes do not.
DIVERGED = "a loss or gradient is not finite; going on with a fresh discriminator (is the learning rate too high?)"

ENDINGS: dict[ErrorCode, ExitCode] = {
    ErrorCode.VERSION: ExitCode.PROTOCOL_MISMATCH,
    ErrorCode.FORBIDDEN: ExitCode.REFUSED,
    ErrorCode.SUPERSEDED: ExitCode.REFUSED,
    ErrorCode.ARCHITECTURE: ExitCode.CONFIGURATION,
    ErrorCode.SHUTDOWN: ExitCode.TRY_LATER,
}


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is settled before the node's core starts."""

    node: NodeId
    incarnation: Incarnation
    software: str
    hub: str  # endpoint, for texts
    public_key: str  # for texts
    shard_size: int
    image_shape: tuple[int, int, int]  # (channels, height, width)
    labels: tuple[int, ...] | None  # what the hub is told; None if withheld or none
    label_max: int | None  # the highest label of the shard; None if it has none
    model: str | None
    death_timeout_s: float
    peer_endpoint: str | None = None  # where other nodes reach it


def hello(
    facts: NodeFacts, run_id: str | None, held: HeldDiscriminator | None, spares: tuple[HeldDiscriminator, ...] = ()
) -> Hello:
    """The greeting."""
    return Hello(
        incarnation=facts.incarnation,
        protocol_min=PROTOCOL_VERSION,
        protocol_max=PROTOCOL_VERSION,
        software=facts.software,
        shard_size=facts.shard_size,
        image_shape=facts.image_shape,
        labels=facts.labels,
        labelled=facts.label_max is not None,
        model=facts.model,
        run_id=run_id,
        discriminator=held,
        spares=spares,
        peer_endpoint=facts.peer_endpoint,
    )


def is_old(header: Header, known: Header) -> bool:
    """Whether a WELCOME comes again, or after a later one: what it says of the discriminator may hold no more."""
    return header.epoch == known.epoch and header.session <= known.session


def has(assigned: AssignedDiscriminator, *mine: HeldDiscriminator | None) -> bool:
    """Whether what the hub says this node owns is among what it has."""
    name = (assigned.discriminator_id, assigned.hop)
    return any(one is not None and (one.discriminator_id, one.hop) == name for one in mine)


def trouble_text(facts: NodeFacts, trouble: LinkTrouble | None) -> str:
    """Why there is no connection and what to do about it; None: it is not known why."""
    match trouble:
        case "revoked":
            return f"the hub at {facts.hub} has revoked this node"
        case "key_mismatch":
            return f"the hub at {facts.hub} does not own the given key: check --hub-key (mdgan-hub init shows it)"
        case "not_registered":
            add = f"mdgan-hub nodes add {facts.node} '{facts.public_key}' --state FOLDER"
            return f"the hub at {facts.hub} does not know this node: on the hub's machine run: {add}"
        case "unreachable" | None:
            return f"no hub answers at {facts.hub}: is it running, and is the address right?"


def ending(trouble: LinkTrouble, met: bool) -> ExitCode | None:
    """Whether it is of no use to go on; a hub that was `met` before is believed to come back."""
    match trouble:
        case "revoked":
            return ExitCode.REFUSED
        case "key_mismatch" if not met:
            return ExitCode.CONFIGURATION
        case "key_mismatch" | "not_registered" | "unreachable":
            return None


def gave_up(facts: NodeFacts, trouble: LinkTrouble | None) -> tuple[ExitCode, str]:
    """How a node ends that has waited long enough for its hub."""
    code = ExitCode.REFUSED if trouble == "not_registered" else ExitCode.HUB_UNREACHABLE
    return code, f"{trouble_text(facts, trouble)} (gave up after {facts.death_timeout_s:g} s)"


def misfit(facts: NodeFacts, model: ModelSettings) -> str | None:
    """Why this node cannot train this model; None if it can. The labels are looked at here: they may be withheld."""
    if ":" in model.name and model.name != facts.model:
        return f"the hub wants this device to run the model code {model.name!r}: permit it with --model {model.name}"
    if model.classes and facts.label_max is not None and facts.label_max >= model.classes:
        return f"the shard has label {facts.label_max}, the hub's model has classes 0 to {model.classes - 1} only"
    return None


def welcome_text(again: bool, kept: bool) -> str:
    """How the node comes in."""
    return f"{'again, ' if again else ''}with {'the discriminator it had' if kept else 'a fresh discriminator'}"


def diverged_text(count: int) -> str:
    """Why the node gives up on its discriminator."""
    return f"the discriminator diverged {count} times in a row: ask for a lower training.lr_discriminator at the hub"


def architecture_text(model: str) -> str:
    """Why two networks of the same name are not the same."""
    return (
        f"this node's {model!r} is not the hub's: the parameters differ in number or shape. "
        "Install the same version of mdgan-edge (and of the model's module) on both"
    )
