"""The hub's shelf: discriminators of nodes that have left, taken over before BYE_ACK if nobody else has a copy. Pure.

A hand-over's life: BYE → it waits for its turn → FETCH → COPY → on disk → BYE_ACK; or HAND_OVER_S is over, and the node
goes by itself. What it leaves behind is in its own state folder, as ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.greeting import RunFacts
from broker.jobs import Forget, Keep, Kept
from broker.member import Member
from broker.membership import Membership
from broker.ownership import Ownership
from broker.whereabouts import Whereabouts
from mdgan_edge.actors import HUB, Effect, Nanos, Note, Run, Send, nanos
from mdgan_edge.messages import Accept, Bye, ByeAck, Copy, Decline, DiscriminatorId, Fetch, Message, NodeId, SwapId

HAND_OVER_S = 12.0  # how long a node that leaves is waited for; nodes wait as long
HAND_OVERS_MAX = 4  # at once: each may be megabytes
MARK = "="  # what a hand-over's id begins with: no node's name does


@dataclass(slots=True)
class HandOver:
    """What a node that has said BYE owns."""

    member: Member
    swap_id: SwapId
    wanted: DiscriminatorId
    hop: int
    until: Nanos
    asked: bool = False
    keeping: bool = False  # the trainer has it


class Shelving:
    """`wanted` False: nothing is ever taken over."""

    def __init__(self, wanted: bool, facts: RunFacts, members: Membership, ownership: Ownership) -> None:
        self.whereabouts = Whereabouts(facts.architecture, facts.shelf)
        self.handed_over = 0
        self._wanted, self._run_id, self._epoch = wanted, facts.run_id, facts.epoch
        self._members, self._ownership = members, ownership
        self._open: dict[NodeId, HandOver] = {}
        self._under_way: dict[SwapId, HandOver] = {}  # with the trainer
        self._to_forget: list[DiscriminatorId] = []
        self._forgetting = False
        self._count = 0

    # --- leaving --------------------------------------------------------------------------------------------------

    def bye(self, member: Member, training: bool, now: Nanos) -> list[Effect]:
        """A node leaves: BYE_ACK, or first what it owns, if the run goes on and nobody else has that."""
        mine = self._ownership.owned(member.node)
        if not self._wanted or not training or mine is None or self._is_safe(mine[0], member.node):
            return [_send(member, ByeAck())]
        self._count += 1
        swap_id = SwapId(f"{MARK}{self._epoch}/{self._count}")
        self._open[member.node] = HandOver(member, swap_id, *mine, Nanos(now + nanos(HAND_OVER_S)))
        return self._ask_next()

    def _is_safe(self, discriminator_id: DiscriminatorId, but: NodeId) -> bool:
        holders = self.whereabouts.holders(discriminator_id)
        return any(node == HUB.node or (node != but and self._has_it(node)) for node in holders)

    def _has_it(self, node: NodeId) -> bool:
        member = self._members.get(node)
        return member is not None and member.present and self.whereabouts.is_sure(node)

    def _ask_next(self) -> list[Effect]:
        busy = sum(one.asked for one in self._open.values())
        effects: list[Effect] = []
        for one in self._open.values():
            if busy < HAND_OVERS_MAX and not one.asked:
                one.asked, busy = True, busy + 1
                effects.append(self._fetch(one))
        return effects

    def _fetch(self, one: HandOver) -> Send:
        return _send(one.member, Fetch(one.swap_id, HUB.node, one.member.node, one.wanted))

    def received(self, member: Member, message: Message) -> list[Effect] | None:
        """What a node that has said BYE says still; None if nothing is wanted of it."""
        one = self._open.get(member.node)
        if one is None:
            return None
        match message:
            case Bye():
                return [self._fetch(one)] if one.asked and not one.keeping else []
            case Accept():
                return []
            case Copy() if message.swap_id == one.swap_id and not one.keeping:
                if (message.discriminator_id, message.hop) != (one.wanted, one.hop):
                    return self._failed(one, "it gave another")
                one.keeping, self._under_way[one.swap_id] = True, one
                return [Run(Keep(message, self._run_id))]
            case Decline() if message.swap_id == one.swap_id and not one.keeping:
                return self._failed(one, f"it has none to give: {message.reason}")
            case Copy() | Decline():
                return []  # it came twice
            case _:
                return None

    def kept(self, kept: Kept) -> list[Effect]:
        """The trainer has put one onto the shelf, or could not."""
        one = self._under_way.pop(kept.swap_id)
        back = self._open.get(one.member.node) is not one
        if kept.trouble is not None:
            return [] if back else self._failed(one, kept.trouble)
        out = self.whereabouts.shelve(one.wanted, one.hop)
        forgotten = [] if out is None else self._forget(out)
        if back:
            return [*forgotten, *self.forget(one.wanted)]
        del self._open[one.member.node]
        self.handed_over += 1
        facts = {"node": one.member.node, "discriminator": one.wanted, "hop": one.hop}
        note = Note("handed_over", "nobody else has a copy", facts)
        return [*forgotten, note, _send(one.member, ByeAck()), *self._ask_next()]

    def _failed(self, one: HandOver, why: str) -> list[Effect]:
        """It may go all the same: what it owns is in its own folder."""
        del self._open[one.member.node]
        return [_lost(one, why), _send(one.member, ByeAck()), *self._ask_next()]

    def back(self, node: NodeId, owned: DiscriminatorId, holds: bool) -> list[Effect]:
        """The node says HELLO; if it `holds` what it owns, a copy on the shelf would only grow old."""
        self._open.pop(node, None)
        return [*(self.forget(owned) if holds else []), *self._ask_next()]

    def sweep(self, now: Nanos) -> list[Effect]:
        """Nobody is waited for any longer than it waits itself; what has come is kept all the same."""
        late = [one for one in self._open.values() if now >= one.until and not one.keeping]
        for one in late:
            del self._open[one.member.node]
        return [*(_lost(one, "out of time") for one in late), *(self._ask_next() if late else [])]

    # --- forgetting -----------------------------------------------------------------------------------------------

    def forget(self, discriminator_id: DiscriminatorId | None) -> list[Effect]:
        """It has an owner again, or is no good: take it from the shelf, if it is there."""
        if discriminator_id is None or not self.whereabouts.unshelve(discriminator_id):
            return []
        return self._forget(discriminator_id)

    def _forget(self, discriminator_id: DiscriminatorId) -> list[Effect]:
        self._to_forget.append(discriminator_id)
        return self._forget_next()

    def forgotten(self) -> list[Effect]:
        """The trainer has removed some."""
        self._forgetting = False
        return self._forget_next()

    def _forget_next(self) -> list[Effect]:
        gone = tuple(one for one in self._to_forget if one not in self.whereabouts.shelf)
        self._to_forget = [] if not self._forgetting else self._to_forget
        if self._forgetting or not gone:
            return []
        self._forgetting = True
        return [Run(Forget(gone))]


def _lost(one: HandOver, why: str) -> Note:
    facts = {"node": one.member.node, "discriminator": one.wanted}
    return Note("not_handed_over", why, facts, "warning")


def _send(member: Member, message: Fetch | ByeAck) -> Send:
    return Send(member.peer, message, member.header)
