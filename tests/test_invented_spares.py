"""What a node says in HELLO that it has is no discriminator unless the hub has given that name and lost sight of it."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from broker.core import HubCore
from broker.ownership import HOPS_AHEAD, number_of
from mdgan_edge.actors import HUB, Effect, Event, Header, Persist, Received
from mdgan_edge.bounds import HOP_MAX
from mdgan_edge.messages import (
    Abort,
    Adopt,
    Bye,
    Commit,
    Decline,
    DiscriminatorId,
    Fetch,
    HeldDiscriminator,
    Hello,
    Neighbour,
    NodeId,
    Prepared,
    SwapId,
)
from sim.machine import Machine
from sim.play import bodies_of, plan_run, play
from sim.scenario.quantities import Frequency
from sim.scenario.values import Byzantine, Crash, Heal, Scenario
from sim.swap_lies import INVENTED
from sim.watch import Silent
from sim.world import World
from tests.hub_world import ALICE, BOB, CAROL, DAVE, FACTS, HubWorld, hello, sent, training_world
from tests.test_adoptions import ALICES, BOBS, adopts, hand_over, prepared, told_to_adopt, trained_world
from tests.test_world import lasting, scenario, seconds

MADE_UP = ("garbage", "../generator", "d" + "9" * 80 + "-x", "d1-bob", "d90-x", "")
SWAP = SwapId("alice/1/1")


def says_to_have(world: HubWorld, node: NodeId, name: str, hop: int) -> None:
    spare = HeldDiscriminator(DiscriminatorId(name), hop, FACTS.architecture, 5)
    world.say(node, hello(1, world.held(node), spares=(spare,)), Header())


def swapped_world(*nodes: NodeId) -> HubWorld:
    """Alice owns bob's, and bob hers, with one hop each."""
    world = trained_world(ALICE, BOB, *nodes)
    world.say(ALICE, Prepared(SWAP, BOB, ALICES, 0, BOBS, 0))
    assert sent(world.say(BOB, Prepared(SWAP, ALICE, BOBS, 0, ALICES, 0)), Commit)
    return world


@pytest.mark.parametrize("name", MADE_UP)
def test_what_the_hub_has_never_given_a_name_nobody_is_told_to_fetch(name: str) -> None:
    world = trained_world(ALICE, BOB)
    says_to_have(world, ALICE, name, 3)
    assert told_to_adopt(world).wanted is None


def test_nor_what_gave_way_to_an_adoption_before_it_was_trained() -> None:
    world = trained_world(ALICE)
    fresh = "d2-dave"
    prepared(world, DAVE, told_to_adopt(world), ALICES)
    says_to_have(world, ALICE, fresh, 0)
    assert told_to_adopt(world, CAROL).wanted is None


@pytest.mark.parametrize(("hop", "wanted"), [(1 + HOPS_AHEAD, ALICES), (2 + HOPS_AHEAD, None), (HOP_MAX, None)])
def test_a_spare_that_has_moved_further_than_can_be_is_not_fetched(hop: int, wanted: str | None) -> None:
    world = swapped_world(CAROL)
    bobs = HeldDiscriminator(BOBS, 1, FACTS.architecture, 5)
    world.say(ALICE, hello(1, None, run_id=FACTS.run_id, spares=(bobs,)), Header())  # she has nothing else any more
    says_to_have(world, CAROL, ALICES, hop)
    world.say(BOB, Bye("stopped"))
    adopt = told_to_adopt(world)
    assert adopt.wanted == wanted
    assert adopt.hop <= HOP_MAX


def test_what_its_owner_came_back_without_is_still_known() -> None:
    world = swapped_world()
    adopt = told_to_adopt(world, BOB, 2)
    assert (adopt.giver.node, adopt.wanted, adopt.hop) == (ALICE, ALICES, 2)
    prepared(world, BOB, adopt, ALICES)
    assert world.core.ownership.hop_of(ALICES) == 2


