"""What dead nodes leave behind: the hub fetches a backup of it onto its shelf, while there is room. Pure.

A backup goes with its node's next swap, so it is asked for as soon as its owner is dead. The life of one: looked for at
one node after the other that has a backup → FETCH → COPY → on disk. Over when it is on the shelf, has an owner again,
nobody is known to have it, or RESCUE_S is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from broker.greeting import RunFacts
from broker.jobs import Keep, Kept
from broker.member import NEVER, Member
from broker.membership import Membership
from broker.ownership import Ownership
from broker.whereabouts import Whereabouts
from mdgan_edge.actors import HUB, Effect, Nanos, Note, Run, Send, nanos
from mdgan_edge.messages import Copy, Decline, DiscriminatorId, Fetch, Message, NodeId, SwapId

RESCUE_S = 40.0  # how long what a dead node owned is looked for
FETCH_AGAIN_S = 12.0  # after so long without an answer, the same again
RESCUES_MAX = 2  # copies that come at once, beside those of nodes that leave
MARK = "=d"  # what its ids begin with: no node's name does, and no hand-over's id

NO_ID = SwapId("")


@dataclass(slots=True)
class LeftBehind:
    """What one dead node owned, and who is asked for it now."""

    until: Nanos
    swap_id: SwapId = NO_ID
    giver: Member | None = None
    hop: int = 0
    again_at: Nanos = NEVER  # when the same is said once more
    in_vain: set[NodeId] = field(default_factory=set)  # who had none, or gave what is none
    keeping: bool = False  # the trainer has it
    needless: bool = False  # it has an owner again


class Rescue:
    """`forget`: takes from the disk what was put there for nothing."""

    def __init__(
        self,
        facts: RunFacts,
        members: Membership,
        ownership: Ownership,
        whereabouts: Whereabouts,
        forget: Callable[[DiscriminatorId], list[Effect]],
    ) -> None:
        self.kept_count = 0
        self._run_id, self._epoch = facts.run_id, facts.epoch
        self._members, self._ownership, self._whereabouts, self._forget = members, ownership, whereabouts, forget
        self._lost: dict[DiscriminatorId, LeftBehind] = {}
        self._wanted: dict[SwapId, DiscriminatorId] = {}  # by the id under which it is asked for
        self._count = 0

    @property
    def coming(self) -> set[DiscriminatorId]:
        """What the trainer is about to put onto the disk."""
        return {wanted for wanted, one in self._lost.items() if one.keeping}

    def sweep(self, dead: Iterable[NodeId], now: Nanos) -> list[Effect]:
        """Some were found to be dead: look for what they owned, and go on looking for the rest."""
        for mine in map(self._ownership.owned, dead):
            if mine is not None:
                self._lost.setdefault(mine[0], LeftBehind(Nanos(now + nanos(RESCUE_S)))).needless = False
        return [effect for wanted in list(self._lost) for effect in self._look_for(wanted, now)]

    def _look_for(self, wanted: DiscriminatorId, now: Nanos) -> list[Effect]:
        one = self._lost[wanted]
        if one.keeping:
            return []
        hops = self._holders(wanted)
        if now >= one.until or not hops or HUB.node in hops or self._whereabouts.is_full or self._is_owned(wanted):
            self._drop(wanted)
            return []
        if one.giver is not None and one.giver.present:
            return self._ask(wanted, one, now) if now >= one.again_at else []
        one.giver = self._giver(one, hops, now)
        if one.giver is None:
            return []
        self._count += 1
        self._wanted.pop(one.swap_id, None)
        one.swap_id, one.hop = SwapId(f"{MARK}{self._epoch}/{self._count}"), hops[one.giver.node]
        self._wanted[one.swap_id] = wanted
        return self._ask(wanted, one, now)

    def _holders(self, wanted: DiscriminatorId) -> dict[NodeId, int]:
        """Who has a copy that can be one."""
        most = self._ownership.hop_limit(wanted)
        return {node: hop for node, hop in self._whereabouts.holders(wanted).items() if hop <= most}

    def _is_owned(self, wanted: DiscriminatorId) -> bool:
        owner = self._ownership.owner_of(wanted)
        member = None if owner is None else self._members.get(owner)
        return member is not None and member.present

    def _giver(self, one: LeftBehind, hops: dict[NodeId, int], now: Nanos) -> Member | None:
        """Who surely has it before who has said so, and the youngest copy first."""
        if sum(other.giver is not None for other in self._lost.values()) >= RESCUES_MAX:
            return None
        asked = [self._members.get(node) for node in hops if node not in one.in_vain]
        fit = [node for node in asked if node is not None and node.present and now >= node.quarantined_until]
        return max(fit, key=lambda node: (self._whereabouts.is_sure(node.node), hops[node.node]), default=None)

    def _ask(self, wanted: DiscriminatorId, one: LeftBehind, now: Nanos) -> list[Effect]:
        assert one.giver is not None
        one.again_at = Nanos(now + nanos(FETCH_AGAIN_S))
        fetch = Fetch(one.swap_id, HUB.node, one.giver.node, wanted)
        return [Send(one.giver.peer, fetch, one.giver.header)]

    def received(self, member: Member, message: Message) -> list[Effect]:
        """What a node says of what it was asked for."""
        if not isinstance(message, Copy | Decline):
            return []
        wanted = self._wanted.get(message.swap_id)
        one = None if wanted is None else self._lost.get(wanted)
        if wanted is None or one is None or one.giver is not member or one.keeping:
            return []
        if isinstance(message, Copy):
            if self._whereabouts.is_copy_of(wanted, message, one.hop, self._ownership.hop_limit(wanted)):
                one.hop, one.keeping = message.hop, True
                return [Run(Keep(message, self._run_id))]
            one.in_vain.add(member.node)
        elif message.reason != "busy":
            one.in_vain.add(member.node)
        one.giver = None  # another, or the same once more, at the next sweep
        return []

    def kept(self, kept: Kept) -> list[Effect] | None:
        """The trainer has put one onto the disk, or could not; None if it is none of these."""
        wanted = self._wanted.get(kept.swap_id)
        if wanted is None:
            return None
        one = self._lost[wanted]
        assert one.giver is not None
        one.keeping = False
        facts = {"node": one.giver.node, "discriminator": wanted, "hop": one.hop}
        if one.needless or self._is_owned(wanted) or self._whereabouts.is_full:
            self._drop(wanted)
            return self._forget(wanted)
        if kept.trouble is not None:
            one.in_vain.add(one.giver.node)
            one.giver = None
            return [Note("not_kept", kept.trouble, facts, "warning")]
        self._drop(wanted)
        self._whereabouts.shelve(wanted, one.hop)
        self.kept_count += 1
        return [Note("orphan_kept", "its owner is dead", facts)]

    def owned_again(self, discriminator_id: DiscriminatorId | None) -> None:
        """It is looked for no more."""
        one = None if discriminator_id is None else self._lost.get(discriminator_id)
        if one is not None and one.keeping:
            one.needless = True
        elif discriminator_id is not None and one is not None:
            self._drop(discriminator_id)

    def _drop(self, wanted: DiscriminatorId) -> None:
        self._wanted.pop(self._lost.pop(wanted).swap_id, None)
