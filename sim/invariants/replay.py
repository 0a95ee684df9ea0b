"""Whether the hub's core is a function of its events: they are recorded and given to a fresh core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core import HubCore
from mdgan_edge.actors import Effect, Event, Nanos

if TYPE_CHECKING:
    from sim.world import World


class Replay:
    """Of the hub's last epoch."""

    def __init__(self) -> None:
        self._events: list[tuple[Nanos, Event, str]] = []
        self._began: Nanos = Nanos(0)

    def begin(self, world: World) -> None:
        """The hub has started."""
        self._events.clear()
        self._began = world.hub.local(world.now)

    def record(self, world: World, event: Event, effects: list[Effect]) -> None:
        """It has handled an event."""
        self._events.append((world.hub.local(world.now), event, repr(effects)))

    def difference(self, world: World) -> str:
        """Where a fresh core decides otherwise; empty if it never does."""
        last = world.last_hub_core
        assert last is not None
        core = HubCore(world.settings, last.facts, self._began)
        for number, (now, event, expected) in enumerate(self._events, start=1):
            found = repr(core.handle(event, now))
            if found != expected:
                return f"event {number}, {type(event).__name__} at {now / 1e9:.6f} s, was decided otherwise"
        return ""