def test_who_says_it_got_a_copy_of_what_no_hub_gave_a_name_does_not_get_it_on_record() -> None:
    world = trained_world(ALICE)
    adopt = told_to_adopt(world)
    effects = prepared(world, DAVE, adopt, DiscriminatorId("garbage"))
    assert sent(effects, Abort) == [(DAVE, Abort(adopt.swap_id))]
    assert [effect for effect in effects if isinstance(effect, Persist)] == []


def test_the_name_of_a_copy_is_counted_before_anybody_hears_of_it() -> None:
    world = trained_world(ALICE)
    effects = world.greet(DAVE)
    named = [number for number, effect in enumerate(effects) if isinstance(effect, Persist)][-1]
    assert [type(effect) for effect in effects[:named]].count(Adopt) == 0
    record = effects[named]
    assert isinstance(record, Persist)
    assert (record.record.owners, record.record.issued) == ((), 3)
    again = HubCore(world.settings, dataclasses.replace(FACTS, issued=record.record.issued), world.now)
    assert again.ownership.new_id(DAVE) == "d4-dave"


def test_a_hub_that_is_asked_for_nothing_it_has_says_so() -> None:
    hub = NodeId(HUB.node)
    world = trained_world(hub)  # no such name is let into a register; an older one may have it
    adopt = told_to_adopt(world)
    asked = world.say(DAVE, Fetch(adopt.swap_id, DAVE, HUB.node, adopt.wanted))
    assert sent(asked, Decline) == [(DAVE, Decline(adopt.swap_id, HUB.node, DAVE, "gone"))]


def test_and_so_it_does_when_the_orphan_that_it_was_to_give_has_its_owner_again() -> None:
    world, _ = hand_over(trained_world(ALICE, BOB), ALICE)
    assert told_to_adopt(world).giver == Neighbour(HUB.node)
    world.say(ALICE, hello(2, world.held(ALICE)))
    asked = world.say(DAVE, Fetch(SwapId(""), DAVE, HUB.node))
    assert sent(asked, Decline) == [(DAVE, Decline(SwapId(""), HUB.node, DAVE, "gone"))]


def test_before_the_start_spares_count_for_nothing() -> None:
    world = training_world(ALICE)
    says_to_have(world, ALICE, "d7-x", 0)
    assert adopts(world.greet(DAVE)) == []


# --- in the virtual world ---------------------------------------------------------------------------------------------


class Told(Silent):
    """How often the hub was lied to, and what nodes were told to adopt."""

    def __init__(self) -> None:
        self.lies = 0
        self.adopts: list[Adopt] = []

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        if machine is world.hub:
            self.adopts += adopts(effects)
            hello = event.message if isinstance(event, Received) else None
            self.lies += isinstance(hello, Hello) and INVENTED[0] in [one.discriminator_id for one in hello.spares]


def crowd() -> Scenario:
    """Two lie whenever they come back, which they often do, while others lose all that they have."""
    lying = Byzantine(at=seconds(0), who=("n0", "n1"), how="false_spares")
    again = Crash(at=seconds(3), rate=Frequency(0.3), lasts=lasting(1), who=("n0", "n1"))
    anew = Crash(at=seconds(5), rate=Frequency(0.3), lasts=lasting(1), who=("n4", "n5"), keep_disk=False)
    settings = {"training__swap": 0.05, "training__quorum": 2}
    return replace(scenario(lying, again, anew, nodes=8, seconds=60, **settings), heal=Heal(at=seconds(50)))


def test_a_swarm_of_which_some_say_to_have_what_nobody_has_is_none_the_worse() -> None:
    plan = plan_run(crowd())
    bodies, settings = bodies_of(plan)
    told = Told()
    World(plan.scenario, settings, bodies, told).run()
    guessed = {name for name in INVENTED if name.startswith("d") and number_of(name) in (1, 2, 3)}
    assert told.lies > 3
    assert len(told.adopts) > 3
    assert {one.wanted for one in told.adopts} & ({*INVENTED} - guessed) == set()
    assert max(one.hop for one in told.adopts) < 100
    assert play(plan).checks.violations == []
