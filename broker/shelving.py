"""The hub's shelf: discriminators that nodes hand over when they leave, before BYE_ACK. Pure.

A node that leaves gives what it owns, then one by one the orphans of which nobody else surely has a copy. The life of
each: it waits for its turn → FETCH → COPY → on disk. After the last BYE_ACK; or HAND_OVER_S is over, and the node goes
by itself. What it leaves behind is in its own state folder, as ever. What the dead leave behind: left_behind.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.greeting import RunFacts
from broker.jobs import Forget, Keep, Kept
from broker.left_behind import Rescue
from broker.member import Member, MemberState
from broker.membership import Membership
from broker.ownership import Ownership
from broker.whereabouts import Whereabouts
from mdgan_edge.actors import HUB, Effect, Nanos, Note, Run, Send, nanos
from mdgan_edge.messages import Accept, Bye, ByeAck, Copy, Decline, DiscriminatorId, Fetch, Message, NodeId, SwapId

HAND_OVER_S = 12.0  # how long a node that leaves is waited for; nodes wait as long
HAND_OVERS_MAX = 4  # at once, until they are on disk: each may be megabytes
MARK = "="  # what a hand-over's id begins with: no node's name does


@dataclass(slots=True)
class HandOver:
    """What a node that has said BYE is to give now."""

    member: Member
    until: Nanos
    swap_id: SwapId
    wanted: DiscriminatorId
    hop: int
    tried: frozenset[DiscriminatorId]  # this one, and those before it
    asked: bool = False
    keeping: bool = False  # the trainer has it, whatever becomes of the node
    needless: bool = False  # it has an owner again


class Shelving:
    """`wanted` False: nothing is ever taken over."""

    def __init__(self, wanted: bool, facts: RunFacts, members: Membership, ownership: Ownership) -> None:
        self.whereabouts = Whereabouts(facts.architecture, facts.shelf)
        self.rescue = Rescue(facts, members, ownership, self.whereabouts, self._forget)
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
        """A node leaves: BYE_ACK, or first what it is to give, if the run goes on."""
        if not self._wanted or not training:
            self._open.pop(member.node, None)
            return [_send(member, ByeAck())]
        return self._go_on(member, frozenset(), Nanos(now + nanos(HAND_OVER_S)))

    def _go_on(self, member: Member, tried: frozenset[DiscriminatorId], until: Nanos) -> list[Effect]:
        """It is to give the next, or may go."""
        for wanted, hop in self._lost_with(member.node, tried):
            self._count += 1
            swap_id = SwapId(f"{MARK}{self._epoch}/{self._count}")
            self._open[member.node] = HandOver(member, until, swap_id, wanted, hop, tried | {wanted})
            return self._ask_next()
        self._open.pop(member.node, None)
        return [_send(member, ByeAck()), *self._ask_next()]

    def _lost_with(self, node: NodeId, tried: frozenset[DiscriminatorId]) -> Iterator[tuple[DiscriminatorId, int]]:
        """What it owns, as it is now: a backup is older. Then orphans of which it has the last copy."""
        mine = self._ownership.owned(node)
        if mine is not None and mine[0] not in tried:
            yield mine
        for spare in self.whereabouts.spares(node):
            hop = self.whereabouts.holders(spare)[node]
            fits = spare not in tried and self._is_orphan(spare) and hop <= self._ownership.hop_limit(spare)
            if fits and not self._is_safe(spare):
                yield spare, hop

    def _is_orphan(self, discriminator_id: DiscriminatorId) -> bool:
        owner = self._ownership.owner_of(discriminator_id)
        return owner is not None and not self._is_there(owner)

    def _is_safe(self, discriminator_id: DiscriminatorId) -> bool:
        holders = self.whereabouts.holders(discriminator_id)
        return any(node == HUB.node or (self._is_there(node) and self.whereabouts.is_sure(node)) for node in holders)

    def _is_there(self, node: NodeId) -> bool:
        member = self._members.get(node)
        return member is not None and member.present

    def _ask_next(self) -> list[Effect]:
        busy = len(self._under_way) + sum(one.asked and not one.keeping for one in self._open.values())
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
        if one is None or member.state is not MemberState.LEFT:
            return None
        fetched = one.asked and not one.keeping
        match message:
            case Bye():
                return [self._fetch(one)] if fetched else []
            case Accept():
                return []
            case Copy() if message.swap_id == one.swap_id and fetched:
                if not self.whereabouts.is_copy_of(one.wanted, message, one.hop, self._youngest(one)):
                    return self._failed(one, "it gave another")
                one.hop, one.keeping, self._under_way[one.swap_id] = message.hop, True, one
                return [Run(Keep(message, self._run_id))]
            case Decline() if message.swap_id == one.swap_id and fetched:
                return self._failed(one, f"it has none to give: {message.reason}")
            case Copy() | Decline():
                return []  # it came twice, or unasked
            case _:
                return None

    def _youngest(self, one: HandOver) -> int:
        """What it owns it has once. Of an orphan it may have a younger copy, which it was to get in a swap."""
        return self._ownership.hop_limit(one.wanted) if self._is_orphan(one.wanted) else one.hop

    def kept(self, kept: Kept) -> list[Effect]:
        """The trainer has put one onto the shelf, or could not."""
        if (rescued := self.rescue.kept(kept)) is not None:
            return rescued
        one = self._under_way.pop(kept.swap_id)
        if one.needless:
            effects = self._forget(one.wanted)
        elif kept.trouble is not None:
            effects = [_lost(one.member, one.wanted, kept.trouble)]
        else:
            effects = self._shelved(one)
        waits = self._open.get(one.member.node) is one  # else it is back
        return effects + (self._go_on(one.member, one.tried, one.until) if waits else self._ask_next())

    def _shelved(self, one: HandOver) -> list[Effect]:
        out = self.whereabouts.shelve(one.wanted, one.hop)
        self.handed_over += 1
        facts = {"node": one.member.node, "discriminator": one.wanted, "hop": one.hop}
        return [*([] if out is None else self._forget(out)), Note("handed_over", "its node leaves", facts)]

    def _failed(self, one: HandOver, why: str) -> list[Effect]:
        """It may go all the same: what it owns is in its own folder."""
        return [_lost(one.member, one.wanted, why), *self._go_on(one.member, one.tried, one.until)]

    def back(self, node: NodeId, owned: DiscriminatorId, holds: bool) -> list[Effect]:
        """The node says HELLO; if it `holds` what it owns, a copy on the shelf would only grow old."""
        self._open.pop(node, None)
        return [*(self.forget(owned) if holds else []), *self._ask_next()]

    def sweep(self, dead: list[NodeId], now: Nanos) -> list[Effect]:
        """Nobody is waited for any longer than it waits itself; what has come is kept all the same.

        `dead`: who was just found to be, while the run goes on.
        """
        late = [one for one in self._open.values() if now >= one.until and not one.keeping]
        effects: list[Effect] = []
        for one in late:
            del self._open[one.member.node]
            others = (wanted for wanted, _ in self._lost_with(one.member.node, one.tried))
            effects += (_lost(one.member, wanted, "out of time") for wanted in (one.wanted, *others))
        return [*effects, *(self._ask_next() if late else []), *self.rescue.sweep(dead if self._wanted else (), now)]

    # --- forgetting -----------------------------------------------------------------------------------------------

    def forget(self, discriminator_id: DiscriminatorId | None) -> list[Effect]:
        """It has an owner again, or is no good: take it from the shelf, if it is there or on its way."""
        self.rescue.owned_again(discriminator_id)
        for one in (*self._open.values(), *self._under_way.values()):
            one.needless |= one.wanted == discriminator_id
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
        coming = {one.wanted for one in self._under_way.values()} | self.rescue.coming
        gone = tuple(one for one in self._to_forget if one not in coming and one not in self.whereabouts.shelf)
        self._to_forget = [] if not self._forgetting else self._to_forget
        if self._forgetting or not gone:
            return []
        self._forgetting = True
        return [Run(Forget(gone))]


def _lost(member: Member, wanted: DiscriminatorId, why: str) -> Note:
    facts = {"node": member.node, "discriminator": wanted}
    return Note("not_handed_over", why, facts, "warning")


def _send(member: Member, message: Fetch | ByeAck) -> Send:
    return Send(member.peer, message, member.header)
