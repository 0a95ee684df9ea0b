"""The end of a run: everybody hears BYE, and those who are there have a while to say BYE_ACK."""

from __future__ import annotations

from broker.member import Member, MemberState
from broker.membership import Membership
from mdgan_edge.actors import Nanos, nanos

FAREWELL_S = 10.0  # how long the hub waits for BYE_ACK


class Farewell:
    """Said once."""

    def __init__(self) -> None:
        self.by: Nanos | None = None  # when the hub waits no longer; None: not said yet

    def say(self, members: Membership, now: Nanos) -> list[Member]:
        """To whom BYE is to be said now; empty the second time."""
        if self.by is not None:
            return []
        self.by = Nanos(now + nanos(FAREWELL_S))
        return [member for member in members if member.present]

    def awaits(self, members: Membership, now: Nanos) -> bool:
        """Is somebody's BYE_ACK worth waiting for? A suspect's is not."""
        assert self.by is not None
        return now < self.by and any(member.state is MemberState.ACTIVE for member in members)
