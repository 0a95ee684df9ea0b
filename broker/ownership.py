"""Which node owns which discriminator: each has at most one owner, and feedback by anyone else is fenced off.

Born at a first HELLO, kept while its owner says that it still holds it, replaced by a new identity when it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mdgan_edge.messages import AssignedDiscriminator, DiscriminatorId, HeldDiscriminator, Incarnation, NodeId


class Owner(msgspec.Struct, frozen=True, gc=False):
    """What outlives the hub's process: a node, which start of it was last let in, and the discriminator it owns."""

    node: NodeId
    incarnation: Incarnation
    discriminator_id: DiscriminatorId
    hop: int
    parent: DiscriminatorId | None = None  # the one it was copied from


class Ownership:
    """The register of discriminators of one run. `owners`: as an earlier process of the hub left it."""

    def __init__(self, architecture: str, owners: Iterable[Owner] = ()) -> None:
        self.architecture = architecture
        self._owned: dict[NodeId, tuple[DiscriminatorId, int]] = {}
        self._owner_of: dict[DiscriminatorId, NodeId] = {}
        self._parents: dict[DiscriminatorId, DiscriminatorId] = {}
        self._born_in: dict[NodeId, tuple[Incarnation, DiscriminatorId]] = {}  # the start that was told to make it
        self._started: dict[NodeId, Incarnation] = {}  # the last start that was let in
        self._born = 0
        for owner in owners:
            self._own(owner.node, (owner.discriminator_id, owner.hop))
            self._started[owner.node] = owner.incarnation
            if owner.parent is not None:
                self._parents[owner.discriminator_id] = owner.parent
            elif not owner.hop:
                self._born_in[owner.node] = (owner.incarnation, owner.discriminator_id)
            self._born = max(self._born, _number(owner.discriminator_id))

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
            mine = self._own(node, (self.new_id(node), 0))
            self._born_in[node] = (incarnation, mine[0])
        return AssignedDiscriminator(*mine, action="init")

    def owned(self, node: NodeId) -> tuple[DiscriminatorId, int] | None:
        """Which one a node owns, and how often that one has moved."""
        return self._owned.get(node)

    def owner_of(self, discriminator_id: DiscriminatorId) -> NodeId | None:
        """Who owns it, whether it is there or not; None: nobody."""
        return self._owner_of.get(discriminator_id)

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
        self._born += 1
        return DiscriminatorId(f"d{self._born}-{node}")

    def _own(self, node: NodeId, name: tuple[DiscriminatorId, int]) -> tuple[DiscriminatorId, int]:
        before = self._owned.get(node)
        if before is not None and self._owner_of.get(before[0]) == node:
            del self._owner_of[before[0]]
        self._owned[node], self._owner_of[name[0]] = name, node
        return name


def _number(discriminator_id: DiscriminatorId) -> int:
    return int(discriminator_id[1:].partition("-")[0])
