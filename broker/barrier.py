"""The barrier of the paper's swap: who swaps between two versions while all others wait. Pure; docs/algorithm.md 6.

A turn's life: SEEK → a step is taken and nobody live has a task in flight, so PEERS → INSTALLED, GIVEN_UP, or TURN_S is
over. A partner that did not seek is in it from the commit on. Who is not live has no turn: it holds nobody up.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.membership import Membership
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import NodeId, Version

TURN_S = 90.0  # from PEERS, or the commit, on; longer than copies and the hub's decision may take (30 s each)
ANY = Version(0)


@dataclass(slots=True)
class Turn:
    """One node's swap, from the version at which it was due."""

    since: Version
    until: Nanos | None = None  # it has peers, or a new discriminator, and is waited for so long


class Barrier:
    """Without `wanted` nobody ever has a turn here, and nothing is held."""

    def __init__(self, wanted: bool, members: Membership) -> None:
        self.wanted = wanted
        self._members = members
        self._turns: dict[NodeId, Turn] = {}
        self._asking: dict[NodeId, None] = {}  # they have said SEEK and are to be told of peers

    def seeks(self, node: NodeId, version: Version) -> None:
        """A turn begins, or goes on with other peers. The feedback of the task that made it due comes after this."""
        self._turns.setdefault(node, Turn(version))
        self._asking[node] = None

    def committed(self, node: NodeId, version: Version, now: Nanos) -> None:
        """The node has a discriminator to install, whether it sought or was asked."""
        if self.wanted:
            _begin(self._turns.setdefault(node, Turn(version)), now)

    def over(self, node: NodeId) -> None:
        """It holds what it is to hold, or nothing came of its turn, or its session is over."""
        self._turns.pop(node, None)
        self._asking.pop(node, None)

    def gathered(self, version: Version, now: Nanos) -> list[NodeId]:
        """Who is to be told of peers: all that were due before `version`, once no live member has a task in flight."""
        if not self._asking:
            return []
        self._forget(now)
        if not self._asking or self._members.oldest_in_flight(ANY) is not None:
            return []
        asking = [node for node in self._asking if self._turns[node].since < version]
        for node in asking:
            del self._asking[node]
            _begin(self._turns[node], now)
        return asking

    def holds(self, version: Version, now: Nanos) -> bool:
        """Whether somebody swaps or is to swap before `version`, so that none of its tasks is to be handed out."""
        if not self._turns:
            return False
        self._forget(now)
        return any(turn.until is not None or turn.since < version for turn in self._turns.values())

    def _forget(self, now: Nanos) -> None:
        for node, turn in list(self._turns.items()):
            if not self._members.is_live(node) or (turn.until is not None and now >= turn.until):
                self.over(node)


def _begin(turn: Turn, now: Nanos) -> None:
    if turn.until is None:
        turn.until = Nanos(now + nanos(TURN_S))
