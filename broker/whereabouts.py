"""Where copies of discriminators lie beside those that are held: spares of nodes, and the hub's own shelf. Pure.

It goes by what nodes have said; whoever is asked for one may find that it has it no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mdgan_edge.actors import HUB
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, NodeId

ORPHANS_MAX = 64  # discriminators on the hub's shelf; the oldest makes room


class Whereabouts:
    """`shelf`: what an earlier process of the hub has kept, the oldest first."""

    def __init__(self, architecture: str, shelf: Iterable[HeldDiscriminator] = ()) -> None:
        self._architecture = architecture
        self._of: dict[NodeId, tuple[DiscriminatorId, ...]] = {}
        self._sure: set[NodeId] = set()  # what is said of these cannot have changed unheard
        self._holders: dict[DiscriminatorId, dict[NodeId, int]] = {}  # and the hop of each copy
        for one in shelf:
            if one.architecture == architecture:
                self.shelve(one.discriminator_id, one.hop)

    @property
    def shelf(self) -> tuple[DiscriminatorId, ...]:
        """What the hub itself keeps, the oldest first."""
        return self._of.get(HUB.node, ())

    @property
    def is_full(self) -> bool:
        """Whether for one more the oldest would have to make room."""
        return len(self.shelf) >= ORPHANS_MAX

    @property
    def known(self) -> tuple[DiscriminatorId, ...]:
        """All of which there is a copy somewhere."""
        return tuple(self._holders)

    def holders(self, discriminator_id: DiscriminatorId) -> Mapping[NodeId, int]:
        """Who has a copy, and its hop."""
        return self._holders.get(discriminator_id, {})

    def spares(self, node: NodeId) -> tuple[DiscriminatorId, ...]:
        """What a node has beside what it holds."""
        return self._of.get(node, ())

    def is_sure(self, node: NodeId) -> bool:
        """Whether a node surely has what it is said to have: a backup stays until the next swap that is on record."""
        return node in self._sure

    def is_copy_of(self, wanted: DiscriminatorId, copy: Copy, least: int, most: int) -> bool:
        """Whether that is what was asked for: of our model, and moved so often, at least and at most."""
        return (copy.discriminator_id, copy.architecture) == (wanted, self._architecture) and least <= copy.hop <= most

    def said(self, node: NodeId, spares: Iterable[HeldDiscriminator]) -> None:
        """What a node that says HELLO has beside what it holds; the shadow among it goes with the next copy."""
        self._sure.discard(node)
        fitting = [one for one in spares if one.architecture == self._architecture]
        self._has(node, [(one.discriminator_id, one.hop) for one in fitting])

    def gave_away(self, node: NodeId, discriminator_id: DiscriminatorId, hop: int) -> None:
        """A node has swapped: what it held is its backup now."""
        self._has(node, [(discriminator_id, hop)])
        self._sure.add(node)

    def shelve(self, discriminator_id: DiscriminatorId, hop: int) -> DiscriminatorId | None:
        """The hub keeps one; the one that has to make room for it, if any."""
        kept = [one for one in self.shelf if one != discriminator_id]
        out = kept.pop(0) if len(kept) >= ORPHANS_MAX else None
        if out is not None:
            self.unshelve(out)
        self._of[HUB.node] = (*kept, discriminator_id)
        self._holders.setdefault(discriminator_id, {})[HUB.node] = hop
        return out

    def unshelve(self, discriminator_id: DiscriminatorId) -> bool:
        """The hub keeps it no more; whether it did."""
        if discriminator_id not in self.shelf:
            return False
        self._of[HUB.node] = tuple(one for one in self.shelf if one != discriminator_id)
        self._drop(HUB.node, discriminator_id)
        return True

    def _has(self, node: NodeId, names: list[tuple[DiscriminatorId, int]]) -> None:
        if node == HUB.node:
            return  # no node of that name is ever asked
        for one in self._of.get(node, ()):
            self._drop(node, one)
        self._of[node] = tuple({one: None for one, _ in names})
        for one, hop in names:
            holders = self._holders.setdefault(one, {})
            holders[node] = max(hop, holders.get(node, 0))

    def _drop(self, node: NodeId, discriminator_id: DiscriminatorId) -> None:
        holders = self._holders[discriminator_id]
        del holders[node]
        if not holders:
            del self._holders[discriminator_id]
