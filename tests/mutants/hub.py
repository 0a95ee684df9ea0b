"""Broken versions of the hub, one defect each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from broker import admission, schedule, steprule
from broker.admission import NormGuard
from broker.buffer import FeedbackBuffer
from broker.core import HubCore
from broker.entrance import Entrance
from broker.member import Member, MemberState
from broker.membership import Membership
from broker.ownership import Ownership
from broker.training import Training
from mdgan_edge.actors import Header, Received, Send
from mdgan_edge.messages import AssignedDiscriminator, Bye, DiscriminatorId, Error, ErrorCode, Ping, Task
from tests.mutants.planting import always, broken, caught_by


@caught_by("applied_once")
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


@caught_by("staleness_bounded")
def stale_feedback_is_merged() -> Any:
    return broken(admission, "refusal_by_age", always(None))


@caught_by("applied_once")
def feedback_is_counted_twice() -> Any:
    def twice(true: Any) -> Any:
        def take(self: FeedbackBuffer, *args: Any) -> Any:
            kept = list(self._entries)
            taken = true(self, *args)
            self._entries = kept
            return taken

        return take

    return broken(FeedbackBuffer, "take", twice)


@caught_by("dead_incarnations_silent")
def a_lost_session_is_not_answered() -> Any:
    return broken(HubCore, "_no_session", always([]))


@caught_by("dead_incarnations_silent")
def the_session_is_not_looked_at() -> Any:
    def careless(true: Any) -> Any:
        def received(self: HubCore, event: Received, now: Any) -> Any:
            member = self.members.get(event.sender.node)
            if member is not None and member.present:
                event = Received(event.sender, member.header, event.message)
            return true(self, event, now)

        return received

    return broken(HubCore, "_received", careless)


@caught_by("credit_kept")
def credit_is_ignored() -> Any:
    return broken(schedule, "may_have_task", lambda _: lambda member, *_args: len(member.in_flight) < 40)


@caught_by("weight_bounded")
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


@caught_by("sound_feedback")
def nothing_is_clipped() -> Any:
    return broken(NormGuard, "scales", lambda _: lambda _self, norms: [1.0] * len(norms))


@caught_by("sound_feedback")
def anything_may_be_feedback() -> Any:
    return broken(admission, "refusal_by_content", always(None))


@caught_by("weight_bounded")
def staleness_has_no_weight() -> Any:
    return broken(steprule, "staleness_weight", always(1.5))


@caught_by("no_work_after_leave")
def leavers_are_still_given_work() -> Any:
    def deaf(true: Any) -> Any:
        def end(self: Membership, member: Member, state: MemberState, why: str) -> Any:
            if state is not MemberState.LEFT:
                return true(self, member, state, why)
            return None

        return end

    return broken(Membership, "end", deaf)


@caught_by("credit_kept")
def the_dead_keep_their_tasks() -> Any:
    return broken(Membership, "_take_back", always(()))


@caught_by("no_starvation")
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


@caught_by("version_by_one")
def a_step_skips_a_version() -> Any:
    def skipping(true: Any) -> Any:
        def stepped(self: Training, result: Any) -> None:
            true(self, result)
            self.version += 1  # type: ignore[assignment]

        return stepped

    return broken(Training, "stepped", skipping)


@caught_by("no_starvation")
def suspects_are_never_trusted_again() -> Any:
    return broken(Membership, "_trust", always(None))


@caught_by("version_advances")
def nobody_is_ever_suspected() -> Any:
    return broken(Membership, "sweep", always([]))


@caught_by("healthy_not_evicted")
def everybody_is_soon_dead() -> Any:
    def hasty(true: Any) -> Any:
        def made(self: Membership, settings: Any) -> None:
            true(self, settings)
            self._death = self._silence = 10**9  # type: ignore[assignment]

        return made

    return broken(Membership, "__init__", hasty)


@caught_by("one_owner")
def one_discriminator_for_all() -> Any:
    def one(_: Any) -> Any:
        return lambda *_: AssignedDiscriminator(DiscriminatorId("d1"), 0, action="init")

    return broken(Ownership, "assign", one)


@caught_by("current_incarnation")
def a_former_start_is_still_merged() -> Any:
    return broken(Entrance, "_fence", always(None))


@caught_by("dead_incarnations_silent")
def old_sessions_get_work() -> Any:
    def stale_header(true: Any) -> Any:
        def send(self: HubCore, member: Member, message: Any) -> Send:
            made = true(self, member, message)
            if isinstance(message, Task) and member.tally.rejoined:
                return Send(made.to, message, Header(made.header.epoch, made.header.session - 1))
            return made

        return send

    return broken(HubCore, "_send", stale_header)


@caught_by("one_verdict_each")
def feedback_is_forgotten() -> Any:
    def forgetful(true: Any) -> Any:
        def admit(self: Training, member: Member, message: Any, now: Any) -> Any:
            verdict = true(self, member, message, now)
            if verdict is None:
                self._buffer.purge(member.node)
            return verdict

        return admit

    return broken(Training, "admit", forgetful)


@caught_by("version_advances")
def old_feedback_is_never_waited_for_and_never_taken() -> Any:
    return broken(steprule, "_why_wait", always(steprule.Reason.SHORT))


@caught_by("exits_explained")
def a_hub_that_says_superseded_to_everybody() -> Any:
    def stern(true: Any) -> Any:
        def refuse(self: Entrance, sender: Any, hello: Any, door: Any) -> Any:
            if self._members.get(sender.node) is not None:
                return Error(ErrorCode.SUPERSEDED, "go away", fatal=True)
            return true(self, sender, hello, door)

        return refuse

    return broken(Entrance, "_refusal", stern)


@caught_by("no_work_after_leave")
def goodbyes_are_lost() -> Any:
    def deaf(true: Any) -> Any:
        def from_member(self: HubCore, member: Member, message: Any, now: Any) -> Any:
            return [] if isinstance(message, Bye) else true(self, member, message, now)

        return from_member

    return broken(HubCore, "_from_member", deaf)


@caught_by("replay_equal")
def task_numbers_go_on_from_another_hub() -> Any:
    numbers = itertools.count(1)

    def give(true: Any) -> Any:
        def give_task(self: Training, *args: Any) -> Any:
            self._next_task = next(numbers)
            return true(self, *args)

        return give_task

    return broken(Training, "_give_task", give)


@caught_by("one_verdict_each")
def refusals_are_not_counted() -> Any:
    return broken(HubCore, "_count", always(None))


@caught_by("discriminator_kept")
def nobody_is_believed_to_hold_its_own() -> Any:
    return broken(Ownership, "_is_mine", always(False))


@caught_by("healthy_not_evicted")
def signs_of_life_do_not_count() -> Any:
    return broken(Membership, "heard", always(None))


@caught_by("queues_bounded")
def feedback_piles_up() -> Any:
    """The step never comes, and the quota is no limit."""

    @contextmanager
    def both() -> Iterator[None]:
        with the_quota_is_ignored(), broken(steprule, "decide", always(steprule.WAIT[steprule.Reason.SHORT])):
            yield

    return both()


def nothing_is_clipped_before_there_is_a_median() -> Any:
    """Only to be seen where somebody lies from the start: tests/test_early_lies.py."""

    def trusting(true: Any) -> Any:
        def scales(self: NormGuard, norms: Any) -> Any:
            young = len(self.recent) < admission.NORMS_MIN
            found = true(self, norms)
            return [1.0] * len(norms) if young else found

        return scales

    return broken(NormGuard, "scales", trusting)


def labels_are_forgotten() -> Any:
    """Only to be seen where nodes name their classes: at fidelity `full`."""

    def forgetful(true: Any) -> Any:
        def join(self: Membership, *args: Any) -> Member:
            member: Member = true(self, *args)
            member.labels = None
            return member

        return join

    return broken(Membership, "join", forgetful)


@caught_by("weight_bounded")
def clipping_is_in_the_divisor() -> Any:
    def shortened(true: Any) -> Any:
        def take(self: FeedbackBuffer, *args: Any) -> Any:
            taken = true(self, *args)
            if taken.step is None:
                return taken
            weights = sum(one.weight for one in taken.step.contributions)
            return replace(taken, step=replace(taken.step, divisor=weights))

        return take

    return broken(FeedbackBuffer, "take", shortened)


@caught_by("exits_explained")
def a_hub_that_sends_everybody_home() -> Any:
    def tired(true: Any) -> Any:
        def from_member(self: HubCore, member: Member, message: Any, now: Any) -> Any:
            effects = true(self, member, message, now)
            return [*effects, self._send(member, Bye("completed"))] if isinstance(message, Ping) else effects

        return from_member

    return broken(HubCore, "_from_member", tired)
