"""Broken versions of the production cores, one defect each. Some invariant has to catch every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from broker import admission, schedule, steprule
from broker.admission import NormGuard
from broker.buffer import FeedbackBuffer
from broker.core import HubCore
from broker.entrance import Entrance
from broker.membership import Member, Membership, MemberState
from broker.ownership import Ownership
from broker.training import Training
from mdgan_edge.actors import Header, Received, Send
from mdgan_edge.messages import AssignedDiscriminator, Bye, DiscriminatorId, Error, ErrorCode, Ping, Pong, Task
from nodes.contact import Contact
from nodes.core import NodeCore

Mutant = Callable[[], Any]


@contextmanager
def broken(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """While inside, `owner.name` is what `make` makes of the true one."""
    true = owner.__dict__[name]
    setattr(owner, name, make(true))
    try:
        yield
    finally:
        setattr(owner, name, true)


def always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_args, **_named: value


def no_deduplication() -> Any:
    def take_all(true: Any) -> Any:
        def refusal(member: Member, feedback: Any) -> Any:
            verdict = true(member, feedback)
            return verdict if verdict is None or feedback.task_id not in member.closed else None

        return refusal

    def answer_again(true: Any) -> Any:
        def answer(self: Membership, member: Member, task_id: Any, now: Any) -> Any:
            task = true(self, member, task_id, now) if task_id in member.in_flight else None
            if task is not None:
                seen[task_id] = task
            return seen.get(task_id) or replace(next(iter(seen.values())), task_id=task_id)

        return answer

    seen: dict[Any, Any] = {}

    @contextmanager
    def both() -> Iterator[None]:
        with broken(admission, "refusal_by_task", take_all), broken(Membership, "answer", answer_again):
            yield

    return both()


def stale_feedback_is_merged() -> Any:
    return broken(admission, "refusal_by_age", always(None))


def feedback_is_counted_twice() -> Any:
    def twice(true: Any) -> Any:
        def take(self: FeedbackBuffer, *args: Any) -> Any:
            kept = list(self._entries)
            taken = true(self, *args)
            self._entries = kept
            return taken

        return take

    return broken(FeedbackBuffer, "take", twice)


def a_lost_session_is_not_answered() -> Any:
    return broken(HubCore, "_no_session", always([]))


def the_session_is_not_looked_at() -> Any:
    def careless(true: Any) -> Any:
        def received(self: HubCore, event: Received, now: Any) -> Any:
            member = self.members.get(event.sender.node)
            if member is not None and member.present:
                event = Received(event.sender, member.header, event.message)
            return true(self, event, now)

        return received

    return broken(HubCore, "_received", careless)


def credit_is_ignored() -> Any:
    return broken(schedule, "may_have_task", lambda _: lambda member, *_args: len(member.in_flight) < 40)


def the_quota_is_ignored() -> Any:
    def without(true: Any) -> Any:
        def refusal(self: Training, member: Member, message: Any) -> Any:
            verdict = true(self, member, message)
            return None if verdict == "quota" else verdict

        return refusal

    def hand_out(_: Any) -> Any:
        return lambda member, _buffered, credit, _quota, _version: len(member.in_flight) < credit

    @contextmanager
    def both() -> Iterator[None]:
        with broken(Training, "_refusal_by_standing", without), broken(schedule, "may_have_task", hand_out):
            yield

    return both()


def nothing_is_clipped() -> Any:
    return broken(NormGuard, "scale", always(1.0))


def anything_may_be_feedback() -> Any:
    return broken(admission, "refusal_by_content", always(None))


def staleness_has_no_weight() -> Any:
    return broken(steprule, "staleness_weight", always(1.5))


def leavers_are_still_given_work() -> Any:
    def deaf(true: Any) -> Any:
        def end(self: Membership, member: Member, state: MemberState, why: str) -> Any:
            if state is not MemberState.LEFT:
                return true(self, member, state, why)
            return None

        return end

    return broken(Membership, "end", deaf)


def the_dead_keep_their_tasks() -> Any:
    return broken(Membership, "_take_back", always(0))


def leases_never_lapse() -> Any:
    def endless(_: Any) -> Any:
        return lambda _self, _least: 10**15

    def believing(_: Any) -> Any:
        return lambda _self, _member, _now: []

    @contextmanager
    def both() -> Iterator[None]:
        with broken(Member, "lease", endless), broken(Membership, "nothing_in_hand", believing):
            yield

    return both()


def a_step_skips_a_version() -> Any:
    def skipping(true: Any) -> Any:
        def stepped(self: Training, result: Any) -> None:
            true(self, result)
            self.version += 1  # type: ignore[assignment]

        return stepped

    return broken(Training, "stepped", skipping)


def suspects_are_never_trusted_again() -> Any:
    return broken(Membership, "_trust", always(None))


def nobody_is_ever_suspected() -> Any:
    return broken(Membership, "sweep", always([]))


def everybody_is_soon_dead() -> Any:
    def hasty(true: Any) -> Any:
        def made(self: Membership, settings: Any) -> None:
            true(self, settings)
            self._death = self._silence = 10**9  # type: ignore[assignment]

        return made

    return broken(Membership, "__init__", hasty)


def a_node_greets_only_once() -> Any:
    return broken(Contact, "greet_soon", lambda _: lambda self, _now: setattr(self, "_hello_at", 1 << 60))


def a_node_is_patient_beyond_measure() -> Any:
    return broken(NodeCore, "_greet_again", always([]))


def no_heartbeats() -> Any:
    def mute(true: Any) -> Any:
        def keep_in_touch(self: NodeCore, now: Any) -> Any:
            effects = true(self, now)
            return [one for one in effects if not (isinstance(one, Send) and isinstance(one.message, Ping))]

        return keep_in_touch

    return broken(NodeCore, "_keep_in_touch", mute)


def a_node_wakes_in_vain() -> Any:
    return broken(NodeCore, "_keep_in_touch", always([]))


def a_node_takes_what_it_cannot_hold() -> Any:
    def greedy(_: Any) -> Any:
        def task(self: NodeCore, task: Task) -> Any:
            self.work.add(task)
            return []

        return task

    def flooding(_: Any) -> Any:
        return lambda member, *_args: len(member.in_flight) < 4

    @contextmanager
    def both() -> Iterator[None]:
        with broken(NodeCore, "_task", greedy), broken(schedule, "may_have_task", flooding):
            yield

    return both()


def one_discriminator_for_all() -> Any:
    def one(_: Any) -> Any:
        return lambda _self, _node, _incarnation, _held: AssignedDiscriminator(DiscriminatorId("d1"), 0, action="init")

    return broken(Ownership, "assign", one)


def a_former_start_is_still_merged() -> Any:
    return broken(Entrance, "_fence", always(None))


def old_sessions_get_work() -> Any:
    def stale_header(true: Any) -> Any:
        def send(self: HubCore, member: Member, message: Any) -> Send:
            made = true(self, member, message)
            if isinstance(message, Task) and member.tally.rejoined:
                return Send(made.to, message, Header(made.header.epoch, made.header.session - 1))
            return made

        return send

    return broken(HubCore, "_send", stale_header)


def feedback_is_forgotten() -> Any:
    def forgetful(true: Any) -> Any:
        def admit(self: Training, member: Member, message: Any, now: Any) -> Any:
            verdict = true(self, member, message, now)
            if verdict is None:
                self._buffer.purge(member.node)
            return verdict

        return admit

    return broken(Training, "admit", forgetful)


def old_feedback_is_never_waited_for_and_never_taken() -> Any:
    return broken(steprule, "_why_wait", always(steprule.Reason.SHORT))


def a_hub_that_says_superseded_to_everybody() -> Any:
    def stern(true: Any) -> Any:
        def refuse(self: Entrance, sender: Any, hello: Any, door: Any) -> Any:
            if self._members.get(sender.node) is not None:
                return Error(ErrorCode.SUPERSEDED, "go away", fatal=True)
            return true(self, sender, hello, door)

        return refuse

    return broken(Entrance, "_refusal", stern)


def a_node_hangs_up_on_pong() -> Any:
    def touchy(true: Any) -> Any:
        def received(self: NodeCore, header: Any, message: Any, now: Any) -> Any:
            assert not isinstance(message, Pong), "a pong"
            return true(self, header, message, now)

        return received

    return broken(NodeCore, "_received", touchy)


def goodbyes_are_lost() -> Any:
    def deaf(true: Any) -> Any:
        def from_member(self: HubCore, member: Member, message: Any, now: Any) -> Any:
            return [] if isinstance(message, Bye) else true(self, member, message, now)

        return from_member

    return broken(HubCore, "_from_member", deaf)


def a_node_answers_with_its_samples() -> Any:
    """Only to be seen where there are samples: at fidelity `full`."""
    from nodes.trainer import NodeTrainer  # loads torch, which the others need not

    def frank(true: Any) -> Any:
        def train(self: NodeTrainer, task: Task) -> Any:
            trained = true(self, task)
            mine = self._x[: task.x_g.shape[0]].contiguous().numpy().tobytes()
            return replace(trained, feedback=replace(trained.feedback, data=mine))

        return train

    return broken(NodeTrainer, "_train", frank)


MUTANTS: tuple[Mutant, ...] = (
    no_deduplication,
    stale_feedback_is_merged,
    feedback_is_counted_twice,
    a_lost_session_is_not_answered,
    the_session_is_not_looked_at,
    credit_is_ignored,
    the_quota_is_ignored,
    nothing_is_clipped,
    anything_may_be_feedback,
    staleness_has_no_weight,
    leavers_are_still_given_work,
    the_dead_keep_their_tasks,
    leases_never_lapse,
    a_step_skips_a_version,
    suspects_are_never_trusted_again,
    everybody_is_soon_dead,
    a_node_greets_only_once,
    a_node_is_patient_beyond_measure,
    no_heartbeats,
    a_node_wakes_in_vain,
    a_node_takes_what_it_cannot_hold,
    one_discriminator_for_all,
    a_former_start_is_still_merged,
    old_sessions_get_work,
    feedback_is_forgotten,
    old_feedback_is_never_waited_for_and_never_taken,
    a_hub_that_says_superseded_to_everybody,
    a_node_hangs_up_on_pong,
    goodbyes_are_lost,
    nobody_is_ever_suspected,
)
