"""How it ends: for one node that leaves or is shut out, and for the whole run."""

from __future__ import annotations

import math

from msgspec.structs import replace

from broker.jobs import Batch, BatchesMade, Checkpoint, Evaluate, MakeBatches
from broker.report import run_report
from mdgan_edge.actors import (
    Drain,
    Finish,
    JobDone,
    Measure,
    Note,
    Peer,
    RegisterChanged,
    Run,
    Send,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    Bye,
    ByeAck,
    Error,
    ErrorCode,
    NodeId,
    Ping,
    Refuse,
    Task,
    TaskId,
    Version,
)
from tests.hub_world import (
    ALICE,
    BOB,
    CAROL,
    FACTS,
    ONE_EACH,
    HubWorld,
    batch_of,
    errors,
    sent,
    stepped,
    training_world,
)

NO_SESSION_TEXT = "say HELLO: the hub knows no such session"


def member_note(node: NodeId, state: str, why: str, *tasks: int) -> Note:
    facts = {"node": node, "state": state, "tasks": list(tasks)}
    return Note("member", why, facts, "info" if state in ("active", "left") else "warning")


def test_bye_returns_the_tasks_and_is_answered_even_twice() -> None:
    world = training_world(ALICE, BOB, newcomer="fresh")
    header = world.headers[ALICE]
    assert world.say(ALICE, Bye("stopped")) == [
        member_note(ALICE, "left", "stopped", 1),
        Send(Peer(ALICE), ByeAck(), header),
    ]
    assert (world.core.members.live, world.member(ALICE).in_flight) == ([BOB], {})
    assert world.say(ALICE, Bye("stopped")) == [Send(Peer(ALICE), ByeAck(), header)]


def test_a_refused_task_comes_back_and_the_node_is_left_alone_for_a_second() -> None:
    world = training_world(ALICE)
    effects = world.say(ALICE, Refuse(TaskId(1), "diverged"))
    assert effects == [Note("task_refused", "diverged", {"node": ALICE, "task": TaskId(1)}, "warning")]
    assert sent(world.pass_time(0.9), Task) == []
    assert [task.task_id for _, task in sent(world.pass_time(0.6), Task)] == [TaskId(2)]


def test_a_drained_node_is_asked_to_leave_and_gets_no_more_tasks_but_its_answer_counts() -> None:
    world = training_world(ALICE, BOB, **ONE_EACH)
    effects = world.handle(RegisterChanged(frozenset(), frozenset({ALICE})))
    assert effects == [
        Send(Peer(ALICE), Bye("drain"), world.header(ALICE)),
        Note("draining", "asked by the operator", {"node": ALICE}),
    ]
    assert world.core.members.live == [BOB]
    assert world.handle(RegisterChanged(frozenset(), frozenset({ALICE}))) == []  # once is enough
    world.answer(ALICE)
    world.work_all()
    assert (world.merged(), world.tasks[ALICE]) == ([[ALICE]], [])
    assert world.say(ALICE, ByeAck()) == [member_note(ALICE, "left", "said goodbye")]


def test_a_drained_node_that_says_hello_again_is_asked_to_leave_again_until_the_wish_is_taken_back() -> None:
    world = training_world(ALICE, BOB)
    world.handle(RegisterChanged(frozenset(), frozenset({ALICE})))
    effects = world.greet(ALICE, held=world.held(ALICE))
    assert (sent(effects, Bye), world.core.members.live) == ([(ALICE, Bye("drain"))], [BOB])
    world.handle(RegisterChanged(frozenset(), frozenset()))
    effects = world.greet(ALICE, held=world.held(ALICE))
    assert (sent(effects, Bye), world.core.members.live) == ([], [ALICE, BOB])


def test_a_revoked_node_is_shut_out_and_its_buffered_feedback_is_purged() -> None:
    world = training_world(ALICE, BOB, CAROL, quorum=2, scale_lr=False)
    world.answer(ALICE)
    header = world.headers[ALICE]
    effects = world.handle(RegisterChanged(frozenset({ALICE}), frozenset()))
    assert effects == [
        Send(Peer(ALICE), Error(ErrorCode.FORBIDDEN, "revoked at the hub", fatal=True), header),
        member_note(ALICE, "revoked", "revoked by the operator"),
    ]
    assert errors(world.say(ALICE, Ping(1))) == [(ALICE, "NO_SESSION")]
    assert errors(world.greet(ALICE, incarnation=2)) == [(ALICE, "FORBIDDEN")]
    world.answer(BOB)
    assert world.merged() == []  # one feedback is there, not two
    world.answer(CAROL)
    assert [sorted(nodes) for nodes in world.merged()] == [[BOB, CAROL]]


def test_a_node_revoked_before_its_first_hello_stays_out() -> None:
    world = training_world(ALICE)
    world.handle(RegisterChanged(frozenset({BOB}), frozenset()))
    assert errors(world.greet(BOB)) == [(BOB, "FORBIDDEN")]
    assert world.core.members.get(BOB) is None


def test_feedback_after_leaving_is_refused_with_its_session() -> None:
    world = training_world(ALICE, BOB)
    feedback = world.feedback(ALICE)
    world.say(ALICE, Bye("stopped"))
    assert errors(world.say(ALICE, feedback)) == [(ALICE, "NO_SESSION")]
    assert world.verdicts() == {"epoch": 1}


