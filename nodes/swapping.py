"""The node's side of a swap: when it is due, whom to ask, what to give, when to take. Pure; docs/algorithm.md 6.

A swap's life: SEEKING (asks the hub for peers) → ASKING (has proposed to one) → GIVING (both agreed, copies cross) →
PREPARED (the other's is in the shadow slot; only the hub can say what becomes of it) → INSTALLING → none. When all
are busy: ASKING → PAUSING → SEEKING. Whoever is asked before ASKING goes to GIVING at once. Until PREPARED a swap may
be given up at any time and nothing has happened.

What the two say to each other goes by one way: from node to node if the partner can be reached and answers in time,
else through the hub. Whoever is asked answers by the way on which it was asked last.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from mdgan_edge.actors import HUB, Nanos, Note, Peer, Received, Send, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Commit,
    Copy,
    Decline,
    GivenUp,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Message,
    Neighbour,
    NodeId,
    NodeTerms,
    PeerMessage,
    Peers,
    Prepared,
    Propose,
    Seek,
    SwapId,
)
from mdgan_edge.streams import SEED_BITS, stream_seed
from nodes.jobs import Install, Offer, Offered, Shelve, Shelved, SwapJob, copy_of

TRIES_MAX = 3  # peers asked in vain before the node pauses and asks for others ...
ROUNDS_MAX = 4  # ... so often before it waits for its next turn
PAUSE_S = 0.5  # the longest first pause, doubled with each further round; all are busy where all are due at once
PEER_CONNECT_S = 3.0  # how long a peer that is called itself may take to answer, before it is asked through the hub
ANSWER_S = 5.0  # how long a peer may take to answer; how often the hub is asked for peers, which may have to wait
COPY_BYTES_MAX = 60 * 1024 * 1024  # of the tensors of a copy: a message may have 64 MiB
COPY_S = 30.0  # how long copies may take to cross
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


FREE = (None, Stage.SEEKING, Stage.PAUSING)  # can be asked


class Swapping:
    """At most one swap is open at a time."""

    def __init__(self, node: NodeId, incarnation: Incarnation, shard_size: int) -> None:
        self._node, self._incarnation, self._shard_size = node, incarnation, shard_size
        self._period = NEVER  # tasks between two swaps, ceil(m·E/b)
        self._tasks = 0  # since the last swap, or the last turn that came to nothing
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
        if self.stage is not None:
            self._close("lost")

    def trained(self) -> None:
        """One more task is done."""
        self._tasks += 1

    # --- what comes in --------------------------------------------------------------------------------------------

    def heard(self, event: Received, held: HeldDiscriminator | None, now: Nanos) -> list[Act]:
        """From another node itself, see `received`."""
        return self.received(event.message, held, now, event.sender, event.wire_bytes)

    def received(
        self, message: Message, held: HeldDiscriminator | None, now: Nanos, by: Peer = HUB, wire_bytes: int = 0
    ) -> list[Act]:
        """A message about a swap, how it came, in how many bytes; `held` is None while nothing could be swapped."""
        if held is None:
            return [_say(self._busy(message), by)] if isinstance(message, Propose) else []
        match message:
            case Peers(nodes) if self.stage is Stage.SEEKING:
                self._peers, self._tries, self._rounds = list(nodes), 0, self._rounds + 1
                return self._ask_next(held, now)
            case Propose():
                return self._asked(message, held, now, by)
            case Accept() if self._is_open(message, Stage.ASKING):
                self._theirs = message
                return self._give(now)
            case Decline() if self._is_open(message, Stage.ASKING):
                return self._ask_next(held, now)
            case Decline() if self._is_open(message, Stage.GIVING):
                return self._close("given up")
            case Copy() if self._is_open(message, Stage.GIVING, Stage.ASKING):
                self._copy_bytes = wire_bytes
                return self._copied(message)
            case Commit():
                return self._commit(message, held)
            case Abort(swap_id) if self.stage is Stage.PREPARED and swap_id == self.swap_id:
                return self._close("aborted")
            case _:
                pass  # of a swap that is not open any more
        return []

    def _is_open(self, message: Accept | Decline | Copy, *stages: Stage) -> bool:
        return self.stage in stages and (message.swap_id, message.sender) == (self.swap_id, self._partner)

    def _asked(self, asked: Propose, held: HeldDiscriminator, now: Nanos, by: Peer) -> list[Act]:
        if self.stage is not None and (asked.swap_id, asked.sender) == (self.swap_id, self._partner):
            return self._asked_again(held, now, by)
        if asked.architecture != held.architecture:
            return [_say(Decline(asked.swap_id, self._node, asked.sender, "bad"), by)]
        if self.stage not in FREE or self._at_work or self._too_large:
            return [_say(self._busy(asked), by)]
        self._open(asked.swap_id, asked.sender)
        self._theirs, self._by = asked, by
        return [_say(self._acceptance(held), by), *self._give(now)]

    def _asked_again(self, held: HeldDiscriminator, now: Nanos, by: Peer) -> list[Act]:
        """Said twice; or by another way, since nothing came back by the first."""
        if by == self._by or self.stage is not Stage.GIVING:
            return []
        self._by = by
        return [_say(self._acceptance(held), by), *self._give(now)]

    def _acceptance(self, held: HeldDiscriminator) -> Accept:
        return Accept(self.swap_id, self._node, self._partner, held.discriminator_id, held.hop)

    def _busy(self, asked: Propose) -> Decline:
        return Decline(asked.swap_id, self._node, asked.sender, "busy")

    def _give(self, now: Nanos) -> list[Act]:
        self.stage, self.deadline = Stage.GIVING, Nanos(now + nanos(COPY_S))
        early, self._early = self._early, None
        offer = [] if Offer in self._at_work else [Offer(self.swap_id)]
        self._at_work.add(Offer)
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
        return [Shelve(copy)]

    def _commit(self, commit: Commit, held: HeldDiscriminator) -> list[Act]:
        if (held.discriminator_id, held.hop) == (commit.discriminator_id, commit.hop):
            return [Installed(commit.swap_id)]
        if self.stage is not Stage.PREPARED or commit.swap_id != self.swap_id:
            return []
        self.stage, self.deadline = Stage.INSTALLING, None
        return [Install(commit.discriminator_id, commit.hop)]

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
        return [_say(copy, self._by)]

    def shelved(self, shelved: Shelved, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """The other's copy is in the shadow slot, or was no good."""
        copy = shelved.copy
        self._at_work.discard(Shelve)
        if copy.swap_id != self.swap_id or self.stage is not Stage.GIVING:
            return []
        if shelved.trouble is not None:
            partner = self._partner
            bad = Note("bad_copy", shelved.trouble, {"from": partner}, "warning")
            return [bad, Decline(copy.swap_id, self._node, partner, "bad"), *self._close("bad copy")]
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
        self._close("committed")
        return [Installed(swap_id), Note("swapped", "the hub has put it on record", {**facts, **way})]

    # --- what time brings -----------------------------------------------------------------------------------------

    def due(self, now: Nanos) -> bool:
        """Whether `act` may have something to do."""
        if self.stage is None:
            return self._tasks >= self._period
        return self.deadline is not None and now >= self.deadline

    def act(self, held: HeldDiscriminator | None, now: Nanos) -> list[Act]:
        """What is due: a swap, the next try, giving up, asking the hub again. `held`: see `received`."""
        if held is None:
            return []
        if self.stage is None:
            return self._begin(now) if self.due(now) and not self._at_work else []
        if not self.due(now):
            return []
        match self.stage:
            case Stage.SEEKING | Stage.PAUSING:
                return self._seek(now)
            case Stage.ASKING:
                return self._ask_next(held, now) if self._by == HUB else self._ask_through_the_hub(held, now)
            case Stage.PREPARED:
                assert self._prepared is not None
                self.deadline = Nanos(now + nanos(ASK_AGAIN_S))
                return [self._prepared]
            case _:
                return self._close("given up")

    def _begin(self, now: Nanos) -> list[Act]:
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
        mine = (held.discriminator_id, held.hop, held.architecture)
        return _say(Propose(self.swap_id, self._node, self._partner, *mine), self._by)

    def _open(self, swap_id: SwapId, partner: NodeId) -> None:
        self.swap_id, self._partner = swap_id, partner
        self._theirs = self._early = self._prepared = None
        self._by, self._called = HUB, None

    def _close(self, how: str) -> list[Act]:
        self.done[how] = self.done.get(how, 0) + 1
        self.stage = self.deadline = self._early = None
        self._tasks = 0
        told, self._sought = not self._sought or how in ("committed", "lost"), False
        return [] if told else [GivenUp()]

    def _chance(self, what: str, n: int) -> float:
        """In [0, 1), different for every node, start and count."""
        return stream_seed(self._incarnation, what, self._node, n) / float(1 << SEED_BITS)


def _say(message: PeerMessage, by: Peer) -> Act:
    return message if by == HUB else Send(by, message)
