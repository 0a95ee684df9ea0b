"""Who is live and what is in flight: ranks, leases that follow a node's pace, and what an ended task leaves behind."""

from __future__ import annotations

import pytest

from broker.member import CLOSED_TASKS_MAX, FIRST, Change, Member, MemberState, median
from broker.membership import REFUSAL_DOUBLINGS_MAX, REFUSAL_PAUSE_S, Membership
from mdgan_edge.actors import Nanos, Peer, nanos
from mdgan_edge.messages import DiscriminatorId, NodeId, Ping, Refuse, Task, TaskId, Verdict, Version
from mdgan_edge.settings import HubSettings
from tests.hub_world import ALICE, BOB, CAROL, hello, sent, training_world

START = nanos(100.0)
D = (DiscriminatorId("d"), 0)
ON_TIME = Nanos(0)


def joined(*nodes: NodeId) -> Membership:
    members = Membership(HubSettings())
    for node in nodes:
        members.join(Peer(node), hello(), D, 0, START)
    return members


def one_of(members: Membership, node: NodeId) -> Member:
    member = members.get(node)
    assert member is not None
    return member


def after(seconds: float) -> Nanos:
    return Nanos(START + nanos(seconds))


def answer_after(members: Membership, member: Member, task: int, seconds: float) -> None:
    members.give(member, TaskId(task), Version(0), 0, START)
    members.answer(member, TaskId(task), after(seconds))


def test_a_rank_is_the_place_among_the_live_in_ascending_order() -> None:
    members = joined(CAROL, ALICE, BOB)
    assert [members.rank(node) for node in (ALICE, BOB, CAROL)] == [0, 1, 2]
    members.end(one_of(members, BOB), MemberState.LEFT, "bye")
    assert ([members.rank(node) for node in (ALICE, CAROL)], members.is_live(BOB)) == ([0, 1], False)


def test_the_oldest_version_in_flight_is_that_of_live_members() -> None:
    members = joined(ALICE, BOB)
    alice, bob = one_of(members, ALICE), one_of(members, BOB)
    assert members.oldest_in_flight(FIRST) is None
    members.give(alice, TaskId(1), Version(3), 0, START)
    members.give(bob, TaskId(2), Version(5), 0, START)
    assert [members.oldest_in_flight(Version(since)) for since in (3, 4, 6)] == [3, 5, None]
    members.drain(alice)
    assert members.oldest_in_flight(FIRST) == 5
    members.answer(alice, TaskId(1), after(1))  # not counted any more, so nothing is subtracted
    members.answer(bob, TaskId(2), after(2))
    assert members.oldest_in_flight(FIRST) is None


def test_a_suspect_that_is_trusted_again_counts_with_what_it_still_has_in_hand() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(3), 0, START)
    assert members.sweep(after(7), ON_TIME) == [Change(ALICE, MemberState.SUSPECT, "silent for 7.0 s")]
    assert (members.live, members.oldest_in_flight(FIRST)) == ([], None)
    assert members.heard(alice, after(8)) == Change(ALICE, MemberState.ACTIVE, "heard from again")
    assert (members.live, members.oldest_in_flight(FIRST)) == ([ALICE], 3)


def test_a_first_lease_is_generous_and_the_next_follow_the_node_s_pace() -> None:
    members = joined(ALICE)
    alice, least = one_of(members, ALICE), nanos(10.0)
    assert alice.lease(least) == nanos(60.0)
    answer_after(members, alice, 1, 1.0)
    assert alice.lease(least) == least  # never below
    for task, seconds in enumerate((20.0, 22.0, 24.0, 26.0), start=2):
        answer_after(members, alice, task, seconds)
    # task times 1, 20, 22, 24, 26: median 22, deviations 0, 2, 2, 4, 21
    assert alice.lease(least) == nanos(22.0 + 8.0 * 2.0)


def test_the_median_of_an_even_number_is_the_upper_one() -> None:
    assert [median([3, 1, 2]), median([4, 1, 3, 2]), median([7])] == [2, 3, 7]


def test_a_lease_lapses_at_its_time_and_not_before() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(0), 0, START)
    members.heard(alice, after(59))
    assert members.sweep(after(59.9), ON_TIME) == []
    assert members.sweep(after(60), ON_TIME) == [
        Change(ALICE, MemberState.SUSPECT, "1 task(s) not answered within the lease", (TaskId(1),))
    ]
    assert members.heard(alice, after(61)) is None  # it still owes an answer
    assert members.forgive(alice, after(61)) == Change(ALICE, MemberState.ACTIVE, "heard from again")


