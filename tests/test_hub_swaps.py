"""The hub's side of a swap: who is told of whom, what is handed on, and that every swap is decided once, for ever."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from broker.core import HubCore
from broker.ownership import Owner, Record
from broker.swaps import COMMIT_AGAIN_S, SWAP_DEADLINE_S, VOID_REMEMBERED
from mdgan_edge.actors import Effect, Header, Note, Persist, Send
from mdgan_edge.messages import (
    Abort,
    Accept,
    Bye,
    Commit,
    Copy,
    Decline,
    DiscriminatorId,
    Feedback,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Message,
    Neighbour,
    NodeId,
    Peers,
    Prepared,
    Propose,
    Seek,
    SwapId,
    Tensor,
    Verdict,
    Welcome,
)
from tests.hub_world import ALICE, BOB, CAROL, DAVE, FACTS, HubWorld, errors, hello, sent, training_world
from tests.journey_crashes import is_open

SWAP = SwapId("alice/1/1")
A, B, C = (DiscriminatorId(name) for name in ("d1-alice", "d2-bob", "d3-carol"))
BY_ALICE = Prepared(SWAP, BOB, A, 0, B, 0)
BY_BOB = Prepared(SWAP, ALICE, B, 0, A, 0)
TO_ALICE, TO_BOB = Commit(SWAP, B, 1), Commit(SWAP, A, 1)
OWNERS = (Owner(BOB, Incarnation(1), A, 1), Owner(ALICE, Incarnation(1), B, 1))
PROPOSE = Propose(SWAP, ALICE, BOB, A, 0, FACTS.architecture)


def world_of_three() -> HubWorld:
    """Their tasks are never answered, so that nothing else happens."""
    return training_world(ALICE, BOB, CAROL, quorum="all", step_timeout_s=0.0)


def half_done() -> HubWorld:
    world = world_of_three()
    assert told(world.say(ALICE, BY_ALICE)) == []
    return world


def committed() -> HubWorld:
    world = half_done()
    world.say(BOB, BY_BOB)
    return world


def told(effects: list[Effect]) -> list[tuple[NodeId, Message]]:
    """Who is told of a decision."""
    return sorted(sent(effects, Commit) + sent(effects, Abort), key=str)


def owned(world: HubWorld, *nodes: NodeId) -> list[Any]:
    return [world.core.ownership.owned(node) for node in nodes]


def abort_to(*nodes: NodeId) -> list[tuple[NodeId, Message]]:
    return [(node, Abort(SWAP)) for node in nodes]


# --- the decision -----------------------------------------------------------------------------------------------------


def test_one_that_is_prepared_decides_nothing() -> None:
    assert owned(half_done(), ALICE, BOB) == [(A, 0), (B, 0)]


def test_once_both_are_prepared_the_owners_are_on_record_before_anybody_is_told() -> None:
    world = half_done()
    headers = {node: world.header(node) for node in (ALICE, BOB)}
    commits = [Send(world.member(node).peer, said, headers[node]) for node, said in ((ALICE, TO_ALICE), (BOB, TO_BOB))]
    facts = {"swap_id": SWAP, "version": 0, "nodes": [ALICE, BOB], "given": [A, B], "direct": False}
    note = Note("swap_committed", "both were prepared", facts)
    assert world.say(BOB, BY_BOB) == [Persist(Record(OWNERS, issued=3)), *commits, note]
    assert owned(world, ALICE, BOB) == [(B, 1), (A, 1)]


def test_prepared_said_twice_counts_once() -> None:
    world = half_done()
    assert told(world.say(ALICE, BY_ALICE)) == []
    assert owned(world, ALICE, BOB) == [(A, 0), (B, 0)]


def test_after_the_decision_prepared_is_answered_with_commit_again() -> None:
    world = committed()
    assert told(world.say(ALICE, BY_ALICE)) == [(ALICE, TO_ALICE)]
    assert told(world.say(BOB, BY_BOB)) == [(BOB, TO_BOB)]
    assert world.core.swaps.counts.committed == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"received_id": C},
        {"received_hop": 1},
        {"held_id": A, "received_id": B},
        {"held_hop": 1},
    ],
)
def test_two_that_do_not_say_the_same_of_a_swap_have_none(changes: dict[str, Any]) -> None:
    world = half_done()
    effects = world.say(BOB, replace(BY_BOB, **changes))
    assert {node for node, said in told(effects) if isinstance(said, Abort)} == {ALICE, BOB}
    assert sent(effects, Commit) == []
    assert owned(world, ALICE, BOB, CAROL) == [(A, 0), (B, 0), (C, 0)]


FORGED = [
    Prepared(SWAP, ALICE, C, 0, A, 0),
    Prepared(SWAP, BOB, C, 0, B, 0),
    Prepared(SWAP, ALICE, B, 0, A, 0),
    Prepared(SWAP, CAROL, C, 0, B, 0),
]


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize("first", [True, False])
def test_a_third_that_says_it_is_prepared_for_the_swap_of_two_spoils_nothing(forged: Prepared, first: bool) -> None:
    world = world_of_three() if first else half_done()
    world.say(CAROL, forged)
    if first:
        assert told(world.say(ALICE, BY_ALICE)) == []
    assert owned(world, ALICE, BOB, CAROL) == [(A, 0), (B, 0), (C, 0)]
    assert told(world.say(BOB, BY_BOB)) == [(ALICE, TO_ALICE), (BOB, TO_BOB)]


def test_who_waits_for_its_commit_is_never_told_by_another_s_claim_that_the_swap_is_void() -> None:
    world = half_done()
    world.say(BOB, BY_BOB)  # on record; their COMMITs may be lost
    world.say(CAROL, Prepared(SWAP, ALICE, C, 0, B, 1))
    said = told(world.pass_time(SWAP_DEADLINE_S + 1, (ALICE, BOB, CAROL)))
    assert [node for node, one in said if isinstance(one, Abort)] in ([], [CAROL])
    assert (ALICE, TO_ALICE) in said


def test_who_claims_an_id_before_its_owner_uses_it_makes_nothing_void_but_its_own_claim() -> None:
    world = world_of_three()
    world.say(CAROL, Prepared(SWAP, ALICE, C, 0, A, 0))
    assert told(world.pass_time(SWAP_DEADLINE_S + 1, (ALICE, BOB, CAROL))) == abort_to(CAROL)
    assert told(world.say(ALICE, BY_ALICE)) == []
    assert told(world.say(BOB, BY_BOB)) == [(ALICE, TO_ALICE), (BOB, TO_BOB)]


def test_one_that_names_another_partner_is_not_of_that_swap() -> None:
    world = half_done()
    assert told(world.say(BOB, replace(BY_BOB, partner=CAROL))) == []
    assert set(told(world.pass_time(SWAP_DEADLINE_S + 1, (ALICE, BOB, CAROL)))) >= set(abort_to(ALICE, BOB))
    assert owned(world, ALICE, BOB, CAROL) == [(A, 0), (B, 0), (C, 0)]


def test_prepared_with_a_discriminator_of_somebody_else_is_passed_over() -> None:
    world = world_of_three()
    assert told(world.say(CAROL, replace(BY_ALICE, partner=BOB))) == []
    assert not is_open(world.core.swaps, SWAP)


def test_nobody_swaps_with_itself() -> None:
    world = world_of_three()
    mine = Prepared(SWAP, ALICE, A, 0, A, 0)
    assert told(world.say(ALICE, mine)) + told(world.say(ALICE, mine)) == []
    assert set(told(world.pass_time(SWAP_DEADLINE_S + 1, (ALICE, BOB, CAROL)))) == set(abort_to(ALICE))
    assert owned(world, ALICE) == [(A, 0)]


def test_a_node_that_is_prepared_for_another_swap_has_given_up_the_one_before() -> None:
    world = half_done()
    other = Prepared(SwapId("other"), CAROL, A, 0, C, 0)
    assert told(world.say(ALICE, other)) == abort_to(ALICE)
    assert told(world.say(BOB, BY_BOB)) == abort_to(BOB)


def test_a_node_cannot_make_the_hub_remember_without_bound() -> None:
    world = world_of_three()
    for number in range(3 * VOID_REMEMBERED):
        world.say(ALICE, replace(BY_ALICE, swap_id=SwapId("x" * 4000 + str(number))))
    assert len(world.core.swaps._halves) == 1
    assert len(world.core.swaps._void[ALICE]) == VOID_REMEMBERED


def test_feedback_by_a_discriminator_that_was_given_away_is_fenced_off_and_by_the_new_one_is_taken() -> None:
    world = committed()
    task = world.tasks[ALICE][0]
    by_the_old = world.feedback(ALICE, task)
    world.say(ALICE, by_the_old)
    assert world.verdicts() == {"fenced": 1}
    by_the_new: Feedback = replace(world.feedback(BOB), discriminator_id=A, hop=1)
    assert all(verdict is not Verdict.FENCED for _, _, verdict in world.receipts[1:])
    world.say(BOB, by_the_new)
    assert world.verdicts() == {"fenced": 1}


# --- until it is carried out ------------------------------------------------------------------------------------------


def test_commit_is_said_again_until_installed() -> None:
    world = committed()
    alive = (ALICE, BOB, CAROL)
    assert sorted(set(told(world.pass_time(COMMIT_AGAIN_S + 1, alive))), key=str) == [(ALICE, TO_ALICE), (BOB, TO_BOB)]
    world.say(ALICE, Installed(SWAP))
    assert set(told(world.pass_time(COMMIT_AGAIN_S + 1, alive))) == {(BOB, TO_BOB)}
    world.say(BOB, Installed(SWAP))
    assert told(world.pass_time(20, alive)) == []
    assert not is_open(world.core.swaps, SWAP)


def test_installed_of_another_swap_does_not_count() -> None:
    world = committed()
    world.say(ALICE, Installed(SwapId("other")))
    world.say(CAROL, Installed(SWAP))
    assert is_open(world.core.swaps, SWAP)
    assert (ALICE, TO_ALICE) in told(world.pass_time(COMMIT_AGAIN_S + 1, (ALICE, BOB, CAROL)))


# --- what makes a swap void -------------------------------------------------------------------------------------------


def test_a_swap_whose_other_half_does_not_come_is_void_after_its_time_and_stays_so() -> None:
    world = half_done()
    alive = (ALICE, BOB, CAROL)
    assert told(world.pass_time(SWAP_DEADLINE_S - 1, alive)) == []
    assert told(world.pass_time(2, alive)) == abort_to(ALICE), "Bob was never heard of: he is told when he is"
    for _ in range(2):
        assert told(world.say(BOB, BY_BOB)) == abort_to(BOB)
        assert told(world.say(ALICE, BY_ALICE)) == abort_to(ALICE)
    assert owned(world, ALICE, BOB) == [(A, 0), (B, 0)]


def test_a_node_that_goes_takes_its_swap_along() -> None:
    world = half_done()
    world.say(ALICE, Bye("enough"))
    assert set(told(world.say(BOB, BY_BOB))) == set(abort_to(BOB))
    assert owned(world, ALICE, BOB) == [(A, 0), (B, 0)]


def test_a_partner_that_goes_is_not_waited_for() -> None:
    world = half_done()
    world.say(BOB, Bye("enough"))
    assert told(world.pass_time(1, (ALICE, CAROL))) == abort_to(ALICE)


@pytest.mark.parametrize("who", [ALICE, BOB])
def test_hello_of_one_makes_the_swap_void(who: NodeId) -> None:
    world = half_done()
    effects = world.say(who, hello(1, world.held(who)), Header())
    assert set(told(effects)) == set(abort_to(ALICE))
    assert told(world.say(BOB, BY_BOB))[0] == (BOB, Abort(SWAP)) or who is BOB
    assert owned(world, ALICE, BOB) == [(A, 0), (B, 0)]


def test_after_hello_nothing_is_repeated_welcome_has_said_it() -> None:
    world = committed()
    spare = HeldDiscriminator(B, 1, FACTS.architecture, 5)
    (welcome,) = sent(world.say(ALICE, hello(2, world.held(ALICE), spares=(spare,)), Header()), Welcome)
    assert (welcome[1].discriminator.discriminator_id, welcome[1].discriminator.action) == (B, "install")
    assert set(told(world.pass_time(COMMIT_AGAIN_S + 1, (ALICE, BOB, CAROL)))) == {(BOB, TO_BOB)}


def test_an_old_hello_of_the_same_start_does_not_take_away_what_commit_gave() -> None:
    world = committed()
    (welcome,) = sent(world.say(ALICE, hello(1), Header()), Welcome)
    assert (welcome[1].discriminator.discriminator_id, welcome[1].discriminator.hop) == (B, 1)


def test_a_new_start_that_has_lost_everything_gets_a_new_one() -> None:
    world = committed()
    (welcome,) = sent(world.say(ALICE, hello(2), Header()), Welcome)
    assert welcome[1].discriminator.action == "init"
    assert welcome[1].discriminator.discriminator_id not in (A, B, C)


def test_prepared_that_is_late_by_a_whole_swap_does_not_call_void_what_is_on_record() -> None:
    world = committed()
    for node in (ALICE, BOB):
        world.say(node, Installed(SWAP))
    other = SwapId("alice/1/2")
    world.say(ALICE, Prepared(other, CAROL, B, 1, C, 0))
    world.say(CAROL, Prepared(other, ALICE, C, 0, B, 1))
    assert owned(world, ALICE, BOB, CAROL) == [(C, 1), (A, 1), (B, 2)]
    assert told(world.say(ALICE, BY_ALICE)) == []


# --- a hub that starts anew -------------------------------------------------------------------------------------------


def started_anew(before: HubWorld) -> HubWorld:
    world = HubWorld({"nodes_min": 1})
    owners = [before.core.ownership.owner(node) for node in (ALICE, BOB, CAROL)]
    facts = replace_facts(tuple(owner for owner in owners if owner is not None))
    world.core = HubCore(world.settings, facts, world.now)
    return world


def replace_facts(owners: tuple[Owner, ...]) -> Any:
    names = {name: getattr(FACTS, name) for name in FACTS.__slots__}
    return type(FACTS)(**{**names, "owners": owners})


def test_what_was_on_record_before_a_restart_is_carried_out_after_it() -> None:
    before = committed()
    world = started_anew(before)
    for node, given, other in ((ALICE, B, A), (BOB, A, B)):
        held, shadow = HeldDiscriminator(other, 0, FACTS.architecture, 5), HeldDiscriminator(given, 1, "d-784", 5)
        (welcome,) = sent(world.say(node, hello(1, held, spares=(shadow,)), Header()), Welcome)
        said = welcome[1].discriminator
        assert (said.discriminator_id, said.hop, said.action) == (given, 1, "install")


def test_what_was_not_on_record_before_a_restart_is_void_after_it() -> None:
    world = started_anew(half_done())
    for node, mine, other in ((ALICE, A, B), (BOB, B, A)):
        held, shadow = HeldDiscriminator(mine, 0, FACTS.architecture, 5), HeldDiscriminator(other, 1, "d-784", 5)
        (welcome,) = sent(world.say(node, hello(1, held, spares=(shadow,)), Header()), Welcome)
        said = welcome[1].discriminator
        assert (said.discriminator_id, said.hop, said.action) == (mine, 0, "keep")


# --- what is handed on -----------------------------------------------------------------------


ROW = Tensor("float32", (2,), b"12345678")


@pytest.mark.parametrize(
    "message",
    [
        PROPOSE,
        Accept(SWAP, ALICE, BOB, A, 0),
        Decline(SWAP, ALICE, BOB, "busy"),
        Copy(SWAP, ALICE, BOB, A, 0, FACTS.architecture, "not its digest", ROW),
    ],
)
def test_what_a_node_says_to_another_is_handed_on_as_it_is(message: Message) -> None:
    world = world_of_three()
    assert world.say(ALICE, message) == [Send(world.member(BOB).peer, message, world.header(BOB))]


@pytest.mark.parametrize("to", [DAVE, ALICE, NodeId("x" * 4000)])
def test_who_is_not_there_is_said_to_be_gone(to: NodeId) -> None:
    world = world_of_three()
    gone = Decline(SWAP, to, ALICE, "gone")
    assert sent(world.say(ALICE, replace(PROPOSE, to=to)), Decline) == [(ALICE, gone)]
    assert world.say(ALICE, Accept(SWAP, ALICE, to, A, 0)) == []


@pytest.mark.parametrize("message", [TO_ALICE, Abort(SWAP), Peers((Neighbour(BOB),))])
def test_what_only_a_hub_says_is_malformed_at_a_hub_and_changes_nothing(message: Message) -> None:
    world = half_done()
    (note,) = world.say(BOB, message)
    assert isinstance(note, Note)
    assert note.what == "malformed"
    assert told(world.say(BOB, BY_BOB)) == [(ALICE, TO_ALICE), (BOB, TO_BOB)]


@pytest.mark.parametrize("message", [Seek(), BY_ALICE, Installed(SWAP), PROPOSE])
def test_who_has_no_session_has_no_swap(message: Message) -> None:
    world = world_of_three()
    effects = world.say(DAVE, message, Header(FACTS.epoch, world.header(ALICE).session))
    assert errors(effects) == [(DAVE, "NO_SESSION")]
    assert not is_open(world.core.swaps, SWAP)
