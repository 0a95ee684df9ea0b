"""The paper's networks and spectral norm: sizes as docs/models.md states them, what travels with a discriminator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.models import NAMES, build_discriminator, build_generator, parameter_count
from mdgan_edge.gan.paper import PLANS, SIMILARITIES, SIMILARITY_SIZE, MinibatchDiscrimination
from mdgan_edge.gan.parcel import pack, unpack
from mdgan_edge.messages import ModelSettings, NodeId, NodeTerms
from sim.verify import pairings
from tests.test_lockstep import SMALL, difference, reference, run, settings, shards, states
from tests.test_models import assert_shapes
from tests.test_swap_exact import replayed, swapping

torch.set_num_threads(1)

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "models.md"
ROW = re.compile(r"^\| `(\w+)` \| (\d) \D+ (\d+) \D+ \d+ \| (\d+) \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)
NORMALISED = replace(SMALL, spectral_norm=True)


def rows() -> list[tuple[ModelSettings, int, int]]:
    """What the document says: model, parameters of G, parameters of D."""
    return [
        (
            ModelSettings(name=name, channels=int(channels), image_size=int(size), classes=int(classes)),  # type: ignore[arg-type]
            int(generator.replace(",", "")),
            int(discriminator.replace(",", "")),
        )
        for name, channels, size, classes, generator, discriminator in ROW.findall(DOCUMENT.read_text("utf-8"))
    ]


def batch(count: int, size: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_every_model_is_in_the_table() -> None:
    assert {model.name for model, _, _ in rows()} == set(NAMES) - {"auto"}


@pytest.mark.parametrize(("model", "generator", "discriminator"), rows(), ids=lambda value: getattr(value, "name", ""))
def test_the_table_states_the_sizes_as_they_are(model: ModelSettings, generator: int, discriminator: int) -> None:
    assert parameter_count(build_generator(model, 0)) == generator
    assert parameter_count(build_discriminator(model, 0)) == discriminator


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("classes", [0, 10])
def test_the_papers_networks_have_the_agreed_shapes(name: str, classes: int) -> None:
    plan = PLANS[name]
    channels = 1 if plan.image_size == 28 else 3
    assert_shapes(ModelSettings(name=name, image_size=plan.image_size, channels=channels, classes=classes))  # type: ignore[arg-type]


# --- minibatch discrimination -----------------------------------------------------------------------------------------


def test_minibatch_discrimination_is_the_formula_written_out() -> None:
    torch.manual_seed(1)
    layer, features = MinibatchDiscrimination(6), torch.randn(4, 6)
    with torch.no_grad():
        found = layer(features)
        m = (features @ layer.project.weight.T).reshape(4, SIMILARITIES, SIMILARITY_SIZE)
    for i in range(4):
        for k in range(SIMILARITIES):
            expected = sum(float(torch.exp(-(m[i, k] - m[j, k]).abs().sum())) for j in range(4) if j != i)
            assert float(found[i, 6 + k]) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(found[:, :6], features)


def test_an_image_alone_is_like_no_other() -> None:
    assert MinibatchDiscrimination(6)(torch.randn(1, 6))[0, 6:].tolist() == [0.0] * SIMILARITIES


def test_the_discriminator_sees_that_all_images_are_the_same() -> None:
    discriminator = build_discriminator(ModelSettings(name="paper28"), 0)
    alike, apart = batch(1, 28).expand(4, -1, -1, -1), torch.cat([batch(1, 28), batch(3, 28, seed=1)])
    assert not torch.equal(discriminator(alike)[0][0], discriminator(apart)[0][0])


# --- spectral norm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn28", "paper28"])
def test_no_layer_of_a_normalised_discriminator_stretches(name: str) -> None:
    discriminator = build_discriminator(ModelSettings(name=name, spectral_norm=True), 0)
    with torch.no_grad():
        for _ in range(10):
            discriminator(batch(2, 28))
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) for layer in layers]
    assert norms == pytest.approx([1.0] * len(layers), abs=0.15)


def test_spectral_norm_costs_no_parameter_and_changes_no_first_weight() -> None:
    plain, normalised = (build_discriminator(model, 3) for model in (SMALL, NORMALISED))
    assert parameter_count(plain) == parameter_count(normalised)
    weights = dict(normalised.named_parameters())
    for name, value in plain.named_parameters():
        assert torch.equal(weights.get(name, weights.get(original(name), value.new_zeros(()))), value), name


def original(name: str) -> str:
    """Where the unnormalised weight of a layer lies."""
    return name.replace(".weight", ".parametrizations.weight.original")


def test_the_generator_is_not_normalised() -> None:
    plain, normalised = (build_generator(model, 3).state_dict() for model in (SMALL, NORMALISED))
    assert plain.keys() == normalised.keys()


def trained(node: str, tasks: int) -> DiscriminatorState:
    terms = NodeTerms(NORMALISED, 4, 4, "hinge", 0.01, (0.5, 0.9), 10.0, swap_optimizer="travel")
    state = DiscriminatorState(terms, NodeId(node))
    for _ in range(tasks):
        once(state)
    return state


def once(state: DiscriminatorState) -> torch.Tensor:
    y = torch.tensor([0, 1, 2, 0])
    return state.judge((batch(4, 9, seed=state.tasks), y), batch(4, 9, seed=2), y, batch(4, 9, seed=3), y, 1).feedback


def test_a_normalised_discriminator_that_travels_judges_as_it_would_have_at_home() -> None:
    giver, taker = trained("ann", 3), trained("ann", 1)
    taker.take(unpack(taker.travelling(optimizer=True), *pack(giver.travelling(optimizer=True))))
    taker.tasks = giver.tasks
    assert torch.equal(once(giver), once(taker))


def test_a_normalised_discriminator_that_was_saved_goes_on_to_the_last_bit() -> None:
    kept, anew = trained("ann", 3), trained("ann", 0)
    anew.load(kept.tensors(), kept.tasks)
    assert torch.equal(once(kept), once(anew))


@pytest.mark.parametrize("loss", ["non_saturating", "wgan_gp"])
def test_with_spectral_norm_a_swarm_is_algorithm_1_bit_for_bit(loss: str) -> None:
    chosen = settings(NORMALISED, loss=loss)
    assert difference(states(run(chosen, shards())), reference(chosen, shards())) == 0.0


def test_with_spectral_norm_and_swaps_too() -> None:
    chosen = swapping(NORMALISED)
    swarm = run(chosen, shards())
    swaps = pairings(swarm.notes)
    assert swaps
    assert difference(states(swarm), replayed(chosen, swaps)) == 0.0
