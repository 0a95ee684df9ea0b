"""Feedback on its way in: merged at most once, or refused under exactly one verdict; credit returns either way."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mdgan_edge.actors import Effect, Header, Note, Peer, Send
from mdgan_edge.messages import (
    DiscriminatorId,
    Epoch,
    Feedback,
    NodeId,
    Receipt,
    Session,
    Task,
    TaskId,
    Tensor,
    Verdict,
)
from tests.hub_world import ALICE, BOB, ONE_EACH, SHAPE, HubWorld, gradient, hello, sent, training_world

MALFORMED_TEXT = "the feedback is not finite, or not of the shape of its batch; training goes on without it"


def refusals(world: HubWorld) -> int:
    return sum(count for verdict, count in world.core.verdicts.items() if verdict is not Verdict.MERGED)


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": gradient(norm=math.nan)},
        {"feedback": gradient(norm=math.inf)},
        {"feedback": gradient(shape=(1, 1, 8, 8))},
        {"feedback": gradient(shape=(2, 64))},
        {"feedback": Tensor("int64", SHAPE, b"", 1.0)},
        {"version": 1},
    ],
    ids=["nan", "inf", "fewer images", "flat", "integers", "other version"],
)
def test_what_cannot_be_merged_is_malformed_and_credit_returns(changes: dict[str, Any]) -> None:
    world = training_world(ALICE, BOB)
    header = world.headers[ALICE]
    effects = world.answer(ALICE, **changes)
    facts = {"node": ALICE, "task": TaskId(1), "verdict": Verdict.MALFORMED}
    assert effects[:2] == [
        Send(Peer(ALICE), Receipt(TaskId(1), Verdict.MALFORMED), header),
        Note("feedback_refused", MALFORMED_TEXT, facts, "warning"),
    ]
    assert [(node, task.task_id) for node, task in sent(effects, Task)] == [(ALICE, TaskId(3))]
    assert (world.verdicts(), len(world.core.training._buffer)) == ({"malformed": 1}, 0)


def test_three_malformed_feedbacks_quarantine_their_sender() -> None:
    world = training_world(ALICE, BOB)
    for _ in range(3):
        assert world.core.members.live == [ALICE, BOB]
        world.answer(ALICE, feedback=gradient(norm=math.nan))
    assert (world.core.members.live, world.verdicts()) == ([BOB], {"malformed": 3})


def test_a_task_that_was_never_given_is_malformed() -> None:
    world = training_world(ALICE, BOB)
    effects = world.say(ALICE, world.feedback(ALICE, task_id=TaskId(999)))
    assert sent(effects, Receipt) == [(ALICE, Receipt(TaskId(999), Verdict.MALFORMED))]


def test_the_task_of_another_node_cannot_be_answered() -> None:
    world = training_world(ALICE, BOB)
    world.say(ALICE, world.feedback(ALICE, world.tasks[BOB][0]))
    assert world.verdicts() == {"malformed": 1}
    assert list(world.member(BOB).in_flight) == [world.tasks[BOB][0].task_id]


def test_the_second_answer_to_a_task_is_a_duplicate_even_after_the_step() -> None:
    world = training_world(ALICE, **ONE_EACH)
    feedback = world.feedback(ALICE)
    world.say(ALICE, feedback)
    while_stepping = world.say(ALICE, feedback)
    world.work_all()
    world.say(ALICE, feedback)
    assert sent(while_stepping, Receipt) == [(ALICE, Receipt(TaskId(1), Verdict.DUPLICATE))]
    assert (world.verdicts(), world.merged()) == ({"merged": 1, "duplicate": 2}, [[ALICE]])


@pytest.mark.parametrize("changes", [{"discriminator_id": DiscriminatorId("d2-bob")}, {"hop": 1}])
def test_a_discriminator_that_the_sender_does_not_own_is_fenced_off(changes: dict[str, Any]) -> None:
    world = training_world(ALICE, BOB)
    effects = world.answer(ALICE, **changes)
    assert sent(effects, Receipt) == [(ALICE, Receipt(TaskId(1), Verdict.FENCED))]
    assert (world.verdicts(), TaskId(1) in world.member(ALICE).in_flight) == ({"fenced": 1}, False)


def test_malformed_comes_before_fenced() -> None:
    world = training_world(ALICE)
    world.answer(ALICE, hop=1, feedback=gradient(norm=math.nan))
    assert world.verdicts() == {"malformed": 1}


def test_an_outlier_is_clipped_and_counted() -> None:
    world = training_world(ALICE, quorum=1, clip_factor=10.0)
    for norm in [1.0] * 11 + [40.0]:
        world.answer(ALICE, feedback=gradient(norm))
        world.work_all()
    weights = [step.contributions[0].weight for step in world.steps]
    assert weights == [1.0] * 11 + [0.25]
    assert (world.core.training.clipped, world.verdicts()) == (1, {"merged": 12})


def test_more_than_its_quota_of_one_node_is_refused() -> None:
    world = training_world(ALICE, BOB, quota=1, quorum=1, warm_up_tasks=0)
    old = world.tasks[ALICE][0]
    world.answer(BOB)
    world.work_all()
    assert [task.version for task in world.tasks[ALICE]] == [0, 1]
    world.answer(BOB)  # this step is under way while ALICE answers both of hers
    world.answer(ALICE)
    effects = world.answer(ALICE)
    assert sent(effects, Receipt) == [(ALICE, Receipt(TaskId(old.task_id + 3), Verdict.QUOTA))]
    assert world.member(ALICE).in_flight == {}
    world.work_all()
    assert (world.merged(), world.verdicts()) == ([[BOB], [BOB], [ALICE]], {"merged": 3, "quota": 1})


def test_a_warm_up_answer_is_not_merged_and_the_next_one_is() -> None:
    world = training_world(ALICE, quorum=1, warm_up_tasks=2)
    world.greet(BOB)
    assert world.member(BOB).warm_up_left == 2
    assert [sent(world.answer(BOB), Receipt)[0][1].verdict for _ in range(2)] == [Verdict.WARM_UP, Verdict.WARM_UP]
    world.answer(BOB)
    assert (world.merged(), world.verdicts()) == ([[BOB]], {"warm_up": 2, "merged": 1})


def test_nodes_that_are_there_at_the_start_do_not_warm_up() -> None:
    world = training_world(ALICE, quorum=1, warm_up_tasks=2)
    world.answer(ALICE)
    assert world.merged() == [[ALICE]]


# --- T8: no admission path applies a task's feedback twice --------------------------------------------------------


def spoil(world: HubWorld, node: NodeId, feedback: Feedback, how: str) -> None:
    """Send a feedback the way `how` says, right or wrong."""
    header = world.headers[node]
    match how:
        case "as it is":
            world.say(node, feedback)
        case "wrong epoch":
            world.say(node, feedback, Header(Epoch(6), header.session))
        case "wrong session":
            world.say(node, feedback, Header(header.epoch, Session(header.session + 100)))
        case "fenced":
            world.say(node, replace(feedback, hop=3))
        case "nan":
            world.say(node, replace(feedback, feedback=gradient(norm=math.nan)))
        case "wrong shape":
            world.say(node, replace(feedback, feedback=gradient(shape=(*SHAPE, 1))))
        case "unknown task":
            world.say(node, replace(feedback, task_id=TaskId(10_000)))
        case _:
            raise AssertionError(how)


WAYS = ("as it is", "as it is", "wrong epoch", "wrong session", "fenced", "nan", "wrong shape", "unknown task")
OUTSIDE = ("wrong epoch", "wrong session")  # refused before anybody looks who is quarantined
NAMES_NO_TASK = (*OUTSIDE, "unknown task")  # credit is about a task in flight
NODES = (ALICE, BOB)
EVENTS = ("hello", "lapse", "step", "step", "quarantine over")
MOVES = st.one_of(
    st.tuples(st.sampled_from(WAYS), st.sampled_from(NODES), st.integers(0, 7)),
    st.tuples(
        st.sampled_from(("hello", "lapse", "step", "step", "quarantine over")), st.sampled_from(NODES), st.just(0)
    ),
)


@settings(max_examples=150, deadline=None)
@given(moves=st.lists(MOVES, max_size=60), policy=st.sampled_from(["block", "drop"]), quorum=st.integers(1, 2))
def test_no_path_merges_a_task_twice_and_every_refusal_has_one_verdict(
    moves: list[tuple[str, NodeId, int]], policy: str, quorum: int
) -> None:
    world = training_world(*NODES, quorum=quorum, staleness_policy=policy, staleness_max=1)
    feedbacks: dict[NodeId, list[Feedback]] = {node: [] for node in NODES}
    for how, node, which in moves:
        known = feedbacks[node]
        known += [world.feedback(node, task) for task in world.tasks[node]]
        world.tasks[node].clear()
        if how in WAYS and known:
            ignored = world.now < world.member(node).quarantined_until and how not in OUTSIDE
            feedback, before = known[-1 - which % len(known)], fates(world)
            spoil(world, node, feedback, how)
            assert fates(world) - before == 1
            assert ignored or how in NAMES_NO_TASK or feedback.task_id not in world.member(node).in_flight
        elif how == "hello":
            world.greet(node, held=world.held(node))
        elif how == "lapse":
            world.pass_time(61, pinging=NODES)
        elif how == "quarantine over":
            world.pass_time(60.6, pinging=NODES)
        elif world.jobs:
            world.work()
    merged = Counter((node, task) for node, task, verdict in world.receipts if verdict is Verdict.MERGED)
    assert set(merged.values()) <= {1}
    assert world.core.verdicts[Verdict.MERGED] == merged_entries(world)


def merged_entries(world: HubWorld) -> int:
    return sum(len(step.contributions) for step in world.steps)


def fates(world: HubWorld) -> int:
    """How many feedbacks were merged, wait for a step, or were refused."""
    return merged_entries(world) + len(world.core.training._buffer) + refusals(world)


@pytest.mark.parametrize(
    ("label_aware", "said", "judges"),
    [(True, (3, 4), (3, 4)), (True, None, None), (False, (3, 4), None)],
    ids=["label-aware", "withheld", "off"],
)
def test_a_step_knows_which_classes_each_node_judges(
    label_aware: bool, said: tuple[int, ...] | None, judges: tuple[int, ...] | None
) -> None:
    world = HubWorld({"nodes_min": 2}, label_aware=label_aware, quorum="all")
    world.say(ALICE, hello(labels=said, labelled=True), Header())
    world.say(BOB, hello(labels=(0, 1), labelled=True), Header())
    world.work_all()
    assert world.welcomes[ALICE].terms.label_aware is label_aware
    world.answer(ALICE)
    world.answer(BOB)
    alice, bob = world.steps[0].contributions
    assert (alice.labels, bob.labels) == (judges, (0, 1) if label_aware else None)
    assert (alice.part, bob.part) == (1.0, 1.0)


def test_a_node_that_knows_nothing_of_its_batch_has_its_zeros_merged() -> None:
    world = training_world(ALICE, BOB, **ONE_EACH)
    world.answer(ALICE, feedback=gradient(norm=0.0), loss_d=0.0, loss_g=0.0)
    assert world.verdicts() == {"merged": 1}
    assert not world.core.training.clipped


# --- what the journal says --------------------------------------------------------------------------------------------


def said_of_refusals(effects: list[Effect]) -> list[tuple[object, object]]:
    notes = [effect for effect in effects if isinstance(effect, Note) and effect.what == "feedback_refused"]
    return [(note.facts["node"], note.facts["verdict"]) for note in notes]


def test_feedback_that_has_grown_stale_in_the_buffer_is_in_the_journal_too() -> None:
    world = training_world(ALICE, BOB, staleness_policy="drop", staleness_max=0, **ONE_EACH)
    world.answer(ALICE)
    world.answer(BOB)  # while the step is under way
    assert said_of_refusals(world.work()) == [(BOB, Verdict.STALE)]


def test_what_a_start_that_is_over_has_given_is_counted_at_its_node_as_well() -> None:
    world = training_world(ALICE, BOB, quorum="all", step_timeout_s=0.0, warm_up_tasks=0)
    world.answer(ALICE)
    world.greet(ALICE, incarnation=2, held=world.held(ALICE))
    assert world.verdicts() == {"fenced": 1}
    assert dict(world.member(ALICE).tally.refused) == {Verdict.FENCED: 1}
