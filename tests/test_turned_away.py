"""Connections that are not admitted: each key and reason is told once and counted always."""

from __future__ import annotations

from broker.turned_away import TURNED_AWAY_MAX, TurnedAway
from mdgan_edge.actors import NotAdmitted


def test_the_same_key_is_told_once_and_counted_every_time() -> None:
    door = TurnedAway()
    first = door.count(NotAdmitted("key", "192.0.2.1", "unknown key"))
    assert first is not None
    assert (first.why, first.facts) == ("unknown key", {"public_key": "key", "address": "192.0.2.1"})
    assert door.count(NotAdmitted("key", "192.0.2.2", "unknown key")) is None
    assert door.count(NotAdmitted("key", "192.0.2.2", "revoked key")) is not None
    assert door.by_reason() == {"unknown key": 2, "revoked key": 1}


def test_a_flood_of_keys_grows_neither_memory_nor_the_journal_without_bound() -> None:
    door = TurnedAway()
    notes = [door.count(NotAdmitted(str(number), "", "unknown key")) for number in range(TURNED_AWAY_MAX + 50)]
    told = [note.why for note in notes if note is not None]
    assert (len(told), notes[-1]) == (TURNED_AWAY_MAX + 1, None)
    assert "only counted" in told[-1]
    assert door.by_reason() == {"unknown key": TURNED_AWAY_MAX + 50}
