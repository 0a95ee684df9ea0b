"""The connections that the register turned away: counted by key and reason, told once each. Pure."""

from __future__ import annotations

from collections import Counter

from mdgan_edge.actors import NotAdmitted, Note

TURNED_AWAY_MAX = 1024  # different keys and reasons told; those beyond it are only counted, so the journal is bounded


class TurnedAway:
    """Knocks at the door."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._by_reason: Counter[str] = Counter()
        self._full = False

    def count(self, event: NotAdmitted) -> Note | None:
        """Count one; a note if this key was not refused for this reason before."""
        self._by_reason[event.reason] += 1
        who = (event.public_key, event.reason)
        if who in self._known or self._full:
            return None
        if len(self._known) == TURNED_AWAY_MAX:
            self._full = True
            return Note(
                "not_admitted", "more keys than are told one by one: from here on only counted", level="warning"
            )
        self._known.add(who)
        facts = {"public_key": event.public_key, "address": event.address}
        return Note("not_admitted", event.reason, facts, "warning")

    def by_reason(self) -> dict[str, int]:
        return dict(self._by_reason)
