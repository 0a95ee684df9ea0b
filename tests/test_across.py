"""Swaps in the virtual world: from node to node past the hub's line, and through the hub for those behind NAT."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.messages import NodeId
from mdgan_edge.wire.peers import ADMITTED_MAX
from nodes.swapping import PEER_CONNECT_S
from sim.determinism import check_determinism
from sim.play import Played, plan_run, play, report
from sim.scenario.distributions import Constant
from sim.scenario.quantities import BitRate, Duration
from sim.scenario.reading import find_scenario, parse_scenario
from sim.scenario.values import MS, Fault, Heal, HubIsolated, HubPort, Join, Links, LinkTerms, Partition, Reset, S
from sim.scenario.writing import dump_scenario
from tests.test_world import Notes, lasting, scenario, seconds

SWAP = {"training__swap": 0.5}


def links(relayed: float = 0.0, **port: Any) -> Links:
    return Links(LinkTerms(latency=Constant(Duration(20 * MS))), hub=HubPort(**port), relayed=relayed)


def run(*faults: Fault, relayed: float = 0.0, heal: float | None = None, seed: int = 0, **port: Any) -> Played:
    one = scenario(*faults, nodes=6, seconds=60, seed=seed, **SWAP)
    healed = None if heal is None else Heal(at=seconds(heal))
    played = play(plan_run(replace(one, links=links(relayed, **port), heal=healed)), replay=True)
    assert played.checks.violations == []
    assert played.checks.verdicts()["bytes_conserved"] is True
    return played


def ways(played: Played) -> dict[str, int]:
    counts: dict[str, int] = report(played, "")["swaps"]
    return counts


def dropped(played: Played) -> dict[str, int]:
    return played.world.post.across.bytes.dropped


def test_where_all_can_be_called_every_swap_is_direct_and_no_copy_meets_the_hub() -> None:
    played = run()
    assert ways(played)["direct"] == ways(played)["committed"] > 5
    post = played.world.post
    assert (post.copies, post.across.copies > 0) == (0, True)
    assert report(played, "")["bytes"]["swaps"] == post.across.copies


def test_where_nobody_can_be_called_every_swap_goes_through_the_hub_after_a_wait() -> None:
    played = run(relayed=1.0)
    assert ways(played)["relayed"] == ways(played)["committed"] > 3
    post = played.world.post
    assert (post.copies > 0, post.across.copies, post.across.bytes.received) == (True, 0, 0)
    assert set(dropped(played)) == {"no way in"}
    assert played.checks.sometimes["peer_silent"] > 0


def test_some_behind_nat_call_others_and_are_reached_through_the_hub() -> None:
    played = run(relayed=0.5)
    behind = {name for name, machine in played.world.machines.items() if machine.behind_nat}
    assert 0 < len(behind) < 6
    assert ways(played)["direct"] > 0
    assert ways(played)["relayed"] > 0


def test_who_is_behind_nat_hangs_on_its_name_and_the_seed_alone() -> None:
    one, more, other = run(relayed=0.5), run(relayed=0.9), run(relayed=0.5, seed=1)
    behind = [
        {name for name, machine in each.world.machines.items() if machine.behind_nat} for each in (one, more, other)
    ]
    assert behind[0] < behind[1]
    assert behind[0] != behind[2]


def test_direct_copies_do_not_wait_for_the_hubs_line() -> None:
    narrow = {"up": BitRate(3_000_000), "down": BitRate(3_000_000)}
    direct, relayed = run(**narrow), run(relayed=1.0, **narrow)
    assert ways(direct)["committed"] > ways(relayed)["committed"]


def test_a_partition_of_either_node_cuts_the_way_between_them() -> None:
    for one_way in ("up", "down"):
        cut = Partition(at=seconds(5), lasts=lasting(30), who=("n1", "n2"), one_way=one_way)
        assert dropped(run(cut, heal=40))["partition"] > 0


def test_an_isolated_hub_does_not_cut_the_way_between_nodes() -> None:
    played = run(HubIsolated(at=seconds(5), lasts=lasting(20)), heal=30)
    assert "partition" not in dropped(played)
    assert "partition" in played.world.post.up.dropped


def test_a_reset_ends_the_calls_of_a_node() -> None:
    resets = [Reset(at=Duration(round((5 + 0.25 * n) * S))) for n in range(100)]
    assert dropped(run(*resets, heal=35))["connection gone"] > 0


def test_a_node_that_joins_later_is_introduced_too() -> None:
    played = run(Join(at=seconds(5), who=("x1", "x2")))
    core = played.world.last_hub_core
    assert core is not None
    assert {"x1", "x2"} <= set(core.directory.keys)
    assert any(member.hop > 0 for member in core.members if member.node == "x1")
    processes = [machine.process for machine in played.world.machines.values()]
    assert all(process is None or len(process.admitted) <= ADMITTED_MAX for process in processes)


def test_the_fallback_takes_as_long_as_it_says() -> None:
    notes = Notes()
    one = scenario(nodes=2, seconds=30, **SWAP)
    play(plan_run(replace(one, links=links(1.0))), recorder=notes)
    waited = [at for at, _, _, _ in notes.of("peer_silent")]
    committed = [at for at, _, _, _ in notes.of("swap_committed")]
    assert waited[0] > PEER_CONNECT_S
    assert committed[0] > waited[0]


def test_a_scenario_with_nodes_behind_nat_reads_back_as_it_was_written_and_plays_the_same_twice() -> None:
    plan = plan_run(replace(scenario(nodes=4, **SWAP), links=links(0.3)))
    assert "relayed = 0.3" in dump_scenario(plan.scenario)
    assert parse_scenario(dump_scenario(plan.scenario), "it") == plan.scenario
    check_determinism(plan.scenario)


@pytest.mark.parametrize("seed", range(4))
def test_all_invariants_hold_with_swaps_in_all_weathers(seed: int) -> None:
    played = play(plan_run(find_scenario("everything"), seed, assignments={"training.swap": "0.5"}), replay=True)
    assert played.checks.violations == []
    assert NodeId("hub") not in played.world.machines
