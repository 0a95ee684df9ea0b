"""Each discriminator has at most one owner, and a lost one comes back under a new name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.ownership import Ownership
from mdgan_edge.messages import AssignedDiscriminator, DiscriminatorId, HeldDiscriminator, Incarnation, NodeId
from tests.hub_world import ALICE, BOB, CAROL

FIRST = AssignedDiscriminator(DiscriminatorId("d1-alice"), 0, "init")
HELD = HeldDiscriminator(DiscriminatorId("d1-alice"), 0, "arch", 5)


def begun() -> Ownership:
    ownership = Ownership("arch")
    assert ownership.assign(ALICE, Incarnation(1), None) == FIRST
    return ownership


def test_a_node_that_holds_its_own_keeps_it() -> None:
    kept = begun().assign(ALICE, Incarnation(2), HELD)
    assert kept == AssignedDiscriminator(FIRST.discriminator_id, 0, "keep")


def test_a_hello_said_again_before_the_welcome_came_gets_the_same_answer() -> None:
    assert begun().assign(ALICE, Incarnation(1), None) == FIRST


@pytest.mark.parametrize(
    "held",
    [
        None,
        replace(HELD, hop=1),
        replace(HELD, architecture="other"),
        replace(HELD, discriminator_id=DiscriminatorId("d9-alice")),
    ],
)
def test_a_lost_discriminator_is_replaced_by_a_new_identity(held: HeldDiscriminator | None) -> None:
    ownership = begun()
    reborn = ownership.assign(ALICE, Incarnation(2), held)
    assert reborn == AssignedDiscriminator(DiscriminatorId("d2-alice"), 0, "init")
    assert ownership.owns(ALICE, reborn.discriminator_id, 0)
    assert not ownership.owns(ALICE, FIRST.discriminator_id, 0)


def test_a_stranger_owns_nothing() -> None:
    assert not begun().owns(BOB, FIRST.discriminator_id, 0)


HELLOS = st.tuples(st.sampled_from([ALICE, BOB, CAROL]), st.integers(1, 3), st.integers(0, 8))


@given(st.lists(HELLOS, max_size=30))
def test_no_discriminator_ever_has_two_owners(hellos: list[tuple[NodeId, int, int]]) -> None:
    ownership, names = Ownership("arch"), [DiscriminatorId("d0-nobody")]
    for node, incarnation, which in hellos:
        held = HeldDiscriminator(names[which % len(names)], 0, "arch", 1)
        names.append(ownership.assign(node, Incarnation(incarnation), held).discriminator_id)
        owners = [[one for one in (ALICE, BOB, CAROL) if ownership.owns(one, name, 0)] for name in set(names)]
        assert max(map(len, owners)) <= 1
        assert ownership.owns(node, names[-1], 0)
