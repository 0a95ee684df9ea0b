"""Who looks on while a world plays: checkers see every event, recorders get notes and measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mdgan_edge.actors import Effect, Event, Measure, Note
from mdgan_edge.messages import NodeId

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World


class Watch(Protocol):
    """Looks on and must change nothing."""

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        """A core has handled an event; its effects are not carried out yet."""

    def broke(self, world: World, machine: Machine, event: Event, why: str) -> None:
        """A core raised."""

    def started(self, world: World, machine: Machine) -> None:
        """A process has started."""

    def ended(self, world: World, machine: Machine) -> None:
        """A process is gone: crashed, or finished (machine.ended says how)."""


class Silent:
    """Looks at nothing."""

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None: ...

    def broke(self, world: World, machine: Machine, event: Event, why: str) -> None: ...

    def started(self, world: World, machine: Machine) -> None: ...

    def ended(self, world: World, machine: Machine) -> None: ...


class Recorder(Protocol):
    """Where notes and measurements go."""

    def note(self, now: int, who: NodeId, note: Note) -> None:
        """A line of the journal."""

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:
        """A line of metrics."""
