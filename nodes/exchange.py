"""All of a node's dealings with discriminators other than its own: what it swaps, adopts and gives, and whom it calls.

Pure. It only says which of these a message or a result is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mdgan_edge.actors import Effect, Header, Nanos, Peer, Send
from mdgan_edge.messages import Fetch, HeldDiscriminator, Message
from nodes import calls
from nodes.giving import Giving
from nodes.greeting import NodeFacts
from nodes.jobs import Moved, Offered, Shelved
from nodes.swapping import Act, Swapping


@dataclass(frozen=True, slots=True)
class Holdings:
    """What could be swapped, and what could be given: a node that leaves gives still. None: nothing now."""

    at_rest: HeldDiscriminator | None
    to_give: HeldDiscriminator | None
    spares: tuple[HeldDiscriminator, ...]


class Exchange:
    """One swap or adoption at a time, and some copies."""

    def __init__(self, facts: NodeFacts) -> None:
        self.swapping = Swapping(facts.node, facts.incarnation, facts.shard_size)
        self._giving = Giving(facts.node)
        self._calls = calls.Calls()

    def received(self, message: Message, by: Peer, has: Holdings, now: Nanos, wire_bytes: int) -> list[Act]:
        """A message about discriminators, how it came, in how many bytes."""
        if isinstance(message, Fetch):
            return [*self._giving.asked(message, has.to_give, has.spares, by)]
        return self.swapping.received(message, has.at_rest, now, by, wire_bytes)

    def done(self, result: Offered | Shelved | Moved, held: HeldDiscriminator, now: Nanos) -> list[Act]:
        """What the trainer has done."""
        match result:
            case Offered():
                return [*self._giving.offered(result), *self.swapping.offered(result, held)]
            case Shelved():
                return self.swapping.shelved(result, held, now)
            case Moved():
                return self.swapping.moved(held)

    def due(self, now: Nanos) -> bool:
        """Whether there may be something to do by itself."""
        return self.swapping.due(now) or self._calls.called is not None

    def effects(self, acts: list[Act], of_the_hub: Header, send: Callable[[Message], Send]) -> list[Effect]:
        """What is wanted, as effects; `send` makes what goes to the hub."""
        called = self._calls.follow(self.swapping.calls)
        return called + calls.effects(acts, of_the_hub, send) if acts else called
