"""The barrier of synchronous swaps at the hub: whom it holds up, until when, and what it never waits for."""

from __future__ import annotations

from typing import Any

import pytest

from broker.barrier import TURN_S
from mdgan_edge.actors import Effect, Note
from mdgan_edge.messages import (
    Bye,
    Commit,
    GivenUp,
    Installed,
    Message,
    NodeId,
    Peers,
    Prepared,
    Refuse,
    Seek,
    SwapId,
    Task,
)
from tests.hub_world import ALICE, BOB, CAROL, SYNC, HubWorld, sent, training_world

THREE = (ALICE, BOB, CAROL)
SWAP = SwapId("alice/1/1")


def answered(world: HubWorld, seeking: tuple[NodeId, ...], *nodes: NodeId) -> list[Effect]:
    """Each of `nodes` answers its task; those that are due say SEEK before that."""
    effects: list[Effect] = []
    for node in nodes:
        if node in seeking:
            effects += world.say(node, Seek())
        effects += world.answer(node)
    return effects


def at_the_barrier(*seeking: NodeId, **training: Any) -> HubWorld:
    """Three nodes have answered at version 0, these are due, and the step is taken."""
    world = training_world(*THREE, **{**SYNC, **training})
    effects = answered(world, seeking, *THREE) + world.work_all()
    assert world.version == 1
    assert {node for node, _ in sent(effects, Peers)} == set(seeking)
    assert sent(effects, Task) == []
    return world


def prepared(world: HubWorld, node: NodeId, other: NodeId) -> Prepared:
    mine, theirs = world.member(node), world.member(other)
    return Prepared(SWAP, other, mine.discriminator_id, mine.hop, theirs.discriminator_id, theirs.hop)


def commit(world: HubWorld, one: NodeId, other: NodeId) -> list[Effect]:
    said = [(node, prepared(world, node, partner)) for node, partner in ((one, other), (other, one))]
    return [effect for node, message in said for effect in world.say(node, message)]


def tasks_after(world: HubWorld, node: NodeId, message: Message) -> list[NodeId]:
    """Who gets a task when this is said."""
    return [to for to, _ in sent(world.say(node, message), Task)]


# --- when it opens ----------------------------------------------------------------------------------------------------


def test_peers_are_named_once_all_feedback_of_the_version_is_in_and_the_step_is_taken() -> None:
    world = training_world(*THREE, **SYNC)
    assert sent(answered(world, (ALICE, CAROL), *THREE), Peers) == []
    assert sent(world.work_all(), Peers) != []
    assert world.version == 1


def test_without_a_barrier_peers_are_named_at_once_and_nobody_waits() -> None:
    world = training_world(*THREE, **{**SYNC, "swap_barrier": False})
    assert sent(world.say(ALICE, Seek()), Peers) != []
    answered(world, (), *THREE)
    assert {node for node, _ in sent(world.work_all(), Task)} == set(THREE)


def test_where_nobody_is_due_the_next_version_follows_at_once() -> None:
    world = training_world(*THREE, **SYNC)
    answered(world, (), *THREE)
    assert {node for node, _ in sent(world.work_all(), Task)} == set(THREE)


def test_after_the_last_version_nobody_swaps_any_more() -> None:
    world = training_world(*THREE, **SYNC, steps=1)
    assert sent(answered(world, (ALICE,), *THREE) + world.work_all(), Peers) == []


def test_a_task_under_work_keeps_the_barrier_shut_though_the_step_is_taken() -> None:
    world = training_world(*THREE, **{**SYNC, "quorum": 2, "staleness_max": 4})
    effects = answered(world, (ALICE,), ALICE, BOB) + world.work_all()
    assert world.version == 1
    assert (sent(effects, Peers), sent(effects, Task)) == ([], [])
    assert [node for node, _ in sent(world.answer(CAROL), Peers)] == [ALICE]


