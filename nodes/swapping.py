"""The node's side of a swap: when it is due, whom to ask, what to give, when to take. Pure; docs/algorithm.md 6.

A swap's life: SEEKING (asks the hub for peers) → ASKING (has proposed to one) → GIVING (both agreed, copies cross) →
PREPARED (the other's is in the shadow slot; only the hub can say what becomes of it) → INSTALLING → none. When all
are busy: ASKING → PAUSING → SEEKING. Whoever is asked before ASKING goes to GIVING at once. Until PREPARED a swap may
be given up at any time and nothing has happened.

A node that has never trained what it holds may be told to ADOPT another. That is half a swap: it goes to ASKING, gets a
copy and gives none, and is PREPARED and decided as any other; the fresh one it held is forgotten.

What the two say to each other goes by one way: from node to node if the partner can be reached and answers in time,
else through the hub. Whoever is asked answers by the way on which it was asked last.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Literal

from mdgan_edge.actors import HUB, Nanos, Note, Peer, Send, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Adopt,
    Commit,
    Copy,
    Decline,
    Fetch,
    GivenUp,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Message,
    Neighbour,
    NodeId,
    NodeTerms,
    Peers,
    Prepared,
    Propose,
    Seek,
    SwapId,
)
from mdgan_edge.streams import SEED_BITS, stream_seed
from nodes.giving import say
from nodes.jobs import COPY_BYTES_MAX, Install, Offer, Offered, Shelve, Shelved, SwapJob, copy_of

TRIES_MAX = 3  # peers asked in vain before the node pauses and asks for others ...
ROUNDS_MAX = 4  # ... so often before it waits for its next turn
PAUSE_S = 0.5  # the longest first pause, doubled with each further round; all are busy where all are due at once
PEER_CONNECT_S = 3.0  # how long a peer that is called itself may take to answer, before it is asked through the hub
ANSWER_S = 5.0  # how long a peer may take to answer; how often the hub is asked for peers, which may have to wait
COPY_S = 30.0  # how long copies may take to cross
IN_VAIN_MAX = 64  # nodes that asked in vain; beyond that nobody is accepted until this node's own turn is over
ASK_AGAIN_S = 2.0  # how often the hub is told PREPARED while it has not decided

NEVER = math.inf

Act = Message | Send | SwapJob | Note  # what is to be sent (to the hub, or to a node itself), done or said


class Stage(Enum):
    """How far the open swap has come."""

    SEEKING = auto()
    PAUSING = auto()
    ASKING = auto()
    GIVING = auto()
    PREPARED = auto()
    INSTALLING = auto()


DONE = ("committed", "adopted")  # how a swap ends that came to something
FREE = (None, Stage.SEEKING, Stage.PAUSING)  # can be asked


class Swapping:
    """At most one swap is open at a time."""

    def __init__(self, node: NodeId, incarnation: Incarnation, shard_size: int) -> None:
        self._node, self._incarnation, self._shard_size = node, incarnation, shard_size
        self._period = NEVER  # tasks between two swaps, ceil(m·E/b)
        self._tasks = 0  # since the last swap, or the last turn of its own that came to nothing
        self._in_vain: set[NodeId] = set()  # who has asked since then, and nothing came of it
        self._count = 0  # swaps proposed since the start
        self._peers: list[Neighbour] = []  # of those to ask, who is left
        self._tries = 0
        self._too_large = False
        self._rounds = 0  # how often it got peers in this turn
        self._sought = False  # the hub was told that a turn has begun, and not that it is over
        self.stage: Stage | None = None
        self.deadline: Nanos | None = None
        self.swap_id = SwapId("")
        self._partner = NodeId("")
        self._by = HUB  # where what is meant for the partner goes: to the hub, or to itself
        self._called: Neighbour | None = None  # if this node has called it
        self._theirs: Propose | Accept | None = None  # what the partner said it would give
        self._early: Copy | None = None  # came before what it belongs to was settled
        self._copy_bytes = 0  # in which the partner's copy came, if it came from itself
        self._prepared: Prepared | None = None
        self._told: Adopt | None = None  # the last one that the hub has told of
        self._adoption: Adopt | None = None  # the last one that was begun
        self._adopts = False  # the open swap is that
        self._at_work: set[type[SwapJob]] = set()  # what the trainer has in hand: one of each at most
        self.done: dict[str, int] = {}  # how swaps ended here

    @property
    def calls(self) -> Neighbour | None:
        """The node to which there has to be a connection now."""
        return self._called if self.stage is not None else None

    def welcomed(self, terms: NodeTerms) -> None:
        """A new session: WELCOME has said what the node owns, whatever was open is settled by that."""
        swaps = terms.swap_epochs and not self._too_large
        self._period = math.ceil(self._shard_size * terms.swap_epochs / terms.batch_size) if swaps else NEVER
        self._told = self._adoption = None
        if self.stage is not None:
            self._close("lost")
        self._in_vain.clear()

    def trained(self) -> None:
        """One more task is done."""
        self._tasks += 1

    # --- what comes in --------------------------------------------------------------------------------------------

    def received(
        self, message: Message, held: HeldDiscriminator | None, now: Nanos, by: Peer = HUB, wire_bytes: int = 0
    ) -> list[Act]:
        """A message about a swap, how it came, in how many bytes; `held` is None while nothing could be swapped."""
        if isinstance(message, Adopt):
            self._told = message
            return []  # until it is ready
        if held is None:
            return [say(self._busy(message), by)] if isinstance(message, Propose) else []
        match message:
            case Peers(nodes) if self.stage is Stage.SEEKING:
                self._peers, self._tries, self._rounds = list(nodes), 0, self._rounds + 1
                return self._ask_next(held, now)
            case Propose():
                return self._asked(message, held, now, by)
            case Accept() if self._is_open(message, Stage.ASKING):
                self._theirs = message
                return self._give(now)
            case Decline() if self._adopts and self._is_open(message, Stage.ASKING, Stage.GIVING):
                return self._give_up_adoption(message.reason)
            case Decline() if self._is_open(message, Stage.ASKING):
                return self._ask_next(held, now)
            case Decline() if self._is_open(message, Stage.GIVING):
                return self._close("given up")
            case Copy() if self._is_open(message, Stage.GIVING, Stage.ASKING):
                self._copy_bytes = wire_bytes
                return self._copied(message)
            case Commit():
                return self._commit(message, held)
            case Abort(swap_id) if swap_id == self.swap_id and (self.stage is Stage.PREPARED or self._adopts):
                return [] if self.stage in (None, Stage.INSTALLING) else self._close("aborted")
            case _:
                pass  # of a swap that is not open any more
        return []

    def _is_open(self, message: Accept | Decline | Copy, *stages: Stage) -> bool:
        return self.stage in stages and (message.swap_id, message.sender) == (self.swap_id, self._partner)

    def _asked(self, asked: Propose, held: HeldDiscriminator, now: Nanos, by: Peer) -> list[Act]:
        if self.stage is not None and (asked.swap_id, asked.sender) == (self.swap_id, self._partner):
            return self._asked_again(held, now, by)
        if asked.architecture != held.architecture:
            return [say(Decline(asked.swap_id, self._node, asked.sender, "bad"), by)]
        again = asked.sender in self._in_vain or len(self._in_vain) >= IN_VAIN_MAX
        if self.stage not in FREE or self._at_work or self._too_large or again:
            return [say(self._busy(asked), by)]
        self._open(asked.swap_id, asked.sender)
        self._theirs, self._by = asked, by
        return [say(self._acceptance(held), by), *self._give(now)]

    def _asked_again(self, held: HeldDiscriminator, now: Nanos, by: Peer) -> list[Act]:
        """Said twice; or by another way, since nothing came back by the first."""
        if by == self._by or self.stage is not Stage.GIVING:
            return []
        self._by = by
        return [say(self._acceptance(held), by), *self._give(now)]

    def _adopt(self, adopt: Adopt, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """What was never trained may give way to another."""
        self._adoption = adopt
        if held.is_trained:
            return [Decline(adopt.swap_id, self._node, HUB.node, "busy")]
        self._open(adopt.swap_id, adopt.giver.node)
        self._adopts = True
        if adopt.giver.endpoint is None:
            return [self._ask(held, now, ANSWER_S)]
        self._by, self._called = Peer(adopt.giver.node), adopt.giver
        return [self._ask(held, now, PEER_CONNECT_S)]

    @property
    def _to_adopt(self) -> Adopt | None:
        """What the hub has told of and was not begun."""
        return self._told if self._told != self._adoption else None

    def _give_up_adoption(self, why: Literal["busy", "gone", "bad"]) -> list[Act]:
        assert self._adoption is not None
        told = Decline(self.swap_id, self._node, HUB.node, why)
        return [told, *self._close("not adopted")]

    def _acceptance(self, held: HeldDiscriminator) -> Accept:
        return Accept(self.swap_id, self._node, self._partner, held.discriminator_id, held.hop)

    def _busy(self, asked: Propose) -> Decline:
        return Decline(asked.swap_id, self._node, asked.sender, "busy")

    def _give(self, now: Nanos) -> list[Act]:
        self.stage, self.deadline = Stage.GIVING, Nanos(now + nanos(COPY_S))
        early, self._early = self._early, None
        offer = [] if Offer in self._at_work or self._adopts else [Offer(self.swap_id)]
        self._at_work |= set(map(type, offer))
        return [*offer, *([] if early is None else self._copied(early))]

    def _copied(self, copy: Copy) -> list[Act]:
        if self.stage is Stage.ASKING:
            self._early = copy  # it has overtaken the ACCEPT
            return []
        assert self._theirs is not None
        if (copy.discriminator_id, copy.hop) != (self._theirs.discriminator_id, self._theirs.hop):
            return []
        if Shelve in self._at_work:
            return []  # it came twice
        self._at_work.add(Shelve)
        if not self._adopts:
            return [Shelve(copy)]
        assert self._adoption is not None
        return [Shelve(copy, (self._adoption.discriminator_id, self._adoption.hop))]

    def _commit(self, commit: Commit, held: HeldDiscriminator) -> list[Act]:
        if (held.discriminator_id, held.hop) == (commit.discriminator_id, commit.hop):
            return [Installed(commit.swap_id)]
        if self.stage is not Stage.PREPARED or commit.swap_id != self.swap_id:
            return []
        self.stage, self.deadline = Stage.INSTALLING, None
        return [Install(commit.discriminator_id, commit.hop, backup=not self._adopts)]

    # --- what the trainer has done --------------------------------------------------------------------------------

    def offered(self, offered: Offered, held: HeldDiscriminator) -> list[Act]:
        """The node's own copy is made."""
        self._at_work.discard(Offer)
        if offered.swap_id != self.swap_id or self.stage is not Stage.GIVING:
            return []
        copy = copy_of(offered, self._node, self._partner, held)
        if copy.byte_count > COPY_BYTES_MAX:
            self._too_large, self._period = True, NEVER
            why = f"a copy of the discriminator has {copy.byte_count} bytes, at most {COPY_BYTES_MAX} can travel"
            remedy = f"{why}: no swaps (training.swap_optimizer = stay sends a third)"
            return [Note("too_large", remedy, level="warning"), *self._close("too large")]
        return [say(copy, self._by)]

    def shelved(self, shelved: Shelved, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """The other's copy is in the shadow slot, or was no good."""
        copy = shelved.copy
        self._at_work.discard(Shelve)
        if copy.swap_id != self.swap_id or self.stage is not Stage.GIVING:
            return []
        if shelved.trouble is not None:
            partner = self._partner
            reason: Literal["bad", "busy"] = "bad" if shelved.theirs else "busy"
            what = "bad_copy" if shelved.theirs else "copy_not_kept"
            note = Note(what, shelved.trouble, {"from": partner}, "warning")
            if self._adopts:
                return [note, *self._give_up_adoption(reason)]
            return [note, Decline(copy.swap_id, self._node, partner, reason), *self._close(what.replace("_", " "))]
        self.stage, self.deadline = Stage.PREPARED, Nanos(now + nanos(ASK_AGAIN_S))
        mine, theirs = (held.discriminator_id, held.hop), (copy.discriminator_id, copy.hop)
        direct = self._by != HUB
        self._prepared = Prepared(
            self.swap_id, self._partner, *mine, *theirs, direct, self._copy_bytes if direct else 0
        )
        return [self._prepared]

    def moved(self, held: HeldDiscriminator) -> list[Act]:
        """The pointer is flipped."""
        if self.stage is not Stage.INSTALLING:
            return []
        swap_id, facts = self.swap_id, {"discriminator": held.discriminator_id, "hop": held.hop, "from": self._partner}
        way = {"direct": self._by != HUB}
        what = "adopted" if self._adopts else "swapped"
        self._close("adopted" if self._adopts else "committed")
        return [Installed(swap_id), Note(what, "the hub has put it on record", {**facts, **way})]

    # --- what time brings -----------------------------------------------------------------------------------------

    def due(self, now: Nanos) -> bool:
        """Whether `act` may have something to do."""
        if self.stage is None:
            return self._tasks >= self._period or self._to_adopt is not None
        return self.deadline is not None and now >= self.deadline

    def act(self, held: HeldDiscriminator | None, now: Nanos, *, idle: bool = True) -> list[Act]:
        """What is due: a swap, the next try, giving up, asking the hub again. `held`: see `received`.

        `idle`: no task is under work, so that what was never trained stays so.
        """
        if held is None:
            return []
        if self.stage is None:
            return self._begin(held, now, idle) if self.due(now) and not self._at_work else []
        if not self.due(now):
            return []
        match self.stage:
            case Stage.SEEKING | Stage.PAUSING:
                return self._seek(now)
            case Stage.ASKING:
                if self._by != HUB:
                    return self._ask_through_the_hub(held, now)
                if self._adopts:
                    return self._give_up_adoption("gone")
                moved_on = Decline(self.swap_id, self._node, self._partner, "busy")
                return [moved_on, *self._ask_next(held, now)]  # perhaps only its answer was lost, and it gives
            case Stage.PREPARED:
                assert self._prepared is not None
                self.deadline = Nanos(now + nanos(ASK_AGAIN_S))
                return [self._prepared]
            case _:
                return self._give_up_adoption("gone") if self._adopts else self._close("given up")

    def _begin(self, held: HeldDiscriminator, now: Nanos, idle: bool) -> list[Act]:
        if self._to_adopt is not None:
            return self._adopt(self._to_adopt, held, now) if idle else []
        self._rounds, self._sought = 0, True
        return self._seek(now)

    def _seek(self, now: Nanos) -> list[Act]:
        self.stage, self.deadline = Stage.SEEKING, Nanos(now + nanos(ANSWER_S))
        return [Seek()]

    def _pause(self, now: Nanos) -> list[Act]:
        if not self._tries or self._rounds >= ROUNDS_MAX:
            return self._close("nobody free")
        pause_s = PAUSE_S * 2 ** (self._rounds - 1) * self._chance("swap pause", self._count)
        self.stage, self.deadline = Stage.PAUSING, Nanos(now + nanos(pause_s))
        return []

    def _ask_next(self, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        if self._tries >= TRIES_MAX or not self._peers:
            return self._pause(now)
        self._tries += 1
        self._count += 1
        chosen = self._peers.pop(int(self._chance("swap", self._count) * len(self._peers)))
        self._open(SwapId(f"{self._node}/{self._incarnation}/{self._count}"), chosen.node)
        if chosen.endpoint is None:
            return [self._ask(held, now, ANSWER_S)]
        self._by, self._called = Peer(chosen.node), chosen
        return [self._ask(held, now, PEER_CONNECT_S)]

    def _ask_through_the_hub(self, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """The same swap, another way: perhaps the partner cannot be reached."""
        self._by, self._called = HUB, None
        why = f"no answer in {PEER_CONNECT_S:g} s: asking through the hub"
        return [Note("peer_silent", why, {"node": self._partner}), self._ask(held, now, ANSWER_S)]

    def _ask(self, held: HeldDiscriminator, now: Nanos, answer_s: float) -> Act:
        self.stage, self.deadline = Stage.ASKING, Nanos(now + nanos(answer_s))
        if self._adopts:
            assert self._adoption is not None
            return say(Fetch(self.swap_id, self._node, self._partner, self._adoption.wanted), self._by)
        mine = (held.discriminator_id, held.hop, held.architecture)
        return say(Propose(self.swap_id, self._node, self._partner, *mine), self._by)

    def _open(self, swap_id: SwapId, partner: NodeId) -> None:
        self.swap_id, self._partner = swap_id, partner
        self._theirs = self._early = self._prepared = None
        self._by, self._called = HUB, None
        self._adopts = False

    def _close(self, how: str) -> list[Act]:
        self.done[how] = self.done.get(how, 0) + 1
        if isinstance(self._theirs, Propose) and how not in DONE:
            self._in_vain.add(self._partner)  # who only asks must not keep this node from its turn
        else:
            self._tasks = 0
            self._in_vain.clear()
        self.stage = self.deadline = self._early = self._theirs = None
        told, self._sought = not self._sought or how in (*DONE, "lost"), False
        return [] if told else [GivenUp()]

    def _chance(self, what: str, n: int) -> float:
        """In [0, 1), different for every node, start and count."""
        return stream_seed(self._incarnation, what, self._node, n) / float(1 << SEED_BITS)
