"""One node as the hub knows it: where it stands, what it has in hand, what it has given. Decides nothing.

A member's life: HELLO → ACTIVE ⇄ SUSPECT (silent or overdue) → DEAD (silent for the death timeout); BYE → LEFT;
the operator → REVOKED. HELLO brings it back to ACTIVE, from REVOKED only if the operator allows it again.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from mdgan_edge.actors import Header, Nanos, Note, Peer
from mdgan_edge.messages import DiscriminatorId, Incarnation, NodeId, Session, TaskId, Verdict, Version

CLOSED_TASKS_MAX = 64  # per member: how many ended tasks are remembered to tell a duplicate from a late answer
TASK_TIMES_MAX = 33  # per member: how many task times the lease is computed from
LEASE_DEVIATIONS = 8.0  # k of median + k·MAD
FIRST_LEASE_FACTOR = 6.0  # before a node's pace is known, its lease is this many times the least one
PACE_KNOWN = 3  # task times from which a pace is known; with fewer, the lease is YOUNG_LEASE_FACTOR of the longest
YOUNG_LEASE_FACTOR = 2.0
LATE_FACTOR = 4.0  # a late answer counts as so many times the lease it had, at most: nobody gets an endless one at once
MALFORMED_MAX = 3  # so many malformed messages in MALFORMED_WINDOW_S put their sender into quarantine

NEVER = Nanos(0)
NO_DISCRIMINATOR = DiscriminatorId("")
NO_HEADER = Header()
FIRST = Version(0)


class MemberState(StrEnum):
    """Where a member stands."""

    ACTIVE = "active"
    SUSPECT = "suspect"
    DEAD = "dead"
    LEFT = "left"
    REVOKED = "revoked"


PRESENT = frozenset({MemberState.ACTIVE, MemberState.SUSPECT})

ALLOWED: dict[MemberState, frozenset[MemberState]] = {
    MemberState.ACTIVE: frozenset({MemberState.SUSPECT, MemberState.LEFT, MemberState.REVOKED}),
    MemberState.SUSPECT: frozenset(
        {MemberState.ACTIVE, MemberState.DEAD, MemberState.LEFT, MemberState.REVOKED},
    ),
    MemberState.DEAD: frozenset({MemberState.ACTIVE, MemberState.REVOKED}),
    MemberState.LEFT: frozenset({MemberState.ACTIVE, MemberState.REVOKED}),
    MemberState.REVOKED: frozenset({MemberState.ACTIVE}),
}


class InFlight(msgspec.Struct, frozen=True, gc=False):
    """A task a node has in hand: batch `index` of `version`, to be answered by `expires_at`."""

    task_id: TaskId
    version: Version
    index: int
    sent_at: Nanos
    expires_at: Nanos


@dataclass(slots=True)
class Tally:
    """What a node has given, over all its sessions."""

    tasks: int = 0  # answered
    merged: int = 0
    weight: float = 0.0  # of all that was merged: the sum of its parts of every step
    refused: Counter[Verdict] = field(default_factory=Counter)  # feedback that was not merged, by reason
    staleness_sum: int = 0
    staleness_max: int = 0
    rejoined: int = 0

    def merge(self, staleness: int, weight: float) -> None:
        self.merged += 1
        self.weight += weight
        self.staleness_sum += staleness
        self.staleness_max = max(self.staleness_max, staleness)


@dataclass(slots=True)
class Member:
    """One node as the hub knows it, over all its sessions."""

    node: NodeId
    peer: Peer
    incarnation: Incarnation
    session: Session
    shard_size: int = 0
    labels: tuple[int, ...] | None = None
    classes: frozenset[int] = frozenset()  # the same; empty if it tells none
    peer_endpoint: str | None = None  # where other nodes reach it
    last_seen: Nanos = NEVER
    header: Header = NO_HEADER  # of everything that is said in this session
    discriminator_id: DiscriminatorId = NO_DISCRIMINATOR
    hop: int = 0
    came_trained: bool = False  # what it holds was trained before it came
    swapped_at: int | None = None  # how many tasks it had answered when it swapped last
    state: MemberState = MemberState.ACTIVE
    in_flight: dict[TaskId, InFlight] = field(default_factory=dict)
    in_vain: int = 0  # answers that came too late to be merged, since the last that was
    overdue: bool = False  # let a task's lease lapse and has not answered anything since
    closed: dict[TaskId, bool] = field(default_factory=dict)  # ended tasks; True if answered
    lapsed: dict[TaskId, InFlight] = field(default_factory=dict)  # of these: not answered within the lease, nor since
    task_times: deque[Nanos] = field(default_factory=lambda: deque(maxlen=TASK_TIMES_MAX))
    slowest: Nanos = NEVER  # of all task times
    turn: tuple[Version, int] = (FIRST, 0)  # how many tasks it was given at a version
    warm_up_left: int = 0
    malformed_at: deque[Nanos] = field(default_factory=lambda: deque(maxlen=MALFORMED_MAX))
    quarantined_until: Nanos = NEVER
    paused_until: Nanos = NEVER  # it refused a task
    adopts: bool = False  # it waits for a discriminator
    refusals: int = 0  # in a row
    busy: bool = False  # that is why it refused the last time
    draining: bool = False
    live: bool = False  # Membership lists it
    tally: Tally = field(default_factory=Tally)

    @property
    def present(self) -> bool:
        return self.state in PRESENT

    def close(self, task_id: TaskId, *, answered: bool) -> InFlight:
        """End a task in flight and remember how."""
        task = self.in_flight.pop(task_id)
        self.closed[task_id] = answered
        if len(self.closed) > CLOSED_TASKS_MAX:
            oldest = next(iter(self.closed))
            del self.closed[oldest]
            self.lapsed.pop(oldest, None)
        return task

    def lease(self, least: Nanos) -> Nanos:
        """How long a task may take: median + k·MAD of the node's own task times, never below `least`."""
        if not self.task_times:
            return Nanos(round(least * FIRST_LEASE_FACTOR))
        if len(self.task_times) < PACE_KNOWN:
            return Nanos(max(least, round(YOUNG_LEASE_FACTOR * max(self.task_times))))
        if self.slowest * (1 + LEASE_DEVIATIONS) <= least:
            return least  # neither median nor MAD can be above the slowest
        times: list[int] = sorted(self.task_times)
        middle = median(times)
        if middle + LEASE_DEVIATIONS * max(middle - times[0], times[-1] - middle) <= least:
            return least  # no deviation is larger
        deviation = median([abs(time - middle) for time in times])
        return Nanos(max(least, round(middle + LEASE_DEVIATIONS * deviation)))


def median(values: list[int]) -> int:
    """The upper median of a list that is not empty."""
    return sorted(values)[len(values) // 2]


class Change(msgspec.Struct, frozen=True, gc=False):
    """A member's state changed, and why."""

    node: NodeId
    state: MemberState
    why: str
    returned: tuple[TaskId, ...] = ()  # tasks taken back

    def note(self) -> Note:
        """The line of the journal."""
        calm = self.state in (MemberState.ACTIVE, MemberState.LEFT)
        facts = {"node": self.node, "state": self.state.value, "tasks": list(self.returned)}
        return Note("member", self.why, facts, "info" if calm else "warning")
