"""Broken versions of the virtual world itself."""

from __future__ import annotations

from typing import Any

from sim.links import Bytes
from sim.world import World
from tests.mutants.planting import always, broken, caught_by


@caught_by("no_timer_outlives")
def a_crash_stops_nothing() -> Any:
    return broken(World, "crash", lambda _: lambda self, machine: self.watch.ended(self, machine))


@caught_by("bytes_conserved")
def what_is_lost_is_not_counted() -> Any:
    return broken(Bytes, "drop", always(None))
