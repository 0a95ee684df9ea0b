"""A hub that died goes on: from its last checkpoint, under a new epoch, and every discriminator keeps its owner."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from broker.adoptions import COPIES_FROM
from broker.core import HubCore, Phase
from broker.jobs import Checkpoint, Checkpointed, Evaluate, MakeBatches
from broker.ownership import Owner
from mdgan_edge.actors import Effect, JobDone, Note, Persist, Run, Send
from mdgan_edge.messages import (
    Adopt,
    DiscriminatorId,
    Epoch,
    HeldDiscriminator,
    Incarnation,
    NodeId,
    Version,
    Welcome,
)
from tests.hub_world import ALICE, BOB, CAROL, FACTS, ONE_EACH, HubWorld, errors, hello, sent, training_world

EVERY = 5


def owner(node: NodeId, incarnation: int, discriminator_id: str) -> Owner:
    return Owner(node, Incarnation(incarnation), DiscriminatorId(discriminator_id), 0)


def resumed(version: int, *owners: Owner, steps: int = 1000, nodes_min: int = 1) -> HubWorld:
    world = HubWorld({"nodes_min": nodes_min}, steps=steps)
    facts = replace(FACTS, epoch=Epoch(FACTS.epoch + 1), version=Version(version), owners=owners)
    world.core = HubCore(world.settings, facts, world.now)
    return world


def persisted(effects: list[Effect]) -> list[Owner]:
    return [owner for effect in effects if isinstance(effect, Persist) for owner in effect.record.owners]


def held(discriminator_id: str) -> HeldDiscriminator:
    return HeldDiscriminator(DiscriminatorId(discriminator_id), 0, FACTS.architecture, 10)


def action(effects: list[Effect]) -> tuple[str, str]:
    ((_, welcome),) = sent(effects, Welcome)
    return welcome.discriminator.action, welcome.discriminator.discriminator_id


# --- what is made durable -------------------------------------------------------------------------------------------


def test_who_owns_what_is_durable_before_the_node_hears_of_it() -> None:
    effects = HubWorld().greet(ALICE)
    assert persisted(effects) == [owner(ALICE, 1, "d1-alice")]
    assert isinstance(effects[0], Persist)
    assert isinstance(effects[1], Send)


def test_only_what_has_changed_is_written_again() -> None:
    world = HubWorld()
    world.greet(ALICE)
    assert persisted(world.greet(ALICE)) == []
    assert persisted(world.greet(ALICE, incarnation=2, held=world.held(ALICE))) == [owner(ALICE, 2, "d1-alice")]
    assert persisted(world.greet(ALICE, incarnation=3)) == [owner(ALICE, 3, "d2-alice")]


def test_a_checkpoint_is_made_every_so_many_versions_behind_the_next_batches() -> None:
    world = training_world(ALICE, hub={"checkpoint_every": 2}, **ONE_EACH)
    asked = []
    for _ in range(5):
        world.answer(ALICE)
        asked += [effect.job for effect in world.work() if isinstance(effect, Run)]
        world.work_all()
    kept = [job for job in asked if isinstance(job, Checkpoint)]
    assert kept == [Checkpoint(Version(2), FACTS.run_id), Checkpoint(Version(4), FACTS.run_id)]
    assert asked.index(kept[0]) == asked.index(MakeBatches(Version(2), 2)) + 1
    assert world.core.checkpoints.kept == 4


def test_a_checkpoint_that_could_not_be_written_is_said_and_training_goes_on() -> None:
    world = training_world(ALICE, hub={"checkpoint_every": 1}, **ONE_EACH)
    world.answer(ALICE)
    world.work()
    world.work()
    effects = world.handle(JobDone(world.jobs.popleft(), Checkpointed(Version(1), "the disk is full")))
    note = Note("not_saved", "the disk is full", {"version": 1, "kept": 0}, "warning")
    assert note in effects
    assert (world.core.phase, world.core.checkpoints.kept) == (Phase.TRAINING, 0)


# --- going on -------------------------------------------------------------------------------------------------------


def test_a_node_that_still_holds_what_it_owns_keeps_it_and_needs_no_warm_up() -> None:
    world = resumed(40, owner(ALICE, 3, "d1-alice"))
    assert action(world.greet(ALICE, incarnation=3, held=held("d1-alice"))) == ("keep", "d1-alice")
    assert list(world.jobs) == [MakeBatches(Version(40), 2)]
    assert world.member(ALICE).warm_up_left == 0


@pytest.mark.parametrize("mine", [None, "d9-bob"])
def test_a_node_that_holds_something_else_gets_a_new_identity_that_was_never_used(mine: str | None) -> None:
    world = resumed(40, owner(ALICE, 3, "d7-alice"), owner(BOB, 1, "d9-bob"))
    got = action(world.greet(ALICE, incarnation=4, held=None if mine is None else held(mine)))
    assert got == ("init", "d10-alice")


def test_a_newcomer_gets_an_identity_that_was_never_used() -> None:
    world = resumed(40, owner(ALICE, 3, "d7-alice"))
    assert action(world.greet(CAROL)) == ("init", "d8-carol")


def test_an_older_start_of_a_node_stays_superseded_over_the_hubs_death() -> None:
    world = resumed(40, owner(ALICE, 3, "d1-alice"))
    assert errors(world.greet(ALICE, incarnation=2)) == [(ALICE, "SUPERSEDED")]


def test_the_version_goes_on_from_the_checkpoint() -> None:
    world = resumed(40, owner(ALICE, 1, "d1-alice"))
    world.greet(ALICE, held=held("d1-alice"))
    world.work_all()
    assert [task.version for task in world.tasks[ALICE]] == [40]
    world.answer(ALICE)
    world.work_all()
    assert world.version == 41


def test_a_hub_that_died_just_before_its_end_looks_at_the_generator_once_more_and_ends() -> None:
    world = resumed(7, owner(ALICE, 1, "d1-alice"), steps=7)
    effects = world.tick_late(1)
    assert [effect.job for effect in effects if isinstance(effect, Run)] == [Evaluate(Version(7), final=True)]
    assert (world.core.phase, world.core.ending.outcome) == (Phase.FINISHING, "completed")


def test_a_hello_of_another_run_counts_for_nothing() -> None:
    world = resumed(40, owner(ALICE, 1, "d1-alice"))
    effects = world.say(ALICE, hello(1, held("d1-alice"), run_id="another run"))
    assert action(effects)[0] == "init"


# --- who does not come back -----------------------------------------------------------------------------------------

MISSING_S = 30.0  # hub.death_timeout_s


def test_a_run_that_goes_on_waits_for_those_missing_no_longer_than_it_takes_to_die() -> None:
    world = resumed(40, owner(ALICE, 1, "d1-alice"), owner(BOB, 1, "d2-bob"), nodes_min=2)
    world.greet(ALICE, held=held("d1-alice"))
    world.pass_time(MISSING_S - 1, pinging=[ALICE])
    assert world.core.phase is Phase.WAITING
    world.pass_time(2, pinging=[ALICE])
    assert world.core.phase is Phase.TRAINING


@pytest.mark.parametrize(("tasks", "phase"), [(7, Phase.TRAINING), (0, Phase.WAITING)])
def test_before_its_second_checkpoint_a_run_goes_on_if_somebody_has_trained_in_it(tasks: int, phase: Phase) -> None:
    world = resumed(0, owner(ALICE, 1, "d1-alice"), owner(BOB, 1, "d2-bob"), nodes_min=2)
    world.greet(ALICE, held=structs.replace(held("d1-alice"), tasks=tasks))
    world.pass_time(MISSING_S - 1, pinging=[ALICE])
    assert world.core.phase is Phase.WAITING
    world.pass_time(2, pinging=[ALICE])
    assert world.core.phase is phase


def test_a_new_run_goes_on_for_nobody_who_says_to_have_trained_in_it() -> None:
    world = HubWorld({"nodes_min": 2})
    world.greet(ALICE)
    world.say(ALICE, hello(1, held("d1-alice")))
    world.pass_time(2 * MISSING_S, pinging=[ALICE])
    assert world.core.members.known(ALICE).came_trained
    assert world.core.phase is Phase.WAITING


def test_a_run_that_goes_on_does_not_begin_without_anybody() -> None:
    world = resumed(40, nodes_min=2)
    world.pass_time(2 * MISSING_S)
    assert world.core.phase is Phase.WAITING


def test_a_new_run_waits_for_as_many_as_were_asked_for() -> None:
    world = HubWorld({"nodes_min": 2})
    world.greet(ALICE)
    world.pass_time(10 * MISSING_S, pinging=[ALICE])
    assert world.core.phase is Phase.WAITING


def test_who_comes_new_to_a_run_that_goes_on_gets_a_copy_and_warms_up() -> None:
    world = resumed(COPIES_FROM, owner(ALICE, 1, "d1-alice"), nodes_min=3)
    world.greet(ALICE, held=held("d1-alice"))
    effects = world.greet(CAROL)
    assert [adopt.giver.node for _, adopt in sent(effects, Adopt)] == [ALICE]
    assert world.core.members.known(CAROL).warm_up_left == world.settings.training.warm_up_tasks > 0
    assert world.core.members.known(ALICE).warm_up_left == 0


def test_nobody_is_given_a_copy_of_what_was_never_trained() -> None:
    world = resumed(COPIES_FROM, owner(ALICE, 1, "d1-alice"), nodes_min=3)
    world.greet(ALICE, held=structs.replace(held("d1-alice"), tasks=0))
    assert sent(world.greet(CAROL), Adopt) == []
