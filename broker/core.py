"""The hub's decisions: who is in, what is answered, when the run starts and ends.

A run's life: WAITING (for nodes_min nodes) → TRAINING → FINISHING (last evaluation, farewell) → OVER. Handlers
change one fact each; `_settle` after every event re-derives what follows from the facts: batches, dispatch, step, end.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Literal, assert_never

from broker import greeting, steprule
from broker.buffer import Entry
from broker.checkpoints import Checkpoints
from broker.directory import Directory
from broker.entrance import Door, Entrance
from broker.evaluations import Evaluations
from broker.farewell import Farewell
from broker.greeting import RunFacts
from broker.jobs import BatchesMade, Checkpointed, Evaluated, Forgotten, Given, HubJob, Kept, Stepped
from broker.member import Change, Member, MemberState
from broker.membership import Membership
from broker.ownership import Ownership
from broker.shares import low_share
from broker.swaps import Swaps
from broker.training import Training
from broker.turned_away import TurnedAway
from mdgan_edge.actors import (
    LOST_PART,
    Drain,
    Effect,
    Event,
    Finish,
    Garbled,
    Header,
    Heard,
    JobDone,
    LinkDown,
    Measure,
    Nanos,
    NotAdmitted,
    Note,
    Peer,
    Received,
    RegisterChanged,
    Run,
    Send,
    Tick,
    nanos,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    Bye,
    ByeAck,
    Error,
    Feedback,
    Hello,
    Message,
    PeerMessage,
    Ping,
    Pong,
    Receipt,
    Refuse,
    SwapReport,
    TaskId,
    Verdict,
)
from mdgan_edge.settings import Settings

SWEEP_S = 0.5  # how often leases are looked at
SWEEP_LATE_S = 0.5  # a sweep later than this extends all leases by its lateness


class Phase(Enum):
    """Where the run stands."""

    WAITING = auto()
    TRAINING = auto()
    FINISHING = auto()
    OVER = auto()


class HubCore:
    """Decides for the hub."""

    def __init__(self, settings: Settings, facts: RunFacts, now: Nanos) -> None:
        self.settings = settings
        self.facts = facts
        self.phase = Phase.WAITING
        self.members = Membership(settings.hub)
        self.ownership = Ownership(facts.architecture, facts.owners)
        self.training = Training(settings.training, facts.image_shape, self.members, self.ownership, facts.version)
        self.verdicts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.garbled: dict[str, int] = {}
        self.turned_away = TurnedAway()
        self.directory = Directory(facts.keys)
        self.swaps = Swaps(settings, facts, self.members, self.ownership, self.directory, now)
        self.shelving = self.swaps.shelving
        self.entrance = Entrance(
            settings, facts, self.members, self.ownership, self.training, self.swaps, self.verdicts
        )
        self.evaluations = Evaluations(settings.hub.evaluate_every)
        self.checkpoints = Checkpoints(settings.hub.checkpoint_every, facts.run_id, facts.version)
        self.outcome: Literal["completed", "stopped", "failed"] = "failed"
        self.started_at: Nanos | None = None  # when training started
        self.ended_at: Nanos | None = None
        self._why_failed = ""
        self._farewell = Farewell()
        self._sweep_at = Nanos(now + nanos(SWEEP_S))
        self._reason: steprule.Reason | None = None

    # --- the two calls --------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event; return what is to be done about it."""
        return self._take(event, now) + self._settle(now)

    def _take(self, event: Event, now: Nanos) -> list[Effect]:
        match event:
            case Received():
                return self._received(event, now)
            case Heard(sender):
                return self._heard(sender, now)
            case Garbled(sender, check, detail):
                return self._garbled(sender, check, detail, now)
            case NotAdmitted():
                note = self.turned_away.count(event)
                return [note] if note else []
            case JobDone(_, result):
                return self._job_done(result)
            case Drain(reason):
                return self._drain(reason)
            case RegisterChanged():
                self.directory.keys = event.keys
                return self.entrance.register_changed(event)
            case Tick():
                return []
            case LinkDown():
                raise AssertionError("a hub has no link of its own")
            case _:
                assert_never(event)

    def deadline(self) -> Nanos | None:
        """When the next lease, step timeout or farewell is to be looked at."""
        if self.phase is Phase.OVER:
            return None
        if self._farewell.by is not None:
            return min(self._farewell.by, self._sweep_at)
        timeout = self.training.timeout_at() if self.phase is Phase.TRAINING else None
        return self._sweep_at if timeout is None or timeout > self._sweep_at else timeout

    # --- messages -------------------------------------------------------------------------------------------------

    def _received(self, event: Received, now: Nanos) -> list[Effect]:
        if isinstance(event.message, Hello):
            return self.entrance.hello(event.sender, event.message, self._door, now)
        member = self.members.get(event.sender.node)
        if member is None or event.header != member.header:
            return self._no_session(event)
        if not member.present:
            left = self.shelving.received(member, event.message)
            return self._no_session(event) if left is None else left
        if now < member.quarantined_until and not isinstance(event.message, Ping | Bye | ByeAck):
            self.verdicts[Verdict.MALFORMED] += isinstance(event.message, Feedback)  # no answer, but a verdict
            return []
        member.peer = event.sender  # the connection may be a new one; the node behind it is proven
        return self._sign_of_life(member, now) + self._from_member(member, event.message, now)

    def _sign_of_life(self, member: Member, now: Nanos) -> list[Effect]:
        self.training.look_at(member.node)
        return _noted(self.members.heard(member, now))

    def _from_member(self, member: Member, message: Message, now: Nanos) -> list[Effect]:
        match message:
            case Feedback():
                return self._feedback(member, message, now)
            case Ping(echo, training):
                changes = self.members.nothing_in_hand(member, now) if training is None else []
                return [*(change.note() for change in changes), self._send(member, Pong(echo))]
            case Refuse(task_id, reason):
                return self._refused(member, task_id, reason, now)
            case _ if isinstance(message, PeerMessage):
                return self.swaps.relay(member, message, self.training.version, now)
            case _ if isinstance(message, SwapReport):
                return self.swaps.received(member, message, self.training.version, now)
            case Bye(reason):
                change = self.members.end(member, MemberState.LEFT, reason)
                return [*_noted(change), *self.shelving.bye(member, self.phase is Phase.TRAINING, now)]
            case ByeAck():
                return _noted(self.members.end(member, MemberState.LEFT, "said goodbye"))
            case Error(code, text):
                return [Note("node_error", text, {"node": member.node, "code": code}, "warning")]
            case _:
                return self._garbled(member.peer, "type", f"{type(message).__name__} is not for a hub", now)

    @property
    def _door(self) -> Door:
        if self.phase is Phase.WAITING:
            return Door.BEFORE_THE_START
        return Door.OPEN if self.phase is Phase.TRAINING else Door.SHUT

    def _no_session(self, event: Received) -> list[Effect]:
        if isinstance(event.message, Feedback):
            self.verdicts[Verdict.EPOCH] += 1
        if isinstance(event.message, Bye):
            return [Send(event.sender, ByeAck(), event.header)]
        error = greeting.no_session(event.header.epoch, self.facts)
        return [Send(event.sender, error, Header(epoch=self.facts.epoch))]

    def _heard(self, sender: Peer, now: Nanos) -> list[Effect]:
        member = self.members.get(sender.node)
        if member is None or not member.present:
            return []
        return self._sign_of_life(member, now)

    def _garbled(self, sender: Peer, check: str, detail: str, now: Nanos) -> list[Effect]:
        self.garbled[check] = self.garbled.get(check, 0) + 1
        member = self.members.get(sender.node)
        if member is None or now < member.quarantined_until:
            return []
        note = Note("malformed", detail or check, {"node": sender.node}, "warning")
        return [note] if check == LOST_PART else [note, *self._quarantine(member, now)]

    def _quarantine(self, member: Member, now: Nanos) -> list[Effect]:
        due = self.members.quarantine_if_due(member, now)
        return [Note("quarantined", "too many malformed messages", {"node": member.node}, "warning")] if due else []

    # --- feedback -------------------------------------------------------------------------------------------------

    def _feedback(self, member: Member, message: Feedback, now: Nanos) -> list[Effect]:
        verdict = self.training.admit(member, message, now)
        if verdict is None:
            return _noted(self.members.forgive(member, now))
        forgiven = _noted(self.members.forgive(member, now)) if verdict is not Verdict.DUPLICATE else []
        self._count(member, verdict)
        facts = {"node": member.node, "task": message.task_id, "verdict": verdict}
        effects = [*forgiven, self._send(member, Receipt(message.task_id, verdict))]
        if verdict is not Verdict.MALFORMED:
            return [*effects, Note("feedback_refused", verdict.value, facts)]
        why = "the feedback is not finite, or not of the shape of its batch; training goes on without it"
        return [*effects, Note("feedback_refused", why, facts, "warning"), *self._quarantine(member, now)]

    def _count(self, member: Member, verdict: Verdict) -> None:
        self.verdicts[verdict] += 1
        member.tally.refused[verdict] += verdict is not Verdict.MERGED

    def _refused(self, member: Member, task_id: TaskId, reason: str, now: Nanos) -> list[Effect]:
        if task_id not in member.in_flight:
            return []
        self.members.refused(member, task_id, now, busy=reason == "busy")
        return [Note("task_refused", reason, {"node": member.node, "task": task_id}, "warning")]

    # --- the operator ---------------------------------------------------------------------------------------------

    def _drain(self, reason: str) -> list[Effect]:
        if self.phase in (Phase.FINISHING, Phase.OVER):
            self.evaluations.wait_no_longer()
            return []
        self.phase, self.outcome = Phase.FINISHING, "stopped"
        return [Note("stopping", reason)]

    # --- results --------------------------------------------------------------------------------------------------

    def _job_done(self, result: Any) -> list[Effect]:
        match result:
            case BatchesMade():
                self.training.batches_made(result)
                return [] if result.finite else self._diverged()
            case Stepped():
                self.training.stepped(result)
                figures = {"version": result.version, "gradient_norm": result.gradient_norm, "seconds": result.seconds}
                return [Measure("stepped", figures), *self._look_and_keep()]
            case Evaluated(version, scores, _, trouble):
                ceased = self.evaluations.done(result)
                lost = [Note("not_saved", trouble, {"version": version}, "warning")] if trouble else []
                return [Measure("evaluated", {"version": version, **scores}), *lost, *ceased]
            case Checkpointed():
                return self.checkpoints.done(result)
            case Kept():
                return self.shelving.kept(result)
            case Given():
                return self.swaps.adoptions.given(result)
            case Forgotten():
                return self.shelving.forgotten()
            case _:
                raise AssertionError(f"not a result of a hub's job: {result!r}")

    def _diverged(self) -> list[Effect]:
        """Nothing good can come of it any more; what the last evaluation saved stays."""
        self.phase, self.outcome = Phase.FINISHING, "failed"
        self.evaluations.none_at_the_end()
        what = f"the generator diverged at version {self.training.version} (an image is not finite)"
        self._why_failed = f"{what}: try a lower training.lr_generator"
        return [Note("diverged", self._why_failed, level="warning")]

    def _look_and_keep(self) -> list[Effect]:
        """Evaluate and write a checkpoint where these are due."""
        if self.phase is not Phase.TRAINING or self.training.complete:
            return []
        version = self.training.version
        jobs = [job for job in (self.evaluations.due(version), self.checkpoints.due(version)) if job]
        return [*self._make_batches(), *map(Run, jobs)] if jobs else []  # batches first: nodes work meanwhile

    # --- what follows from the facts ------------------------------------------------------------------------------

    def _settle(self, now: Nanos) -> list[Effect]:
        effects = self._sweep(now) if now >= self._sweep_at else []
        if self.phase is Phase.WAITING:
            effects += self._start(now)
        if self.phase is Phase.TRAINING:
            effects += self._train(now)
        if self.phase is Phase.FINISHING:
            effects += self._finish(now)
        return effects

    def _start(self, now: Nanos) -> list[Effect]:
        live = len(self.members.live)
        if self.training.complete:
            self.phase, self.outcome = Phase.FINISHING, "completed"  # it died just before its end
        elif live >= self.settings.hub.nodes_min:
            self.phase, self.started_at = Phase.TRAINING, now
            return [Note("started", f"{live} node(s) are there")]
        return []

    def _train(self, now: Nanos) -> list[Effect]:
        if self.training.complete:
            self.phase, self.outcome = Phase.FINISHING, "completed"
        if self.training.complete or self.training.stepping:
            return []
        effects = self._step(now)
        if not self.training.stepping:
            effects += self._make_batches()
            effects += self.swaps.gather(self.training.version, now)
            effects += self._dispatch(now)
        return effects

    def _sweep(self, now: Nanos) -> list[Effect]:
        late = now - self._sweep_at
        changes = self.members.sweep(now, Nanos(late if late > nanos(SWEEP_LATE_S) else 0))
        self._sweep_at = Nanos(now + nanos(SWEEP_S))
        self.training.look_at_all()
        behind = self.training.shares.behind(self.members)
        swaps = [*self.swaps.sweep(self.training.version, now), *self.shelving.sweep(now)]
        return [*(change.note() for change in changes), *swaps, *(low_share(member, part) for member, part in behind)]

    def _step(self, now: Nanos) -> list[Effect]:
        decision = self.training.decide(now)
        effects = [] if decision.reason is self._reason else self._new_reason(decision.reason)
        return effects + self._start_step() if decision.step else effects

    def _new_reason(self, reason: steprule.Reason) -> list[Effect]:
        self._reason = reason
        if reason not in (steprule.Reason.BLOCKED, steprule.Reason.TIMEOUT):
            return []
        standing = self.training.standing()
        facts = {"version": standing.version, "buffered": standing.buffered, "oldest": standing.oldest_in_flight}
        return [Note("step_rule", reason.value, facts)]

    def _start_step(self) -> list[Effect]:
        taken = self.training.take()
        if taken.step is None:
            self.training.look_at_all()  # it was all stale: those who gave it may give again
        effects = [*self._receipts(taken.stale, Verdict.STALE), *self._receipts(taken.merged, Verdict.MERGED)]
        if taken.step is None:
            return effects
        return [*effects, Measure("step", self.training.step_figures(taken.step, taken.merged)), Run(taken.step)]

    def _receipts(self, entries: tuple[Entry, ...], verdict: Verdict) -> list[Effect]:
        effects: list[Effect] = []
        for entry in entries:
            member = self.members.get(entry.contribution.node)
            assert member is not None
            self._count(member, verdict)
            if member.present:
                effects.append(self._send(member, Receipt(entry.contribution.task_id, verdict)))
        return effects

    def _make_batches(self) -> list[Effect]:
        return [Run(job)] if (job := self.training.batches_wanted()) else []

    def _dispatch(self, now: Nanos) -> list[Effect]:
        given = [] if self.swaps.barrier.holds(self.training.version, now) else self.training.dispatch(now)
        return [self._send(one.member, one.task) for one in given]

    def _finish(self, now: Nanos) -> list[Effect]:
        if self.training.stepping or self.training.making or self.checkpoints.busy:
            return []
        if self.ended_at is None:
            self.ended_at = now
        if last := self._last_jobs():
            return list(map(Run, last))
        if self.evaluations.awaited(now, stopped=self.outcome == "stopped"):
            return []
        late: list[Effect] = [*self.evaluations.given_up()]
        if farewells := self._farewell.say(self.members, now):
            return [*late, *(self._send(member, Bye(self.outcome)) for member in farewells)]
        if self._farewell.awaits(self.members, now):
            return late
        self.phase = Phase.OVER
        if self.outcome == "failed":
            return [*late, Finish(ExitCode.UNEXPECTED, "failed", self._why_failed)]
        return [*late, Finish(ExitCode.OK, self.outcome, f"{self.outcome} at version {self.training.version}")]

    def _last_jobs(self) -> list[HubJob]:
        version = self.training.version
        kept = self.checkpoints.final(version) if self.outcome != "failed" else None
        return [job for job in (kept, self.evaluations.final(version)) if job]

    def _send(self, member: Member, message: Message) -> Send:
        return Send(member.peer, message, member.header)


def _noted(change: Change | None) -> list[Effect]:
    return [] if change is None else [change.note()]
