"""The training side of the hub's decisions: batches out, feedback in, when to step. Pure.

One version's life: batches made → dispatched to nodes → feedback admitted into the buffer → the step rule says go →
stepped. Knows nothing of sessions, greetings or the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from broker import admission, schedule, steprule
from broker.buffer import Entry, FeedbackBuffer, Taken
from broker.jobs import Batch, BatchesMade, Contribution, MakeBatches, Step, Stepped
from broker.member import Member
from broker.membership import Membership
from broker.ownership import Ownership
from broker.shares import Shares
from mdgan_edge.actors import Nanos, Note
from mdgan_edge.messages import Feedback, NodeId, Task, TaskId, Verdict, Version
from mdgan_edge.settings import TrainingSettings, batches_count, quorum_count, quota_count


class Dispatched(msgspec.Struct, frozen=True, gc=False):
    """A task on its way to a member."""

    member: Member
    task: Task


class Training:
    """Where the generator's training stands."""

    def __init__(
        self,
        settings: TrainingSettings,
        image_shape: tuple[int, int, int],
        members: Membership,
        ownership: Ownership,
        version: Version,
        norms: Sequence[float] = (),
    ) -> None:
        self.version = version
        self.clipped = 0
        self.stepping = False
        self.making = False
        self._settings = settings
        self._shape = (settings.batch_size, *image_shape)
        self._members = members
        self._ownership = ownership
        self._batches: tuple[Batch, ...] | None = None  # of the current version
        self._buffer = FeedbackBuffer()
        self._norms = admission.NormGuard(settings.clip_factor, norms)
        self.shares = Shares(settings.rate_fair)
        self._hungry: dict[NodeId, None] = {}  # members that may be due a task
        self._reason: steprule.Reason | None = None
        self._next_task = 1
        self._quota_of = (-1, 0)  # for so many live nodes

    @property
    def complete(self) -> bool:
        return self.version >= self._settings.steps

    @property
    def norms(self) -> tuple[float, ...]:
        """Of feedback that was merged of late."""
        return self._norms.recent

    @property
    def buffered(self) -> int:
        """How many feedbacks wait for the next step."""
        return len(self._buffer)

    # --- batches and dispatch -------------------------------------------------------------------------------------

    def batches_wanted(self) -> MakeBatches | None:
        """The job that makes this version's batches, unless they are there or under way."""
        if self._batches is not None or self.making or self.complete:
            return None
        self.making = True
        return MakeBatches(self.version, batches_count(self._settings.batches_per_version, len(self._members.live)))

    def batches_made(self, made: BatchesMade) -> None:
        assert made.version == self.version
        self.making, self._batches = False, made.batches

    def look_at(self, node: NodeId) -> None:
        """This node may be due a task."""
        self._hungry[node] = None

    def look_at_all(self) -> None:
        self._hungry.update(dict.fromkeys(self._members.live))

    def dispatch(self, now: Nanos) -> list[Dispatched]:
        """Tasks for every node that may have one."""
        if self._batches is None or not self._hungry:
            return []
        if not steprule.wants_more(self._settings, len(self._buffer), len(self._members.live)):
            return []  # they stay hungry
        hungry, self._hungry = self._hungry, {}
        credit, quota = self._settings.credit, self._quota()
        given: list[Dispatched] = []
        for node in hungry:
            member = self._members.get(node)
            if member is None or not member.live or now < member.paused_until:
                continue
            at_once = 1 if member.in_vain else credit  # what waits at the node only grows older
            if schedule.may_have_task(member, self._buffer.held_by(node), at_once, quota, self.version):
                given.append(self._give_task(member, self._batches, now))
        return given

    def _quota(self) -> int:
        """How many feedbacks of one node the next step may hold."""
        live = len(self._members.live)
        if self._quota_of[0] != live:
            self._quota_of = (live, quota_count(self._settings.quota, quorum_count(self._settings.quorum, live)))
        return self._quota_of[1]

    def _give_task(self, member: Member, batches: tuple[Batch, ...], now: Nanos) -> Dispatched:
        turn = self._members.turn(member, self.version)
        g, d = schedule.batch_indices(self._members.rank(member.node), turn, len(batches))
        task_id, self._next_task = TaskId(self._next_task), self._next_task + 1
        held = self._members.give(member, task_id, self.version, g, now)
        task = Task(
            task_id=task_id,
            version=self.version,
            deadline_s=(held.expires_at - now) / 1e9,
            steps=self._settings.discriminator_steps,
            x_d=batches[d].images,
            x_g=batches[g].images,
            y_d=batches[d].labels,
            y_g=batches[g].labels,
        )
        return Dispatched(member, task)

    # --- feedback -------------------------------------------------------------------------------------------------

    def admit(self, member: Member, message: Feedback, now: Nanos) -> Verdict | None:
        """Put a feedback into the buffer, or say why not. Credit returns whatever the verdict."""
        refused = admission.refusal_by_task(member, message)
        if refused is Verdict.LATE:
            self._members.answered_late(member, message.task_id, now)
        if refused is not None:
            return refused
        task = self._members.answer(member, message.task_id, now)
        refused = admission.refusal_by_content(message, self._shape, task.version)
        refused = refused or self._refusal_by_standing(member, message)
        if refused is Verdict.WARM_UP:
            self._norms.see(message.feedback.norm)
        if refused is not None:
            return refused
        judges = member.labels if self._settings.label_aware else None
        given = Contribution(task.task_id, member.node, task.version, task.index, 1.0, message.feedback, labels=judges)
        self._buffer.add(Entry(given, message.loss_d, message.loss_g), now)
        return None

    def _refusal_by_standing(self, member: Member, message: Feedback) -> Verdict | None:
        if not self._ownership.owns(member.node, message.discriminator_id, message.hop):
            return Verdict.FENCED
        if member.warm_up_left:
            member.warm_up_left -= 1
            return Verdict.WARM_UP
        stale = admission.refusal_by_age(message.version, self.version, self._settings.staleness_max)
        if stale is not None:
            return stale
        return Verdict.QUOTA if self._buffer.held_by(member.node) >= self._quota() else None

    def purge(self, node: NodeId) -> int:
        """Forget a node's buffered feedback: it was revoked, or has started anew. How many that were."""
        return self._buffer.purge(node)

    # --- steps ----------------------------------------------------------------------------------------------------

    def standing(self) -> steprule.Standing:
        """What the step rule looks at."""
        since = Version(self.version - self._settings.staleness_max)
        return steprule.Standing(
            version=self.version,
            buffered=len(self._buffer),
            live=len(self._members.live),
            oldest_in_flight=self._members.oldest_in_flight(since),
            waiting_since=self._buffer.first_at,
            owed=self._members.is_owed(Version(since + 1)),
        )

    def decide(self, now: Nanos) -> steprule.Decision:
        """Whether to step now, and why."""
        return steprule.decide(self._settings, self.standing(), now)

    def new_reason(self, reason: steprule.Reason) -> list[Note]:
        """What to say where the hub has come to wait for a task, or to wait no longer."""
        known, self._reason = self._reason, reason
        if reason is known or reason not in (steprule.Reason.BLOCKED, steprule.Reason.TIMEOUT):
            return []
        standing = self.standing()
        facts = {"version": standing.version, "buffered": standing.buffered, "oldest": standing.oldest_in_flight}
        return [Note("step_rule", reason.value, facts)]

    def timeout_at(self) -> Nanos | None:
        """When the step timeout could make a difference."""
        if self.stepping or len(self._buffer) < self._settings.quorum_min:
            return None
        owed = self._members.is_owed(Version(self.version + 1 - self._settings.staleness_max))
        return steprule.timeout_at(self._settings, self._buffer.first_at, owed=owed)

    def take(self) -> Taken:
        """Empty the buffer into a step."""
        oldest = self._members.oldest_given(default=Version(self.version + 1))
        live = self._members.live
        taken = self._buffer.take(self._settings, self.version, len(live), oldest, self.shares.omega, self._clip)
        self.stepping = taken.step is not None
        if taken.step is not None:
            self._tally(taken.step)
        return taken

    def _clip(self, norms: Sequence[float]) -> list[float]:
        scales = self._norms.scales(norms)
        self.clipped += sum(scale < 1 for scale in scales)
        return scales

    def _tally(self, step: Step) -> None:
        for one in step.contributions:
            self._members.known(one.node).tally.merge(step.version - one.version, one.weight / step.divisor)
        self.shares.stepped(step.contributions, self._members.live)

    def stepped(self, result: Stepped) -> None:
        assert result.version == self.version + 1
        self.version, self.stepping, self._batches = result.version, False, None
        self.look_at_all()

    def step_figures(self, step: Step, merged: tuple[Entry, ...]) -> dict[str, Any]:
        """One line of metrics about a step; the losses are means over what it merges."""
        return {
            "version": step.version,
            "merged": len(merged),
            "live": len(self._members.live),
            "nodes": [one.node for one in step.contributions],
            "staleness": [step.version - one.version for one in step.contributions],
            "loss_d": sum(entry.loss_d for entry in merged) / len(merged),
            "loss_g": sum(entry.loss_g for entry in merged) / len(merged),
            "lr_scale": step.lr_scale,
            "divisor": step.divisor,
        }
