"""Swaps in mode "sync": the reference that replays them equals the swarm bit for bit, and one wrong pair is seen."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.messages import ModelSettings, NodeId
from mdgan_edge.reference import Pairing, md_gan
from mdgan_edge.settings import Settings
from sim.lockstep import Lockstep
from sim.verify import SwarmSize, pairings, verify
from tests.test_lockstep import MODELS, NODES, SMALL, State, difference, run, settings, shards, states, tensors

POLICIES = ("travel", "stay", "reset")
STEPS = 7
EVERY_OTHER_TASK = 0.7  # local epochs: 9 to 12 images in batches of 4


def swapping(model: ModelSettings = SMALL, **training: Any) -> Settings:
    return settings(model, **{"steps": STEPS, "swap": EVERY_OTHER_TASK, **training})


def replayed(chosen: Settings, swaps: tuple[Pairing, ...]) -> dict[str, State]:
    data = {node: tensors(shard) for node, shard in shards(chosen.model).items()}
    result = md_gan(chosen, data, chosen.training.steps, swaps)
    return {"generator": result.generator, **result.discriminators}


@cache
def a_run(shuffle_seed: int | None = None) -> Lockstep:
    """A swarm that swaps, to compare others with."""
    return run(swapping(), shards(), shuffle_seed)


def bits(state: State) -> bytes:
    return b"".join(value.numpy().tobytes() for value in state.values())


# --- equality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["mlp", "cnn28"])
def test_a_swarm_that_swaps_is_algorithm_1_bit_for_bit(name: str, policy: str) -> None:
    chosen = swapping(MODELS[name], swap_optimizer=policy)
    swarm = run(chosen, shards(MODELS[name]))
    swaps = pairings(swarm.notes)
    assert {pairing.version for pairing in swaps} == {2, 4, 6}
    assert difference(states(swarm), replayed(chosen, swaps)) == 0.0


@pytest.mark.parametrize("shuffle_seed", range(5))
def test_whatever_the_order_of_arrival_the_pairs_that_formed_are_replayed(shuffle_seed: int) -> None:
    swarm = a_run(shuffle_seed)
    swaps = pairings(swarm.notes)
    assert swaps != pairings(a_run().notes)
    assert difference(states(swarm), replayed(swapping(), swaps)) == 0.0


@pytest.mark.parametrize(
    "training",
    [{"discriminator_steps": 2}, {"loss": "wgan_gp"}, {"batches_per_version": 3}, {"swap": 0.1}],
    ids=lambda training: ",".join(f"{key}={value}" for key, value in training.items()),
)
def test_every_setting_of_algorithm_1_goes_together_with_swaps(training: dict[str, Any]) -> None:
    chosen = swapping(**training)
    swarm = run(chosen, shards())
    assert difference(states(swarm), replayed(chosen, pairings(swarm.notes))) == 0.0


def test_nodes_whose_shards_differ_in_size_are_due_at_different_versions() -> None:
    chosen = swapping(swap=1.0, steps=9)  # 9, 10, 11, 12 images: every third task, but hidden by being asked
    swarm = run(chosen, shards())
    assert difference(states(swarm), replayed(chosen, pairings(swarm.notes))) == 0.0


def test_verify_replays_the_swaps_of_every_world_it_is_asked_for() -> None:
    checks = verify(("mlp",), ("memory", "permuted"), SwarmSize(3, 5, 0), {"training.swap": 0.02})
    assert [check.max_abs_diff for check in checks] == [0.0, 0.0]
    assert all(check.swaps > 0 for check in checks)


# --- and it can fail --------------------------------------------------------------------------------------------------


def others(pairing: Pairing) -> tuple[NodeId, NodeId]:
    one, other = (node for node in NODES if node not in pairing.nodes)
    return one, other


WRONG = {
    "one is left out": lambda swaps: swaps[1:],
    "the last one is left out": lambda swaps: swaps[:-1],
    "one happens twice": lambda swaps: (swaps[0], *swaps),
    "another pair": lambda swaps: (replace_pairing(swaps[0], nodes=others(swaps[0])), *swaps[1:]),
    "a version earlier": lambda swaps: (*swaps[:-1], replace_pairing(swaps[-1], version=swaps[-1].version - 1)),
    "none at all": lambda _: (),
}


def replace_pairing(pairing: Pairing, **changes: Any) -> Pairing:
    return Pairing(**{"version": pairing.version, "nodes": pairing.nodes, **changes})


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pairing_is_seen_to_differ(name: str) -> None:
    swaps = pairings(a_run().notes)
    assert difference(states(a_run()), replayed(swapping(), swaps)) == 0.0
    assert difference(states(a_run()), replayed(swapping(), WRONG[name](swaps))) > 0.0


@pytest.mark.parametrize("policy", POLICIES)
def test_another_policy_of_the_optimiser_is_seen_to_differ(policy: str) -> None:
    expected = replayed(swapping(swap_optimizer=policy), pairings(a_run().notes))
    assert (difference(states(a_run()), expected) == 0.0) is (policy == "travel")


def test_without_the_barrier_a_swarm_that_swaps_is_seen_to_differ() -> None:
    swarm = run(swapping(swap_barrier=False), shards(), 1)
    assert pairings(swarm.notes) != ()
    assert difference(states(swarm), replayed(swapping(), pairings(swarm.notes))) > 0.0


# --- swaps are bijections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle_seed", [None, *range(3)])
@pytest.mark.parametrize("barrier", [True, False], ids=["barrier", "no barrier"])
def test_swaps_preserve_the_multiset_of_discriminators_bit_for_bit(barrier: bool, shuffle_seed: int | None) -> None:
    frozen = swapping(lr_discriminator=1e-30, swap_barrier=barrier)  # nothing but swaps changes a discriminator
    swarm = run(frozen, shards(), shuffle_seed)
    found = states(swarm)
    start = replayed(replace(frozen, training=replace(frozen.training, steps=1)), ())
    holder = {node: node for node in NODES}  # whose discriminator each has
    for one, other in (pairing.nodes for pairing in pairings(swarm.notes)):
        holder[one], holder[other] = holder[other], holder[one]
    assert pairings(swarm.notes) != ()
    assert Counter(bits(found[node]) for node in NODES) == Counter(bits(start[node]) for node in NODES)
    assert all(bits(found[node]) == bits(start[holder[node]]) for node in NODES)


@pytest.mark.parametrize("shuffle_seed", [None, *range(3)])
def test_every_discriminator_has_one_owner_and_two_move_at_a_time(shuffle_seed: int | None) -> None:
    swarm = a_run(shuffle_seed)
    members = list(swarm.core.members)
    assert sorted(member.discriminator_id.partition("-")[2] for member in members) == sorted(NODES)
    assert sum(member.hop for member in members) == 2 * len(pairings(swarm.notes))


@pytest.mark.parametrize("shuffle_seed", [None, *range(3)])
def test_where_all_are_due_at_once_all_of_them_swap(shuffle_seed: int | None) -> None:
    swarm = a_run(shuffle_seed)
    for version in (2, 4, 6):
        swapped = {node for pairing in pairings(swarm.notes) if pairing.version == version for node in pairing.nodes}
        assert swapped == set(NODES)
