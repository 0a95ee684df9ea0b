"""The one-process reference: it equals the ordinary GAN where it must, and its merge equals autograd end to end."""

from __future__ import annotations

import copy

import msgspec
import pytest
import torch

from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.models import build_discriminator, build_generator
from mdgan_edge.messages import ModelSettings, NodeId
from mdgan_edge.reference import ReferenceResult, Shard, backward, md_gan, merge, standalone
from mdgan_edge.settings import Settings, TrainingSettings
from mdgan_edge.streams import stream_seed

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
SETTINGS = Settings(model=MODEL, training=TrainingSettings(seed=4, batch_size=4, discriminator_steps=2))
UNLABELLED = msgspec.structs.replace(SETTINGS, model=msgspec.structs.replace(MODEL, classes=0))
PENALISED = msgspec.structs.replace(SETTINGS, training=msgspec.structs.replace(SETTINGS.training, loss="wgan_gp"))


def shard(seed: int, count: int = 11, labelled: bool = True) -> Shard:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 9, 9, generator=rng) * 2 - 1
    return x, torch.randint(3, (count,), generator=rng) if labelled else None


def shards_of(*names: str) -> dict[NodeId, Shard]:
    return {NodeId(name): shard(seed) for seed, name in enumerate(names)}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def same_result(one: ReferenceResult, other: ReferenceResult) -> bool:
    return (
        same_bits(one.generator, other.generator)
        and one.discriminators.keys() == other.discriminators.keys()
        and all(same_bits(state, other.discriminators[node]) for node, state in one.discriminators.items())
        and one.losses == other.losses
    )


@pytest.mark.parametrize("settings", [SETTINGS, UNLABELLED, PENALISED], ids=["plain", "unlabelled", "penalised"])
def test_one_node_equals_the_ordinary_gan(settings: Settings) -> None:
    only, data = NodeId("only"), shard(1, labelled=settings.model.classes > 0)
    swarm = md_gan(settings, {only: data}, steps=6)
    streams = tuple(lambda t, j=j: stream_seed(settings.training.seed, "latent", t, j) for j in (0, 1))
    alone = standalone(settings, only, data, 6, (streams[0], streams[1]))
    assert same_result(swarm, alone)


