"""Who is in the swarm and what each of them has in hand."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from broker.member import ALLOWED, LATE_FACTOR, MALFORMED_MAX, NEVER, Change, InFlight, Member, MemberState
from broker.steprule import IN_VAIN_MAX
from mdgan_edge.actors import Nanos, Peer, nanos
from mdgan_edge.messages import DiscriminatorId, Hello, NodeId, Session, TaskId, Verdict, Version
from mdgan_edge.settings import HubSettings

MALFORMED_WINDOW_S = 60.0  # MALFORMED_MAX malformed messages in this time ...
QUARANTINE_S = 60.0  # ... and the sender is ignored for so long
LOST_LEASES = 2  # a first task that is older, while its node has none in hand, is lost
REFUSAL_PAUSE_S = 1.0  # a node that refused a task is left alone for so long, doubling with each further one ...
REFUSAL_DOUBLINGS_MAX = 4  # ... so often; a task in vain may be megabytes


class Membership:
    """All members; keeps the sorted list of live ones and the versions they have in flight.

    Live means: counts for the quorum and holds the generator to the staleness bound. Suspects, members in quarantine,
    those that are to leave and those that wait for a discriminator are not live.
    """

    def __init__(self, settings: HubSettings) -> None:
        self._lease = nanos(settings.lease_s)
        self._silence = nanos(settings.heartbeat_s * settings.suspect_after_missed)
        self._death = nanos(settings.death_timeout_s)
        self._members: dict[NodeId, Member] = {}
        self._live: list[NodeId] = []  # sorted: a node's rank is its place here
        self._versions: dict[Version, int] = {}  # tasks in flight at live members, by version
        self._owed: set[NodeId] = set()
        self._next_session = 1

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, node: NodeId) -> Member | None:
        return self._members.get(node)

    def known(self, node: NodeId) -> Member:
        """One that has joined, whatever became of it."""
        return self._members[node]

    @property
    def live(self) -> list[NodeId]:
        """Ids of live members, ascending. Not to be changed."""
        return self._live

    def rank(self, node: NodeId) -> int:
        """0-based place of a live node among the live ones."""
        rank = bisect_left(self._live, node)
        assert self._live[rank] == node, f"{node} is not live"
        return rank

    def is_live(self, node: NodeId) -> bool:
        member = self._members.get(node)
        return member is not None and member.live

    def there(self, now: Nanos) -> Iterator[Member]:
        """Those that are live, or would be but for a task that they owe."""
        for member in self._members.values():
            slow = member.state is MemberState.SUSPECT and member.overdue and now - member.last_seen <= self._silence
            if member.live or slow:
                yield member

    def oldest_in_flight(self, since: Version) -> Version | None:
        """The lowest version from `since` on that a live member still works on."""
        oldest = min(self._versions, default=None)
        if oldest is None or oldest >= since:
            return oldest
        return min((version for version in self._versions if version >= since), default=None)

    def oldest_given(self, default: Version) -> Version:
        """The lowest version anybody, live or not, may still answer."""
        oldest = None
        for member in self._members.values():
            for task in member.in_flight.values():
                if oldest is None or task.version < oldest:
                    oldest = task.version
        return default if oldest is None else oldest

    # --- coming and going -----------------------------------------------------------------------------------------

    def join(
        self, peer: Peer, hello: Hello, discriminator: tuple[DiscriminatorId, int], warm_up: int | None, now: Nanos
    ) -> Member:
        """Open a new session for a node; whatever its old session had in hand is void. `warm_up` None: as it was."""
        session, self._next_session = Session(self._next_session), self._next_session + 1
        member = self._members.get(peer.node)
        if member is None:
            member = self._members[peer.node] = Member(peer.node, peer, hello.incarnation, session)
        else:
            self._take_back(member)
            self._unlist(member)
            member.lapsed.clear()
            member.tally.rejoined += 1
        member.peer, member.session, member.incarnation = peer, session, hello.incarnation
        member.state, member.overdue, member.draining = MemberState.ACTIVE, False, False
        member.paused_until, member.adopts, member.refusals = NEVER, False, 0
        member.shard_size, member.labels, member.peer_endpoint = hello.shard_size, hello.labels, hello.peer_endpoint
        member.classes = frozenset(hello.labels or ())
        member.discriminator_id, member.hop = discriminator
        member.warm_up_left = member.warm_up_left if warm_up is None else warm_up
        member.last_seen = now
        self._relist(member, now)
        return member

    def end(self, member: Member, state: MemberState, why: str) -> Change:
        """LEFT, DEAD or REVOKED: its tasks come back."""
        self._move(member, state)
        self._unlist(member)
        return Change(member.node, state, why, self._take_back(member))

    def heard(self, member: Member, now: Nanos) -> Change | None:
        """A sign of life: ends a suspicion unless the member owes an overdue task."""
        member.last_seen = now
        if member.state is MemberState.SUSPECT and not member.overdue:
            return self._trust(member, now)
        return None

    def set_aside(self, member: Member) -> None:
        """It waits for a discriminator: nobody waits for it meanwhile."""
        member.adopts = True
        self._unlist(member)

    def take_in(self, member: Member, now: Nanos) -> None:
        """It has one."""
        member.adopts = False
        self._relist(member, now)

    def drain(self, member: Member) -> None:
        member.draining = True
        self._unlist(member)

    def quarantine_if_due(self, member: Member, now: Nanos) -> bool:
        """Count one malformed message; True if the member is quarantined for it now."""
        member.malformed_at.append(now)
        full = len(member.malformed_at) == MALFORMED_MAX
        if not full or now - member.malformed_at[0] > nanos(MALFORMED_WINDOW_S):
            return False
        member.malformed_at.clear()
        member.quarantined_until = Nanos(now + nanos(QUARANTINE_S))
        self._unlist(member)
        self._take_back(member)
        return True

    # --- tasks ----------------------------------------------------------------------------------------------------

    def give(self, member: Member, task_id: TaskId, version: Version, index: int, now: Nanos) -> InFlight:
        """Hand a task to a live member, with a lease for it and one more for each that it has to do before."""
        member.turn = (version, self.turn(member, version) + 1)
        lease = member.lease(self._lease) * (1 + len(member.in_flight) + len(member.lapsed))
        task = InFlight(task_id, version, index, now, Nanos(now + lease))
        member.in_flight[task_id] = task
        self._count(version, +1)
        return task

    def turn(self, member: Member, version: Version) -> int:
        """How many tasks of `version` the member was given so far."""
        return member.turn[1] if member.turn[0] == version else 0

    def answer(self, member: Member, task_id: TaskId, now: Nanos) -> InFlight:
        """The member answered a task in flight: credit returns, its pace is known better."""
        task = self._close(member, task_id, answered=True)
        self._took(member, task_id, Nanos(now - task.sent_at))
        member.refusals = 0
        member.tally.tasks += 1
        return task

    def answered_late(self, member: Member, task_id: TaskId, now: Nanos) -> None:
        """The member answered a task whose lease had lapsed: its pace is another one than was thought."""
        task = member.lapsed.get(task_id)
        if task is not None:
            member.task_times.clear()
            longest = round(LATE_FACTOR * (task.expires_at - task.sent_at))
            self._took(member, task_id, Nanos(min(now - task.sent_at, longest)))

    def judged(self, member: Member, verdict: Verdict) -> None:
        """What became of an answer: who is too late again and again is owed the hub's patience."""
        if verdict is Verdict.MERGED:
            member.in_vain = 0
            self._owed.discard(member.node)
        elif verdict in (Verdict.LATE, Verdict.STALE):
            member.in_vain += 1
            if member.in_vain >= IN_VAIN_MAX:
                self._owed.add(member.node)

    def is_owed(self, before: Version) -> bool:
        """Whether a live member that is owed works on a version before this one."""
        owed = (self._members[node] for node in self._owed)
        return any(one.live and any(task.version < before for task in one.in_flight.values()) for one in owed)

    def _took(self, member: Member, task_id: TaskId, took: Nanos) -> None:
        member.task_times.append(took)
        if took > member.slowest:
            member.slowest = took
        for lost in [lapsed for lapsed in member.lapsed if lapsed <= task_id]:  # a node answers in order
            del member.lapsed[lost]

    def refused(self, member: Member, task_id: TaskId, now: Nanos, *, busy: bool) -> None:
        """The member will not answer a task, and is left alone for a while."""
        self._close(member, task_id, answered=False)
        member.busy = busy
        pause_s = REFUSAL_PAUSE_S * 2 ** min(member.refusals, REFUSAL_DOUBLINGS_MAX)
        member.refusals += 1
        member.paused_until = Nanos(now + nanos(pause_s))

    def forgive(self, member: Member, now: Nanos) -> Change | None:
        """The member owes nothing any more: it answered, late or not, or says that it has nothing in hand."""
        member.overdue = False
        return self._trust(member, now) if member.state is MemberState.SUSPECT else None

    def nothing_in_hand(self, member: Member, now: Nanos) -> list[Change]:
        """The member says that it has no task: what was sent long enough ago to have come is lost, there or back."""
        if member.busy:  # not any more
            member.paused_until, member.refusals = NEVER, 0
        lost = [task.task_id for task in member.in_flight.values() if now - task.sent_at >= self._lost_after(member)]
        for task_id in lost:
            self._close(member, task_id, answered=False)
        why = "has nothing in hand: tasks were lost"
        changes = [Change(member.node, member.state, why, tuple(lost))] if lost else []
        forgiven = self.forgive(member, now) if member.overdue else None
        return [*changes, *([forgiven] if forgiven else [])]

    def _lost_after(self, member: Member) -> Nanos:
        """So old a task is not on its way any more; a line on which all take long is known by the answers so far."""
        return max(self._lease, member.slowest) if member.task_times else Nanos(LOST_LEASES * self._lease)

    # --- time -----------------------------------------------------------------------------------------------------

    def sweep(self, now: Nanos, late_by: Nanos) -> list[Change]:
        """Let leases lapse. A sweep that runs late grants everybody that much more (Lifeguard, Dadgar et al. 2018)."""
        changes: list[Change] = []
        for member in list(self._members.values()):
            if member.present:
                if late_by:
                    self._extend(member, late_by)
                changes.extend(self._sweep_one(member, now))
        return changes

    def _sweep_one(self, member: Member, now: Nanos) -> list[Change]:
        silent = now - member.last_seen
        if silent > self._death:
            if member.state is MemberState.ACTIVE:
                self._suspect(member, "silent")
            return [self.end(member, MemberState.DEAD, f"silent for {silent / 1e9:.1f} s")]
        expired = [task.task_id for task in member.in_flight.values() if now >= task.expires_at]
        for task_id in expired:
            member.lapsed[task_id] = self._close(member, task_id, answered=False)
        member.overdue = member.overdue or bool(expired)
        if expired:
            why, lost = f"{len(expired)} task(s) not answered within the lease", tuple(expired)
            active = member.state is MemberState.ACTIVE
            return [self._suspect(member, why, lost) if active else Change(member.node, member.state, why, lost)]
        if silent > self._silence and member.state is MemberState.ACTIVE:
            return [self._suspect(member, f"silent for {silent / 1e9:.1f} s")]
        self._relist(member, now)
        return []

    def _extend(self, member: Member, by: Nanos) -> None:
        member.last_seen = Nanos(member.last_seen + by)
        for task_id, task in member.in_flight.items():
            longer = Nanos(task.expires_at + by)
            member.in_flight[task_id] = InFlight(task_id, task.version, task.index, task.sent_at, longer)

    # --- bookkeeping ----------------------------------------------------------------------------------------------

    def _move(self, member: Member, state: MemberState) -> None:
        assert state in ALLOWED[member.state], f"{member.node}: {member.state} cannot become {state}"
        member.state = state

    def _suspect(self, member: Member, why: str, returned: tuple[TaskId, ...] = ()) -> Change:
        self._move(member, MemberState.SUSPECT)
        self._unlist(member)
        return Change(member.node, MemberState.SUSPECT, why, returned)

    def _trust(self, member: Member, now: Nanos) -> Change:
        self._move(member, MemberState.ACTIVE)
        self._relist(member, now)
        return Change(member.node, MemberState.ACTIVE, "heard from again")

    def _relist(self, member: Member, now: Nanos) -> None:
        able = member.state is MemberState.ACTIVE and not member.draining and not member.adopts
        if able and now >= member.quarantined_until and not member.live:
            member.live = True
            insort(self._live, member.node)
            for task in member.in_flight.values():
                self._versions[task.version] = self._versions.get(task.version, 0) + 1

    def _unlist(self, member: Member) -> None:
        if member.live:
            for task in member.in_flight.values():
                self._count(task.version, -1)
            del self._live[self.rank(member.node)]
            member.live = False

    def _close(self, member: Member, task_id: TaskId, *, answered: bool) -> InFlight:
        task = member.close(task_id, answered=answered)
        if member.live:
            self._count(task.version, -1)
        return task

    def _take_back(self, member: Member) -> tuple[TaskId, ...]:
        tasks = tuple(member.in_flight)
        for task_id in tasks:
            self._close(member, task_id, answered=False)
        return tasks

    def _count(self, version: Version, by: int) -> None:
        left = self._versions.get(version, 0) + by
        assert left >= 0
        if left:
            self._versions[version] = left
        else:
            del self._versions[version]
