"""Which discriminator a node without one is to have: an orphan, else a copy of a live node's, else a fresh one. Pure.

An adoption's life: the node was told to make a fresh one, and is told to ADOPT another → it fetches a copy from whoever
has it → PREPARED → the hub puts the new owner on record → INSTALLED. Until then the node is not live. What is not on
record after ADOPT_S never will be: the node begins with the fresh one. docs/algorithm.md 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.directory import Directory
from broker.jobs import Give, Given
from broker.member import NEVER, Member
from broker.membership import Membership
from broker.ownership import HOPS_AHEAD, Owner, Ownership
from broker.shelving import Shelving
from mdgan_edge.actors import HUB, Effect, Nanos, Note, Persist, Run, Send, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Adopt,
    Decline,
    DiscriminatorId,
    Epoch,
    Fetch,
    Neighbour,
    NodeId,
    PeerMessage,
    Prepared,
    SwapId,
    Version,
)
from mdgan_edge.streams import stream_seed

ADOPT_S = 10.0  # how long a node without a discriminator waits for one before it trains a fresh one
ADOPT_AGAIN_S = 2.0  # how often it is told, while it may not be ready to hear it
COPIES_FROM = Version(20)  # before that nobody's discriminator is worth copying
DRAWS_MAX = 8  # how often a giver is drawn at random until one fits
GIVING_MAX = 4  # copies that the hub gives from its shelf at once
MARK = "+"  # what an adoption's id begins with: no node's name does

Name = tuple[DiscriminatorId, int]
NO_SWAP, NO_NAME = SwapId(""), (DiscriminatorId(""), 0)


@dataclass(slots=True)
class Adoption:
    """One node's, with the giver that is asked now."""

    node: NodeId
    replaces: Name  # the fresh one it was told to make
    lost: DiscriminatorId | None  # what it owned before, and came back without
    until: Nanos
    swap_id: SwapId = NO_SWAP
    giver: NodeId = HUB.node
    wanted: DiscriminatorId | None = None
    name: Name = NO_NAME
    again_at: Nanos = NEVER
    failed: set[tuple[NodeId, DiscriminatorId | None]] = field(default_factory=set)  # asked in vain, and for what


@dataclass(slots=True)
class AdoptionCounts:
    """How they ended, of this start of the hub."""

    orphans_restored: int = 0
    newcomers_copied: int = 0
    not_adopted: int = 0


