"""The shape of every process: a pure Core decides, a Trainer works, a service or the simulator carries.

    Core.handle(event, now) -> list[Effect]      Core.deadline() -> when it wants a Tick if nothing happens first
    Trainer.do(job) -> result                    the driver brings it back as JobDone(job, result)
                       or Aside                  the driver finishes it beside the jobs that follow, then as above

Time is integer nanoseconds of a monotonic clock and always an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NewType, Protocol

import msgspec

from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import HUB_NAME, Epoch, Message, NodeId, Session

Nanos = NewType("Nanos", int)

NANOS_PER_SECOND = 1_000_000_000


def nanos(seconds: float) -> Nanos:
    """Seconds as integer nanoseconds."""
    return Nanos(round(seconds * NANOS_PER_SECOND))


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Who is at the other end: `node` is proven by its key, `link` names one connection and means nothing else.

    To a node, another node that it has called itself has no `link`, one that has called it has one.
    """

    node: NodeId
    link: bytes = b""


HUB = Peer(NodeId(HUB_NAME))


class Header(msgspec.Struct, frozen=True, gc=False):
    """What every message carries outside its body."""

    epoch: Epoch = Epoch(0)
    session: Session = Session(0)


# --- events ---------------------------------------------------------------------------------------------------------


class Received(msgspec.Struct, frozen=True, gc=False):
    """A whole, well-formed message came in; `wire_bytes`: all that came for it, framing included."""

    sender: Peer
    header: Header
    message: Message
    wire_bytes: int = 0


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A sign of life without a message: one part of a larger transfer."""

    sender: Peer


LOST_PART = "lost part"  # the check that fails by the network's fault, not the sender's


class Garbled(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are not a message of ours.

    `check` names the first check that failed, one of a few fixed words; `detail` may quote what the peer sent.
    """

    sender: Peer
    check: str
    detail: str = ""


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The time `deadline()` asked for has come, or later."""


class JobDone(msgspec.Struct, frozen=True, gc=False):
    """A job that was Run has finished."""

    job: Any
    result: Any


class Drain(msgspec.Struct, frozen=True, gc=False):
    """The operator wants this process to finish cleanly (TERM, INT)."""

    reason: str


class NotAdmitted(msgspec.Struct, frozen=True, gc=False):
    """A connection that the register turned away at the door; who it was is only known by its key."""

    public_key: str
    address: str
    reason: str


LinkTrouble = Literal["unreachable", "key_mismatch", "not_registered", "revoked"]


class LinkDown(msgspec.Struct, frozen=True, gc=False):
    """The connection to the hub does not come about; `trouble` says why as far as the socket can tell."""

    trouble: LinkTrouble


class RegisterChanged(msgspec.Struct, frozen=True, gc=False):
    """The operator changed the register: who is in it, who is shut out now, and who is asked to leave."""

    revoked: frozenset[NodeId] = frozenset()
    drained: frozenset[NodeId] = frozenset()
    keys: Mapping[NodeId, str] = {}  # public keys of all


Event = Received | Heard | Garbled | Tick | JobDone | Drain | LinkDown | NotAdmitted | RegisterChanged

# --- effects --------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True, gc=False):
    """Give this message to the wire; that it was sent means nothing until an answer comes."""

    to: Peer
    message: Message
    header: Header = Header()


class Run(msgspec.Struct, frozen=True, gc=False):
    """Let the trainer do this job; JobDone follows. Jobs are done in order, one after the other.

    One that is `beside` is begun even while another is under work, and what is asked for later is begun later.
    """

    job: Any
    beside: bool = False


class Persist(msgspec.Struct, frozen=True, gc=False):
    """Make this record durable before any later effect is carried out."""

    record: Any


class Note(msgspec.Struct, frozen=True, gc=False):
    """One line of the journal: what happened and why. Never a secret, a sample or a tensor."""

    what: str
    why: str = ""
    facts: Mapping[str, Any] = {}
    level: Literal["info", "warning"] = "info"


class Measure(msgspec.Struct, frozen=True, gc=False):
    """One line of metrics.jsonl."""

    what: str
    values: Mapping[str, Any]


class Reconnect(msgspec.Struct, frozen=True, gc=False):
    """Close the socket to the hub and make a new one."""


class Admit(msgspec.Struct, frozen=True, gc=False):
    """Let this node connect for a while, with this key only."""

    node: NodeId
    public_key: str


class Dial(msgspec.Struct, frozen=True, gc=False):
    """Connect to a node that must have this key; what is sent to Peer(node) goes there until HangUp."""

    node: NodeId
    public_key: str
    endpoint: str


class HangUp(msgspec.Struct, frozen=True, gc=False):
    """Close the connection to this node, and drop what waits for it."""

    node: NodeId


class TurnAway(msgspec.Struct, frozen=True, gc=False):
    """Hear nothing more from this node until it is admitted again."""

    node: NodeId


class Finish(msgspec.Struct, frozen=True, gc=False):
    """End the process; `text` is for the operator."""

    exit_code: ExitCode
    outcome: Literal["completed", "stopped", "failed"]
    text: str


PeerEffect = Admit | Dial | HangUp | TurnAway  # of a node: who may reach it, whom it reaches
Effect = Send | Run | Persist | Note | Measure | Reconnect | PeerEffect | Finish


# --- results --------------------------------------------------------------------------------------------------------


class Aside(msgspec.Struct, frozen=True, gc=False):
    """What is left of a job and needs nothing of its trainer: `finish()` takes its time and gives the result."""

    finish: Callable[[], Any]


class Core(Protocol):
    """What decides. No socket, clock, thread, randomness or tensor arithmetic."""

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event, return what is to be done about it, in order."""

    def deadline(self) -> Nanos | None:
        """When a Tick is wanted if nothing happens before."""


class Trainer(Protocol):
    """What works. Called from one thread, and from a second one for jobs that are run beside."""

    def do(self, job: Any) -> Any:
        """Do one job and return its result, or an Aside. An OperatorError ends the process with its exit code."""
