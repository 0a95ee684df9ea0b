"""Whether the hub's core is a function of its events: they are recorded and given to a fresh core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core import HubCore
from mdgan_edge.actors import Effect, Event, Nanos

if TYPE_CHECKING:
    from sim.world import World

EVENTS_MAX = 300_000  # of one epoch; a longer one is not replayed, and the verdict is unknown


class Replay:
    """Of the hub's last epoch."""

    def __init__(self) -> None:
        self._events: list[tuple[Nanos, Event, list[Effect]]] = []
        self._began: Nanos = Nanos(0)
        self.complete = True

    def begin(self, world: World) -> None:
        """The hub has started."""
        self._events.clear()
        self._began = world.hub.local(world.now)
        self.complete = True

    def record(self, world: World, event: Event, effects: list[Effect]) -> None:
        """It has handled an event."""
        if len(self._events) < EVENTS_MAX:
            self._events.append((world.hub.local(world.now), event, effects))
        else:
            self.complete = False

    def difference(self, world: World) -> str:
        """Where a fresh core decides otherwise; empty if it never does."""
        last = world.last_hub_core
        assert last is not None
        core = HubCore(world.settings, last.facts, self._began)
        for number, (now, event, expected) in enumerate(self._events, start=1):
            if core.handle(event, now) != expected:
                return f"event {number}, {type(event).__name__} at {now / 1e9:.6f} s, was decided otherwise"
        return ""
