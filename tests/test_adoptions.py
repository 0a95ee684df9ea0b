"""Discriminators without an owner, and nodes without a discriminator, as the hub brings them together."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from broker.adoptions import ADOPT_AGAIN_S, ADOPT_S, COPIES_FROM, GIVING_MAX
from broker.core import HubCore
from broker.jobs import Forget, Forgotten, Give, Given, Keep, Kept
from broker.ownership import Owner, Record
from broker.report import run_report
from broker.whereabouts import ORPHANS_MAX, Whereabouts
from mdgan_edge.actors import HUB, Effect, JobDone, Note, Persist, Run, Send
from mdgan_edge.messages import (
    Abort,
    Accept,
    Adopt,
    Bye,
    Commit,
    Copy,
    Decline,
    DiscriminatorId,
    Fetch,
    HeldDiscriminator,
    Incarnation,
    Installed,
    Neighbour,
    NodeId,
    Prepared,
    SwapId,
    Task,
    Tensor,
)
from tests.hub_world import ALICE, BOB, CAROL, DAVE, EIGHT, FACTS, HubWorld, hello, sent, training_world

ALICES, BOBS, CAROLS = (DiscriminatorId(name) for name in ("d1-alice", "d2-bob", "d3-carol"))
ROW = Tensor("float32", (3,), bytes(12), 0.0)


def trained_world(*nodes: NodeId, version: int = COPIES_FROM, **settings: Any) -> HubWorld:
    """Everybody has answered a task, and the generator stands at `version`."""
    world = training_world(*nodes, quorum="all", step_timeout_s=0.0, warm_up_tasks=0, **settings)
    for _ in range(version):
        for node in nodes:
            world.answer(node)
        world.work_all()
    assert world.version == version
    return world


def adopts(effects: list[Effect]) -> list[Adopt]:
    return [adopt for _, adopt in sent(effects, Adopt)]


def copy(fetch: Fetch, sender: NodeId, name: DiscriminatorId, hop: int = 0) -> Copy:
    return Copy(fetch.swap_id, sender, fetch.sender, name, hop, FACTS.architecture, "digest", ROW)


def jobs(effects: list[Effect], kind: type[Any]) -> list[Any]:
    return [effect.job for effect in effects if isinstance(effect, Run) and isinstance(effect.job, kind)]


def notes(effects: list[Effect]) -> list[str]:
    return [effect.what for effect in effects if isinstance(effect, Note)]


def told_to_adopt(world: HubWorld, node: NodeId = DAVE, incarnation: int = 1, **said: Any) -> Adopt:
    (adopt,) = adopts(world.say(node, hello(incarnation, **said)))
    return adopt


def prepared(world: HubWorld, node: NodeId, adopt: Adopt, got: DiscriminatorId, hop: int = 0) -> list[Effect]:
    mine = world.welcomes[node].discriminator
    said = Prepared(adopt.swap_id, adopt.giver.node, mine.discriminator_id, mine.hop, got, hop)
    return world.say(node, said)


def hand_over(world: HubWorld, node: NodeId) -> tuple[HubWorld, list[Effect]]:
    """The node leaves and gives what it owns."""
    ((_, fetch),) = sent(world.say(node, Bye("stopped")), Fetch)
    name = world.welcomes[node].discriminator
    return world, kept(world, node, fetch, name.discriminator_id, name.hop)


def kept(world: HubWorld, node: NodeId, fetch: Fetch, name: DiscriminatorId, hop: int) -> list[Effect]:
    """The node gives it, and it is put onto the shelf."""
    return put(world, keeping(world, node, fetch, name, hop))


def keeping(world: HubWorld, node: NodeId, fetch: Fetch, name: DiscriminatorId, hop: int = 0) -> Keep:
    """The node gives it, and the trainer has not put it onto the shelf yet."""
    (keep,) = jobs(world.say(node, copy(fetch, node, name, hop)), Keep)
    world.jobs.clear()
    assert isinstance(keep, Keep)
    return keep


def put(world: HubWorld, keep: Keep) -> list[Effect]:
    return world.handle(JobDone(keep, Kept(keep.copy.swap_id, None)))


# --- a copy of a live node's ------------------------------------------------------------------------------------------


def test_a_newcomer_is_told_to_copy_from_a_live_node_and_gets_no_task_meanwhile() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    assert adopt == Adopt(SwapId("+7/1"), Neighbour(ALICE), None, DiscriminatorId("d3-dave"), 0)
    assert world.tasks[DAVE] == []


def test_before_anything_was_learned_it_begins_with_a_fresh_one() -> None:
    world = trained_world(ALICE, version=COPIES_FROM - 1)
    assert adopts(world.greet(DAVE)) == []
    assert len(world.tasks[DAVE]) == 1


def test_if_the_operator_wants_fresh_ones_so_it_is() -> None:
    assert adopts(trained_world(ALICE, newcomer="fresh").greet(DAVE)) == []


def test_a_copy_is_on_record_as_a_new_one_with_its_parent_before_the_node_is_told() -> None:
    world = trained_world(ALICE)
    effects = prepared(world, DAVE, told_to_adopt(world), ALICES)
    owner = Owner(DAVE, Incarnation(1), DiscriminatorId("d3-dave"), 0, ALICES)
    persist, commit = effects[:2]
    assert persist == Persist(Record((owner,), issued=3))
    assert isinstance(commit, Send)
    assert commit.message == Commit(SwapId("+7/1"), owner.discriminator_id, 0)
    assert notes(effects) == ["newcomer_copied"]
    assert world.core.ownership.owned(ALICE) == (ALICES, 0)
    assert run_report(world.core)["nodes"][DAVE]["parent"] == ALICES


def test_once_it_is_installed_it_gets_tasks() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    prepared(world, DAVE, adopt, ALICES)
    assert sent(world.say(DAVE, Installed(adopt.swap_id)), Task) != []


def test_and_not_before_however_late_its_commit_is_since_what_it_trained_meanwhile_would_be_lost() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    prepared(world, DAVE, adopt, ALICES)
    said = world.pass_time(2 * ADOPT_S, pinging=[ALICE, DAVE])
    assert (DAVE, Commit(adopt.swap_id, adopt.discriminator_id, adopt.hop)) in sent(said, Commit)
    assert DAVE not in [node for node, _ in sent(said, Task)]
    assert [node for node, _ in sent(world.say(DAVE, Installed(adopt.swap_id)), Task)] == [DAVE]


def test_nobody_waits_for_a_node_that_waits_for_its_discriminator() -> None:
    world = trained_world(ALICE, BOB)
    adopt = told_to_adopt(world)
    prepared(world, DAVE, adopt, world.welcomes[adopt.giver.node].discriminator.discriminator_id)
    said: list[Effect] = []
    for _ in range(40):  # seconds in which it never says INSTALLED
        for node in (ALICE, BOB):
            said += world.answer(node)
        said += [*world.work_all(), *world.pass_time(1.0, pinging=[ALICE, BOB, DAVE])]
    assert world.version == COPIES_FROM + 40, "the quorum is all"
    assert "low_share" not in notes(said), "nothing was asked of it"
    world.say(DAVE, Installed(adopt.swap_id))
    assert DAVE in world.core.members.live


def test_it_is_told_again_until_it_is_heard_of_and_begins_afresh_when_time_is_over() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    assert adopts(world.pass_time(ADOPT_AGAIN_S + 0.5, pinging=[ALICE, DAVE])) == [adopt]
    effects = world.pass_time(ADOPT_S - ADOPT_AGAIN_S, pinging=[ALICE, DAVE])
    assert (DAVE, Abort(adopt.swap_id)) in sent(effects, Abort)
    assert "not_adopted" in notes(effects)
    assert [node for node, _ in sent(effects, Task)] == [DAVE]
    assert sent(prepared(world, DAVE, adopt, ALICES), Abort) == [(DAVE, Abort(adopt.swap_id))]
    assert world.core.ownership.owned(DAVE) == (DiscriminatorId("d2-dave"), 0)


def test_if_a_giver_declines_another_is_asked_and_at_last_it_begins_afresh() -> None:
    world = trained_world(ALICE, BOB)
    first = told_to_adopt(world)
    (second,) = adopts(world.say(DAVE, Decline(first.swap_id, DAVE, HUB.node, "gone")))
    assert {first.giver.node, second.giver.node} == {ALICE, BOB}
    effects = world.say(DAVE, Decline(second.swap_id, DAVE, HUB.node, "bad"))
    assert notes(effects) == ["not_adopted"]
    assert len(world.tasks[DAVE]) == 1


def test_a_copy_is_fetched_through_the_hub_only_as_it_has_decided() -> None:
    world = trained_world(ALICE, BOB)
    adopt = told_to_adopt(world)
    giver, other = adopt.giver.node, ALICE if adopt.giver.node == BOB else BOB
    fetch = Fetch(adopt.swap_id, DAVE, giver)
    assert sent(world.say(DAVE, fetch), Fetch) == [(giver, fetch)]
    refused = world.say(DAVE, replace(fetch, to=other))
    assert sent(refused, Decline) == [(DAVE, Decline(adopt.swap_id, other, DAVE, "gone"))]


def test_what_a_node_was_given_in_a_swap_meanwhile_is_not_replaced() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    world.core.ownership.swap(ALICE, DAVE)
    held = world.core.ownership.owned(DAVE)
    assert held is not None
    said = Prepared(adopt.swap_id, ALICE, *held, ALICES, 0)
    assert sent(world.say(DAVE, said), Commit) == []
    assert world.core.ownership.owned(DAVE) == held


# --- orphans ----------------------------------------------------------------------------------------------------------


def test_a_newcomer_gets_what_was_handed_over_from_the_hub_itself() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    adopt = told_to_adopt(world)
    assert adopt == Adopt(SwapId("+7/1"), Neighbour(HUB.node), ALICES, ALICES, 1)
    asked = world.say(DAVE, Fetch(adopt.swap_id, DAVE, HUB.node, ALICES))
    assert sent(asked, Accept) == [(DAVE, Accept(adopt.swap_id, HUB.node, DAVE, ALICES, 0))]
    (give,) = jobs(asked, Give)
    given = Copy(adopt.swap_id, HUB.node, DAVE, ALICES, 0, FACTS.architecture, "digest", ROW)
    assert sent(world.handle(JobDone(give, Given(*give_facts(give), given))), Copy) == [(DAVE, given)]
    effects = prepared(world, DAVE, adopt, ALICES)
    owners = (Owner(DAVE, Incarnation(1), ALICES, 1), Owner(ALICE, Incarnation(1), DiscriminatorId("d4-alice"), 0))
    assert effects[0] == Persist(Record(owners, issued=4))
    assert jobs(effects, Forget) == [Forget((ALICES,))]
    assert notes(effects) == ["orphan_restored"]


def give_facts(give: Give) -> tuple[SwapId, NodeId, DiscriminatorId]:
    return give.swap_id, give.to, give.discriminator_id


def test_the_dead_ones_discriminator_is_fetched_from_its_last_partner() -> None:
    world = training_world(ALICE, BOB, CAROL)
    swap = SwapId("alice/1/1")
    world.say(ALICE, Prepared(swap, BOB, ALICES, 0, BOBS, 0))
    world.say(BOB, Prepared(swap, ALICE, BOBS, 0, ALICES, 0))  # bob owns alice's, who keeps a backup
    for node in (ALICE, BOB):
        world.say(node, Installed(swap))
    world.pass_time(31, pinging=[ALICE, CAROL])
    assert world.state(BOB) == "dead"
    assert told_to_adopt(world) == Adopt(SwapId("+7/1"), Neighbour(ALICE), ALICES, ALICES, 2)


def test_while_the_owner_is_only_suspected_nobody_gets_what_it_owns() -> None:
    world = training_world(ALICE, BOB, CAROL)
    swap = SwapId("alice/1/1")
    world.say(ALICE, Prepared(swap, BOB, ALICES, 0, BOBS, 0))
    world.say(BOB, Prepared(swap, ALICE, BOBS, 0, ALICES, 0))
    world.pass_time(8, pinging=[ALICE, CAROL])
    assert world.state(BOB) == "suspect"
    assert adopts(world.greet(DAVE)) == []


def test_an_owner_that_comes_back_in_time_keeps_its_own_and_another_is_looked_for() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    adopt = told_to_adopt(world)
    effects = world.say(ALICE, hello(2, world.held(ALICE)))
    assert sent(effects, Abort) == [(DAVE, Abort(adopt.swap_id))]
    assert world.welcomes[ALICE].discriminator.action == "keep"
    assert jobs(effects, Forget) == [Forget((ALICES,))]
    assert sent(prepared(world, DAVE, adopt, ALICES), Commit) == []
    assert "not_adopted" in notes(world.pass_time(1, pinging=[ALICE, BOB, DAVE]))


def test_an_owner_that_comes_back_late_gets_another_and_its_feedback_is_fenced_off() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    held = world.held(ALICE)
    prepared(world, DAVE, told_to_adopt(world), ALICES)
    world.say(ALICE, hello(2, held))
    assert world.welcomes[ALICE].discriminator.discriminator_id != ALICES
    assert not world.core.ownership.owns(ALICE, ALICES, 0)


def test_a_node_that_comes_back_without_its_own_gets_it_from_whoever_has_it() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    assert told_to_adopt(world, ALICE, 2).wanted == ALICES


def test_one_orphan_is_promised_to_one_only() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    told_to_adopt(world)
    assert adopts(world.greet(CAROL)) == []


def test_a_shelf_that_was_kept_is_known_again_after_a_restart() -> None:
    kept = HeldDiscriminator(ALICES, 3, FACTS.architecture, 0)
    owner = Owner(ALICE, Incarnation(1), ALICES, 3)
    world = HubWorld({"death_timeout_s": 5.0})
    world.core = HubCore(world.settings, dataclasses.replace(FACTS, shelf=(kept,), owners=(owner,)), world.now)
    assert adopts(world.greet(BOB)) == []  # alice may still be on her way
    world.pass_time(6, pinging=[BOB])
    adopt = told_to_adopt(world)
    assert (adopt.wanted, adopt.giver, adopt.hop) == (ALICES, Neighbour(HUB.node), 4)


def test_what_cannot_be_read_any_more_is_forgotten_and_the_node_begins_afresh() -> None:
    world, _ = hand_over(training_world(ALICE, BOB), ALICE)
    adopt = told_to_adopt(world)
    (give,) = jobs(world.say(DAVE, Fetch(adopt.swap_id, DAVE, HUB.node, ALICES)), Give)
    effects = world.handle(JobDone(give, Given(*give_facts(give), None)))
    assert sent(effects, Decline) == [(DAVE, Decline(adopt.swap_id, HUB.node, DAVE, "gone"))]
    assert jobs(effects, Forget) == [Forget((ALICES,))]
    assert world.handle(JobDone(Forget((ALICES,)), Forgotten())) == []


def test_the_hub_gives_only_some_at_once() -> None:
    world = training_world(*EIGHT)
    for node in EIGHT[: GIVING_MAX + 1]:
        hand_over(world, node)
    newcomers = [NodeId(f"m{number}") for number in range(GIVING_MAX + 1)]
    told = {node: told_to_adopt(world, node) for node in newcomers}
    asked = [world.say(node, Fetch(one.swap_id, node, HUB.node, one.wanted)) for node, one in told.items()]
    assert [len(jobs(effects, Give)) for effects in asked] == [1] * GIVING_MAX + [0]
    assert sent(asked[-1], Decline)[0][1].reason == "busy"


# --- whereabouts ------------------------------------------------------------------------------------------------------


def test_the_shelf_is_bounded_and_the_oldest_makes_room() -> None:
    places = Whereabouts("a")
    names = [DiscriminatorId(f"d{number}-x") for number in range(ORPHANS_MAX + 1)]
    assert [places.shelve(name, 0) for name in names[:-1]] == [None] * ORPHANS_MAX
    assert places.shelve(names[-1], 0) == names[0]
    assert places.shelf == tuple(names[1:])
    assert places.holders(names[0]) == {}


def test_of_another_architecture_nothing_is_known() -> None:
    other = HeldDiscriminator(ALICES, 0, "b", 1)
    places = Whereabouts("a", (other,))
    places.said(ALICE, (other,))
    assert places.known == ()


def test_a_node_has_what_it_said_last() -> None:
    places = Whereabouts("a")
    places.said(ALICE, (HeldDiscriminator(BOBS, 2, "a", 1), HeldDiscriminator(BOBS, 1, "a", 1)))
    assert places.holders(BOBS) == {ALICE: 2}
    places.gave_away(ALICE, CAROLS, 0)
    assert (places.holders(BOBS), places.holders(CAROLS)) == ({}, {ALICE: 0})
    assert places.known == (CAROLS,)
