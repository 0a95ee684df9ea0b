"""When the discriminator is to be written to disk: the most training a sudden death can cost. Pure times."""

from __future__ import annotations

from mdgan_edge.actors import Nanos, nanos

SAVE_EVERY_S = 30.0


class Saves:
    """One at a time."""

    def __init__(self, now: Nanos) -> None:
        self._under_way = False
        self._next_at = Nanos(now + nanos(SAVE_EVERY_S))

    def due(self, now: Nanos) -> bool:
        """Whether one is to begin now."""
        return now >= self._next_at and not self._under_way

    def begun(self) -> None:
        """The trainer has been asked."""
        self._under_way = True

    def done(self, now: Nanos) -> None:
        """It is on disk."""
        self._under_way, self._next_at = False, Nanos(now + nanos(SAVE_EVERY_S))
