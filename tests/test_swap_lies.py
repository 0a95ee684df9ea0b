"""Nodes that lie in swaps: what they say, that it is found out, and that nobody else is worse off."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np
import pytest
from msgspec.structs import replace

from mdgan_edge.digest import digest
from mdgan_edge.messages import Accept, Copy, DiscriminatorId, NodeId, Prepared, Propose, SwapId, Tensor
from sim.byzantine import lies
from sim.machine import Machine
from sim.play import Played, plan_run, play
from sim.scenario.drawing import LIES, draw
from sim.scenario.reading import find_scenario
from sim.scenario.values import Byzantine, Fidelity, Heal, Scenario, SwapLie
from tests.test_byzantine import TRUTH, liar
from tests.test_world import scenario, seconds

SWAP_LIES: tuple[SwapLie, ...] = get_args(SwapLie)
BAD_COPIES: tuple[SwapLie, ...] = ("bad_steps", "bad_moments", "bad_digest")
SWAP, ANN, BOB, D = SwapId("n0/1/1"), NodeId("n0"), NodeId("n1"), DiscriminatorId("d1-n0")
ROW = np.array([0.25, -0.5, 3.0, 0.0, 1.5], np.float32)
NUMBERS = Tensor("float32", ROW.shape, ROW.tobytes(), 1.0)
COPY = Copy(SWAP, ANN, BOB, D, 2, "f", digest(NUMBERS), NUMBERS)
PROPOSE = Propose(SWAP, ANN, BOB, D, 2, "f")


def said(how: SwapLie, message: Copy | Propose | Accept) -> list[object]:
    machine = Machine(ANN, 0)
    machine.ail(0, liar(how))
    return [*lies(machine, message, seed=1)]


@pytest.mark.parametrize(
    ("how", "numbers"),
    [("bad_steps", [0.25, -0.5, -3.0, 0.0, 1.5]), ("bad_moments", [-0.25, 0.5, 3.0, 0.0, -1.5])],
)
def test_a_bad_parcel_has_the_digest_that_it_says(how: SwapLie, numbers: list[float]) -> None:
    (copy,) = said(how, COPY)
    assert isinstance(copy, Copy)
    assert np.frombuffer(copy.numbers.data, np.float32).tolist() == numbers
    assert copy.digest == digest(copy.numbers)


def test_each_other_liar_says_what_it_is_called() -> None:
    assert said("bad_digest", COPY) == [replace(COPY, digest="0" * 32)]
    (far,) = said("huge_hop", PROPOSE)
    assert isinstance(far, Propose)
    assert far.hop == (1 << 32) - 1
    assert said("give_nothing", COPY) == []
    first, *guessed = said("false_prepared", PROPOSE)
    assert first == PROPOSE
    assert {one.swap_id for one in guessed if isinstance(one, Prepared)} >= {"n1/1/1", SWAP}


def test_who_proposes_again_never_uses_an_id_twice() -> None:
    machine = Machine(ANN, 0, last_proposal=PROPOSE)
    machine.ail(0, liar("propose_again"))
    ids = []
    for machine.jobs_done in range(5):
        truth, *more = lies(machine, TRUTH, seed=1)
        assert truth == TRUTH
        ids += [one.swap_id for one in more if isinstance(one, Propose)]
    assert len(ids) == len({*ids}) == 15


def world(how: SwapLie, fidelity: Fidelity, length_s: int) -> Scenario:
    """Three of eight lie from the first second to the last but ten."""
    lying = Byzantine(at=seconds(1), who=("n0", "n1", "n2"), how=how)
    settings = {"training.swap": 0.05, "training.steps": 1_000_000}
    plain = replace(scenario(lying, seconds=length_s), nodes=8, fidelity=fidelity, heal=Heal(at=seconds(length_s - 10)))
    return replace(plain, settings={**plain.settings, **settings})


@pytest.mark.parametrize(
    ("how", "fidelity"),
    [*((how, "tokens") for how in SWAP_LIES), *((how, "toy") for how in BAD_COPIES)],
)
def test_no_liar_in_swaps_does_more_than_spoil_its_own(how: SwapLie, fidelity: Fidelity) -> None:
    run: Played = play(plan_run(world(how, fidelity, 30)))
    assert run.checks.violations == []
    assert run.checks.sometimes["swapped"] > 0
    assert (run.checks.sometimes["refused_copy"] > 0) == (how in BAD_COPIES)


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_everything_draws_every_lie_and_is_as_before_where_nobody_lies_in_swaps() -> None:
    everything = find_scenario("everything")
    drawn: Counter[str] = Counter()
    for seed in range(200):
        faults = draw(everything, seed).fault
        said = {number: fault.how for number, fault in enumerate(faults) if isinstance(fault, Byzantine)}
        assert [number for number, how in said.items() if how not in LIES] in ([], [len(faults) - 1])
        drawn.update(said.values())
    assert {*drawn} == {*LIES, *SWAP_LIES}
