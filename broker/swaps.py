"""The hub's side of swaps: hands out peers, carries what nodes say to each other, decides. Pure; docs/algorithm.md 6.

A decision's life: nobody has said anything → one is PREPARED → both are, and the new owners are on record (committed),
or the time is over, or one of them is gone (void). What is not on record is void: the register of owners is the only
memory, so a hub that starts anew decides as its former process did.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import msgspec

from broker.adoptions import MARK, Adoptions
from broker.barrier import Barrier
from broker.directory import Directory
from broker.greeting import RunFacts
from broker.member import Member, MemberState
from broker.membership import Membership
from broker.ownership import Ownership
from broker.pairing import Pairing
from broker.shelving import Shelving
from mdgan_edge.actors import HUB, Effect, Nanos, Note, Persist, Send, nanos
from mdgan_edge.messages import (
    Abort,
    Commit,
    Decline,
    DiscriminatorId,
    Fetch,
    GivenUp,
    Installed,
    Message,
    NodeId,
    PeerMessage,
    Prepared,
    Propose,
    Seek,
    SwapId,
    SwapReport,
    Version,
)
from mdgan_edge.settings import Settings

SWAP_DEADLINE_S = 30.0  # how long one that is PREPARED waits for the other
COMMIT_AGAIN_S = 2.0  # how often COMMIT is said until INSTALLED
NOT_THE_OWNER = "not the owner"
RUN_ENDS = "the run ends"
VOID_REMEMBERED = 64  # per session: swaps that came to nothing; a PREPARED that was long on its way cannot revive them


class Half(msgspec.Struct, frozen=True, gc=False):
    """One of two is PREPARED."""

    node: NodeId
    said: Prepared
    until: Nanos


Pair = tuple[SwapId, frozenset[NodeId]]  # ids can be guessed: a swap is that of two, and what a third says is another


def pair_of(node: NodeId, said: Prepared) -> Pair:
    """Whose swap a node says it is PREPARED for."""
    return said.swap_id, frozenset((node, said.partner))


@dataclass(slots=True)
class Told:
    """Somebody who has not said yet that it holds what it owns."""

    swap_id: SwapId
    again_at: Nanos


@dataclass(slots=True)
class SwapCounts:
    """How swaps ended, of this start of the hub."""

    committed: int = 0
    direct: int = 0  # of these: both copies went from node to node
    direct_bytes: int = 0  # in which nodes say they got copies so, committed or not
    aborted: int = 0


class Swaps:
    """Knows swaps that are not over."""

    def __init__(
        self,
        settings: Settings,
        facts: RunFacts,
        members: Membership,
        ownership: Ownership,
        directory: Directory,
        now: Nanos,
    ) -> None:
        self.counts = SwapCounts()
        self.directory = directory
        adopts = settings.training.newcomer == "copy"
        unseen_until = Nanos(now + nanos(settings.hub.death_timeout_s))
        self.shelving = Shelving(adopts, facts, members, ownership)
        self.adoptions = Adoptions(adopts, members, ownership, directory, self.shelving, facts.epoch, unseen_until)
        self.barrier = Barrier(settings.training.swap_barrier, members)
        self._pairing = Pairing(settings, members, facts.epoch)
        self._members, self._ownership, self._epoch = members, ownership, facts.epoch
        self._halves: dict[Pair, Half] = {}
        self._told: dict[NodeId, Told] = {}
        self._void: dict[NodeId, deque[Pair]] = {}
        self._closed = False

    # --- what nodes say -------------------------------------------------------------------------------------------

    def received(self, member: Member, message: SwapReport, version: Version, now: Nanos) -> list[Effect]:
        """A member tells of its swap, while the generator is at `version`."""
        match message:
            case Seek():
                return self._sought(member, version, now)
            case GivenUp():
                self.barrier.over(member.node)
                return []
            case Prepared() if message.swap_id.startswith(MARK):
                return self._adopted(member, message, now)
            case Prepared():
                return self._prepared(member, message, version, now)
            case Installed(swap_id):
                told = self._told.get(member.node)
                if told is not None and told.swap_id == swap_id:
                    del self._told[member.node]
                    self.barrier.over(member.node)
                    self.adoptions.installed(member.node, now)
                return []

    def gather(self, version: Version, now: Nanos) -> list[Effect]:
        """PEERS to those who have waited for them at the barrier."""
        asking = [self._members.get(node) for node in self.barrier.gathered(version, now)]
        return [effect for member in asking if member is not None for effect in self._introduced(member)]

    def _sought(self, member: Member, version: Version, now: Nanos) -> list[Effect]:
        if self._closed or now < member.quarantined_until:
            return self.directory.introduce(member, [])
        if not self.barrier.wanted:
            return self._introduced(member)
        self.barrier.seeks(member.node, version)
        return []

    def _introduced(self, member: Member) -> list[Effect]:
        view = self._pairing.view(member)
        alone = not view and self._pairing.found_alone(member)
        note = Note("no_partner", "no live node judges much the same classes: it does not swap", {"node": member.node})
        return [*self.directory.introduce(member, view), *([note] if alone else [])]

    def relay(self, member: Member, message: PeerMessage, version: Version, now: Nanos) -> list[Effect]:
        """What one node says in its own name to another, or to the hub; who is not there, is said to be gone."""
        if message.to == HUB.node:
            told = self.adoptions.told(member, message, version, now)
            return [*told, *self.shelving.rescue.received(member, message)]
        to = self._members.get(message.to)
        begins = isinstance(message, Propose | Fetch)  # what only goes on, a suspect needs as well
        allowed = not isinstance(message, Fetch) or self.adoptions.allows(message)
        if to is not None and (to.live if begins else to.present) and to is not member and allowed:
            return [_send(to, message)]
        if begins:
            return [_send(member, Decline(message.swap_id, message.to, member.node, "gone"))]
        return []

    @property
    def is_unsettled(self) -> bool:
        """Whether somebody who is there has not said yet that it holds what it owns."""
        members = map(self._members.get, self._told)
        return any(member is not None and member.state is MemberState.ACTIVE for member in members)

    def _prepared(self, member: Member, said: Prepared, version: Version, now: Nanos) -> list[Effect]:
        mine = self._ownership.owned(member.node)
        if mine == (said.received_id, said.received_hop + 1):
            return [_send(member, Commit(said.swap_id, *mine))]  # it is on record: COMMIT was lost
        pair = pair_of(member.node, said)
        half = self._halves.get(pair)
        if half is not None and half.node == member.node:
            return []
        if self._closed:
            return [] if mine != (said.held_id, said.held_hop) else self._abort(member, pair)
        why = self._objection(member, said, mine, half, now)
        if why == NOT_THE_OWNER and half is None:
            return []  # it may be on record, and long over: nobody waits for an answer
        if why is not None:
            return [*self._void_swap(pair, why), *self._abort(member, pair)]
        self.counts.direct_bytes += said.direct_bytes
        if half is None:
            effects = self._void_others(member.node)
            self._halves[pair] = Half(member.node, said, Nanos(now + nanos(SWAP_DEADLINE_S)))
            return effects
        return self._commit(half, member, said, version, now)

    def _void_others(self, node: NodeId) -> list[Effect]:
        """A node has one shadow slot: what it was PREPARED for before, it cannot be any more."""
        others = [pair for pair, half in self._halves.items() if half.node == node]
        return [effect for pair in others for effect in self._void_swap(pair, "another has begun")]

    def _objection(
        self, member: Member, said: Prepared, mine: tuple[DiscriminatorId, int] | None, half: Half | None, now: Nanos
    ) -> str | None:
        if pair_of(member.node, said) in self._void.get(member.node, ()):
            return "void"
        if mine != (said.held_id, said.held_hop):
            return NOT_THE_OWNER
        if now < member.quarantined_until:
            return "in quarantine"
        partner = self._members.get(said.partner)
        if partner is None or not partner.present:
            return "the partner is gone"
        if half is None:
            return None
        theirs = half.said
        agree = (half.node, theirs.partner) == (said.partner, member.node)
        crossed = (theirs.held_id, theirs.held_hop, theirs.received_id, theirs.received_hop) == (
            said.received_id,
            said.received_hop,
            said.held_id,
            said.held_hop,
        )
        still = self._ownership.owned(half.node) == (theirs.held_id, theirs.held_hop)
        return None if agree and crossed and still else "they do not agree"

    def _adopted(self, member: Member, said: Prepared, now: Nanos) -> list[Effect]:
        """Half a swap: on record as a whole one is."""
        told = self._told.get(member.node)
        if told is not None and told.swap_id == said.swap_id:
            return []  # it is on record, and COMMIT is said until INSTALLED
        owners, effects = self.adoptions.prepared(member, said, now)
        if not owners:
            return effects
        self.counts.direct_bytes += said.direct_bytes
        return [Persist(self._ownership.record(*owners)), self._tell(member, said.swap_id, now), *effects]

    def _tell(self, member: Member, swap_id: SwapId, now: Nanos) -> Send:
        """COMMIT, until it is INSTALLED."""
        mine = self._ownership.owned(member.node)
        assert mine is not None
        member.discriminator_id, member.hop = mine
        self._told[member.node] = Told(swap_id, Nanos(now + nanos(COMMIT_AGAIN_S)))
        return _send(member, Commit(swap_id, *mine))

    def _commit(self, half: Half, member: Member, said: Prepared, version: Version, now: Nanos) -> list[Effect]:
        del self._halves[pair_of(member.node, said)]
        partner = self._members.get(half.node)
        assert partner is not None
        owners = self._ownership.swap(member.node, partner.node)
        direct = half.said.direct and said.direct
        self.counts.committed += 1
        self.counts.direct += direct
        effects: list[Effect] = [Persist(self._ownership.record(*owners))]
        for one in (partner, member):
            self.adoptions.gave_away(one.node, one.discriminator_id, one.hop)
            self.barrier.committed(one.node, version, now)
            self._pairing.swapped(one)
            effects.append(self._tell(one, said.swap_id, now))
        facts = {"swap_id": said.swap_id, "version": version, "nodes": [partner.node, member.node]}
        names = {"given": [said.received_id, said.held_id], "direct": direct}
        return [*effects, Note("swap_committed", "both were prepared", {**facts, **names})]

    # --- what ends a swap -----------------------------------------------------------------------------------------

    def close(self, now: Nanos) -> list[Effect]:
        """The run ends: what is not on record by now is void, and nothing new is."""
        if self._closed:
            return []
        self._closed = True
        voided = [effect for pair in list(self._halves) for effect in self._void_swap(pair, RUN_ENDS)]
        return [*voided, *self.adoptions.close(RUN_ENDS, now)]

    def session_over(self, node: NodeId, now: Nanos) -> list[Effect]:
        """The node has said HELLO or is gone: WELCOME, if it comes, says what it owns; nothing of it is pending."""
        self._told.pop(node, None)
        self._void.pop(node, None)
        self.barrier.over(node)
        mine = [pair for pair in self._halves if node in pair[1]]
        voided = [effect for pair in mine for effect in self._void_swap(pair, "a session is over")]
        return [*self.adoptions.session_over(node, now), *voided]

    def sweep(self, version: Version, now: Nanos) -> list[Effect]:
        """Void what took too long; say COMMIT again."""
        effects = self.adoptions.sweep(version, now)
        for pair, half in list(self._halves.items()):
            if now >= half.until:
                effects += self._void_swap(pair, "out of time")
            elif not all(map(self._present, pair[1])):
                effects += self._void_swap(pair, "one is gone")
        for node, told in self._told.items():
            member, mine = self._members.get(node), self._ownership.owned(node)
            if now >= told.again_at and member is not None and member.present and mine is not None:
                told.again_at = Nanos(now + nanos(COMMIT_AGAIN_S))
                effects.append(_send(member, Commit(told.swap_id, *mine)))
        return effects

    def _present(self, node: NodeId) -> bool:
        member = self._members.get(node)
        return member is not None and member.present

    def _void_swap(self, pair: Pair, why: str) -> list[Effect]:
        """The one that is PREPARED is told; the other is when it says PREPARED too, which it does again and again."""
        half = self._halves.pop(pair, None)
        if half is None:
            return []
        self.counts.aborted += 1
        member = self._members.get(half.node)
        told = self._abort(member, pair) if member is not None and member.present else self._remember(pair)
        return [*told, Note("swap_aborted", why, {"swap_id": pair[0], "nodes": [half.node, half.said.partner]})]

    def _abort(self, member: Member, pair: Pair) -> list[Effect]:
        told = self._told.get(member.node)
        if told is not None and told.swap_id == pair[0]:
            return []  # it is on record, with somebody else than the node it names now
        return [*self._remember(pair), _send(member, Abort(pair[0]))]

    def _remember(self, pair: Pair) -> list[Effect]:
        """That it is void, for as long as either of the two may still be heard of it."""
        for node in filter(self._present, pair[1]):
            void = self._void.setdefault(node, deque(maxlen=VOID_REMEMBERED))
            if pair not in void:
                void.append(pair)
        return []


def _send(member: Member, message: Message) -> Send:
    return Send(member.peer, message, member.header)
