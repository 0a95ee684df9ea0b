"""What a lying node says in swaps, and of spares, instead of what its core decided; its core stays the production one.

Its parcels are of the right size and have the digest that it says, so that only looking at the numbers finds it out.
Who copies no moments of Adam cannot lie about them: then such a parcel is only another discriminator.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import assert_never

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from mdgan_edge.bounds import HOP_MAX, ID_MAX, SPARES_MAX
from mdgan_edge.digest import digest
from mdgan_edge.messages import (
    Accept,
    Copy,
    DiscriminatorId,
    Feedback,
    HeldDiscriminator,
    Hello,
    Message,
    NodeId,
    Prepared,
    Propose,
    SwapId,
    Tensor,
)
from sim.machine import Machine
from sim.scenario.values import SwapLie

AGAIN = 3  # proposals beside every feedback
GUESSED = 6  # swap ids of another node: those of its first swaps since it started first
FURTHEST = HOP_MAX - 1  # the largest hop that the wire carries in a swap
NO_DIGEST = "0" * 32
INVENTED = (  # what it says to have beside what it has: no names, a name that is too long, and guessed ones
    *map(DiscriminatorId, ("garbage", "../generator", f"d{'9' * (ID_MAX - 3)}-x", "d1-nobody", "d1000-n0")),
    *(DiscriminatorId(f"d{number}-n{number - 1}") for number in range(1, 4)),
)

Row = NDArray[np.float32]


def lies_in_swaps(machine: Machine, how: SwapLie, said: Message) -> list[Message]:
    """The messages that leave the machine in place of one; what is none of its business is said as it is."""
    match how:
        case "bad_steps":
            return [_other_numbers(said, _whole_ones_below_zero)] if isinstance(said, Copy) else [said]
        case "bad_moments":
            return [_other_numbers(said, _fractions_turned)] if isinstance(said, Copy) else [said]
        case "bad_digest":
            return [replace(said, digest=NO_DIGEST)] if isinstance(said, Copy) else [said]
        case "huge_hop":
            return [replace(said, hop=FURTHEST) if isinstance(said, Propose | Accept | Copy) else said]
        case "false_prepared":
            return [said, *_guesses(said)] if isinstance(said, Propose | Accept) else [said]
        case "propose_again":
            return [said, *_proposals(machine, said)] if isinstance(said, Feedback) else [said]
        case "give_nothing":
            return [] if isinstance(said, Copy) else [said]
        case _:
            assert_never(how)


def with_false_spares(said: Hello) -> Hello:
    """It says that it has more spares than it has, each further travelled than any other copy."""
    if said.discriminator is None:
        return said
    fitting = said.discriminator.architecture
    more = (HeldDiscriminator(name, HOP_MAX, fitting, 1) for name in INVENTED)
    return replace(said, spares=(*said.spares, *more)[:SPARES_MAX])


def _guesses(said: Propose | Accept) -> list[Prepared]:
    """It says that it is in swaps of the one it speaks to, and has got what that one owned first."""
    held = (said.discriminator_id, said.hop)
    ids = (SwapId(f"{said.to}/1/{number}") for number in range(1, GUESSED))
    return [Prepared(swap_id, said.to, *held, *held) for swap_id in (*ids, said.swap_id)]


def _proposals(machine: Machine, said: Feedback) -> list[Propose]:
    """Of what it owns, to the one that it has proposed to last."""
    last = machine.last_proposal
    if last is None:
        return []
    held = replace(last, discriminator_id=said.discriminator_id, hop=said.hop)
    first = AGAIN * machine.jobs_done
    return [replace(held, swap_id=_never_used(machine.name, first + more)) for more in range(AGAIN)]


def _never_used(node: NodeId, number: int) -> SwapId:
    return SwapId(f"{node}/0/{number}")


def _other_numbers(said: Copy, change: Callable[[Row], Row]) -> Copy:
    """A token has no numbers: its norm stands for what a trainer looks at."""
    row = said.numbers
    if not row.data:
        return replace(said, numbers=Tensor(row.dtype, row.shape, b"", math.nan))
    numbers = Tensor(row.dtype, row.shape, change(np.frombuffer(row.data, np.float32)).tobytes(), row.norm)
    return replace(said, numbers=numbers, digest=digest(numbers, said.counters))


def _whole_ones_below_zero(row: Row) -> Row:
    """Adam's steps are whole numbers, and hardly anything else is."""
    return np.where(row == np.round(row), -np.abs(row), row)


def _fractions_turned(row: Row) -> Row:
    """Second moments are fractions; so is much else, which may have any sign."""
    return np.where(row == np.round(row), row, -row)
