"""Films a stretch of virtual time for the space-time diagram: who did what, and which message went where.

A run is deterministic, so one that went wrong is simply played again with the camera on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FILMED_MAX = 20_000  # events and messages; a diagram shows far fewer


@dataclass(slots=True)
class Camera:
    """Films from `from_ns` to `to_ns`."""

    from_ns: int
    to_ns: int
    events: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    def event(self, now: int, who: str, what: str) -> None:
        """A core handles an event."""
        if self.from_ns <= now <= self.to_ns and len(self.events) < FILMED_MAX:
            self.events.append({"t": now / 1e9, "who": who, "what": what})

    def message(self, now: int, source: str, target: str, what: str, fate: tuple[int, ...] | str) -> None:
        """A message is sent; each copy is one entry."""
        if not self.from_ns <= now <= self.to_ns or len(self.messages) >= FILMED_MAX:
            return
        arrivals: tuple[int | None, ...] = (None,) if isinstance(fate, str) else fate
        for arrival in arrivals:
            self.messages.append(
                {
                    "sent_s": now / 1e9,
                    "arrived_s": None if arrival is None else arrival / 1e9,
                    "from": source,
                    "to": target,
                    "what": what,
                    "fate": fate if isinstance(fate, str) else "arrived",
                }
            )

    def film(self, invariant: str | None, at: int | None) -> dict[str, Any]:
        """As window.json holds it."""
        return {
            "from_s": self.from_ns / 1e9,
            "to_s": self.to_ns / 1e9,
            "invariant": invariant,
            "violation_at_s": None if at is None else at / 1e9,
            "events": self.events,
            "messages": self.messages,
        }
