"""How often in a row a discriminator has had no finite answer, and when its node gives up. Pure."""

from __future__ import annotations

DIVERGED_MAX = 5  # so many tasks in a row without a finite answer, and the node gives up


class Divergence:
    """A count that every finite answer ends."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def count(self, finite: bool) -> bool:
        """One more answer; True if the node is to give up."""
        self._in_a_row = 0 if finite else self._in_a_row + 1
        return self._in_a_row >= DIVERGED_MAX
