"""The hub's decisions: who is in, what is answered, when the run starts and ends.

A run's life: WAITING (for nodes) → TRAINING → FINISHING (last evaluation, farewell) → OVER. Handlers
change one fact each; `_settle` after every event re-derives what follows from the facts: batches, dispatch, step, end.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Any, assert_never

from broker import greeting
from broker.beginning import Beginning
from broker.buffer import Entry
from broker.checkpoints import Checkpoints
from broker.directory import Directory
from broker.ending import Ending, Outcome
from broker.entrance import Door, Entrance
from broker.evaluations import Evaluations
from broker.greeting import RunFacts
from broker.jobs import BatchesMade, Checkpointed, Evaluated, Forgotten, Given, Kept, Stepped
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
        self.ownership = Ownership(facts.architecture, facts.owners, facts.issued)
        self.training = Training(
            settings.training, facts.image_shape, self.members, self.ownership, facts.version, facts.norms
        )
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
        self.ending = Ending(self.members, self.swaps, self.evaluations, self.checkpoints)
        self.started_at: Nanos | None = None  # when training started
        self._beginning = Beginning(settings.hub, facts, self.members, now)
        self._sweep_at = Nanos(now + nanos(SWEEP_S))

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
        if self.ending.farewell_by is not None:
            return min(self.ending.farewell_by, self._sweep_at)
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
        if now < member.quarantined_until and not isinstance(event.message, Ping | Bye | ByeAck | SwapReport):
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
            case _ if isinstance(message, PeerMessage) and message.sender == member.node:
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
                return self._garbled(member.peer, "type", f"{type(message).__name__} is not its to say to a hub", now)

    @property
    def ended_at(self) -> Nanos | None:
        """When nothing was under way any more."""
        return self.ending.ended_at

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
        return self._sign_of_life(member, now) if member is not None and member.present else []

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
        self.members.judged(member, verdict)

    def _refused(self, member: Member, task_id: TaskId, reason: str, now: Nanos) -> list[Effect]:
        if task_id not in member.in_flight:
            return []
        self.members.refused(member, task_id, now, busy=reason == "busy")
        return [Note("task_refused", reason, {"node": member.node, "task": task_id}, "warning")]

    # --- the operator ---------------------------------------------------------------------------------------------

    def _drain(self, reason: str) -> list[Effect]:
        if self.phase in (Phase.FINISHING, Phase.OVER):
            self.ending.hurry()
            return []
        self._end("stopped")
        return [Note("stopping", reason)]

    # --- results --------------------------------------------------------------------------------------------------

    def _job_done(self, result: Any) -> list[Effect]:
        match result:
            case BatchesMade():
                self.training.batches_made(result)
                return [] if result.finite else self._diverged("an image")
            case Stepped():
                self.training.stepped(result)
                figures = {"version": result.version, "gradient_norm": result.gradient_norm, "seconds": result.seconds}
                bad = [] if math.isfinite(result.gradient_norm) else self._diverged("its gradient")
                return [Measure("stepped", figures), *bad, *self._look_and_keep()]
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

    def _diverged(self, what: str) -> list[Effect]:
        """Nothing good can come of it any more; what the last evaluation saved stays."""
        self._end("failed")
        return [self.ending.diverged(self.training.version, what)]

    def _end(self, outcome: Outcome) -> None:
        self.phase, self.ending.outcome = Phase.FINISHING, outcome

    def _look_and_keep(self) -> list[Effect]:
        """Evaluate and write a checkpoint where these are due."""
        if self.phase is not Phase.TRAINING or self.training.complete:
            return []
        version = self.training.version
        due = (self.evaluations.due(version), self.checkpoints.due(version, self.training.norms))
        jobs = [job for job in due if job]
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
        if self.training.complete:
            self._end("completed")  # it died just before its end
        elif self._beginning.is_due(now):
            self.phase, self.started_at = Phase.TRAINING, now
            return [Note("started", f"{len(self.members.live)} node(s) are there")]
        return []

    def _train(self, now: Nanos) -> list[Effect]:
        if self.training.complete:
            self._end("completed")
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
        behind = self.training.shares.behind(self.members.there(now))
        dead = [one.node for one in changes if one.state is MemberState.DEAD and self.phase is Phase.TRAINING]
        swaps = [*self.swaps.sweep(self.training.version, now), *self.shelving.sweep(dead, now)]
        return [*(change.note() for change in changes), *swaps, *(low_share(member, part) for member, part in behind)]

    def _step(self, now: Nanos) -> list[Effect]:
        decision = self.training.decide(now)
        effects: list[Effect] = [*self.training.new_reason(decision.reason)]
        return effects + self._start_step() if decision.step else effects

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
            node, task = entry.contribution.node, entry.contribution.task_id
            member = self.members.known(node)
            self._count(member, verdict)
            if member.present:
                effects.append(self._send(member, Receipt(task, verdict)))
            if verdict is not Verdict.MERGED:
                facts = {"node": node, "task": task, "verdict": verdict}
                effects.append(Note("feedback_refused", verdict.value, facts))
        return effects

    def _make_batches(self) -> list[Effect]:
        return [Run(job)] if (job := self.training.batches_wanted()) else []

    def _dispatch(self, now: Nanos) -> list[Effect]:
        given = [] if self.swaps.barrier.holds(self.training.version, now) else self.training.dispatch(now)
        return [self._send(one.member, one.task) for one in given]

    def _finish(self, now: Nanos) -> list[Effect]:
        ended = self.swaps.close(now)
        if self.training.stepping or self.training.making or self.checkpoints.busy:
            return ended
        ended += self.ending.go_on(self.training.version, self.training.norms, now)
        if self.ending.over:
            self.phase = Phase.OVER
        return ended

    def _send(self, member: Member, message: Message) -> Send:
        return Send(member.peer, message, member.header)


def _noted(change: Change | None) -> list[Effect]:
    return [] if change is None else [change.note()]
