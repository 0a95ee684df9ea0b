"""When training begins, or goes on after a restart of the hub. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.membership import Membership
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import NodeId, Version
from mdgan_edge.settings import HubSettings


class Beginning:
    """`version`: where the run stands; above 0 it goes on from a checkpoint."""

    def __init__(self, settings: HubSettings, version: Version, members: Membership, now: Nanos) -> None:
        self._nodes_min = settings.nodes_min
        self._version, self._members = version, members
        self._dead_at = Nanos(now + nanos(settings.death_timeout_s))

    def is_due(self, now: Nanos) -> bool:
        """With nodes_min nodes; a run that goes on waits for those that are missing no longer than it takes to die."""
        live = self._members.live
        return len(live) >= self._nodes_min or (len(live) > 0 and now >= self._dead_at and self._goes_on(live))

    def _goes_on(self, live: Sequence[NodeId]) -> bool:
        """It had begun before, perhaps too short ago for a checkpoint but the first: then a node has trained in it."""
        return self._version > 0 or any(self._members.known(node).came_trained for node in live)
