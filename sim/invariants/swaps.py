"""Swaps, as they were seen on the wire: who was PREPARED for what, and what the hub has decided, over the whole run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.ownership import Owner
from broker.swaps import SWAP_DEADLINE_S
from mdgan_edge.actors import nanos
from mdgan_edge.messages import Adopt, Commit, DiscriminatorId, NodeId, Prepared, SwapId
from nodes.core import NodeCore
from nodes.core import Phase as NodePhase
from nodes.swapping import ASK_AGAIN_S, Stage
from sim.invariants.ledger import Ledger
from sim.invariants.names import Found

if TYPE_CHECKING:
    from sim.machine import Machine

BOTH = 2
DOUBT_MAX_NS = nanos(SWAP_DEADLINE_S + 4 * ASK_AGAIN_S)  # the hub's deadline, and a few times asking again

Name = tuple[DiscriminatorId, int]


@dataclass(slots=True)
class Swap:
    """All swaps of one id: what each node said, and what the hub gave to it. A liar may claim an id of two others."""

    prepared: dict[NodeId, Prepared] = field(default_factory=dict)
    given: dict[NodeId, Name] = field(default_factory=dict)
    void: set[tuple[NodeId, Prepared | None]] = field(default_factory=set)  # who was told so, of what it had said
    over: set[NodeId] = field(default_factory=set)  # who has installed: nothing that is said of it matters any more
    adopts: Adopt | None = None  # it is half a swap

    def said_by(self, node: NodeId) -> Prepared | None:
        """How the node was PREPARED last, if it was; an adopter has no partner to agree with."""
        return None if self.adopts is not None else self.prepared.get(node)


class SwapBook:
    """A decision is for ever, whatever becomes of the hub."""

    def __init__(self) -> None:
        self._swaps: dict[SwapId, Swap] = {}
        self._told: dict[NodeId, Name] = {}  # what a node was told last to adopt
        self._in_doubt: dict[NodeId, tuple[SwapId, int]] = {}  # since when a node waits for a decision

    @property
    def seen(self) -> bool:
        """Whether anybody was PREPARED for a swap."""
        return bool(self._swaps)

    def prepared(self, node: NodeId, said: Prepared) -> None:
        """The hub has heard PREPARED."""
        self._swaps.setdefault(said.swap_id, Swap()).prepared[node] = said

    def installed(self, node: NodeId, swap_id: SwapId) -> None:
        """The hub has heard INSTALLED."""
        self._swaps.setdefault(swap_id, Swap()).over.add(node)

    def told(self, node: NodeId, adopt: Adopt) -> None:
        """The hub says ADOPT."""
        self._swaps.setdefault(adopt.swap_id, Swap()).adopts = adopt
        self._told[node] = (adopt.discriminator_id, adopt.hop)

    def adoption(self, swap_id: SwapId) -> bool:
        """Whether that is one."""
        swap = self._swaps.get(swap_id)
        return swap is not None and swap.adopts is not None

    def recorded(self, ledger: Ledger, owners: Sequence[Owner]) -> Iterator[Found]:
        """The hub makes owners durable. Two at once are a swap, or adopter and former owner: this is the decision."""
        nodes = {owner.node for owner in owners}
        crossed = all(ledger.owners.get(owner.discriminator_id) in nodes - {owner.node} for owner in owners)
        told = (owner for owner in owners if self._told.get(owner.node) == _name(owner))
        adopts = None if crossed else next(told, None)
        if len(nodes) < BOTH and adopts is None:
            return
        for owner in owners:
            before = ledger.owners.get(owner.discriminator_id)
            if adopts is not None:
                yield from _adopted(ledger, owner, before)
            elif before not in nodes:
                yield "one_owner", owner.node, f"{owner.discriminator_id} is {before}'s"
        for owner in owners:
            if crossed:
                ledger.spares[owner.node] = {ledger.assigned[owner.node][0]}
            ledger.owners[owner.discriminator_id] = owner.node
            ledger.assigned[owner.node] = (owner.discriminator_id, owner.hop)

    def committed(self, ledger: Ledger, node: NodeId, commit: Commit) -> Iterator[Found]:
        """The hub says COMMIT to a node."""
        swap = self._swaps.setdefault(commit.swap_id, Swap())
        mine = (commit.discriminator_id, commit.hop)
        agreed = swap.said_by(node)
        partner = None if agreed is None else agreed.partner
        if not swap.void.isdisjoint({(node, None), (node, agreed)}):
            yield "swap_decided_once", node, f"{commit.swap_id} is void, and was committed"
        if swap.given.setdefault(node, mine) != mine:
            yield "swap_decided_once", node, f"{commit.swap_id} gave it {swap.given[node]}, and now {mine}"
        said = swap.prepared.get(node)
        if said is None or (partner is not None and partner not in swap.prepared):
            yield "swap_decided_once", node, f"{commit.swap_id} was committed, only {sorted(swap.prepared)} prepared"
        elif swap.adopts is not None:
            if mine != (swap.adopts.discriminator_id, swap.adopts.hop):
                yield "swap_decided_once", node, f"it was told to adopt {swap.adopts.discriminator_id}, got {mine}"
        elif mine != (said.received_id, said.received_hop + 1):
            yield "swap_decided_once", node, f"it was prepared for {said.received_id}, and was given {mine}"
        if ledger.assigned.get(node) != mine:
            yield "swap_decided_once", node, f"it was given {mine}, on record is {ledger.assigned.get(node)}"

    def voided(self, node: NodeId, swap_id: SwapId) -> Iterator[Found]:
        """The hub says ABORT to a node."""
        swap = self._swaps.setdefault(swap_id, Swap())
        if node in swap.given and node not in swap.over:
            yield "swap_decided_once", node, f"{swap_id} is on record, and was called void"
        swap.void.add((node, swap.said_by(node)))

    def in_doubt(self, machine: Machine, now: int) -> Iterator[Found]:
        """Looked at once a second, at a healthy node."""
        core = machine.process.core if machine.process is not None else None
        assert isinstance(core, NodeCore)
        waits = core.phase is NodePhase.SERVING and core.swapping.stage is Stage.PREPARED
        if not waits:
            self._in_doubt.pop(machine.name, None)
            return
        swap_id = core.swapping.swap_id
        known, since = self._in_doubt.get(machine.name, (None, 0))
        if known != swap_id:
            self._in_doubt[machine.name] = (swap_id, now)
        elif now - since > DOUBT_MAX_NS:
            yield "no_swap_in_doubt", machine.name, f"{swap_id} is undecided for {(now - since) / 1e9:.1f} s"


def _name(owner: Owner) -> Name:
    return owner.discriminator_id, owner.hop


def _adopted(ledger: Ledger, owner: Owner, before: NodeId | None) -> Iterator[Found]:
    """A copy has a name that nobody has had; what is restored has no owner that is there."""
    if before in (None, owner.node):
        return
    what, owned = owner.discriminator_id, ledger.assigned.get(before, ("", 0))[0]
    if not owner.hop:
        yield "one_owner", owner.node, f"it adopts a new {what}, a name that {before} has had"
    elif owned == what and ledger.is_there(before):
        yield "one_owner", owner.node, f"{what} was taken from {before}, which is there"