def test_a_run_of_one_node_written_out_line_by_line() -> None:
    def stream(*key: str | int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(4, *key))

    x, y = shard(1)
    assert y is not None
    g = build_generator(MODEL, stream_seed(4, "generator"))
    d = build_discriminator(MODEL, stream_seed(4, "discriminator", "only"))
    adam_g = torch.optim.Adam(g.parameters(), 1e-3, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(d.parameters(), 4e-4, betas=(0.5, 0.999))
    for t in range(3):
        batches = []
        for j in (0, 1):
            rng = stream("latent", t, j)
            z, labels = torch.randn(4, 6, generator=rng), torch.randint(3, (4,), generator=rng)
            batches.append((g(z, labels), labels))
        (x_g, y_g), (x_d, y_d) = batches
        chosen = torch.randperm(11, generator=stream("real", "only", t))[:4]
        for _ in range(2):
            adam_d.zero_grad()
            loss = discriminator_loss("non_saturating", d, x[chosen], y[chosen], x_d.detach(), y_d, 0.0)
            torch.autograd.backward(loss)
            adam_d.step()
        adam_g.zero_grad()
        torch.autograd.backward(generator_loss("non_saturating", d, x_g, y_g))
        adam_g.step()

    result = md_gan(SETTINGS, {NodeId("only"): shard(1)}, steps=3)
    assert same_bits(result.generator, g.state_dict())
    assert same_bits(result.discriminators[NodeId("only")], d.state_dict())


def test_the_streams_of_the_two_batches_are_not_interchangeable() -> None:
    only = NodeId("only")
    swarm = md_gan(SETTINGS, {only: shard(1)}, steps=2)
    streams = tuple(lambda t, j=j: stream_seed(4, "latent", t, j) for j in (1, 0))
    assert not same_result(swarm, standalone(SETTINGS, only, shard(1), 2, (streams[0], streams[1])))


def test_the_same_seed_gives_the_same_run_whatever_the_order_of_the_shards() -> None:
    shards = shards_of("a", "b", "c", "d")
    backwards = dict(reversed(shards.items()))
    assert same_result(md_gan(SETTINGS, shards, steps=3), md_gan(SETTINGS, backwards, steps=3))


def test_another_seed_gives_another_run() -> None:
    other = msgspec.structs.replace(SETTINGS, training=msgspec.structs.replace(SETTINGS.training, seed=5))
    shards = shards_of("a", "b")
    assert not same_bits(md_gan(SETTINGS, shards, 1).generator, md_gan(other, shards, 1).generator)


@pytest.mark.parametrize("settings", [SETTINGS, PENALISED], ids=["plain", "penalised"])
def test_the_global_stream_neither_matters_nor_moves(settings: Settings) -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(md_gan(settings, shards_of("a", "b"), steps=2))
        assert torch.equal(torch.get_rng_state(), before)
    assert same_result(*results)


def test_a_shard_smaller_than_a_batch_is_used_whole() -> None:
    result = md_gan(SETTINGS, {NodeId("tiny"): shard(1, count=2)}, steps=2)
    assert all(torch.isfinite(tensor).all() for tensor in result.generator.values())


def test_batch_statistics_move_once_per_batch() -> None:
    result = md_gan(SETTINGS, shards_of("a", "b", "c"), steps=3)
    counters = [tensor.item() for name, tensor in result.generator.items() if name.endswith("num_batches_tracked")]
    assert counters
    assert set(counters) == {3 * 2}  # steps times k


def test_merging_divides_by_the_number_of_all_feedbacks() -> None:
    one, two, four = (torch.full((2,), value) for value in (1.0, 2.0, 4.0))
    merged = merge([(1, one), (0, two), (1, four)])
    assert list(merged) == [0, 1]
    torch.testing.assert_close(merged[0], two / 3)
    torch.testing.assert_close(merged[1], (one + four) / 3)


def test_merging_changes_no_feedback() -> None:
    feedback = torch.ones(2)
    merge([(0, feedback), (0, feedback), (0, feedback)])
    assert torch.equal(feedback, torch.ones(2))


def gradients(generator: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in generator.parameters() if parameter.grad is not None]


def test_one_backward_of_merged_feedback_equals_one_per_node_and_autograd_end_to_end() -> None:
    generator = build_generator(MODEL, 0).double()
    judges = [build_discriminator(MODEL, seed).double() for seed in range(5)]
    z = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    y = torch.arange(4) % 3
    copies = [copy.deepcopy(generator) for _ in range(3)]

    def images_of(network: torch.nn.Module) -> list[torch.Tensor]:
        return [network(noise, y) for noise in z]

    def loss_of(rank: int, images: torch.Tensor) -> torch.Tensor:
        return generator_loss("non_saturating", judges[rank], images, y)

    images = images_of(copies[0])
    leaves = [x.detach().requires_grad_() for x in images]
    feedbacks = [
        (rank % 2, torch.autograd.grad(loss_of(rank, leaves[rank % 2]), leaves[rank % 2])[0]) for rank in range(5)
    ]  # batch 2 gets none
    backward(images, merge(feedbacks))

    images = images_of(copies[1])
    for j, feedback in feedbacks:
        torch.autograd.backward(images[j], feedback / 5, retain_graph=True)

    images = images_of(copies[2])
    torch.autograd.backward(torch.stack([loss_of(rank, images[rank % 2]) for rank in range(5)]).mean())

    merged, separate, end_to_end = (gradients(network) for network in copies)
    assert len(merged) == len(list(generator.parameters()))
    torch.testing.assert_close(merged, separate)
    torch.testing.assert_close(merged, end_to_end)
    assert max(gradient.abs().max().item() for gradient in merged) > 1e-6