def test_lateness_of_the_sweep_is_granted_to_leases_and_to_silence() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(0), 0, START)
    assert members.sweep(after(65), nanos(60)) == []
    assert alice.in_flight[TaskId(1)].expires_at == after(120)
    assert alice.last_seen == after(60)


def test_only_the_last_ended_tasks_are_remembered() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    for task in range(CLOSED_TASKS_MAX + 2):
        answer_after(members, alice, task, 1.0)
    assert list(alice.closed) == list(range(2, CLOSED_TASKS_MAX + 2))


def test_a_new_session_voids_what_the_old_one_had_in_hand() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(0), 0, START)
    first = alice.session
    assert members.join(Peer(ALICE), hello(2), D, 0, START) is alice
    assert (alice.session, alice.in_flight, alice.closed) == (first + 1, {}, {TaskId(1): False})
    assert (members.live, members.oldest_in_flight(FIRST), alice.tally.rejoined) == ([ALICE], None, 1)


def test_turns_count_the_tasks_of_one_version() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(4), 0, START)
    assert (members.turn(alice, Version(4)), members.turn(alice, Version(5))) == (1, 0)
    members.give(alice, TaskId(2), Version(5), 0, START)
    assert (members.turn(alice, Version(5)), members.turn(alice, Version(4))) == (1, 0)


@pytest.mark.parametrize("state", [MemberState.DEAD, MemberState.LEFT])
def test_a_revoked_member_neither_dies_nor_leaves(state: MemberState) -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.end(alice, MemberState.REVOKED, "revoked by the operator")
    with pytest.raises(AssertionError, match="cannot become"):
        members.end(alice, state, "no")


def pause_after_refusal(members: Membership, member: Member, task: int) -> Nanos:
    """For how long the member is left alone once it has refused one more task."""
    members.give(member, TaskId(task), Version(0), 0, START)
    members.refused(member, TaskId(task), after(1), busy=True)
    return Nanos(member.paused_until - after(1))


def test_a_refused_task_comes_back_and_counts_as_not_answered() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    pause_after_refusal(members, alice, 1)
    assert (alice.in_flight, alice.closed, alice.tally.tasks) == ({}, {TaskId(1): False}, 0)
    assert (members.live, list(alice.task_times)) == ([ALICE], [])  # it lives, and its pace is still unknown


def test_a_node_that_refuses_is_left_alone_twice_as_long_each_time_up_to_a_bound() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    pauses = [pause_after_refusal(members, alice, task) for task in range(REFUSAL_DOUBLINGS_MAX + 3)]
    doubled = [nanos(REFUSAL_PAUSE_S * 2**times) for times in range(REFUSAL_DOUBLINGS_MAX + 1)]
    assert pauses == [*doubled, doubled[-1], doubled[-1]]


def test_refusals_of_one_node_do_not_hold_up_another() -> None:
    members = joined(ALICE, BOB)
    alice, bob = one_of(members, ALICE), one_of(members, BOB)
    assert [pause_after_refusal(members, alice, task) for task in (1, 2)] == [nanos(1.0), nanos(2.0)]
    assert pause_after_refusal(members, bob, 3) == nanos(1.0)


def test_after_an_answer_the_next_pause_is_short_again() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    assert [pause_after_refusal(members, alice, task) for task in (1, 2)] == [nanos(1.0), nanos(2.0)]
    answer_after(members, alice, 3, 2.0)
    assert pause_after_refusal(members, alice, 4) == nanos(1.0)


def test_a_node_with_nothing_in_hand_is_left_alone_no_longer_and_its_next_pause_is_short_again() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    assert [pause_after_refusal(members, alice, task) for task in (1, 2)] == [nanos(1.0), nanos(2.0)]
    assert members.nothing_in_hand(alice, after(1.5)) == []
    assert alice.paused_until <= after(1.5)
    assert pause_after_refusal(members, alice, 3) == nanos(1.0)


