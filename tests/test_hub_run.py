"""When the generator steps, and on what: quorum, staleness, credit, timeout, deaths, the paper's algorithm."""

from __future__ import annotations

from itertools import permutations

import pytest

from broker.jobs import Contribution, Evaluate, MakeBatches, Step
from broker.report import run_report
from mdgan_edge.actors import Measure, Note, Peer, Run, Send
from mdgan_edge.messages import Bye, Receipt, Task, TaskId, Verdict, Version
from tests.hub_world import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    EIGHT,
    ONE_EACH,
    SYNC,
    HubWorld,
    batch_of,
    gradient,
    sent,
    stepped,
    training_world,
)


def test_the_feedback_that_completes_the_quorum_starts_the_step() -> None:
    world = training_world(ALICE, BOB, scale_lr=False)
    contribution = Contribution(TaskId(1), ALICE, Version(0), 0, 1.0, gradient())
    step = Step(Version(0), (contribution,), 1.0, 1.0, Version(0))
    figures = {
        "version": 0,
        "merged": 1,
        "live": 2,
        "nodes": [ALICE],
        "staleness": [0],
        "lr_scale": 1.0,
        "divisor": 1.0,
    }
    figures |= {"loss_d": 0.5, "loss_g": 0.5}
    assert world.answer(ALICE) == [
        Send(Peer(ALICE), Receipt(TaskId(1), Verdict.MERGED), world.header(ALICE)),
        Measure("step", figures),
        Run(step),
    ]
    assert world.work() == [stepped(1), Run(MakeBatches(Version(1), 2))]
    zero, one = (batch_of(Version(1), index).images for index in (0, 1))
    tasks = [Task(TaskId(3), Version(1), 10.0, 1, x_d=one, x_g=zero), Task(TaskId(4), Version(1), 120.0, 1, one, zero)]
    assert world.work() == [
        Send(Peer(ALICE), tasks[0], world.header(ALICE)),
        Send(Peer(BOB), Task(TaskId(4), Version(1), 120.0, 1, x_d=zero, x_g=one), world.header(BOB)),
    ]


@pytest.mark.parametrize("order", list(permutations([ALICE, BOB, CAROL])))
def test_sync_gives_one_task_per_node_and_version_and_steps_when_all_have_answered(order: tuple[str, ...]) -> None:
    world = training_world(ALICE, BOB, CAROL, **SYNC)
    for version in range(4):
        assert [[task.version for task in world.tasks[node]] for node in (ALICE, BOB, CAROL)] == [[version]] * 3
        for place, node in enumerate(order):
            assert len(world.steps) == version, f"{place} of 3 have answered"
            assert sent(world.answer(node), Task) == []  # type: ignore[arg-type]
        step = world.steps[version]
        judged = [(one.node, one.index, one.version, one.weight) for one in step.contributions]
        assert judged == [(ALICE, 0, version, 1.0), (CAROL, 0, version, 1.0), (BOB, 1, version, 1.0)]
        assert (step.version, step.divisor, step.lr_scale) == (version, 3.0, 1.0)
        world.work_all()
    assert world.verdicts() == {"merged": 12}


def test_sync_waits_for_the_last_answer_however_long_and_goes_on_without_the_dead() -> None:
    world = training_world(ALICE, BOB, **SYNC)
    world.answer(ALICE)
    world.pass_time(40, pinging=[ALICE, BOB])
    assert world.steps == []
    world.pass_time(8, pinging=[ALICE])  # BOB falls silent
    assert (world.merged(), world.steps[0].divisor) == ([[ALICE]], 1.0)


def test_block_holds_the_version_back_for_the_oldest_task_in_flight() -> None:
    world = training_world(ALICE, BOB, staleness_max=2, step_timeout_s=0.0, **ONE_EACH)
    for _ in range(2):
        world.answer(ALICE)
        world.work_all()
    effects = world.answer(ALICE)
    facts = {"version": 2, "buffered": 1, "oldest": 0}
    assert [effect for effect in effects if isinstance(effect, Note)] == [
        Note("step_rule", "waiting for the oldest task in flight", facts)
    ]
    assert (world.version, list(world.jobs)) == (2, [])
    world.answer(BOB)  # version 0: two steps old, and still merged
    assert [(one.node, one.version) for one in world.steps[-1].contributions] == [(BOB, 0), (ALICE, 2)]


