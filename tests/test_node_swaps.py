"""A swap through the node's core: with its jobs, its sessions, its divergence and its farewell."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Header, JobDone, Note, Run, Send
from mdgan_edge.messages import AssignedDiscriminator, Hello, Installed, Message, Neighbour, Peers, Seek
from nodes.jobs import Install, Moved, Offer, Prepare, Prepared, Shelve, Shelved
from nodes.swapping import ASK_AGAIN_S
from tests.node_world import HELD, NEXT_HEADER, TERMS, WELCOME, Node, send, serving, task, trained
from tests.test_swapping import ACCEPT, BOB, COMMIT, COPY, GIVEN, MINE, OFFERED, PREPARED, PROPOSE, SWAP, SWAPPED

SWAPS = replace(WELCOME, terms=replace(TERMS, swap_epochs=0.1))


def swapping_node() -> Node:
    """It serves, and has done the task after which a swap is due."""
    node = serving()
    node.core.swapping.welcomed(SWAPS.terms)
    node.core.welcome = SWAPS
    node.hear(task(1))
    assert send(Seek()) in node.take(trained(task(1)))
    node.core.swapping._tasks = 0
    return node


def prepared_node() -> Node:
    node = swapping_node()
    assert node.hear(Peers(tuple(map(Neighbour, (BOB,))))) == [send(PROPOSE)]
    assert node.hear(ACCEPT) == [Run(Offer(SWAP), beside=True)]
    assert node.take(JobDone(Offer(SWAP), OFFERED)) == [send(MINE)]
    assert node.hear(COPY) == [Run(Shelve(COPY), beside=True)]
    assert node.take(JobDone(Shelve(COPY), Shelved(COPY, None, (GIVEN,)))) == [send(PREPARED)]
    return node


INSTALL = Install(GIVEN.discriminator_id, GIVEN.hop)
INSTALLED = JobDone(INSTALL, Moved(GIVEN, (GIVEN, HELD)))


def test_a_swap_from_its_turn_to_installed() -> None:
    node = prepared_node()
    assert node.hear(COMMIT) == [Run(INSTALL)]
    assert node.take(INSTALLED) == [send(Installed(SWAP)), SWAPPED]
    assert node.core.held == GIVEN


def test_a_node_in_doubt_goes_on_training_its_own() -> None:
    node = prepared_node()
    node.hear(task(2))
    (answered,) = node.take(trained(task(2)))
    assert answered.message.discriminator_id == HELD.discriminator_id  # type: ignore[union-attr]


def test_what_lies_in_the_shadow_slot_is_told_in_hello() -> None:
    node = prepared_node()
    (said,) = (one.message for one in node.wait(20) if isinstance(one, Send) and isinstance(one.message, Hello))
    assert (said.discriminator, said.spares) == (replace(HELD, tasks=1), (GIVEN,))


def test_a_welcome_that_says_install_takes_the_shadow_without_any_commit() -> None:
    node = prepared_node()
    node.wait(10)
    assigned = AssignedDiscriminator(GIVEN.discriminator_id, GIVEN.hop, "install")
    effects = node.hear(replace(SWAPS, discriminator=assigned), NEXT_HEADER)
    job = Prepare(SWAPS.run_id, GIVEN.discriminator_id, GIVEN.hop, False, SWAPS.terms)
    assert Run(job) in effects
    node.take(JobDone(job, Prepared(GIVEN)))
    assert node.core.held == GIVEN


def test_a_welcome_that_comes_twice_does_not_bring_back_what_was_given_away() -> None:
    node = prepared_node()
    node.hear(COMMIT)
    node.take(INSTALLED)
    assert node.hear(SWAPS) == []
    assert node.core.held == GIVEN


def test_nothing_of_a_session_that_is_gone_is_heard() -> None:
    node = prepared_node()
    assert node.hear(COMMIT, Header(NEXT_HEADER.epoch, NEXT_HEADER.session)) == []


@pytest.mark.parametrize("message", [Seek(), PREPARED, Installed(SWAP)])
def test_what_is_for_the_hub_is_malformed_at_a_node(message: Message) -> None:
    text = f"{type(message).__name__} is not for a node"
    assert swapping_node().hear(message) == [Note("malformed", text, level="warning")]


def test_a_node_that_diverges_begins_anew_under_the_name_it_was_given() -> None:
    node = prepared_node()
    node.hear(COMMIT)
    node.take(INSTALLED)
    node.core.swapping._tasks = -10
    node.hear(task(2))
    effects = node.take(trained(task(2), feedback=None))
    assert Run(Prepare(SWAPS.run_id, GIVEN.discriminator_id, GIVEN.hop, True, SWAPS.terms)) in effects


def test_a_node_that_diverges_while_another_is_being_installed_needs_no_fresh_one() -> None:
    node = prepared_node()
    node.hear(task(2))
    node.hear(COMMIT)
    effects = node.take(trained(task(2), feedback=None))
    assert not any(isinstance(one, Run) for one in effects)
    node.take(INSTALLED)
    assert node.core.held == GIVEN


def test_a_swap_whose_time_is_over_while_the_discriminator_is_made_anew_wakes_nobody_in_vain() -> None:
    node = prepared_node()
    node.hear(task(2))
    node.take(trained(task(2), feedback=None))
    node.wait(ASK_AGAIN_S + 0.1)
    at = node.core.deadline()
    assert at is not None
    assert at > node.now


def test_a_node_that_leaves_does_not_install() -> None:
    node = prepared_node()
    node.core._leave("asked", "stopped", node.now)
    assert node.hear(COMMIT) == []
