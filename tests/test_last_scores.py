"""Scores that come late, or never: training goes on, and the run ends all the same."""

from __future__ import annotations

import pytest

from broker.evaluations import LAST_SCORES_MAX_S, LAST_SCORES_STOPPED_MAX_S, LATE
from broker.jobs import Evaluate, Evaluated
from broker.report import run_report
from mdgan_edge.actors import Drain, Effect, JobDone, Note, Run
from mdgan_edge.messages import Bye, ByeAck, Version
from tests.hub_world import ALICE, BOB, ONE_EACH, HubWorld, done, sent, training_world


def one_step_from_the_end() -> HubWorld:
    """The last step is under way."""
    world = training_world(ALICE, BOB, steps=1, **ONE_EACH)
    world.answer(ALICE)
    return world


def late_scores(world: HubWorld, evaluation: Evaluate) -> list[Effect]:
    """All jobs are done but the scores."""
    effects = []
    while world.jobs:
        effects += world.work() if world.jobs[0] != evaluation else [Run(world.jobs.popleft())]
    return effects


@pytest.mark.parametrize(("stopped", "limit_s"), [(False, LAST_SCORES_MAX_S), (True, LAST_SCORES_STOPPED_MAX_S)])
def test_the_end_waits_for_the_last_scores_only_so_long(stopped: bool, limit_s: float) -> None:
    world = training_world(ALICE, **ONE_EACH) if stopped else one_step_from_the_end()
    if stopped:
        world.answer(ALICE)
        world.handle(Drain("SIGTERM"))
    late_scores(world, Evaluate(Version(1), final=True))
    assert sent(world.pass_time(limit_s - 1, pinging=[ALICE, BOB][: 2 - stopped]), Bye) == []
    effects = world.pass_time(2, pinging=[ALICE, BOB][: 2 - stopped])
    assert [effect.what for effect in effects if isinstance(effect, Note)].count("scores_late") == 1
    assert len(sent(effects, Bye)) == 2 - stopped
    world.say(ALICE, ByeAck())
    report = run_report(world.core)
    assert (report["outcome"], report["scores_missing"]) == ("stopped" if stopped else "completed", LATE)


def test_an_evaluation_that_is_due_while_another_is_under_way_is_left_out_and_counted() -> None:
    world = training_world(ALICE, hub={"evaluate_every": 1}, **ONE_EACH)
    for _ in range(3):
        world.answer(ALICE)
        late_scores(world, Evaluate(Version(1), final=False))
    assert (world.version, world.core.evaluations.last) == (3, None)
    assert run_report(world.core)["evaluations_skipped"] == 2
    first = Evaluate(Version(1), final=False)
    world.handle(JobDone(first, done(first)))
    world.answer(ALICE)
    assert [job for job in late_scores(world, Evaluate(Version(4), final=False)) if isinstance(job, Run)][-1] == Run(
        Evaluate(Version(4), final=False)
    )


def test_it_is_said_once_when_scores_cease_to_come() -> None:
    world = training_world(ALICE, hub={"evaluate_every": 1}, **ONE_EACH)
    said = []
    for version, missing in enumerate((None, "the scorer has died", "the scorer has died"), start=1):
        world.answer(ALICE)
        late_scores(world, Evaluate(Version(version), final=False))
        result = Evaluated(Version(version), {"fid": None}, missing, None, 0.1)
        effects = world.handle(JobDone(Evaluate(Version(version), final=False), result))
        said.append([effect for effect in effects if isinstance(effect, Note)])
    assert said == [[], [Note("no_scores", "the scorer has died", level="warning")], []]


def test_a_hub_that_only_waits_for_scores_ends_at_once_when_it_is_drained() -> None:
    world = one_step_from_the_end()
    late_scores(world, Evaluate(Version(1), final=True))
    effects = world.handle(Drain("SIGINT"))
    assert effects[0] == Note("scores_late", f"{LATE}: the run ends without them", level="warning")
    assert sent(effects, Bye) == [(ALICE, Bye("completed")), (BOB, Bye("completed"))]