def test_with_tau_0_the_quick_one_gets_no_task_for_which_the_step_would_have_to_wait() -> None:
    world = training_world(ALICE, BOB, CAROL, staleness_max=0, step_timeout_s=0.0, quota=4, **{**ONE_EACH, "quorum": 2})
    world.answer(ALICE)
    assert len(world.tasks[ALICE]) == 1, "the quorum is not there yet: another of hers may help"
    world.answer(ALICE)
    assert world.tasks[ALICE] == []
    for node in (BOB, CAROL):
        world.answer(node)
    assert [sorted(step) for step in world.merged()] == [[ALICE, ALICE, BOB, CAROL]]
    world.work_all()
    assert [len(world.tasks[node]) for node in (ALICE, BOB, CAROL)] == [1, 1, 1]


def test_a_suspect_does_not_hold_the_version_back() -> None:
    world = training_world(ALICE, BOB, staleness_max=0, step_timeout_s=0.0, **ONE_EACH)
    world.answer(ALICE)
    assert world.steps == []
    world.pass_time(7, pinging=[ALICE])
    assert (world.state(BOB), world.merged()) == ("suspect", [[ALICE]])


def test_a_task_that_grew_too_old_while_its_node_was_suspect_does_not_hold_the_version_back_afterwards() -> None:
    world = training_world(ALICE, BOB, staleness_max=1, step_timeout_s=0.0, **ONE_EACH)
    world.pass_time(7, pinging=[ALICE])
    for _ in range(3):
        world.answer(ALICE)
        world.work_all()
    world.beat(BOB)
    assert (world.state(BOB), [task.version for task in world.tasks[BOB]], world.version) == ("active", [0, 3], 3)
    world.answer(ALICE)
    assert world.merged() == [[ALICE]] * 4


def test_drop_refuses_what_is_older_than_tau() -> None:
    world = training_world(ALICE, BOB, staleness_policy="drop", staleness_max=1, **ONE_EACH)
    for _ in range(2):
        world.answer(ALICE)
        world.work_all()
    assert world.version == 2
    effects = world.answer(BOB)
    assert sent(effects, Receipt) == [(BOB, Receipt(TaskId(2), Verdict.STALE))]
    assert (world.verdicts(), world.merged()) == ({"merged": 2, "stale": 1}, [[ALICE], [ALICE]])


def test_feedback_that_grows_stale_in_the_buffer_is_not_merged() -> None:
    world = training_world(ALICE, BOB, staleness_policy="drop", staleness_max=0, **ONE_EACH)
    world.answer(ALICE)
    world.answer(BOB)  # in time, but the step is under way
    effects = world.work()
    assert sent(effects, Receipt) == [(BOB, Receipt(TaskId(2), Verdict.STALE))]
    assert effects[-1] == Run(MakeBatches(Version(1), 2))
    assert (world.verdicts(), world.merged()) == ({"merged": 1, "stale": 1}, [[ALICE]])


def test_stale_feedback_weighs_less_and_the_divisor_is_the_sum_of_the_weights() -> None:
    world = training_world(ALICE, BOB, quorum=1, scale_lr=False, clip_factor=0.0)
    world.answer(ALICE)
    world.answer(BOB)
    world.work()  # at once the next step, with BOB's feedback of version 0
    assert world.steps[1].contributions[0].weight == world.steps[1].divisor == 0.5


def test_a_node_has_no_more_tasks_than_its_credit() -> None:
    world = training_world(ALICE, BOB, credit=3, **ONE_EACH)
    for _ in range(5):
        world.answer(ALICE)
        world.work_all()
    assert [task.version for task in world.tasks[BOB]] == [0, 1, 2]


def test_a_fast_node_moves_on_to_the_next_batches_until_its_quota_is_full() -> None:
    world = training_world(ALICE, BOB, CAROL, DAVE, quorum=4, step_timeout_s=0.0)
    first, again = world.tasks[ALICE][0], sent(world.answer(ALICE), Task)[0][1]
    assert (first.x_g, again.x_g, again.version) == (batch_of(Version(0), 0).images, batch_of(Version(0), 1).images, 0)
    assert sent(world.answer(ALICE), Task) == []  # ceil(4/2) of its feedbacks wait for the step


