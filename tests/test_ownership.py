"""Each discriminator has at most one owner, and a lost one comes back under a new name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from broker.ownership import LOST_MAX, Owner, Ownership, name_of, number_of
from mdgan_edge.bounds import ID_MAX, NODE_ID_MAX
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


def swapped() -> Ownership:
    """Alice owns bob's, and bob hers."""
    ownership = begun()
    ownership.assign(BOB, Incarnation(1), None)
    assert ownership.swap(ALICE, BOB) == (
        Owner(ALICE, Incarnation(1), DiscriminatorId("d2-bob"), 1),
        Owner(BOB, Incarnation(1), FIRST.discriminator_id, 1),
    )
    return ownership


BOBS = replace(HELD, discriminator_id=DiscriminatorId("d2-bob"), hop=1)


def test_those_that_swap_own_the_others_from_then_on_and_no_more_their_own() -> None:
    ownership = swapped()
    assert ownership.owns(ALICE, BOBS.discriminator_id, 1)
    assert ownership.owns(BOB, FIRST.discriminator_id, 1)
    assert not any(ownership.owns(node, FIRST.discriminator_id, 0) for node in (ALICE, BOB))


@pytest.mark.parametrize("incarnation", [1, 2])
def test_who_has_what_it_owns_beside_what_it_holds_is_told_to_install_it(incarnation: int) -> None:
    told = swapped().assign(ALICE, Incarnation(incarnation), HELD, (BOBS, HELD))
    assert told == AssignedDiscriminator(BOBS.discriminator_id, 1, "install")


def test_a_spare_that_is_not_owned_is_not_given_back() -> None:
    told = swapped().assign(ALICE, Incarnation(2), None, (HELD, replace(BOBS, hop=2)))
    assert told == AssignedDiscriminator(DiscriminatorId("d3-alice"), 0, "init")


def test_an_old_greeting_of_a_start_that_has_swapped_since_changes_no_owner() -> None:
    ownership = swapped()
    assert ownership.assign(ALICE, Incarnation(1), None) == AssignedDiscriminator(BOBS.discriminator_id, 1, "install")
    assert ownership.owns(ALICE, BOBS.discriminator_id, 1)


def test_owners_that_were_on_record_own_the_same_after_a_restart() -> None:
    before = swapped()
    owners = [owner for node in (ALICE, BOB) if (owner := before.owner(node)) is not None]
    after = Ownership("arch", owners)
    assert [after.owner(node) for node in (ALICE, BOB)] == owners
    assert after.assign(CAROL, Incarnation(1), None).discriminator_id == "d3-carol"


def test_a_name_that_nobody_owns_any_more_is_not_given_again_after_a_restart() -> None:
    before = begun()
    before.assign(ALICE, Incarnation(2), None)  # d2-alice
    before.assign(BOB, Incarnation(1), None)
    before.assign(BOB, Incarnation(2), None)
    before.adopt(BOB, (DiscriminatorId("d2-alice"), 1), None)  # what bob had is gone, and what alice gets is d5
    owner = before.owner(BOB)
    assert owner is not None
    after = Ownership("arch", (owner,), before.record().issued)
    assert after.new_id(CAROL) == "d6-carol"


def test_a_register_of_before_the_count_was_kept_is_counted_by_its_owners() -> None:
    owner = Owner(ALICE, Incarnation(1), DiscriminatorId("d7-alice"), 3)
    assert Ownership("arch", (owner,)).new_id(BOB) == "d8-bob"


NO_NAMES = [
    "",
    "garbage",
    "../generator",
    "d0-ann",
    "d01-ann",
    "d1",
    "d1-",
    "d1-Ann",
    "d-n0",
    "d1-a/b",
    "d1-ann\n",
    "dⅧ-x",
]


@pytest.mark.parametrize("name", [*NO_NAMES, "d" + "9" * 16 + "-ann", f"d1-{'a' * 33}"])
def test_an_owner_of_what_no_hub_gave_a_name_owns_nothing(name: str) -> None:
    assert number_of(DiscriminatorId(name)) is None
    ownership = Ownership("arch", (Owner(ALICE, Incarnation(1), DiscriminatorId(name), 0),))
    assert ownership.owned(ALICE) is None
    assert not ownership.has_issued(DiscriminatorId(name))
    assert ownership.assign(ALICE, Incarnation(1), None) == FIRST


@given(st.integers(1, 10**15 - 1), st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True))
def test_every_name_that_is_given_fits_the_wire_and_is_known_again(number: int, node: str) -> None:
    name = name_of(number, NodeId(node))
    assert len(name) <= ID_MAX
    assert number_of(name) == number


def test_only_what_was_lost_last_is_remembered() -> None:
    assert len(name_of(10**15 - 1, NodeId("a" * NODE_ID_MAX))) <= ID_MAX
    ownership = begun()
    for start in range(2, LOST_MAX + 3):
        ownership.adopt(ALICE, (ownership.new_id(ALICE), 1), None)
        lost = ownership.owned(ALICE)
        ownership.assign(ALICE, Incarnation(start), None)
        assert lost is not None
        assert ownership.hop_of(lost[0]) == 1
    assert ownership.hop_of(DiscriminatorId("d2-alice")) is None
    assert ownership.hop_of(DiscriminatorId("d4-alice")) == 1


SWAPS = st.lists(st.permutations([ALICE, BOB, CAROL]), max_size=20)


@given(SWAPS)
def test_swaps_only_move_discriminators_around(swaps: list[list[NodeId]]) -> None:
    ownership = Ownership("arch")
    nodes = (ALICE, BOB, CAROL)
    born = {ownership.assign(node, Incarnation(1), None).discriminator_id for node in nodes}
    for one, other, _ in swaps:
        ownership.swap(one, other)
    owned = [name for node in nodes if (name := ownership.owned(node)) is not None]
    assert {name for name, _ in owned} == born
    assert sum(hop for _, hop in owned) == 2 * len(swaps)


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