def test_a_heartbeat_ends_a_pause_only_if_it_names_no_task() -> None:
    world = training_world(ALICE, credit=2)
    world.say(ALICE, Refuse(TaskId(1), "busy"))
    assert sent(world.say(ALICE, Ping(0, TaskId(7))), Task) == []
    assert [task.task_id for _, task in sent(world.say(ALICE, Ping(0, None)), Task)] == [TaskId(2)]


def test_a_node_that_refused_since_its_answer_is_not_finite_is_left_alone_whatever_it_has_in_hand() -> None:
    world = training_world(ALICE, credit=2)
    world.say(ALICE, Refuse(TaskId(1), "diverged"))
    assert sent(world.say(ALICE, Ping(0, None)), Task) == []


def lost_to(answered_after_s: float | None, at_s: float) -> bool:
    """Whether a task sent at the start is given up, as its node, which has answered one so fast, has none in hand."""
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    if answered_after_s is not None:
        answer_after(members, alice, 1, answered_after_s)
    members.give(alice, TaskId(2), Version(0), 0, START)
    return bool(members.nothing_in_hand(alice, after(at_s)))


def test_what_a_node_says_it_does_not_have_is_lost_once_it_is_older_than_its_slowest_answer() -> None:
    lease = HubSettings().lease_s
    assert (lost_to(1.0, lease - 0.1), lost_to(1.0, lease)) == (False, True)
    slow = 4 * lease  # its line takes that long
    assert (lost_to(slow, slow - 0.1), lost_to(slow, slow)) == (False, True)


def test_a_first_task_is_lost_only_after_two_leases_since_nobody_knows_how_slow_the_line_is() -> None:
    lease = HubSettings().lease_s
    assert (lost_to(None, 2 * lease - 0.1), lost_to(None, 2 * lease)) == (False, True)


def test_what_waits_behind_another_task_has_a_lease_more() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    answer_after(members, alice, 1, 1.0)
    expires = [members.give(alice, TaskId(task), Version(0), 0, START).expires_at for task in (2, 3)]
    assert expires == [after(10), after(20)]


def late(members: Membership, member: Member, task: int, seconds: float) -> None:
    """Given at the start, its lease lapses, and it comes after so many seconds."""
    given = members.give(member, TaskId(task), Version(0), 0, START)
    members.heard(member, given.expires_at)
    members.sweep(given.expires_at, ON_TIME)
    members.answered_late(member, TaskId(task), after(seconds))
    members.forgive(member, after(seconds))


def test_a_late_answer_says_that_the_pace_has_changed() -> None:
    members = joined(ALICE)
    alice, least = one_of(members, ALICE), nanos(10.0)
    for task in range(20):
        answer_after(members, alice, task, 1.0)
    late(members, alice, 20, 35.0)
    assert alice.lease(least) == nanos(2 * 35.0)
    answer_after(members, alice, 21, 35.0)
    answer_after(members, alice, 22, 36.0)
    assert alice.lease(least) == nanos(35.0)  # three times: median and MAD, as ever


def test_one_that_is_very_late_does_not_get_an_endless_lease_at_once() -> None:
    members = joined(ALICE)
    alice, least = one_of(members, ALICE), nanos(10.0)
    late(members, alice, 1, 100_000.0)
    assert alice.lease(least) == nanos(2 * 4 * 60.0)


def test_a_late_answer_counts_once_and_those_before_it_are_lost() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    for task in (1, 2):
        members.give(alice, TaskId(task), Version(0), 0, START)
    members.heard(alice, after(120))
    members.sweep(after(120), ON_TIME)
    for _ in range(2):
        members.answered_late(alice, TaskId(2), after(130))
    members.answered_late(alice, TaskId(1), after(140))
    assert (list(alice.task_times), alice.lapsed) == ([nanos(130)], {})


def test_who_was_too_late_again_and_again_is_owed_patience_until_something_is_merged() -> None:
    members = joined(ALICE)
    alice = one_of(members, ALICE)
    members.give(alice, TaskId(1), Version(3), 0, START)
    for verdict in (Verdict.LATE, Verdict.STALE, Verdict.FENCED):
        members.judged(alice, verdict)
        assert not members.is_owed(Version(4))
    members.judged(alice, Verdict.STALE)
    assert [members.is_owed(Version(before)) for before in (3, 4)] == [False, True]
    members.judged(alice, Verdict.MERGED)
    assert not members.is_owed(Version(4))
