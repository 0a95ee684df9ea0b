"""The node's side of a swap: when it is due, whom to ask, what to give, when to take. Pure; docs/algorithm.md 6.

A swap's life: SEEKING (asks the hub for peers) → ASKING (has proposed to one) → GIVING (both agreed, copies cross) →
PREPARED (the other's is in the shadow slot; only the hub can say what becomes of it) → INSTALLING → none. Whoever
is asked starts at GIVING. Until PREPARED a swap may be given up at any time and nothing has happened.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from mdgan_edge.actors import Nanos, Note, nanos
from mdgan_edge.messages import (
    Abort,
    Accept,
    Commit,
    Copy,
    Decline,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Message,
    NodeId,
    NodeTerms,
    Peers,
    Prepared,
    Propose,
    Seek,
    SwapId,
)
from mdgan_edge.streams import SEED_BITS, stream_seed
from nodes.jobs import Install, Offer, Offered, Shelve, Shelved, SwapJob, copy_of

TRIES_MAX = 3  # peers asked in vain before the node waits for its next turn
ANSWER_S = 5.0  # how long a peer, or the hub that is asked for peers, may take to answer
COPY_S = 30.0  # how long copies may take to cross
ASK_AGAIN_S = 2.0  # how often the hub is told PREPARED while it has not decided

Act = Message | SwapJob | Note  # what is to be sent, done or said


class Stage(Enum):
    """How far the open swap has come."""

    SEEKING = auto()
    ASKING = auto()
    GIVING = auto()
    PREPARED = auto()
    INSTALLING = auto()


class Swapping:
    """At most one swap is open at a time."""

    def __init__(self, node: NodeId, incarnation: Incarnation, shard_size: int) -> None:
        self._node, self._incarnation, self._shard_size = node, incarnation, shard_size
        self._terms: NodeTerms | None = None
        self._tasks = 0  # since the last swap, or the last turn that came to nothing
        self._count = 0  # swaps proposed since the start
        self._peers: list[NodeId] = []  # of those to ask, who is left
        self._tries = 0
        self.stage: Stage | None = None
        self.deadline: Nanos | None = None
        self.swap_id = SwapId("")
        self._partner = NodeId("")
        self._theirs: Propose | Accept | None = None  # what the partner said it would give
        self._early: Copy | None = None  # came before what it belongs to was settled
        self._prepared: Prepared | None = None
        self._at_work: set[type[SwapJob]] = set()  # what the trainer has in hand: one of each at most
        self.done: dict[str, int] = {}  # how swaps ended here

    @property
    def period(self) -> int:
        """Tasks between two swaps, ceil(m·E/b); 0: never."""
        if self._terms is None or not self._terms.swap_epochs:
            return 0
        return math.ceil(self._shard_size * self._terms.swap_epochs / self._terms.batch_size)

    def welcomed(self, terms: NodeTerms) -> None:
        """A new session: WELCOME has said what the node owns, whatever was open is settled by that."""
        self._terms = terms
        if self.stage is not None:
            self._close("lost")

    def trained(self) -> None:
        """One more task is done."""
        self._tasks += 1

    # --- what comes in --------------------------------------------------------------------------------------------

    def received(self, message: Message, held: HeldDiscriminator | None, now: Nanos) -> list[Act]:
        """A message about a swap; `held` is None while there is nothing that could be swapped."""
        if held is None:
            return [self._busy(message)] if isinstance(message, Propose) else []
        match message:
            case Peers(nodes) if self.stage is Stage.SEEKING:
                self._peers = list(nodes)
                return self._ask_next(held, now)
            case Propose():
                return self._asked(message, held, now)
            case Accept() if self._is_open(message, Stage.ASKING):
                self._theirs = message
                return self._give(now)
            case Decline() if self._is_open(message, Stage.ASKING):
                return self._ask_next(held, now)
            case Decline() if self._is_open(message, Stage.GIVING):
                self._close("given up")
            case Copy() if self._is_open(message, Stage.GIVING, Stage.ASKING):
                return self._copied(message)
            case Commit():
                return self._commit(message, held)
            case Abort(swap_id) if self.stage is Stage.PREPARED and swap_id == self.swap_id:
                self._close("aborted")
            case _:
                pass  # of a swap that is not open any more
        return []

    def _is_open(self, message: Accept | Decline | Copy, *stages: Stage) -> bool:
        return self.stage in stages and (message.swap_id, message.sender) == (self.swap_id, self._partner)

    def _asked(self, asked: Propose, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        if self.stage is not None and (asked.swap_id, asked.sender) == (self.swap_id, self._partner):
            return []  # said twice
        if asked.architecture != held.architecture:
            return [Decline(asked.swap_id, self._node, asked.sender, "bad")]
        if self.stage is not None or self._at_work:
            return [self._busy(asked)]
        self._open(asked.swap_id, asked.sender)
        self._theirs = asked
        accept = Accept(asked.swap_id, self._node, asked.sender, held.discriminator_id, held.hop)
        return [accept, *self._give(now)]

    def _busy(self, asked: Propose) -> Decline:
        return Decline(asked.swap_id, self._node, asked.sender, "busy")

    def _give(self, now: Nanos) -> list[Act]:
        self.stage, self.deadline = Stage.GIVING, Nanos(now + nanos(COPY_S))
        early, self._early = self._early, None
        self._at_work.add(Offer)
        return [Offer(self.swap_id), *([] if early is None else self._copied(early))]

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
        return [copy_of(offered, self._node, self._partner, held)]

    def shelved(self, shelved: Shelved, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """The other's copy is in the shadow slot, or was no good."""
        copy = shelved.copy
        self._at_work.discard(Shelve)
        if copy.swap_id != self.swap_id or self.stage is not Stage.GIVING:
            return []
        if shelved.trouble is not None:
            partner = self._partner
            self._close("bad copy")
            bad = Note("bad_copy", shelved.trouble, {"from": partner}, "warning")
            return [bad, Decline(copy.swap_id, self._node, partner, "bad")]
        self.stage, self.deadline = Stage.PREPARED, Nanos(now + nanos(ASK_AGAIN_S))
        mine, theirs = (held.discriminator_id, held.hop), (copy.discriminator_id, copy.hop)
        self._prepared = Prepared(self.swap_id, self._partner, *mine, *theirs)
        return [self._prepared]

    def moved(self, held: HeldDiscriminator) -> list[Act]:
        """The pointer is flipped."""
        if self.stage is not Stage.INSTALLING:
            return []
        swap_id, facts = self.swap_id, {"discriminator": held.discriminator_id, "hop": held.hop, "from": self._partner}
        self._close("committed")
        return [Installed(swap_id), Note("swapped", "the hub has put it on record", facts)]

    # --- what time brings -----------------------------------------------------------------------------------------

    def act(self, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """What is due: a swap, the next try, giving up, asking the hub again."""
        if self.stage is None:
            due = self.period and self._tasks >= self.period and not self._at_work
            return self._seek(now) if due else []
        if self.deadline is None or now < self.deadline:
            return []
        match self.stage:
            case Stage.ASKING:
                return self._ask_next(held, now)
            case Stage.PREPARED:
                assert self._prepared is not None
                self.deadline = Nanos(now + nanos(ASK_AGAIN_S))
                return [self._prepared]
            case _:
                self._close("given up")
                return []

    def _seek(self, now: Nanos) -> list[Act]:
        self.stage, self.deadline = Stage.SEEKING, Nanos(now + nanos(ANSWER_S))
        self._tries = 0
        return [Seek()]

    def _ask_next(self, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        if self._tries >= TRIES_MAX or not self._peers:
            self._close("nobody free")
            return []
        self._tries += 1
        self._count += 1
        chosen = int(self._chance(self._count) * len(self._peers))
        self._open(SwapId(f"{self._node}/{self._incarnation}/{self._count}"), self._peers.pop(chosen))
        self.stage, self.deadline = Stage.ASKING, Nanos(now + nanos(ANSWER_S))
        mine = (held.discriminator_id, held.hop, held.architecture)
        return [Propose(self.swap_id, self._node, self._partner, *mine)]

    def _open(self, swap_id: SwapId, partner: NodeId) -> None:
        self.swap_id, self._partner = swap_id, partner
        self._theirs = self._early = self._prepared = None

    def _close(self, how: str) -> None:
        self.done[how] = self.done.get(how, 0) + 1
        self.stage = self.deadline = self._early = None
        self._tasks = 0

    def _chance(self, n: int) -> float:
        """In [0, 1), different for every node, start and count."""
        return stream_seed(self._incarnation, "swap", self._node, n) / float(1 << SEED_BITS)
