"""A swap that was on its way when a node lost its session: what the node gave away is its backup, and all know that."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.greeting import spares_then
from mdgan_edge.actors import JobDone
from mdgan_edge.messages import AssignedDiscriminator, Fetch, HeldDiscriminator, NodeId, Prepared, SwapId
from nodes import jobs
from nodes.jobs import Prepare
from tests.hub_world import ALICE, BOB, CAROL, FACTS, HubWorld, hello, sent, training_world
from tests.node_world import HELD, NEXT_HEADER
from tests.test_adoptions import ALICES, BOBS
from tests.test_left_behind import bob_dies
from tests.test_node_swaps import SWAPS, prepared_node
from tests.test_swapping import GIVEN

SWAP = SwapId("alice/1/1")


def of(name: str, hop: int, tasks: int = 3) -> HeldDiscriminator:
    return HeldDiscriminator(name, hop, FACTS.architecture, tasks)  # type: ignore[arg-type]


def committed_world() -> HubWorld:
    """Alice and Bob have swapped, and Alice has not heard of it."""
    world = training_world(ALICE, BOB, CAROL)
    world.say(ALICE, Prepared(SWAP, BOB, ALICES, 0, BOBS, 0))
    world.say(BOB, Prepared(SWAP, ALICE, BOBS, 0, ALICES, 0))
    return world


@pytest.mark.parametrize("incarnation", [1, 2])
def test_the_hub_fetches_the_backup_of_a_node_that_was_told_by_welcome(incarnation: int) -> None:
    world = committed_world()
    world.say(ALICE, hello(incarnation, of(ALICES, 0), spares=(of(BOBS, 1),)))
    assert world.welcomes[ALICE].discriminator == AssignedDiscriminator(BOBS, 1, "install")
    assert dict(world.core.shelving.whereabouts.holders(ALICES)) == {ALICE: 0}
    assert [(node, fetch.wanted) for node, fetch in sent(bob_dies(world), Fetch)] == [(ALICE, ALICES)]


def test_what_another_has_trained_is_a_backup() -> None:
    assigned, spares, adopted = AssignedDiscriminator(BOBS, 1, "install"), (of(BOBS, 1),), of(ALICES, 5, tasks=0)
    assert spares_then(assigned, adopted, spares) == (*spares, adopted)


@pytest.mark.parametrize(("action", "tasks"), [("keep", 3), ("install", 0)])
def test_what_is_held_still_or_was_never_trained_is_no_backup(action: str, tasks: int) -> None:
    assigned, spares = AssignedDiscriminator(BOBS, 1, action), (of(BOBS, 1), of("d9-zoe", 4))  # type: ignore[arg-type]
    assert spares_then(assigned, of(ALICES, 0, tasks), spares) == spares


def test_the_backup_of_before_gives_way_to_it() -> None:
    held, shadow = of(ALICES, 0), of(BOBS, 1)
    assert spares_then(AssignedDiscriminator(BOBS, 1, "install"), held, (shadow, of("d9-zoe", 4))) == (shadow, held)


def test_the_node_tells_of_it_in_its_next_hello_and_gives_it() -> None:
    node = prepared_node()
    node.wait(10)
    assigned = AssignedDiscriminator(GIVEN.discriminator_id, GIVEN.hop, "install")
    node.hear(replace(SWAPS, discriminator=assigned), NEXT_HEADER)
    job = Prepare(SWAPS.run_id, GIVEN.discriminator_id, GIVEN.hop, False, SWAPS.terms)
    node.take(JobDone(job, jobs.Prepared(GIVEN, (GIVEN, HELD))))
    assert node.core.spares == (GIVEN, HELD)
    fetch = Fetch(SwapId("=d7/1"), NodeId("hub"), node.core.facts.node, HELD.discriminator_id)
    given = [effect.job for effect in node.hear(fetch, NEXT_HEADER) if hasattr(effect, "job")]
    assert given == [jobs.Offer(fetch.swap_id, (HELD.discriminator_id, HELD.hop))]
