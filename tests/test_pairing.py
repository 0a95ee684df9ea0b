"""Whom the hub names to a node that is due for a swap."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from broker.pairing import VIEW_SIZE, Pairing
from mdgan_edge.messages import Epoch, Installed, NodeId, Peers, Prepared, Seek, SwapId
from tests.hub_world import ALICE, BATCH_SIZE, BOB, CAROL, DAVE, EIGHT, HubWorld, hello, sent, training_world
from tests.test_adoptions import ALICES, BOBS, notes

PERIOD = 8  # tasks between two swaps of a node


def test_a_node_is_told_of_eight_live_nodes_at_most_and_never_of_itself() -> None:
    world = training_world(*EIGHT, ALICE, BOB, quorum="all", step_timeout_s=0.0)
    told = [sent(world.say(ALICE, Seek()), Peers)[0][1].nodes for _ in range(20)]
    views = [tuple(one.node for one in nodes) for nodes in told]
    assert all(len(set(nodes)) == len(nodes) == VIEW_SIZE for nodes in views)
    assert all(ALICE not in nodes for nodes in views)
    assert set().union(*views) == {*EIGHT, BOB}
    assert len(set(views)) > 1


def test_who_is_alone_is_told_of_nobody() -> None:
    world = training_world(ALICE, quorum="all", step_timeout_s=0.0)
    assert sent(world.say(ALICE, Seek()), Peers) == [(ALICE, Peers(()))]


def named(world: HubWorld, node: NodeId) -> set[NodeId]:
    ((_, peers),) = sent(world.say(node, Seek()), Peers)
    return {one.node for one in peers.nodes}


# --- who rests --------------------------------------------------------------------------------------------------------


def swapped_world(**training: Any) -> HubWorld:
    """Alice and Bob have swapped, and nobody has answered a task since."""
    world = HubWorld(**training)
    for node in (ALICE, BOB, CAROL):
        world.say(node, hello(shard_size=PERIOD * BATCH_SIZE))
    for node in (ALICE, BOB, CAROL):
        world.core.members.known(node).tally.tasks = PERIOD
    swap = SwapId("alice/1/1")
    world.say(ALICE, Prepared(swap, BOB, ALICES, 0, BOBS, 0))
    world.say(BOB, Prepared(swap, ALICE, BOBS, 0, ALICES, 0))
    for node in (ALICE, BOB):
        world.say(node, Installed(swap))
    return world


def test_who_has_swapped_is_not_named_before_half_of_its_period_is_over() -> None:
    world = swapped_world(swap=1.0)
    world.say(DAVE, hello(shard_size=PERIOD * BATCH_SIZE))
    assert named(world, CAROL) == {DAVE}
    world.core.members.known(ALICE).tally.tasks += PERIOD // 2 - 1
    assert named(world, CAROL) == {DAVE}
    world.core.members.known(ALICE).tally.tasks += 1
    assert named(world, CAROL) == {ALICE, DAVE}


def test_unless_nobody_else_is_left() -> None:
    assert named(swapped_world(swap=1.0), CAROL) == {ALICE, BOB}


def test_it_may_ask_others_itself_as_soon_as_it_is_due() -> None:
    assert named(swapped_world(swap=1.0), ALICE) == {CAROL}


def test_at_a_barrier_nobody_rests_since_all_have_done_as_much() -> None:
    world = swapped_world(swap=1.0, swap_barrier=True)
    assert {one.node for one in world.core.swaps._pairing.view(world.core.members.known(CAROL))} == {ALICE, BOB}


# --- who has much in common -------------------------------------------------------------------------------------------


def pairing_of(labels: dict[NodeId, tuple[int, ...] | None], classes: int = 10, **training: Any) -> Pairing:
    world = HubWorld(**training)
    for node, known in labels.items():
        world.say(node, hello(labels=known, shard_size=BATCH_SIZE))
    settings = replace(world.settings, model=replace(world.settings.model, classes=classes))
    return Pairing(settings, world.core.members, Epoch(1))


def viewed(pairing: Pairing, node: NodeId) -> set[NodeId]:
    return {one.node for one in pairing.view(pairing._members.known(node))}


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [((0, 1), True), ((0,), True), ((0, 2), True), ((2, 3), False), ((1, 2, 3, 4), False), ((), True), (None, True)],
)
def test_nodes_swap_that_have_a_quarter_of_their_classes_in_common(theirs: tuple[int, ...] | None, fits: bool) -> None:
    pairing = pairing_of({ALICE: (0, 1), BOB: theirs})
    assert (viewed(pairing, ALICE), viewed(pairing, BOB)) == (({BOB}, {ALICE}) if fits else (set(), set()))


@pytest.mark.parametrize("settings", [{"label_aware": False}, {"classes": 0}], ids=str)
def test_where_every_node_judges_all_that_comes_it_does_not_matter_which_it_has(settings: dict[str, Any]) -> None:
    assert viewed(pairing_of({ALICE: (0, 1), BOB: (2, 3)}, **settings), ALICE) == {BOB}


def test_among_many_strangers_the_few_that_fit_are_found() -> None:
    strangers = dict.fromkeys((NodeId(f"s{number}") for number in range(100)), (5, 6))
    friends = dict.fromkeys((NodeId(f"f{number}") for number in range(VIEW_SIZE)), (0, 1))
    assert viewed(pairing_of({ALICE: (0, 1), **strangers, **friends}), ALICE) == set(friends)


def test_it_is_said_once_of_a_node_that_its_classes_keep_from_swapping() -> None:
    world = HubWorld()
    world.core.swaps._pairing._label_aware = True  # this world's model has no classes
    for node, labels in ((ALICE, (0, 1)), (BOB, (2, 3))):
        world.say(node, hello(labels=labels, shard_size=BATCH_SIZE))
    assert [notes(world.say(ALICE, Seek())) for _ in range(2)] == [["no_partner"], []]
