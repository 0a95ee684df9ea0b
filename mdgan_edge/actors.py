"""The shape of every process: a pure Core decides, a Trainer works, a service or the simulator carries.

    Core.handle(event, now) -> list[Effect]      Core.deadline() -> when it wants a Tick if nothing happens first
    Trainer.do(job) -> result                    the driver brings it back as JobDone(job, result)

Time is integer nanoseconds of a monotonic clock and always an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType, Protocol

from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Epoch, Message, NodeId, Session

Nanos = NewType("Nanos", int)

NANOS_PER_SECOND = 1_000_000_000


def nanos(seconds: float) -> Nanos:
    """Seconds as integer nanoseconds."""
    return Nanos(round(seconds * NANOS_PER_SECOND))


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: `node` is proven by its key, `link` names one connection and means nothing else."""

    node: NodeId
    link: bytes = b""


HUB = Peer(NodeId("hub"))


@dataclass(frozen=True, slots=True)
class Header:
    """What every message carries outside its body."""

    epoch: Epoch = Epoch(0)
    session: Session = Session(0)


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """A whole, well-formed message came in."""

    sender: Peer
    header: Header
    message: Message


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life without a message: one part of a larger transfer."""

    sender: Peer


LOST_PART = "lost part"  # the check that fails by the network's fault, not the sender's


@dataclass(frozen=True, slots=True)
class Garbled:
    """Bytes that are not a message of ours.

    `check` names the first check that failed, one of a few fixed words; `detail` may quote what the peer sent.
    """

    sender: Peer
    check: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time `deadline()` asked for has come, or later."""


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job that was Run has finished."""

    job: Any
    result: Any


@dataclass(frozen=True, slots=True)
class Drain:
    """The operator wants this process to finish cleanly (TERM, INT)."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """A connection that the register turned away at the door; who it was is only known by its key."""

    public_key: str
    address: str
    reason: str


LinkTrouble = Literal["unreachable", "key_mismatch", "not_registered", "revoked"]


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection to the hub does not come about; `trouble` says why as far as the socket can tell."""

    trouble: LinkTrouble


@dataclass(frozen=True, slots=True)
class RegisterChanged:
    """The operator changed the register: all nodes that are shut out now, and all that are asked to leave."""

    revoked: frozenset[NodeId] = frozenset()
    drained: frozenset[NodeId] = frozenset()


Event = Received | Heard | Garbled | Tick | JobDone | Drain | LinkDown | NotAdmitted | RegisterChanged

# --- effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Give this message to the wire; that it was sent means nothing until an answer comes."""

    to: Peer
    message: Message
    header: Header = Header()


@dataclass(frozen=True, slots=True)
class Run:
    """Let the trainer do this job; JobDone follows."""

    job: Any


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the journal: what happened and why. Never a secret, a sample or a tensor."""

    what: str
    why: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of metrics.jsonl."""

    what: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Close the socket to the hub and make a new one."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the process; `text` is for the operator."""

    exit_code: ExitCode
    outcome: Literal["completed", "stopped", "failed"]
    text: str


Effect = Send | Run | Note | Measure | Reconnect | Finish


class Core(Protocol):
    """What decides. No socket, clock, thread, randomness or tensor arithmetic."""

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event, return what is to be done about it, in order."""

    def deadline(self) -> Nanos | None:
        """When a Tick is wanted if nothing happens before."""


class Trainer(Protocol):
    """What works. Called from one thread only."""

    def do(self, job: Any) -> Any:
        """Do one job and return its result. An OperatorError ends the process with its exit code."""
