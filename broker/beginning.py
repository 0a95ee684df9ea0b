"""When training begins, or goes on after a restart of the hub. Pure."""

from __future__ import annotations

from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import Version
from mdgan_edge.settings import HubSettings


class Beginning:
    """`version`: where the run stands; above 0 it goes on from a checkpoint."""

    def __init__(self, settings: HubSettings, version: Version, now: Nanos) -> None:
        self._nodes_min = settings.nodes_min
        self._dead_at = Nanos(now + nanos(settings.death_timeout_s)) if version else None

    def is_due(self, live: int, now: Nanos) -> bool:
        """With nodes_min nodes; a run that goes on waits for those that are missing no longer than it takes to die."""
        return live >= self._nodes_min or (live > 0 and self._dead_at is not None and now >= self._dead_at)
