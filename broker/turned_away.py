"""The connections that the register turned away: counted by key and reason, told once each. Pure."""

from __future__ import annotations

from mdgan_edge.actors import NotAdmitted, Note

TURNED_AWAY_MAX = 1024  # different keys and reasons counted; those beyond it are only told


class TurnedAway:
    """Knocks at the door."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def count(self, event: NotAdmitted) -> Note | None:
        """Count one; a note if this key was not refused for this reason before."""
        who = (event.public_key, event.reason)
        known = who in self._counts
        if known or len(self._counts) < TURNED_AWAY_MAX:
            self._counts[who] = self._counts.get(who, 0) + 1
        facts = {"public_key": event.public_key, "address": event.address}
        return None if known else Note("not_admitted", event.reason, facts, "warning")

    def by_reason(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for (_, reason), count in self._counts.items():
            counts[reason] = counts.get(reason, 0) + count
        return counts
