"""A node's way out: why it leaves, who said BYE first, and how long each step of it may take. Pure times and facts.

A farewell's life: begun (the trainer ends what it has under work, then saves) → BYE said → perhaps the hub wants a copy
of the discriminator → BYE_ACK, or time is over.
"""

from __future__ import annotations

from mdgan_edge.actors import Nanos, nanos

LEAVE_MAX_S = 14.0  # how long a leaving node waits for its trainer: to end what it has in hand, to save
FAREWELL_S = 5.0  # how long a BYE may stay unanswered ...
HAND_OVER_S = 12.0  # ... and one that the hub answers by asking for the discriminator


class Leaving:
    """The farewell of one node."""

    def __init__(self, now: Nanos) -> None:
        self.why = ""
        self.asked = False  # the hub has said BYE first
        self.said = False  # BYE
        self.until = now  # it goes without an answer then
        self._latest = now

    def begin(self, why: str, now: Nanos) -> None:
        """The trainer is to end and save."""
        self.why, self.until = why, Nanos(now + nanos(LEAVE_MAX_S))
        self._latest = Nanos(self.until + nanos(FAREWELL_S))

    def say(self, now: Nanos) -> None:
        """BYE goes out."""
        self.said, self.until = True, Nanos(now + nanos(FAREWELL_S))

    def gives(self, now: Nanos) -> None:
        """The hub has asked for a copy: it has longer for its answer, if less was spent before."""
        if self.said:
            self.until = Nanos(min(self._latest, max(self.until, now + nanos(HAND_OVER_S))))