class Adoptions:
    """Those that are not over. `wanted` False: whoever comes begins with a fresh one."""

    def __init__(
        self,
        wanted: bool,
        members: Membership,
        ownership: Ownership,
        directory: Directory,
        shelving: Shelving,
        epoch: Epoch,
        unseen_until: Nanos,
    ) -> None:
        self.counts = AdoptionCounts()
        self._wanted, self._unseen_until = wanted, unseen_until
        self._members, self._ownership, self._directory = members, ownership, directory
        self._shelving, self._epoch = shelving, epoch
        self._open: dict[NodeId, Adoption] = {}
        self._giving: dict[SwapId, NodeId] = {}  # from the hub's shelf
        self._count = 0

    # --- beginning ------------------------------------------------------------------------------------------------

    def begin(self, member: Member, lost: DiscriminatorId | None, version: Version, now: Nanos) -> list[Effect]:
        """A node was told to make a fresh discriminator: perhaps there is a better one for it."""
        if not self._wanted:
            return []
        adoption = Adoption(member.node, (member.discriminator_id, member.hop), lost, Nanos(now + nanos(ADOPT_S)))
        self._open[member.node] = adoption
        told = self._ask_next(adoption, member, version, now)
        if told:
            self._members.set_aside(member)
        else:
            del self._open[member.node]
        return told

    def _ask_next(self, adoption: Adoption, member: Member, version: Version, now: Nanos) -> list[Effect]:
        if not self._chose(adoption, now) and not self._drew(adoption, version):
            return []
        self._count += 1
        adoption.swap_id = SwapId(f"{MARK}{self._epoch}/{self._count}")
        named = [Persist(self._ownership.record())] if adoption.wanted is None else []
        return [*named, *self._tell(adoption, member, now)]

    def _tell(self, adoption: Adoption, member: Member, now: Nanos) -> list[Effect]:
        adoption.again_at = Nanos(now + nanos(ADOPT_AGAIN_S))
        giver = self._members.get(adoption.giver) if adoption.giver != HUB.node else None
        expect, neighbour = self._directory.meet(member, giver) if giver else ([], Neighbour(HUB.node))
        return [*expect, _send(member, Adopt(adoption.swap_id, neighbour, adoption.wanted, *adoption.name))]

    def _chose(self, adoption: Adoption, now: Nanos) -> bool:
        """Its own if somebody has a copy of that, else the first orphan of which somebody has."""
        promised = {one.wanted for one in self._open.values() if one is not adoption}
        mine = () if adoption.lost is None else (adoption.lost,)
        for wanted in (*mine, *self._shelving.whereabouts.known):
            recorded = self._hop_of(wanted)
            if recorded is None or wanted in promised or not self._is_orphan(wanted, now):
                continue
            hops = {
                node: hop
                for node, hop in self._shelving.whereabouts.holders(wanted).items()
                if (node, wanted) not in adoption.failed and self._can_give(node, adoption.node)
                if hop <= recorded + HOPS_AHEAD
            }
            if hops:
                moved = max(recorded, *hops.values()) + 1
                adoption.giver = max(hops, key=lambda node: hops[node])
                adoption.wanted, adoption.name = wanted, (wanted, moved)
                return True
        return False

    def _drew(self, adoption: Adoption, version: Version) -> bool:
        """A live node at random, if it has trained what it holds."""
        live = self._members.live
        for place in range(DRAWS_MAX if version >= COPIES_FROM and live else 0):
            node = live[stream_seed(self._epoch, "giver", adoption.node, self._count, place) % len(live)]
            giver = self._members.get(node)
            if giver is None or (node, None) in adoption.failed or not (giver.tally.tasks or giver.came_trained):
                continue
            if node not in self._open:
                adoption.giver, adoption.wanted = node, None
                adoption.name = (self._ownership.new_id(adoption.node), 0)
                return True
        return False

    def _can_give(self, node: NodeId, to: NodeId) -> bool:
        return node == HUB.node or (node != to and self._members.is_live(node))

    def _is_orphan(self, discriminator_id: DiscriminatorId, now: Nanos) -> bool:
        """Its owner came back without it, has left or is dead; of a start before, nobody is dead at once."""
        owner = self._ownership.owner_of(discriminator_id)
        if owner is None:
            return self._hop_of(discriminator_id) is not None
        member = self._members.get(owner)
        return now >= self._unseen_until if member is None else not member.present

    def _hop_of(self, discriminator_id: DiscriminatorId) -> int | None:
        """How often it has moved, by the register or else the shelf; None: only nodes say that there is such a one."""
        recorded = self._ownership.hop_of(discriminator_id)
        return self._shelving.whereabouts.holders(discriminator_id).get(HUB.node) if recorded is None else recorded

    # --- what nodes say -------------------------------------------------------------------------------------------

    def told(self, member: Member, message: PeerMessage, version: Version, now: Nanos) -> list[Effect]:
        """What a node says to the hub as to another node."""
        adoption = self._open.get(member.node)
        ours = adoption is not None and adoption.swap_id == message.swap_id
        match message:
            case Fetch() if adoption is not None and ours and adoption.giver == HUB.node:
                return self._give(adoption, member)
            case Fetch():
                return [_send(member, Decline(message.swap_id, HUB.node, member.node, "gone"))]
            case Decline() if adoption is not None and ours:
                adoption.failed.add((adoption.giver, adoption.wanted))
                bad = adoption.giver == HUB.node and message.reason == "bad"
                forgotten = self._shelving.forget(adoption.wanted) if bad else []
                return [
                    *forgotten,
                    *(self._ask_next(adoption, member, version, now) or self._give_up(adoption, "no giver", now)),
                ]
            case _:
                return []

    def allows(self, fetch: Fetch) -> bool:
        """Whether the hub has told that node to fetch that from this one."""
        adoption = self._open.get(fetch.sender)
        return adoption is not None and (adoption.swap_id, adoption.giver, adoption.wanted) == (
            fetch.swap_id,
            fetch.to,
            fetch.wanted,
        )

    def _give(self, adoption: Adoption, member: Member) -> list[Effect]:
        if adoption.swap_id not in self._giving and len(self._giving) >= GIVING_MAX:
            return [_send(member, Decline(adoption.swap_id, HUB.node, member.node, "busy"))]
        hop = None if adoption.wanted is None else self._shelving.whereabouts.holders(adoption.wanted).get(HUB.node)
        if adoption.wanted is None or hop is None:
            return [_send(member, Decline(adoption.swap_id, HUB.node, member.node, "gone"))]
        job = [] if adoption.swap_id in self._giving else [Run(Give(adoption.swap_id, member.node, adoption.wanted))]
        self._giving[adoption.swap_id] = member.node
        return [_send(member, Accept(adoption.swap_id, HUB.node, member.node, adoption.wanted, hop)), *job]

    def given(self, given: Given) -> list[Effect]:
        """The trainer has read a discriminator from the shelf, or could not."""
        self._giving.pop(given.swap_id, None)
        forgotten = self._shelving.forget(given.discriminator_id) if given.copy is None else []
        member = self._members.get(given.to)
        if member is None or not member.present:
            return forgotten
        said = given.copy or Decline(given.swap_id, HUB.node, given.to, "gone")
        return [*forgotten, _send(member, said)]

    def prepared(self, member: Member, said: Prepared, now: Nanos) -> tuple[tuple[Owner, ...], list[Effect]]:
        """The node has its copy, durably. The new owners, and what is to be said; no owners: it cannot be."""
        adoption = self._open.get(member.node)
        if self._ownership.owned(member.node) != (said.held_id, said.held_hop):
            return (), []  # it is on record, and long over: nobody waits for an answer
        if adoption is None or adoption.swap_id != said.swap_id:
            return (), [_send(member, Abort(said.swap_id))]
        if not self._fits(adoption, said, now):
            return (), self._put_off(adoption)
        parent = said.received_id if adoption.wanted is None else None
        owners = self._ownership.adopt(member.node, adoption.name, parent)
        member.discriminator_id, member.hop = adoption.name
        forgotten = [] if adoption.wanted is None else self._shelving.forget(adoption.wanted)
        self.counts.newcomers_copied += adoption.wanted is None
        self.counts.orphans_restored += adoption.wanted is not None
        facts = {"node": member.node, "discriminator": adoption.name[0], "hop": adoption.name[1], "parent": parent}
        way = {"from": adoption.giver, "instead_of": adoption.replaces[0], "swap_id": said.swap_id}
        what = "orphan_restored" if adoption.wanted is not None else "newcomer_copied"
        return owners, [*forgotten, Note(what, "it was prepared", {**facts, **way})]

    def _fits(self, adoption: Adoption, said: Prepared, now: Nanos) -> bool:
        """Whether nothing has changed since, and it got what it was to get."""
        if adoption.replaces != (said.held_id, said.held_hop):
            return False
        if adoption.wanted is None:
            return self._ownership.has_issued(said.received_id)
        return said.received_id == adoption.wanted and self._is_orphan(adoption.wanted, now)

    def gave_away(self, node: NodeId, discriminator_id: DiscriminatorId, hop: int) -> None:
        """A node has swapped this away, and keeps it as its backup."""
        self._shelving.whereabouts.gave_away(node, discriminator_id, hop)

    # --- what ends one --------------------------------------------------------------------------------------------

    def installed(self, node: NodeId, now: Nanos) -> None:
        """It holds what it adopted."""
        if node in self._open:
            self._close(self._open[node], now)

    def session_over(self, node: NodeId, now: Nanos) -> list[Effect]:
        """The node says HELLO or is gone: it adopts nothing, and nobody adopts what it owned if it is back."""
        if node in self._open:
            self._close(self._open[node], now)
        mine = self._ownership.owned(node)
        promised = [one for one in self._open.values() if mine is not None and one.wanted == mine[0]]
        return [effect for one in promised if one.name != mine for effect in self._put_off(one)]

    def close(self, why: str, now: Nanos) -> list[Effect]:
        """None goes on that is not on record."""
        return [effect for adoption in list(self._open.values()) for effect in self._give_up(adoption, why, now)]

    def sweep(self, version: Version, now: Nanos) -> list[Effect]:
        """End what took too long; say ADOPT again, or another one."""
        effects: list[Effect] = []
        for adoption in list(self._open.values()):
            member = self._members.get(adoption.node)
            if member is None or not member.present:
                self._close(adoption, now)
            elif self._ownership.owned(adoption.node) != adoption.replaces:
                continue  # on record; what it trained before COMMIT is heard would be lost
            elif now >= adoption.until:
                effects += self._give_up(adoption, "out of time", now)
            elif adoption.swap_id == NO_SWAP:
                effects += self._ask_next(adoption, member, version, now) or self._give_up(adoption, "no giver", now)
            elif now >= adoption.again_at:
                effects += self._tell(adoption, member, now)
        return effects

    def _put_off(self, adoption: Adoption) -> list[Effect]:
        """Not that one after all: another is looked for at the next sweep."""
        void, adoption.swap_id, adoption.wanted = adoption.swap_id, NO_SWAP, None
        member = self._members.get(adoption.node)
        return [] if member is None or void == NO_SWAP else [_send(member, Abort(void))]

    def _give_up(self, adoption: Adoption, why: str, now: Nanos) -> list[Effect]:
        self._close(adoption, now)
        member = self._members.get(adoption.node)
        if member is None or not member.present or self._ownership.owned(adoption.node) != adoption.replaces:
            return []
        self.counts.not_adopted += 1
        facts = {"node": adoption.node, "from": adoption.giver, "wanted": adoption.wanted, "swap_id": adoption.swap_id}
        return [_send(member, Abort(adoption.swap_id)), Note("not_adopted", why, facts)]

    def _close(self, adoption: Adoption, now: Nanos) -> None:
        del self._open[adoption.node]
        member = self._members.get(adoption.node)
        if member is not None:
            self._members.take_in(member, now)


def _send(member: Member, message: PeerMessage | Adopt | Abort) -> Send:
    return Send(member.peer, message, member.header)
