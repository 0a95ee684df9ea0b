"""When training begins, or goes on after a restart of the hub. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from broker.greeting import RunFacts
from broker.membership import Membership
from mdgan_edge.actors import Nanos, nanos
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import HubSettings


class Beginning:
    """A run that has a version above 0, or owners of discriminators, was begun by an earlier process of the hub."""

    def __init__(self, settings: HubSettings, facts: RunFacts, members: Membership, now: Nanos) -> None:
        self._nodes_min = settings.nodes_min
        self._facts, self._members = facts, members
        self._dead_at = Nanos(now + nanos(settings.death_timeout_s))

    def is_due(self, now: Nanos) -> bool:
        """With nodes_min nodes; a run that goes on waits for those that are missing no longer than it takes to die."""
        live = self._members.live
        return len(live) >= self._nodes_min or (len(live) > 0 and now >= self._dead_at and self._goes_on(live))

    def _goes_on(self, live: Sequence[NodeId]) -> bool:
        """It had begun before, perhaps too short ago for a checkpoint but the first: then a node has trained in it."""
        trained = any(self._members.known(node).came_trained for node in live)
        return self._facts.version > 0 or (bool(self._facts.owners) and trained)
