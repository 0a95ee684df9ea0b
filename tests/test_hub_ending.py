"""The end of a run: what is decided is waited for, nothing else is, and a generator that diverged is not kept."""

from __future__ import annotations

import math

from broker.core import Phase
from broker.ending import INSTALLED_WAIT_S
from broker.jobs import Checkpoint, Evaluate, Stepped
from mdgan_edge.actors import Drain, Finish, JobDone, Note
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Bye, Installed, Peers, Seek, Version
from tests.hub_world import ALICE, BOB, CAROL, ONE_EACH, sent, training_world
from tests.test_hub_swaps import BY_ALICE, BY_BOB, SWAP, abort_to, committed, half_done, told


def test_when_the_run_ends_what_is_not_decided_is_void_and_nothing_new_is_decided() -> None:
    world = half_done()
    assert told(world.handle(Drain("enough"))) == abort_to(ALICE)
    assert told(world.say(BOB, BY_BOB)) == abort_to(BOB)
    assert told(world.say(ALICE, BY_ALICE)) == abort_to(ALICE)
    assert world.core.swaps.counts.committed == 0
    assert sent(world.say(CAROL, Seek()), Peers) == [(CAROL, Peers(()))]


def test_the_farewell_waits_a_while_for_those_that_were_told_commit() -> None:
    world = committed()
    world.handle(Drain("enough"))
    assert sent(world.work_all(), Bye) == []
    assert sent(world.say(ALICE, Installed(SWAP)), Bye) == []
    assert {node for node, _ in sent(world.say(BOB, Installed(SWAP)), Bye)} == {ALICE, BOB, CAROL}


def test_but_not_for_ever() -> None:
    world = committed()
    world.handle(Drain("enough"))
    effects = [*world.work_all(), *world.pass_time(INSTALLED_WAIT_S + 1, (ALICE, BOB, CAROL))]
    assert {node for node, _ in sent(effects, Bye)} == {ALICE, BOB, CAROL}


def test_a_step_that_is_not_finite_ends_the_run_before_anything_of_it_is_kept() -> None:
    world = training_world(ALICE, hub={"checkpoint_every": 1, "evaluate_every": 1}, **ONE_EACH)
    world.answer(ALICE)
    step = world.jobs.popleft()
    effects = world.handle(JobDone(step, Stepped(Version(1), math.nan, 0.1)))
    assert [note.what for note in effects if isinstance(note, Note)] == ["diverged"]
    assert not [job for job in world.jobs if isinstance(job, Checkpoint | Evaluate)]
    assert world.core.phase is Phase.FINISHING
    (finish,) = [one for one in world.pass_time(20) if isinstance(one, Finish)]
    assert (finish.exit_code, finish.outcome) == (ExitCode.UNEXPECTED, "failed")
    assert "its gradient is not finite" in finish.text
