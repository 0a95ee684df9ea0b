"""What a node gives away without getting anything: a copy of what it holds, or of a spare whose owner is gone. Pure.

A copy's life: asked for (by the node that is to own it, or by the hub) → being made by the trainer → sent. Giving
changes nothing at the giver, so it may swap meanwhile; whoever asks again is given again.
"""

from __future__ import annotations

from typing import Literal

from mdgan_edge.actors import HUB, Peer, Send
from mdgan_edge.messages import Accept, Decline, Fetch, HeldDiscriminator, NodeId, PeerMessage, SwapId
from nodes.jobs import COPY_BYTES_MAX, Offer, Offered, SwapJob, copy_of, name_of

GIVEN_MAX = 4  # copies under work at once; whoever asks beyond that is told busy


class Giving:
    """Copies that are asked for and not sent yet."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._open: dict[SwapId, tuple[Fetch, Peer, HeldDiscriminator]] = {}

    def asked(
        self, fetch: Fetch, held: HeldDiscriminator | None, spares: tuple[HeldDiscriminator, ...], by: Peer
    ) -> list[PeerMessage | Send | SwapJob]:
        """Somebody wants a copy; `held` is None while there is nothing that could be given."""
        if fetch.swap_id in self._open:
            one = self._open[fetch.swap_id][2]
            self._open[fetch.swap_id] = (fetch, by, one)  # perhaps it asks another way: nothing came by the first
            return [say(self._accept(fetch, one), by)]
        if held is None or len(self._open) >= GIVEN_MAX:
            return [say(self._decline(fetch, "busy"), by)]
        kept = [one for one in (held, *spares) if fetch.wanted in (None, one.discriminator_id)]
        if not kept:
            return [say(self._decline(fetch, "gone"), by)]
        one = held if fetch.wanted is None else max(kept, key=lambda one: one.hop)
        self._open[fetch.swap_id] = (fetch, by, one)
        return [say(self._accept(fetch, one), by), Offer(fetch.swap_id, name_of(one))]

    def offered(self, offered: Offered) -> list[PeerMessage | Send]:
        """The trainer has made a copy, or could not; nothing if it is not one of these."""
        if offered.swap_id not in self._open:
            return []
        fetch, by, one = self._open.pop(offered.swap_id)
        if offered.numbers is None:
            return [say(self._decline(fetch, "gone"), by)]
        copy = copy_of(offered, self._node, fetch.sender, one)
        return [say(copy if copy.byte_count <= COPY_BYTES_MAX else self._decline(fetch, "bad"), by)]

    def _accept(self, fetch: Fetch, one: HeldDiscriminator) -> Accept:
        return Accept(fetch.swap_id, self._node, fetch.sender, one.discriminator_id, one.hop)

    def _decline(self, fetch: Fetch, why: Literal["busy", "gone", "bad"]) -> Decline:
        return Decline(fetch.swap_id, self._node, fetch.sender, why)


def say(message: PeerMessage, by: Peer) -> PeerMessage | Send:
    """To the hub, which hands it on, or to the node itself."""
    return message if by == HUB else Send(by, message)
