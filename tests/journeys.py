"""The journeys of discriminators whose parties die in tests/journey_crashes.py, and the weather in which each is met.

A tenth of all messages is lost, a tenth comes twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from broker import adoptions, shelving
from mdgan_edge.messages import SwapId
from sim.scenario.distributions import Constant, Lognormal
from sim.scenario.quantities import Duration
from sim.scenario.values import MS, Crash, Device, Expect, Fault, Join, Leave, Links, LinkTerms, S, Scenario

DEATH_S = 8.0  # the death timeout where some die for good
EARLY, LATER = Duration(16 * S), Duration(32 * S)  # all have swapped by then; who died early is given up by then


@dataclass(frozen=True, slots=True)
class Kind:
    """`mark`: what its ids begin with, if they begin with a mark at all. `away_s`: how long who dies may be away."""

    name: str
    mark: str
    weather: Callable[[int], Scenario]
    away_s: tuple[int, ...]

    def __str__(self) -> str:
        return self.name

    def has(self, journey: SwapId) -> bool:
        marks = (adoptions.MARK, shelving.MARK)
        return journey.startswith(self.mark) if self.mark else not journey.startswith(marks)


def rain(nodes: int, *faults: Fault, **more: Any) -> Scenario:
    """Every node is due for a swap after every task."""
    link = LinkTerms(latency=Lognormal(Duration(30 * MS), 0.5), loss=0.1, duplicate=0.1)
    steps = {"training.steps": 1_000_000, "training.swap": 0.01}
    return Scenario(
        name="journey",
        duration=Duration(0),
        nodes=nodes,
        fault=faults,
        settings={**steps, "hub.heartbeat_s": 2.0, "hub.lease_s": 5.0, **more},
        links=Links(default=link),
        device=Device(task=Lognormal(Duration(2 * S), 0.3)),
        expect=Expect(rejoin_within=Duration(12 * S), advance_within=Duration(20 * S), starve_within=Duration(40 * S)),
    )


def all_swap(seed: int) -> Scenario:
    return rain(2 + seed % 2)


def changing(nodes: int, *faults: Fault) -> Scenario:
    """Nodes come and go."""
    return rain(nodes, *faults, **{"training.quorum": 1, "hub.death_timeout_s": DEATH_S})


def leaves(*who: str, at: Duration) -> Leave:
    """And comes back in a while."""
    return Leave(at=at, lasts=Constant(Duration(25 * S)), who=who)


DIES = Crash(at=EARLY, who=("n1",))


def one_joins(seed: int) -> Scenario:
    """It adopts a copy; or what one that has left had handed over; or what a dead one owned."""
    nodes, gone = ((3, ()), (3, (leaves("n1", at=EARLY),)), (2, (DIES,)))[seed % 3]
    return changing(nodes, *gone, Join(at=LATER, who=("late",)))


def some_leave(seed: int) -> Scenario:
    """One; or two at once; or one that has swapped with a dead one, after the hub has asked it for what that owned."""
    leaving = leaves("n0", at=LATER)
    return (changing(3, leaving), changing(4, leaves("n0", "n1", at=LATER)), changing(2, DIES, leaving))[seed % 3]


SWAP = Kind("swap", "", all_swap, (3,))
ADOPTION = Kind("adoption", adoptions.MARK, one_joins, (3, 16))
HAND_OVER = Kind("hand-over", shelving.MARK, some_leave, (3, 16))
KINDS = (SWAP, ADOPTION, HAND_OVER)