# --- the end of the run -------------------------------------------------------------------------------------------


LAST_JOBS = [Run(Checkpoint(Version(1), FACTS.run_id)), Run(Evaluate(Version(1), final=True))]
KEPT = Note("checkpoint", "kept", {"version": 1})


def completing_world() -> HubWorld:
    """The last step is under way."""
    world = training_world(ALICE, BOB, steps=1, **ONE_EACH)
    world.answer(ALICE)
    return world


def test_after_the_last_step_comes_a_last_evaluation_then_bye_to_all_then_the_end() -> None:
    world = completing_world()
    assert world.work() == [stepped(1), *LAST_JOBS]
    assert world.work() == [KEPT]
    assert world.work() == [
        Measure("evaluated", {"version": 1, "fid": 1.0}),
        Send(Peer(ALICE), Bye("completed"), world.header(ALICE)),
        Send(Peer(BOB), Bye("completed"), world.header(BOB)),
    ]
    assert world.say(ALICE, ByeAck()) == [member_note(ALICE, "left", "said goodbye")]
    assert world.say(BOB, ByeAck()) == [
        member_note(BOB, "left", "said goodbye", 2),
        Finish(ExitCode.OK, "completed", "completed at version 1"),
    ]
    assert world.core.deadline() is None


def test_a_node_that_never_says_goodbye_holds_the_end_up_for_ten_seconds() -> None:
    world = completing_world()
    world.work_all()
    world.say(ALICE, ByeAck())
    finish = Finish(ExitCode.OK, "completed", "completed at version 1")
    assert finish not in world.pass_time(9.9, pinging=[BOB])
    assert world.pass_time(0.2)[-1] == finish


def test_hello_during_the_farewell_is_answered_with_shutdown() -> None:
    world = completing_world()
    world.work_all()
    assert errors(world.greet(CAROL)) == [(CAROL, "SHUTDOWN")]
    assert world.core.members.get(CAROL) is None


def test_a_hub_drained_while_it_waits_for_nodes_ends_at_version_0() -> None:
    world = HubWorld()
    assert world.handle(Drain("SIGTERM")) == [Note("stopping", "SIGTERM"), Run(Evaluate(Version(0), final=True))]
    assert world.work() == [
        Measure("evaluated", {"version": 0, "fid": 0.0}),
        Finish(ExitCode.OK, "stopped", "stopped at version 0"),
    ]
    assert run_report(world.core)["train_s"] is None


def test_a_hub_drained_during_a_step_ends_after_it() -> None:
    world = training_world(ALICE, **ONE_EACH)
    world.answer(ALICE)
    assert world.handle(Drain("SIGINT")) == [Note("stopping", "SIGINT")]
    assert world.handle(Drain("SIGINT")) == []
    assert world.work() == [stepped(1), *LAST_JOBS]
    assert sent(world.work_all(), Bye) == [(ALICE, Bye("stopped"))]


def test_a_hub_drained_right_after_an_evaluation_still_makes_the_last_one() -> None:
    world = training_world(ALICE, hub={"evaluate_every": 1}, **ONE_EACH)
    world.answer(ALICE)
    world.work_all()
    assert world.core.evaluations.last is not None
    assert world.core.evaluations.last.version == 1
    assert world.handle(Drain("SIGINT"))[1:] == LAST_JOBS  # the last evaluation saves the final samples


def test_a_drain_asks_for_the_last_evaluation_while_another_is_under_way() -> None:
    world = training_world(ALICE, hub={"evaluate_every": 1}, **ONE_EACH)
    world.answer(ALICE)
    world.work()
    assert list(world.jobs) == [MakeBatches(Version(1), 2), Evaluate(Version(1), final=False)]
    world.handle(Drain("SIGINT"))
    world.work()
    assert list(world.jobs) == [Evaluate(Version(1), final=False), *(job.job for job in LAST_JOBS)]
    assert sent(world.work_all(), Bye) == [(ALICE, Bye("stopped"))]


def test_a_revoked_node_comes_back_when_the_operator_lets_it_in_again() -> None:
    world = training_world(ALICE, BOB)
    world.handle(RegisterChanged(frozenset({BOB})))
    assert world.state(BOB) == "revoked"
    world.handle(RegisterChanged())
    assert errors(world.greet(BOB, incarnation=2)) == []
    assert world.state(BOB) == "active"


def test_a_generator_that_diverged_ends_the_run_and_is_not_saved() -> None:
    world = training_world(ALICE)
    world.answer(ALICE)
    world.work()  # the step
    job = world.jobs.popleft()
    broken = Batch(replace(batch_of(Version(1), 0).images, norm=math.nan), None)
    effects = world.handle(JobDone(job, BatchesMade(Version(1), (broken,))))
    assert sent(effects, Bye) == [(ALICE, Bye("failed"))]
    assert [effect.job for effect in effects if isinstance(effect, Run)] == []
    (finish,) = [effect for effect in world.say(ALICE, ByeAck()) if isinstance(effect, Finish)]
    assert (finish.exit_code, finish.outcome) == (ExitCode.UNEXPECTED, "failed")
    assert "try a lower training.lr_generator" in finish.text