def test_the_quorum_follows_the_live_nodes() -> None:
    world = training_world(ALICE, BOB, CAROL, DAVE, quorum=0.75, step_timeout_s=0.0)
    world.answer(ALICE)
    world.answer(BOB)
    assert world.steps == []
    world.say(DAVE, Bye("stopped"))
    assert world.steps == []  # ceil(0.75 * 3) = 3
    effects = world.say(CAROL, Bye("stopped"))
    assert [type(effect.job) for effect in effects if isinstance(effect, Run)] == [Step]


def test_the_step_timeout_takes_what_is_there_if_it_is_enough() -> None:
    timing = {"lease_s": 100.0}
    world = training_world(ALICE, BOB, CAROL, hub=timing, quorum="all", quorum_min=2, step_timeout_s=30.0, quota=2)
    world.pass_time(5, pinging=[ALICE, BOB, CAROL])
    world.answer(ALICE)
    world.pass_time(40, pinging=[ALICE, BOB, CAROL])
    assert world.steps == []  # one is less than K_min
    effects = world.answer(BOB)
    facts = {"version": 0, "buffered": 2, "oldest": 0}
    assert Note("step_rule", "step timeout passed with enough feedback", facts) in effects
    assert [sorted(nodes) for nodes in world.merged()] == [[ALICE, BOB]]


def test_the_step_timeout_wakes_the_hub_at_its_time() -> None:
    world = training_world(ALICE, BOB, hub={"lease_s": 100.0}, quorum="all", step_timeout_s=3.25)
    world.answer(ALICE)
    world.pass_time(3.2)
    assert world.steps == []
    world.pass_time(0.05)
    assert world.merged() == [[ALICE]]


def test_when_two_of_eight_die_the_divisor_follows_and_the_report_names_them() -> None:
    world = training_world(*EIGHT, hub={"lease_s": 100.0}, **{**SYNC, "step_timeout_s": 0.0})
    dead, alive = EIGHT[2:4], [*EIGHT[:2], *EIGHT[4:]]
    for node in EIGHT:
        world.answer(node)
    world.work_all()
    for node in alive:
        world.answer(node)
    assert len(world.steps) == 1
    world.pass_time(31, pinging=alive)
    assert [step.divisor for step in world.steps] == [8.0, 6.0]
    assert sorted(world.merged()[1]) == alive
    report = run_report(world.core)
    assert [node for node, line in report["nodes"].items() if line["state"] == "dead"] == list(dead)
    assert [line["merged"] for line in report["nodes"].values()] == [2, 2, 1, 1, 2, 2, 2, 2]
    assert (report["feedback"]["merged"], report["feedback"]["late"]) == (14, 0)


def test_after_everybody_died_what_they_gave_is_merged_and_the_run_goes_on_when_one_returns() -> None:
    world = training_world(ALICE, BOB, quorum="all", step_timeout_s=0.0, warm_up_tasks=0)
    world.answer(ALICE)
    world.pass_time(40)
    world.work_all()
    assert (world.core.members.live, world.merged()) == ([], [[ALICE]])
    world.greet(BOB, incarnation=2, held=world.held(BOB))
    world.work_all()
    world.answer(BOB)
    assert world.merged() == [[ALICE], [BOB]]


def test_training_waits_for_nodes_min() -> None:
    world = HubWorld({"nodes_min": 2})
    world.greet(ALICE)
    assert list(world.jobs) == []
    world.greet(BOB)
    assert list(world.jobs) == [MakeBatches(Version(0), 2)]


def test_an_evaluation_comes_after_the_batches_that_keep_the_nodes_at_work() -> None:
    world = training_world(ALICE, hub={"evaluate_every": 2}, **ONE_EACH)
    world.answer(ALICE)
    assert world.work() == [stepped(1), Run(MakeBatches(Version(1), 2))]
    world.work()
    world.answer(ALICE)
    assert world.work() == [stepped(2), Run(MakeBatches(Version(2), 2)), Run(Evaluate(Version(2), final=False))]
    assert len(sent(world.work(), Task)) == 1


def test_a_step_may_start_while_an_evaluation_is_under_way() -> None:
    world = training_world(ALICE, BOB, hub={"evaluate_every": 1}, **ONE_EACH)
    world.answer(ALICE)
    world.answer(BOB)
    effects = world.work()
    jobs = [type(effect.job) for effect in effects if isinstance(effect, Run)]
    assert jobs == [MakeBatches, Evaluate, Step]
    world.work_all()
    assert (world.version, world.merged()) == (2, [[ALICE], [BOB]])
