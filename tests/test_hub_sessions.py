"""Who is in: greeting, sessions, leases, suspicion, quarantine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from broker.greeting import node_terms
from broker.jobs import MakeBatches
from broker.ownership import Owner, Record
from mdgan_edge.actors import LOST_PART, Garbled, Header, Heard, Note, Peer, Persist, Run, Send, nanos
from mdgan_edge.messages import (
    AssignedDiscriminator,
    DiscriminatorId,
    Epoch,
    Error,
    ErrorCode,
    Incarnation,
    NodeId,
    Ping,
    Pong,
    Receipt,
    Session,
    Task,
    TaskId,
    Verdict,
    Version,
    Welcome,
)
from tests.hub_world import (
    ALICE,
    BOB,
    CAROL,
    FACTS,
    START_S,
    HubWorld,
    batch_of,
    errors,
    hello,
    sent,
    training_world,
)

NO_SESSION_TEXT = "say HELLO: the hub knows no such session"


def member_note(node: NodeId, state: str, why: str, *tasks: int) -> Note:
    facts = {"node": node, "state": state, "tasks": list(tasks)}
    return Note("member", why, facts, "info" if state in ("active", "left") else "warning")


# --- greeting -----------------------------------------------------------------------------------------------------


def test_the_first_hello_is_welcomed_and_the_first_node_starts_the_run() -> None:
    world = HubWorld()
    effects = world.greet(ALICE)
    assigned = AssignedDiscriminator(DiscriminatorId("d1-alice"), 0, "init")
    welcome = Welcome("run-1", ALICE, 2.0, 10.0, 2, 8, assigned, "d-784", node_terms(world.settings))
    facts = {
        "node": ALICE,
        "incarnation": 1,
        "shard_size": 100,
        "discriminator": "d1-alice",
        "action": "init",
        "software": "test",
    }
    assert effects == [
        Persist(Record((Owner(ALICE, Incarnation(1), DiscriminatorId("d1-alice"), 0),), issued=1)),
        Send(Peer(ALICE), welcome, Header(FACTS.epoch, Session(1))),
        Note("joined", "new here", facts),
        Note("started", "1 node(s) are there"),
        Run(MakeBatches(Version(0), 2)),
    ]


def test_a_task_carries_the_paper_s_two_batches() -> None:
    world = HubWorld({"nodes_min": 2})
    world.greet(ALICE, BOB)
    effects = world.work()
    zero, one = (batch_of(Version(0), index).images for index in (0, 1))
    assert effects == [
        Send(Peer(ALICE), Task(TaskId(1), Version(0), 60.0, 1, x_d=one, x_g=zero), world.header(ALICE)),
        Send(Peer(BOB), Task(TaskId(2), Version(0), 60.0, 1, x_d=zero, x_g=one), world.header(BOB)),
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"protocol_min": 2, "protocol_max": 3}, ErrorCode.VERSION),
        ({"protocol_min": 0, "protocol_max": 0}, ErrorCode.VERSION),
        ({"image_shape": (3, 8, 8)}, ErrorCode.ARCHITECTURE),
        ({"model": "cnn28"}, ErrorCode.ARCHITECTURE),
        ({"shard_size": 1}, ErrorCode.ARCHITECTURE),
    ],
)
def test_a_node_that_does_not_fit_is_told_why_for_good(changes: dict[str, Any], code: ErrorCode) -> None:
    world = HubWorld()
    effects = world.say(ALICE, hello(**changes))
    assert [(node, error.code, error.fatal) for node, error in sent(effects, Error)] == [(ALICE, code, True)]
    assert (len(effects), list(world.core.members)) == (2, [])


def test_hello_twice_opens_a_new_session_for_the_same_discriminator() -> None:
    world = training_world(ALICE)
    old_header, task = world.headers[ALICE], world.tasks[ALICE][0]
    first = world.welcomes[ALICE].discriminator
    effects = world.greet(ALICE)
    assert world.headers[ALICE] == Header(FACTS.epoch, Session(2))
    assert world.welcomes[ALICE].discriminator == first
    assert [new.version for _, new in sent(effects, Task)] == [0]  # a fresh one; the old one is void
    assert list(world.member(ALICE).in_flight) == [TaskId(2)]
    assert errors(world.say(ALICE, world.feedback(ALICE, task), old_header)) == [(ALICE, "NO_SESSION")]
    assert world.verdicts() == {"epoch": 1}


def test_a_lower_incarnation_is_superseded_and_changes_nothing() -> None:
    world = training_world(ALICE)
    world.greet(ALICE, incarnation=3)
    header = world.headers[ALICE]
    effects = world.greet(ALICE, incarnation=2)
    text = "a newer start of this node has taken over: is the same --state folder used twice?"
    assert effects == [
        Send(Peer(ALICE), Error(ErrorCode.SUPERSEDED, text, fatal=True), Header(FACTS.epoch)),
        Note("refused", text, {"node": ALICE, "code": ErrorCode.SUPERSEDED}, "warning"),
    ]
    assert world.say(ALICE, Ping(4)) == [Send(Peer(ALICE), Pong(4), header)]


def test_a_node_that_rejoins_as_itself_keeps_its_discriminator_and_its_old_tasks_are_void() -> None:
    world = training_world(ALICE, BOB)
    task, old_header, held = world.tasks[ALICE][0], world.headers[ALICE], world.held(ALICE)
    world.greet(ALICE, incarnation=2, held=held)
    assigned = world.welcomes[ALICE].discriminator
    assert assigned == AssignedDiscriminator(held.discriminator_id, held.hop, "keep")
    member = world.member(ALICE)
    assert (member.incarnation, member.tally.rejoined, member.warm_up_left) == (2, 1, 0)
    assert task.task_id not in member.in_flight
    assert errors(world.say(ALICE, world.feedback(ALICE, task), old_header)) == [(ALICE, "NO_SESSION")]
    effects = world.say(ALICE, world.feedback(ALICE, task))  # even in the new session
    assert sent(effects, Receipt) == [(ALICE, Receipt(task.task_id, Verdict.LATE))]
    assert world.verdicts() == {"epoch": 1, "late": 1}


def test_a_node_that_lost_its_discriminator_gets_a_new_one_and_warms_up() -> None:
    world = training_world(ALICE, BOB, quorum=1)
    world.greet(ALICE, incarnation=2)
    assert world.welcomes[ALICE].discriminator == AssignedDiscriminator(DiscriminatorId("d3-alice"), 0, "init")
    assert sent(world.answer(ALICE), Receipt)[0][1].verdict is Verdict.WARM_UP
    assert world.steps == []
    world.answer(ALICE)
    assert world.merged() == [[ALICE]]


def test_a_discriminator_of_another_run_does_not_count() -> None:
    world = training_world(ALICE)
    effects = world.say(ALICE, hello(2, world.held(ALICE), run_id="run-0"))
    assert sent(effects, Welcome)[0][1].discriminator.action == "init"


# --- sessions -----------------------------------------------------------------------------------------------------


def test_an_unknown_sender_is_told_to_say_hello() -> None:
    world = HubWorld()
    header = Header(FACTS.epoch, Session(5))
    error = Error(ErrorCode.NO_SESSION, NO_SESSION_TEXT)
    assert world.say(BOB, Ping(1), header) == [Send(Peer(BOB), error, Header(FACTS.epoch))]


def test_feedback_of_an_old_epoch_is_refused_and_counted() -> None:
    world = training_world(ALICE)
    old = Header(Epoch(6), world.headers[ALICE].session)
    error = Error(ErrorCode.EPOCH, NO_SESSION_TEXT)
    assert world.say(ALICE, world.feedback(ALICE), old) == [Send(Peer(ALICE), error, Header(FACTS.epoch))]
    assert world.say(ALICE, Ping(1), old) == [Send(Peer(ALICE), error, Header(FACTS.epoch))]
    assert world.verdicts() == {"epoch": 1}
    assert list(world.member(ALICE).in_flight) == [TaskId(1)]


def test_the_answer_goes_to_the_connection_the_last_message_came_by() -> None:
    world = training_world(ALICE)
    effects = world.say(ALICE, Ping(1), link=b"new")
    assert effects == [Send(Peer(ALICE, b"new"), Pong(1), world.header(ALICE))]


def test_a_dead_node_has_no_session_until_it_says_hello() -> None:
    world = training_world(ALICE)
    world.pass_time(31)
    assert world.state(ALICE) == "dead"
    assert errors(world.beat(ALICE)) == [(ALICE, "NO_SESSION")]
    world.greet(ALICE, held=world.held(ALICE))
    assert (world.state(ALICE), world.core.members.live) == ("active", [ALICE])


# --- leases and suspicion -----------------------------------------------------------------------------------------


def test_a_silent_node_is_suspected_and_trusted_again_when_heard() -> None:
    world = training_world(ALICE, BOB)
    assert world.pass_time(6.9, pinging=[BOB])[-1] == member_note(ALICE, "suspect", "silent for 6.5 s")
    assert world.core.members.live == [BOB]
    assert world.handle(Heard(Peer(ALICE))) == [member_note(ALICE, "active", "heard from again")]
    assert world.core.members.live == [ALICE, BOB]
    assert list(world.member(ALICE).in_flight) == [TaskId(1)]  # silence takes no task away


def test_a_lease_that_lapses_returns_the_task_and_makes_a_suspect() -> None:
    world = training_world(ALICE)
    effects = world.pass_time(61, pinging=[ALICE])
    notes = [effect for effect in effects if isinstance(effect, Note)]
    assert notes == [member_note(ALICE, "suspect", "1 task(s) not answered within the lease", 1)]
    assert (world.core.members.live, world.member(ALICE).in_flight) == ([], {})
    assert world.state(ALICE) == "suspect"  # its heartbeats name the task: it still owes it


def test_a_late_answer_is_refused_but_forgives() -> None:
    world = training_world(ALICE)
    world.pass_time(61, pinging=[ALICE])
    effects = world.answer(ALICE)
    assert effects[:3] == [
        member_note(ALICE, "active", "heard from again"),
        Send(Peer(ALICE), Receipt(TaskId(1), Verdict.LATE), world.header(ALICE)),
        Note("feedback_refused", "late", {"node": ALICE, "task": TaskId(1), "verdict": Verdict.LATE}),
    ]
    assert [task.task_id for _, task in sent(effects, Task)] == [TaskId(2)]  # and it may go on at once
    assert (world.verdicts(), world.steps) == ({"late": 1}, [])


def test_an_overdue_node_that_has_nothing_in_hand_is_forgiven() -> None:
    world = training_world(ALICE)
    world.pass_time(61, pinging=[ALICE])
    world.tasks[ALICE].clear()
    effects = world.beat(ALICE)
    assert effects[:2] == [
        member_note(ALICE, "active", "heard from again"),
        Send(Peer(ALICE), Pong(0), world.header(ALICE)),
    ]
    assert [node for node, _ in sent(effects, Task)] == [ALICE]


def test_an_overdue_node_at_work_on_its_task_is_not_forgiven() -> None:
    world = training_world(ALICE)
    world.pass_time(61, pinging=[ALICE])
    assert world.beat(ALICE) == [Send(Peer(ALICE), Pong(0), world.header(ALICE))]


def test_a_late_sweep_extends_every_lease_by_its_lateness() -> None:
    world = training_world(ALICE, BOB)
    world.pass_time(4.0)
    assert world.tick_late(100.0) == []  # nobody was heard because nobody listened
    assert (world.state(ALICE), world.state(BOB)) == ("active", "active")
    extended = world.member(ALICE).in_flight[TaskId(1)].expires_at
    assert extended == nanos(START_S + 60 + 99.5)  # the sweep was due 0.5 s after the one before it
    world.pass_time(2.9)
    assert world.core.members.live == []  # 7 s of silence as the hub counts it


def test_a_suspect_that_stays_silent_is_dead_after_the_death_timeout() -> None:
    world = training_world(ALICE, BOB)
    notes = [effect for effect in world.pass_time(31, pinging=[BOB]) if isinstance(effect, Note)]
    assert notes == [
        member_note(ALICE, "suspect", "silent for 6.5 s"),
        member_note(ALICE, "dead", "silent for 30.5 s", 1),
    ]


# --- malformed messages -------------------------------------------------------------------------------------------


def test_three_malformed_messages_quarantine_the_sender_but_its_heartbeats_are_answered() -> None:
    world = training_world(ALICE, BOB, hub={"lease_s": 100.0})
    malformed = Note("malformed", "bad magic", {"node": ALICE}, "warning")
    assert [world.handle(Garbled(Peer(ALICE), "bad magic")) for _ in range(3)] == [
        [malformed],
        [malformed],
        [malformed, Note("quarantined", "too many malformed messages", {"node": ALICE}, "warning")],
    ]
    assert (world.core.members.live, world.member(ALICE).in_flight) == ([BOB], {})
    assert world.answer(ALICE) == []
    assert world.beat(ALICE) == [Send(Peer(ALICE), Pong(0), world.header(ALICE))]
    world.pass_time(59, pinging=[ALICE, BOB])
    assert world.core.members.live == [BOB]
    effects = world.pass_time(2, pinging=[ALICE, BOB])
    assert world.core.members.live == [ALICE, BOB]
    assert ALICE in [node for node, _ in sent(effects, Task)]
    assert world.core.garbled == {"bad magic": 3}


def test_a_quarantine_does_not_end_with_a_new_hello() -> None:
    world = training_world(ALICE, BOB)
    for _ in range(3):
        world.handle(Garbled(Peer(ALICE), "bad magic"))
    effects = world.greet(ALICE, held=world.held(ALICE))
    assert [type(effect) for effect in effects] == [Send, Note]
    assert world.core.members.live == [BOB]


def test_malformed_messages_further_apart_than_a_minute_are_forgotten() -> None:
    world = training_world(ALICE)
    for _ in range(4):
        world.handle(Garbled(Peer(ALICE), "bad magic"))
        world.pass_time(31, pinging=[ALICE])
        world.tasks[ALICE].clear()
    assert world.member(ALICE).quarantined_until == 0


def test_a_message_that_is_not_for_a_hub_counts_as_malformed() -> None:
    world = training_world(ALICE)
    why = "Pong is not its to say to a hub"
    assert world.say(ALICE, Pong(1)) == [Note("malformed", why, {"node": ALICE}, "warning")]
    assert world.core.garbled == {"type": 1}


def test_garbage_of_a_stranger_is_counted_and_harms_nobody() -> None:
    world = training_world(ALICE)
    assert world.handle(Garbled(Peer(CAROL), "bad magic")) == []
    assert world.core.garbled == {"bad magic": 1}


def test_a_newcomer_cannot_skip_its_warm_up_by_saying_hello_again() -> None:
    world = training_world(ALICE, warm_up_tasks=2)
    world.greet(BOB)
    assert world.member(BOB).warm_up_left == 2
    world.greet(BOB, held=replace(world.held(BOB), tasks=0))
    assert world.welcomes[BOB].discriminator.action == "keep"
    assert world.member(BOB).warm_up_left == 2


def test_a_lost_part_is_counted_but_nobodys_fault() -> None:
    world = training_world(ALICE)
    for _ in range(5):
        world.handle(Garbled(Peer(ALICE), LOST_PART, "a part before byte 9 is missing"))
    assert world.core.garbled == {LOST_PART: 5}
    assert ALICE in world.core.members.live


def test_what_a_peer_writes_into_its_mistakes_does_not_grow_the_counts() -> None:
    world = training_world(ALICE)
    for word in ("aaa", "bbb", "ccc"):
        world.handle(Garbled(Peer(ALICE), "descriptors", f"descriptors: tensors ['{word}']"))
    assert world.core.garbled == {"descriptors": 3}
