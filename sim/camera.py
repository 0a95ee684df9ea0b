"""Films a stretch of virtual time for the space-time diagram: who did what, and which message went where.

A run is deterministic, so one that went wrong is simply played again with the camera on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from typing import Any

from sim.links import Fate

BEFORE_NS = 3_000_000_000  # what is filmed before the moment
AFTER_NS = 500_000_000  # and after it
FILMED_MAX = 20_000  # events, and messages, on either side of the moment; a diagram shows far fewer


class _Reel:
    """Rows with their times: the last ones before the moment, the first ones after it."""

    def __init__(self) -> None:
        self.before: deque[dict[str, Any]] = deque(maxlen=FILMED_MAX)
        self.after: list[dict[str, Any]] = []

    def of(self, now: int, at_ns: int) -> MutableSequence[dict[str, Any]] | None:
        """Where a row of that time belongs; None if that side is full."""
        if now <= at_ns:
            return self.before
        return self.after if len(self.after) < FILMED_MAX else None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [*self.before, *self.after]

    def first(self, key: str) -> float | None:
        """Since when nothing is missing before the moment; None if nothing was left out."""
        return self.before[0][key] if len(self.before) == FILMED_MAX else None

    def last(self, key: str) -> float | None:
        """Until when nothing is missing after the moment; None if nothing was left out."""
        return self.after[-1][key] if len(self.after) >= FILMED_MAX else None


class Camera:
    """Films around a moment."""

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns
        self.from_ns, self.to_ns = max(0, at_ns - BEFORE_NS), at_ns + AFTER_NS
        self._events, self._messages = _Reel(), _Reel()

    def event(self, now: int, who: str, what: str) -> None:
        """A core handles an event."""
        if not self.from_ns <= now <= self.to_ns:
            return
        rows = self._events.of(now, self.at_ns)
        if rows is not None:
            rows.append({"t": now / 1e9, "who": who, "what": what})

    def message(self, now: int, source: str, target: str, what: str, fate: Fate) -> None:
        """A message is sent; each copy is one entry."""
        if not self.from_ns <= now <= self.to_ns:
            return
        rows = self._messages.of(now, self.at_ns)
        if rows is None:
            return
        for arrival in fate if isinstance(fate, tuple) else (fate,):
            rows.append(
                {
                    "sent_s": now / 1e9,
                    "arrived_s": None if isinstance(arrival, str) else arrival / 1e9,
                    "from": source,
                    "to": target,
                    "what": what,
                    "fate": arrival if isinstance(arrival, str) else "arrived",
                }
            )

    def film(self, invariant: str | None) -> dict[str, Any]:
        """As window.json holds it: all that happened from `from_s` to `to_s`, which is less where it was too much."""
        events, messages = self._events, self._messages
        return {
            "from_s": max(self.from_ns / 1e9, events.first("t") or 0.0, messages.first("sent_s") or 0.0),
            "to_s": min(self.to_ns / 1e9, events.last("t") or 1e18, messages.last("sent_s") or 1e18),
            "at_s": self.at_ns / 1e9,
            "invariant": invariant,
            "events": events.rows,
            "messages": messages.rows,
        }
