"""What FL-GAN's server and clients say to each other; pure values. No hub or node of the protocol takes any of it.

The numbers of a message are all parameters and float buffers of generator and discriminator in one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from mdgan_edge.messages import Incarnation, Tensor

Verdict = Literal["averaged", "late", "duplicate", "malformed"]


class Enter(msgspec.Struct, frozen=True, gc=False):
    """C>S: I am here (again). `samples`: m_n."""

    incarnation: Incarnation
    samples: int


class Stranger(msgspec.Struct, frozen=True, gc=False):
    """S>C: I know no such session; say ENTER."""


class Round(msgspec.Struct, frozen=True, gc=False):
    """S>C: go on from here, with at most so many local updates."""

    round: int
    updates: int
    numbers: Tensor  # float32 (n,)


class Update(msgspec.Struct, frozen=True, gc=False):
    """C>S: where I got to in this round with so many local updates. Said again until TAKEN."""

    round: int
    updates: int
    samples: int
    loss_d: float
    loss_g: float
    numbers: Tensor  # float32 (n,)


class Taken(msgspec.Struct, frozen=True, gc=False):
    """S>C: what became of the update of this round; of one that counts, that it waits for the others."""

    round: int
    verdict: Verdict


class Pulse(msgspec.Struct, frozen=True, gc=False):
    """C>S: a sign of life. `round`: the one it works on, or has answered; -1: none."""

    round: int


class Echo(msgspec.Struct, frozen=True, gc=False):
    """S>C: the answer to ENTER and PULSE."""

    round: int


class Leave(msgspec.Struct, frozen=True, gc=False):
    """Either: it is over, for you or for me."""

    reason: str


class LeaveAck(msgspec.Struct, frozen=True, gc=False):
    """Either: the answer to LEAVE."""


SMALL = (Enter, Stranger, Taken, Pulse, Echo, Leave, LeaveAck)  # these pass between the parts of the large ones

WORDS: Mapping[type, Callable[[Any], str]] = {  # for the trace
    Enter: lambda one: f"ENTER {one.incarnation}",
    Stranger: lambda _: "STRANGER",
    Round: lambda one: f"ROUND {one.round} {one.updates} {one.numbers.norm!r}",
    Update: lambda one: f"UPDATE {one.round} {one.updates} {one.numbers.norm!r}",
    Taken: lambda one: f"TAKEN {one.round} {one.verdict}",
    Pulse: lambda one: f"PULSE {one.round}",
    Echo: lambda one: f"ECHO {one.round}",
    Leave: lambda _: "LEAVE",
    LeaveAck: lambda _: "LEAVE_ACK",
}
