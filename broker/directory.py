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
        met = [self.meet(asker, one) for one in others]
        peers = Peers(tuple(neighbour for _, neighbour in met))
        return [*(send for expect, _ in met for send in expect), Send(asker.peer, peers, asker.header)]

    def meet(self, asker: Member, other: Member) -> tuple[list[Send], Neighbour]:
        """The other as the asker is to be told of it; if it can be called, it is to expect that."""
        if not self._can_be_called(other, asker):
            return [], Neighbour(other.node)
        expect = Send(other.peer, Expect(asker.node, self.keys[asker.node]), other.header)
        return [expect], Neighbour(other.node, self.keys[other.node], other.peer_endpoint)

    def _can_be_called(self, other: Member, by: Member) -> bool:
        return other.peer_endpoint is not None and other.node in self.keys and by.node in self.keys
