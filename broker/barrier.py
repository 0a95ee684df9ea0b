"""The barrier of the paper's swap: who swaps between two versions, while everybody else waits. Pure; docs/algorithm.md 6.

A turn's life: SEEK → nobody live has a task in flight, so PEERS → INSTALLED, GIVEN_UP, or TURN_S is over. A partner
that did not seek is in it from the commit on. A node that is not live has no turn: it holds nobody up.
"""

from __future__ import annotations

from broker.membership import Membership
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import NodeId, Version

TURN_S = 90.0  # from PEERS, or the commit, on; longer than copies and the hub's decision may take (30 s each)
ANY = Version(0)


class Barrier:
    """Without `wanted` nobody ever has a turn here, and nothing is held."""

    def __init__(self, wanted: bool, members: Membership) -> None:
        self.wanted = wanted
        self._members = members
        self._turns: dict[NodeId, Nanos | None] = {}  # until when it is waited for; None: it has no peers yet
        self._asking: dict[NodeId, None] = {}  # they have said SEEK and are to be told of peers

    def seeks(self, node: NodeId) -> None:
        """A turn begins, or goes on with other peers. The feedback of its task comes after this."""
        self._turns.setdefault(node, None)
        self._asking[node] = None

    def committed(self, node: NodeId, now: Nanos) -> None:
        """The node has a discriminator to install, whether it sought or was asked."""
        if self.wanted and self._turns.get(node) is None:
            self._turns[node] = _until(now)

    def over(self, node: NodeId) -> None:
        """It holds what it is to hold, or nothing came of its turn, or its session is over."""
        self._turns.pop(node, None)
        self._asking.pop(node, None)

    def gathered(self, now: Nanos) -> list[NodeId]:
        """Who is to be told of peers: all that asked, once no live member has a task in flight."""
        self._forget(now)
        if not self._asking or self._members.oldest_in_flight(ANY) is not None:
            return []
        asking, self._asking = list(self._asking), {}
        for node in asking:
            if self._turns[node] is None:
                self._turns[node] = _until(now)
        return asking

    def holds(self, now: Nanos) -> bool:
        """Whether somebody swaps, so that no task is to be handed out."""
        self._forget(now)
        return bool(self._turns)

    def _forget(self, now: Nanos) -> None:
        for node, until in list(self._turns.items()):
            if not self._members.is_live(node) or (until is not None and now >= until):
                self.over(node)


def _until(now: Nanos) -> Nanos:
    return Nanos(now + nanos(TURN_S))