def test_a_due_node_whose_task_is_still_needed_is_given_it_again_before_it_swaps() -> None:
    world = training_world(*THREE, **SYNC)
    answered(world, (), BOB, CAROL)
    effects = world.say(ALICE, Seek())
    effects += world.say(ALICE, Refuse(world.tasks[ALICE].pop().task_id, "bad"))  # nobody has a task in flight now
    effects += world.pass_time(2.0, pinging=THREE)
    assert ([node for node, _ in sent(effects, Task)], sent(effects, Peers)) == ([ALICE], [])
    effects = answered(world, (), ALICE) + world.work_all()
    assert [node for node, _ in sent(effects, Peers)] == [ALICE]


# --- when it ends -----------------------------------------------------------------------------------------------------


def test_tasks_are_handed_out_when_both_have_said_that_they_installed() -> None:
    world = at_the_barrier(ALICE)
    effects = commit(world, ALICE, BOB)
    assert [node for node, _ in sent(effects, Commit)] == [ALICE, BOB]
    assert sent(effects, Task) == []
    assert tasks_after(world, ALICE, Installed(SWAP)) == []
    assert set(tasks_after(world, BOB, Installed(SWAP))) == set(THREE)


def test_a_swap_is_noted_with_the_version_whose_tasks_come_after_it() -> None:
    world = at_the_barrier(ALICE)
    (note,) = (effect for effect in commit(world, ALICE, BOB) if isinstance(effect, Note))
    assert (note.what, note.facts["version"], note.facts["nodes"]) == ("swap_committed", 1, [ALICE, BOB])


def test_a_turn_that_came_to_nothing_is_over() -> None:
    world = at_the_barrier(ALICE, CAROL)
    assert tasks_after(world, ALICE, GivenUp()) == []
    assert set(tasks_after(world, CAROL, GivenUp())) == set(THREE)


def test_who_asks_for_peers_again_gets_them_at_once_and_is_still_waited_for() -> None:
    world = at_the_barrier(ALICE)
    effects = world.say(ALICE, Seek())
    assert [node for node, _ in sent(effects, Peers)] == [ALICE]
    assert sent(effects, Task) == []


def test_a_node_that_swaps_for_ever_is_not_waited_for_longer_than_a_turn_may_take() -> None:
    world = at_the_barrier(ALICE)
    assert sent(world.pass_time(TURN_S - 1, pinging=THREE), Task) == []
    assert {node for node, _ in sent(world.pass_time(2, pinging=THREE), Task)} == set(THREE)


def test_a_node_that_never_installs_is_not_waited_for_longer_than_a_turn_may_take() -> None:
    world = at_the_barrier(ALICE)
    commit(world, ALICE, BOB)
    world.say(ALICE, Installed(SWAP))
    assert {node for node, _ in sent(world.pass_time(TURN_S + 1, pinging=THREE), Task)} == set(THREE)


def test_a_silent_node_is_waited_for_until_it_is_suspect() -> None:
    world = at_the_barrier(ALICE)
    effects = world.pass_time(10, pinging=(BOB, CAROL))
    assert world.state(ALICE) == "suspect"
    assert {node for node, _ in sent(effects, Task)} == {BOB, CAROL}


@pytest.mark.parametrize("how", ["it starts anew", "it leaves"])
def test_a_session_that_is_over_is_not_waited_for(how: str) -> None:
    world = at_the_barrier(ALICE)
    effects = world.greet(ALICE, incarnation=2) if how == "it starts anew" else world.say(ALICE, Bye("drain"))
    assert {BOB, CAROL} <= {node for node, _ in sent(effects, Task)}


def test_installed_said_again_does_not_end_the_next_turn() -> None:
    world = at_the_barrier(ALICE)
    commit(world, ALICE, BOB)
    world.say(ALICE, Installed(SWAP))
    world.say(BOB, Installed(SWAP))
    for node in THREE:
        mine = world.member(node)
        if node == ALICE:
            world.say(node, Seek())
            world.say(node, Installed(SWAP))  # the answer to a COMMIT that was under way twice
        world.answer(node, discriminator_id=mine.discriminator_id, hop=mine.hop)
    effects = world.work_all()
    assert world.version == 2
    assert [node for node, _ in sent(effects, Peers)] == [ALICE]
    assert sent(effects, Task) == []
