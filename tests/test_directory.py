"""How the hub introduces nodes to each other, and what it says of swaps that went from node to node."""

from __future__ import annotations

from broker.report import run_report
from broker.service import byte_report
from mdgan_edge.actors import Effect, RegisterChanged, Send
from mdgan_edge.messages import Expect, Neighbour, NodeId, Peers, Prepared, Seek, SwapId
from mdgan_edge.wire.endpoint import Counts
from tests.hub_world import ALICE, BOB, CAROL, HubWorld, hello, sent

KEYS = {ALICE: "alices-key", BOB: "bobs-key"}
ADDRESS = "tcp://192.0.2.9:5756"


def world_of(*nodes: NodeId, reachable: NodeId | None = BOB, keys: dict[NodeId, str] = KEYS) -> HubWorld:
    """The hub has seen the register, and these have joined; one of them can be called."""
    world = HubWorld()
    world.handle(RegisterChanged(keys=keys))
    for node in nodes:
        world.say(node, hello(peer_endpoint=ADDRESS if node == reachable else None))
    return world


def talk(effects: list[Effect]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send)]


def test_who_can_be_called_is_told_of_the_one_that_asks_before_that_is_told_of_it() -> None:
    world = world_of(ALICE, BOB)
    expect, peers = talk(world.say(ALICE, Seek()))
    assert (expect.to.node, expect.message, expect.header) == (BOB, Expect(ALICE, "alices-key"), world.header(BOB))
    assert (peers.to.node, peers.message) == (ALICE, Peers((Neighbour(BOB, "bobs-key", ADDRESS),)))


def test_who_cannot_be_called_is_named_without_its_key_and_told_nothing() -> None:
    world = world_of(ALICE, BOB)
    (peers,) = talk(world.say(BOB, Seek()))
    assert peers.message == Peers((Neighbour(ALICE),))


def test_a_node_whose_key_the_hub_does_not_know_calls_nobody_and_is_called_by_nobody() -> None:
    world = world_of(ALICE, BOB, CAROL)
    (peers,) = talk(world.say(CAROL, Seek()))
    assert sorted(one.node for one in peers.message.nodes) == [ALICE, BOB]  # type: ignore[union-attr]
    assert {one.endpoint for one in peers.message.nodes} == {None}  # type: ignore[union-attr]
    unknown = world_of(ALICE, BOB, keys={ALICE: "alices-key"})
    assert talk(unknown.say(ALICE, Seek()))[-1].message == Peers((Neighbour(BOB),))


def test_where_a_node_is_reached_is_what_its_last_greeting_said() -> None:
    world = world_of(ALICE, BOB)
    world.say(BOB, hello(2))
    (peers,) = talk(world.say(ALICE, Seek()))
    assert peers.message == Peers((Neighbour(BOB),))


def prepared(world: HubWorld, node: NodeId, partner: NodeId, direct_bytes: int) -> Prepared:
    mine, theirs = (world.welcomes[one].discriminator for one in (node, partner))
    held, received = (mine.discriminator_id, mine.hop), (theirs.discriminator_id, theirs.hop)
    return Prepared(SwapId("alice/1/1"), partner, *held, *received, direct_bytes > 0, direct_bytes)


def swapped(direct_bytes: tuple[int, int]) -> HubWorld:
    world = world_of(ALICE, BOB)
    world.say(ALICE, prepared(world, ALICE, BOB, direct_bytes[0]))
    world.say(ALICE, prepared(world, ALICE, BOB, direct_bytes[0]))  # said again, since the hub has not decided
    effects = world.say(BOB, prepared(world, BOB, ALICE, direct_bytes[1]))
    assert len(sent(effects, Peers)) == 0
    return world


def test_a_swap_is_direct_if_both_say_so_and_relayed_otherwise() -> None:
    reports = [run_report(swapped(said).core)["swaps"] for said in ((400, 400), (400, 0), (0, 0))]
    ways = [{key: one[key] for key in ("committed", "aborted", "direct", "relayed")} for one in reports]
    assert ways == [
        {"committed": 1, "aborted": 0, "direct": 1, "relayed": 0},
        {"committed": 1, "aborted": 0, "direct": 0, "relayed": 1},
        {"committed": 1, "aborted": 0, "direct": 0, "relayed": 1},
    ]


def test_the_bytes_of_swaps_are_what_the_hub_relayed_and_what_nodes_say_they_got_from_each_other() -> None:
    counts = Counts()
    counts.bytes_received["Copy"], counts.bytes_sent["Copy"] = 1000, 900
    assert byte_report(counts, swapped((400, 300)).core.swaps.counts)["swaps"] == 1000 + 900 + 400 + 300
