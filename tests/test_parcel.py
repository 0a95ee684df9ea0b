"""A discriminator as it travels: what is packed is what is unpacked, and anything else is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mdgan_edge.digest import digest
from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.parcel import pack, unpack
from mdgan_edge.gan.tensors import to_wire
from mdgan_edge.messages import ModelSettings, NodeId, NodeTerms, SwapOptimizer, Tensor
from nodes.trainer import NodeTrainer
from tests.test_node_store import Train, prepare, shard, task

Tensors = dict[str, torch.Tensor]

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.lists(st.integers(1, 3), max_size=3)


@st.composite
def named_tensors(draw: st.DrawFn) -> Tensors:
    """At least one of floats, as every discriminator has."""
    names = draw(st.lists(st.text("ab.", min_size=1), min_size=1, max_size=5, unique=True))
    found = {}
    for place, name in enumerate(names):
        shape = draw(SHAPES)
        count = int(torch.Size(shape).numel())
        floats = place == 0 or draw(st.booleans())
        numbers = draw(st.lists(FLOATS if floats else INTEGERS, min_size=count, max_size=count))
        found[name] = torch.tensor(numbers, dtype=torch.float32 if floats else torch.int64).reshape(shape)
    return found


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@given(named_tensors())
def test_what_is_packed_is_what_is_unpacked(tensors: Tensors) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in tensors.items()}
    assert same(unpack(zeros, *pack(tensors)), tensors)


@given(named_tensors())
def test_the_order_of_names_makes_no_difference(tensors: Tensors) -> None:
    backwards = dict(reversed(tensors.items()))
    assert digest(*pack(backwards)) == digest(*pack(tensors))
    assert same(unpack(backwards, *pack(tensors)), tensors)


TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "step": torch.tensor(7)}
NUMBERS, COUNTERS = pack(TENSORS)


def test_a_changed_byte_changes_the_digest() -> None:
    assert COUNTERS is not None
    said = digest(NUMBERS, COUNTERS)
    for place in (0, len(NUMBERS.data) - 1):
        data = bytearray(NUMBERS.data)
        data[place] ^= 1
        assert digest(replace(NUMBERS, data=bytes(data)), COUNTERS) != said
    assert digest(NUMBERS, replace(COUNTERS, data=bytes(8))) != said
    assert digest(NUMBERS, None) != said


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    numbers = to_wire(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, bad]))
    with pytest.raises(ValueError, match="not finite"):
        unpack(TENSORS, numbers, COUNTERS)


@pytest.mark.parametrize(
    ("numbers", "counters"),
    [
        (to_wire(torch.zeros(5)), COUNTERS),
        (to_wire(torch.zeros(7)), COUNTERS),
        (to_wire(torch.zeros(2, 3)), COUNTERS),
        (NUMBERS, None),
        (NUMBERS, to_wire(torch.zeros(2, dtype=torch.int64))),
    ],
)
def test_another_count_is_refused(numbers: Tensor, counters: Tensor | None) -> None:
    with pytest.raises(ValueError, match="another number of parameters"):
        unpack(TENSORS, numbers, counters)


@pytest.mark.parametrize(
    ("numbers", "counters"),
    [(to_wire(torch.zeros(6, dtype=torch.int64)), COUNTERS), (NUMBERS, to_wire(torch.zeros(1)))],
)
def test_numbers_of_another_kind_are_refused(numbers: Tensor, counters: Tensor | None) -> None:
    with pytest.raises(ValueError, match="another kind"):
        unpack(TENSORS, numbers, counters)


def test_what_is_unpacked_shares_no_memory_with_what_it_is_like() -> None:
    found = unpack(TENSORS, NUMBERS, COUNTERS)
    found["w"] += 1
    assert torch.equal(TENSORS["w"], torch.arange(6.0).reshape(2, 3))


# --- a real discriminator ---------------------------------------------------------------------------------------------

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)


def state(optimizer: SwapOptimizer, node: str, tasks: int) -> DiscriminatorState:
    """A discriminator that was trained so often."""
    terms = NodeTerms(MODEL, 4, 4, "hinge", 0.01, (0.5, 0.9), 10.0, swap_optimizer=optimizer)
    trainer = NodeTrainer(NodeId(node), shard(), None)
    trainer.do(prepare(fresh=True, terms=terms))
    for number in range(tasks):
        trainer.do(Train(task(number)))
    assert trainer.state is not None
    return trainer.state


def moved(optimizer: SwapOptimizer, giver: DiscriminatorState, taker: DiscriminatorState) -> None:
    travel = optimizer == "travel"
    parcel = pack(giver.travelling(optimizer=travel))
    taker.take(unpack(taker.travelling(optimizer=travel), *parcel))


def adam(tensors: Tensors) -> Tensors:
    return {name: value.clone() for name, value in tensors.items() if not name.startswith("module")}


@pytest.mark.parametrize("optimizer", ["travel", "stay", "reset"])
def test_the_network_moves_and_adam_does_what_the_setting_says(optimizer: SwapOptimizer) -> None:
    giver, taker = state(optimizer, "ann", 3), state(optimizer, "bob", 2)
    given, own = giver.tensors(), adam(taker.tensors())
    moved(optimizer, giver, taker)
    found = taker.tensors()
    assert all(torch.equal(found[name], value) for name, value in given.items() if name.startswith("module"))
    assert same(adam(found), {"travel": adam(given), "stay": own, "reset": {}}[optimizer])


def test_one_that_was_never_trained_travels_too() -> None:
    giver, taker = state("travel", "ann", 0), state("travel", "bob", 2)
    moved("travel", giver, taker)
    assert len(pack(giver.travelling(optimizer=True))[0].data) == len(pack(taker.travelling(optimizer=True))[0].data)
