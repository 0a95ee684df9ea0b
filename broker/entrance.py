"""The way in and out: answers HELLO, knows which discriminator comes with whom, and carries out the operator's wishes.

Pure. Who may come in at all is greeting.py's to say.
"""

from __future__ import annotations

from enum import Enum, auto

from broker import greeting
from broker.greeting import START, RunFacts
from broker.member import Member, MemberState
from broker.membership import Membership
from broker.ownership import Ownership
from broker.swaps import Swaps
from broker.training import Training
from mdgan_edge.actors import Effect, Header, Nanos, Note, Peer, Persist, RegisterChanged, Send
from mdgan_edge.messages import DRAIN, Bye, Error, ErrorCode, Hello, Verdict
from mdgan_edge.settings import Settings


class Door(Enum):
    """Whether somebody may come in now."""

    BEFORE_THE_START = auto()
    OPEN = auto()
    SHUT = auto()  # the run ends


class Entrance:
    """Opens sessions, and ends those that the operator wants ended."""

    def __init__(
        self,
        settings: Settings,
        facts: RunFacts,
        members: Membership,
        ownership: Ownership,
        training: Training,
        swaps: Swaps,
        verdicts: dict[Verdict, int],
    ) -> None:
        self._settings, self._facts = settings, facts
        self._members, self._ownership, self._training = members, ownership, training
        self._swaps, self._shelving = swaps, swaps.shelving
        self._verdicts = verdicts
        self._register = RegisterChanged(frozenset(), frozenset())  # what the operator wishes

    def hello(self, sender: Peer, hello: Hello, door: Door, now: Nanos) -> list[Effect]:
        """WELCOME or ERROR; what must be durable goes before it."""
        refusal = self._refusal(sender, hello, door)
        if refusal is not None:
            who = {"node": sender.node, "code": refusal.code}
            header = Header(epoch=self._facts.epoch)
            return [Send(sender, refusal, header), Note("refused", refusal.text, who, "warning")]
        void = self._swaps.session_over(sender.node, now)
        ours = hello.run_id == self._facts.run_id
        held, spares = (hello.discriminator, hello.spares) if ours else (None, ())
        before = self._ownership.owner(sender.node)
        assigned = self._ownership.assign(sender.node, hello.incarnation, held, spares)
        kept = assigned.action != "init"
        void += self._shelving.back(sender.node, assigned.discriminator_id, holds=kept)
        self._shelving.whereabouts.said(sender.node, greeting.spares_then(assigned, held, spares))
        known = self._members.get(sender.node)
        if known is not None and hello.incarnation != known.incarnation:
            self._fence(known)  # nothing of a start that is over takes effect
        warm_up = None if kept else self._warm_up(door)
        mine = (assigned.discriminator_id, assigned.hop)
        member = self._members.join(sender, hello, mine, warm_up, now)
        member.header = Header(self._facts.epoch, member.session)
        member.came_trained = kept and held is not None and held.is_trained
        self._training.look_at(member.node)
        owner = self._ownership.owner(sender.node)
        durable = [Persist(self._ownership.record(owner))] if owner not in (None, before) else []
        welcome = Send(sender, greeting.welcome(member.node, assigned, self._settings, self._facts), member.header)
        asked_to_leave = self._ask_to_leave(member) if member.node in self._register.drained else []
        entered = [*durable, *void, welcome, greeting.joined(member, assigned, hello), *asked_to_leave]
        if kept or member.draining:
            return entered
        lost = None if before is None or before.discriminator_id == assigned.discriminator_id else before
        lost_id = None if lost is None else lost.discriminator_id
        return [*entered, *self._swaps.adoptions.begin(member, lost_id, self._training.version, now)]

    def register_changed(self, register: RegisterChanged) -> list[Effect]:
        """The operator wants some to leave, and others shut out."""
        self._register = register  # kept for those that say HELLO later
        effects: list[Effect] = []
        for member in self._members:
            if member.node in register.revoked and member.state is not MemberState.REVOKED:
                error = Error(ErrorCode.FORBIDDEN, "revoked at the hub", fatal=True)
                change = self._members.end(member, MemberState.REVOKED, "revoked by the operator")
                effects += [Send(member.peer, error, member.header), change.note()]
                self._fence(member)
            elif member.node in register.drained and member.present and not member.draining:
                effects += self._ask_to_leave(member)
        return effects

    def _refusal(self, sender: Peer, hello: Hello, door: Door) -> Error | None:
        if door is Door.SHUT:
            return Error(ErrorCode.SHUTDOWN, "the run is over", fatal=True)
        revoked = sender.node in self._register.revoked
        return greeting.refusal(hello, self._ownership.owner(sender.node), revoked, self._settings, self._facts)

    def _warm_up(self, door: Door) -> int:
        """What joins before the first start begins with everybody else and needs none."""
        begins = door is Door.BEFORE_THE_START and self._training.version == START
        return 0 if begins else self._settings.training.warm_up_tasks

    def _fence(self, member: Member) -> None:
        """What this node gave and no step has taken is not to be merged."""
        if purged := self._training.purge(member.node):
            self._verdicts[Verdict.FENCED] += purged
            member.tally.refused[Verdict.FENCED] += purged

    def _ask_to_leave(self, member: Member) -> list[Effect]:
        self._members.drain(member)
        leave = Send(member.peer, Bye(DRAIN), member.header)
        return [leave, Note("draining", "asked by the operator", {"node": member.node})]
