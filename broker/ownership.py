"""Which node owns which discriminator: each has at most one owner, and feedback by anyone else is fenced off.

Born at a first HELLO, kept while its owner says that it still holds it, replaced by a new identity when it is lost.
"""

from __future__ import annotations

from mdgan_edge.messages import AssignedDiscriminator, DiscriminatorId, HeldDiscriminator, Incarnation, NodeId


class Ownership:
    """The register of discriminators of one run."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._owned: dict[NodeId, tuple[DiscriminatorId, int]] = {}
        self._assigned_in: dict[NodeId, Incarnation] = {}
        self._born = 0

    def assign(self, node: NodeId, incarnation: Incarnation, held: HeldDiscriminator | None) -> AssignedDiscriminator:
        """What a node that says HELLO is to own; `held` counts only if it is of this run."""
        mine = self._owned.get(node)
        if mine is not None and held is not None and self._is_mine(mine, held):
            return AssignedDiscriminator(*mine, action="keep")
        if mine is None or self._assigned_in[node] != incarnation:  # else this HELLO is said again
            mine = self._owned[node] = (self._next_id(node), 0)
        self._assigned_in[node] = incarnation
        return AssignedDiscriminator(*mine, action="init")

    def owns(self, node: NodeId, discriminator_id: DiscriminatorId, hop: int) -> bool:
        return self._owned.get(node) == (discriminator_id, hop)

    def _is_mine(self, mine: tuple[DiscriminatorId, int], held: HeldDiscriminator) -> bool:
        return (held.discriminator_id, held.hop) == mine and held.architecture == self.architecture

    def _next_id(self, node: NodeId) -> DiscriminatorId:
        self._born += 1
        return DiscriminatorId(f"d{self._born}-{node}")
