"""Which node owns which discriminator: each has at most one owner, and feedback by anyone else is fenced off.

Born at a first HELLO, kept while its owner says that it still holds it, replaced by a new identity when it is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from mdgan_edge.messages import (
    NODE_ID_PATTERN,
    AssignedDiscriminator,
    DiscriminatorId,
    HeldDiscriminator,
    Incarnation,
    NodeId,
)

HOPS_AHEAD = 1  # of what is on record: a copy of a journey that came to nothing has the name it would have had
LOST_MAX = 1024  # discriminators whose owner came back without them; the oldest is forgotten
NUMBER_PATTERN = r"d[1-9][0-9]{0,14}"  # of a name, before the dash


class Owner(msgspec.Struct, frozen=True, gc=False):
    """What outlives the hub's process: a node, which start of it was last let in, and the discriminator it owns."""

    node: NodeId
    incarnation: Incarnation
    discriminator_id: DiscriminatorId
    hop: int
    parent: DiscriminatorId | None = None  # the one it was copied from


class Record(msgspec.Struct, frozen=True, gc=False):
    """What must be durable at once: who owns what from now on, and how many names the run has given."""

    owners: tuple[Owner, ...]
    issued: int


class Ownership:
    """The register of discriminators of one run. `owners`, `issued`: as an earlier process of the hub left them."""

    def __init__(self, architecture: str, owners: Iterable[Owner] = (), issued: int = 0) -> None:
        self.architecture = architecture
        self._owned: dict[NodeId, tuple[DiscriminatorId, int]] = {}
        self._owner_of: dict[DiscriminatorId, NodeId] = {}
        self._parents: dict[DiscriminatorId, DiscriminatorId] = {}
        self._born_in: dict[NodeId, tuple[Incarnation, DiscriminatorId]] = {}  # the start that was told to make it
        self._started: dict[NodeId, Incarnation] = {}  # the last start that was let in
        self._lost: dict[DiscriminatorId, int] = {}  # that others may have a copy of, with the last hop; oldest first
        self._issued = issued
        for owner in owners:
            number = number_of(owner.discriminator_id)
            if number is None:
                continue  # no name of ours: whoever it was comes as a newcomer
            self._own(owner.node, (owner.discriminator_id, owner.hop))
            self._started[owner.node] = owner.incarnation
            if owner.parent is not None:
                self._parents[owner.discriminator_id] = owner.parent
            elif not owner.hop:
                self._born_in[owner.node] = (owner.incarnation, owner.discriminator_id)
            self._issued = max(self._issued, number)  # a register of before the count was kept

    def owner(self, node: NodeId) -> Owner | None:
        """What is to be remembered of a node."""
        mine = self._owned.get(node)
        return None if mine is None else Owner(node, self._started[node], *mine, self._parents.get(mine[0]))

    def assign(
        self,
        node: NodeId,
        incarnation: Incarnation,
        held: HeldDiscriminator | None,
        spares: tuple[HeldDiscriminator, ...] = (),
    ) -> AssignedDiscriminator:
        """What a node that says HELLO is to own; `held` and `spares` count only if they are of this run."""
        mine = self._owned.get(node)
        same_start = self._started.get(node) == incarnation
        self._started[node] = incarnation
        if mine is not None and held is not None and self._is_mine(mine, held):
            return AssignedDiscriminator(*mine, action="keep")
        if mine is not None and any(self._is_mine(mine, spare) for spare in spares):
            return AssignedDiscriminator(*mine, action="install")  # COMMIT was on its way when the node went away
        if mine is not None and (mine[1] or mine[0] in self._parents) and same_start:
            return AssignedDiscriminator(*mine, action="install")  # the HELLO is older than PREPARED: it has it
        if mine is None or self._born_in.get(node) != (incarnation, mine[0]):  # else this HELLO is said again
            if mine is not None and mine[1]:  # what has never moved lies nowhere else
                self._lose(mine)
            mine = self._own(node, (self.new_id(node), 0))
            self._born_in[node] = (incarnation, mine[0])
        return AssignedDiscriminator(*mine, action="init")

    def owned(self, node: NodeId) -> tuple[DiscriminatorId, int] | None:
        """Which one a node owns, and how often that one has moved."""
        return self._owned.get(node)

    def owner_of(self, discriminator_id: DiscriminatorId) -> NodeId | None:
        """Who owns it, whether it is there or not; None: nobody."""
        return self._owner_of.get(discriminator_id)

    def hop_limit(self, discriminator_id: DiscriminatorId) -> int:
        """The most moves that a copy of it can have behind it."""
        return (self.hop_of(discriminator_id) or 0) + HOPS_AHEAD

    def hop_of(self, discriminator_id: DiscriminatorId) -> int | None:
        """How often it has moved; None: nobody owns it, nor came back without it."""
        owner = self._owner_of.get(discriminator_id)
        return self._lost.get(discriminator_id) if owner is None else self._owned[owner][1]

    def record(self, *owners: Owner) -> Record:
        """These owners as they are to be remembered; none: that a name was given."""
        return Record(owners, self._issued)

    def has_issued(self, discriminator_id: DiscriminatorId) -> bool:
        """Whether this run may have given that name."""
        number = number_of(discriminator_id)
        return number is not None and number <= self._issued

    def parent(self, discriminator_id: DiscriminatorId) -> DiscriminatorId | None:
        """Which one it was copied from."""
        return self._parents.get(discriminator_id)

    def adopt(
        self, node: NodeId, name: tuple[DiscriminatorId, int], parent: DiscriminatorId | None
    ) -> tuple[Owner, ...]:
        """The node owns this from now on. Its former owner, if any, is to get another should it come back."""
        former = self._owner_of.get(name[0])
        self._own(node, name)
        if parent is not None:
            self._parents[name[0]] = parent
        if former is not None and former != node:
            self._own(former, (self.new_id(former), 0))
        owners = (self.owner(one) for one in (node, former) if one is not None)
        return tuple(dict.fromkeys(owner for owner in owners if owner is not None))

    def swap(self, one: NodeId, other: NodeId) -> tuple[Owner, Owner]:
        """Each owns the other's from now on, which has moved once more. Returns what is to be remembered at once."""
        (first, first_hop), (second, second_hop) = self._owned[one], self._owned[other]
        self._own(one, (second, second_hop + 1))
        self._own(other, (first, first_hop + 1))
        owners = self.owner(one), self.owner(other)
        assert owners[0] is not None
        assert owners[1] is not None
        return owners[0], owners[1]

    def owns(self, node: NodeId, discriminator_id: DiscriminatorId, hop: int) -> bool:
        return self._owned.get(node) == (discriminator_id, hop)

    def _is_mine(self, mine: tuple[DiscriminatorId, int], held: HeldDiscriminator) -> bool:
        return (held.discriminator_id, held.hop) == mine and held.architecture == self.architecture

    def new_id(self, node: NodeId) -> DiscriminatorId:
        """A name that no discriminator of this run has had."""
        self._issued += 1
        return name_of(self._issued, node)

    def _lose(self, name: tuple[DiscriminatorId, int]) -> None:
        if len(self._lost) >= LOST_MAX:
            del self._lost[next(iter(self._lost))]
        self._lost[name[0]] = name[1]

    def _own(self, node: NodeId, name: tuple[DiscriminatorId, int]) -> tuple[DiscriminatorId, int]:
        before = self._owned.get(node)
        if before is not None and self._owner_of.get(before[0]) == node:
            del self._owner_of[before[0]]
        self._owned[node], self._owner_of[name[0]] = name, node
        self._lost.pop(name[0], None)
        return name


def name_of(number: int, node: NodeId) -> DiscriminatorId:
    """What the hub calls the discriminator that it gives a name as that many-th, to this node."""
    return DiscriminatorId(f"d{number}-{node}")


def number_of(discriminator_id: DiscriminatorId) -> int | None:
    """The number in such a name; None: no hub gives such names, and no file may be called so."""
    head, _, node = discriminator_id.partition("-")
    ours = re.fullmatch(NUMBER_PATTERN, head) and re.fullmatch(NODE_ID_PATTERN, node)
    return int(head[1:]) if ours else None
