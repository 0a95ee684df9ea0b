"""How nodes reach each other: keys as the register has them, endpoints as nodes say them. Pure.

A node of which no key or no endpoint is known is reached through the hub only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.member import Member
from mdgan_edge.actors import Effect, Send
from mdgan_edge.messages import Expect, Neighbour, NodeId, Peers


class Directory:
    """Introduces nodes to each other. `keys`: the public ones, of the whole register."""

    def __init__(self, keys: Mapping[NodeId, str]) -> None:
        self.keys = keys

    def introduce(self, asker: Member, others: Sequence[Member]) -> list[Effect]:
        """Let the others expect the one that asked, then tell it where they are."""
        reachable = [one for one in others if self._can_be_called(one, asker)]
        known = {one.node: Neighbour(one.node, self.keys[one.node], one.peer_endpoint) for one in reachable}
        peers = Peers(tuple(known.get(one.node, Neighbour(one.node)) for one in others))
        expect = [Send(one.peer, Expect(asker.node, self.keys[asker.node]), one.header) for one in reachable]
        return [*expect, Send(asker.peer, peers, asker.header)]

    def _can_be_called(self, other: Member, by: Member) -> bool:
        return other.peer_endpoint is not None and other.node in self.keys and by.node in self.keys
