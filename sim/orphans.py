"""The hub's shelf in the virtual world: what broker/shelf.py does with files, on a disk that holds values."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec.structs import replace

from broker.jobs import Forgotten, Give, Given, Keep, Kept, ShelfJob
from mdgan_edge.actors import HUB
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator


@dataclass(slots=True)
class Orphans:
    """Discriminators of nodes that have left, the oldest first. They outlive the hub's process."""

    copies: dict[DiscriminatorId, Copy] = field(default_factory=dict)

    @property
    def listed(self) -> tuple[HeldDiscriminator, ...]:
        """What is there."""
        copies = self.copies.values()
        return tuple(HeldDiscriminator(one.discriminator_id, one.hop, one.architecture, 0) for one in copies)

    def do(self, job: ShelfJob) -> Kept | Given | Forgotten:
        """One job, whole."""
        match job:
            case Keep(copy):
                self.copies.pop(copy.discriminator_id, None)
                self.copies[copy.discriminator_id] = copy
                return Kept(copy.swap_id, None)
            case Give(swap_id, to, discriminator_id):
                kept = self.copies.get(discriminator_id)
                given = None if kept is None else replace(kept, swap_id=swap_id, sender=HUB.node, to=to)
                return Given(swap_id, to, discriminator_id, given)
            case _:
                for one in job.discriminators:
                    self.copies.pop(one, None)
                return Forgotten()
