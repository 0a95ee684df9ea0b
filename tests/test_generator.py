"""The generator at work: its merged gradient is the one of autograd, however old the batch, and nothing else moves."""

from __future__ import annotations

import copy
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mdgan_edge.errors import DataError
from mdgan_edge.gan.generator import GeneratorState, JudgedBatch, NodeFeedback, latent_batch, merge, sample_images
from mdgan_edge.gan.saved import FORMAT, generator_file, load_generator
from mdgan_edge.messages import ModelSettings, Version
from mdgan_edge.settings import TrainingSettings

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
TRAINING = TrainingSettings(seed=4, batch_size=4, lr_generator=0.05)
CLOSE = {"rtol": 1e-4, "atol": 1e-6}
SHAPE = (4, 1, 9, 9)


def feedback(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def judged(version: int, index: int, *feedbacks: tuple[float, torch.Tensor]) -> JudgedBatch:
    given = [NodeFeedback(one, weight) for weight, one in feedbacks]
    return JudgedBatch(Version(version), index, given)


def gradient_by_hand(module: nn.Module, batches: list[JudgedBatch]) -> dict[str, torch.Tensor]:
    """Sum over batches and feedbacks of weight·J^T F, one backward each, through a copy of `module`."""
    module = copy.deepcopy(module).train()
    for batch in batches:
        for one in batch.feedbacks:
            z, y = latent_batch(MODEL, TRAINING.batch_size, TRAINING.seed, batch.version, batch.index)
            module(z, y).backward(one.weight * one.feedback)
    return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the merged gradient (T3) -----------------------------------------------------------------------------------------


def test_one_backward_of_summed_feedback_equals_a_backward_for_each() -> None:
    state = GeneratorState(MODEL, TRAINING)
    for index in range(2):
        state.make_batch(index)
    batches = [
        judged(0, 0, (1.0, feedback(1)), (0.5, feedback(2)), (0.25, feedback(3))),
        judged(0, 1, (1.0, feedback(4))),
    ]
    expected = {name: value / 2.75 for name, value in gradient_by_hand(state.module, batches).items()}
    assert_close(state.merged_gradient(batches, divisor=2.75), expected)


def test_the_merged_gradient_equals_autograd_from_the_losses_to_the_weights() -> None:
    state = GeneratorState(MODEL, TRAINING)
    made = [state.make_batch(index) for index in range(2)]
    judges = [nn.Sequential(nn.Flatten(), nn.Linear(81, 5), nn.Tanh(), nn.Linear(5, 1)) for _ in range(3)]
    whole = copy.deepcopy(state.module).train()
    loss = torch.zeros(())
    given: list[list[tuple[float, torch.Tensor]]] = [[], []]
    for number, judge in enumerate(judges):
        index = number % 2
        images = made[index][0].clone().requires_grad_()
        given[index].append((1.0, torch.autograd.grad(judge(images).mean(), images)[0]))
        z, y = latent_batch(MODEL, TRAINING.batch_size, TRAINING.seed, 0, index)
        loss = loss + judge(whole(z, y)).mean() / len(judges)
    expected = dict(zip(weights_of(whole), torch.autograd.grad(loss, list(whole.parameters())), strict=True))
    found = state.merged_gradient([judged(0, index, *given[index]) for index in range(2)], divisor=len(judges))
    assert_close(found, expected)


def weights_of(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def test_stale_feedback_goes_through_the_generator_that_made_its_batch() -> None:
    state = GeneratorState(MODEL, TRAINING)
    old = copy.deepcopy(state.module)
    made, _ = state.make_batch(0)
    for version in range(3):
        if version:
            state.make_batch(0)
        state.step([judged(version, 0, (1.0, feedback(version)))], 1.0, 1.0, oldest=Version(0))
    stale = [judged(0, 0, (1.0, feedback(9)))]
    z, y = latent_batch(MODEL, TRAINING.batch_size, TRAINING.seed, 0, 0)
    assert torch.equal(copy.deepcopy(old).train()(z, y), made)
    found = state.merged_gradient(stale, divisor=1.0)
    assert_close(found, gradient_by_hand(old, stale))
    current = gradient_by_hand(state.module, stale)
    assert max(float((found[name] - current[name]).abs().max()) for name in found) > 0.01


def test_feedback_of_several_versions_is_added_up() -> None:
    state = GeneratorState(MODEL, TRAINING)
    old = copy.deepcopy(state.module)
    state.make_batch(0)
    state.step([judged(0, 0, (1.0, feedback(0)))], 1.0, 1.0, oldest=Version(0))
    state.make_batch(1)
    stale, fresh = judged(0, 0, (0.5, feedback(1))), judged(1, 1, (1.0, feedback(2)))
    one, two = gradient_by_hand(old, [stale]), gradient_by_hand(state.module, [fresh])
    expected = {name: (one[name] + two[name]) / 1.5 for name in one}
    assert_close(state.merged_gradient([stale, fresh], divisor=1.5), expected)


def test_a_step_is_one_adam_step_along_the_merged_gradient() -> None:
    state = GeneratorState(MODEL, TRAINING)
    twin = copy.deepcopy(state.module)
    adam = torch.optim.Adam(twin.parameters(), 0.05 * 0.5, betas=(TRAINING.beta1, TRAINING.beta2))
    for version in range(2):
        state.make_batch(0)
        gradients = state.merged_gradient([judged(version, 0, (1.0, feedback(version)))], 2.0)
        norm = state.step([judged(version, 0, (1.0, feedback(version)))], 2.0, 0.5, oldest=Version(0))
        for name, parameter in twin.named_parameters():
            parameter.grad = gradients[name]
        adam.step()
        flat = torch.cat([value.flatten() for value in gradients.values()])
        assert norm == pytest.approx(float(flat.double().norm()), rel=1e-6)
    assert all(torch.equal(*pair) for pair in zip(state.module.parameters(), twin.parameters(), strict=True))
    assert state.version == 2
    assert all(parameter.grad is None for parameter in state.module.parameters())


@pytest.mark.parametrize("lr_scale", [1.0, 0.25])
def test_the_first_step_is_as_long_as_the_scaled_learning_rate(lr_scale: float) -> None:
    state = GeneratorState(MODEL, TRAINING)
    before = weights(state.module)
    state.make_batch(0)
    state.step([judged(0, 0, (1.0, feedback(1)))], 1.0, lr_scale, oldest=Version(0))
    moved = max(float((value.detach() - before[name]).abs().max()) for name, value in state.module.named_parameters())
    assert moved == pytest.approx(0.05 * lr_scale, rel=1e-3)  # Adam's first step has the length of its rate


# --- label-aware judging ----------------------------------------------------------------------------------------------

Y = torch.tensor([0, 1, 2, 1])


def column(*values: float) -> torch.Tensor:
    """Feedback (4, 1, 1, 1) on samples of the classes Y."""
    return torch.tensor(values, dtype=torch.float32).reshape(4, 1, 1, 1)


def test_each_sample_is_averaged_over_those_who_judge_it() -> None:
    fresh = NodeFeedback(column(1, 2, 0, 4), 1.0, 1.0, (0, 1))
    stale = NodeFeedback(column(0, 8, 0, 16), 0.5, 0.5, (1,))
    merged = merge([fresh, stale], Y, divisor=3.0)  # another 1.5 was merged on other batches
    expected = [
        1 / 3 * 1.5 / 1,  # the fresh one alone
        (2 + 0.5 * 8) / 3 * 1.5 / 1.5,  # both
        0,  # nobody
        (4 + 0.5 * 16) / 3 * 1.5 / 1.5,
    ]
    torch.testing.assert_close(merged, column(*expected))


def test_a_batch_of_which_nobody_knows_a_label_has_no_gradient_and_is_still_a_number() -> None:
    batch = JudgedBatch(Version(0), 0, [NodeFeedback(torch.zeros(SHAPE), labels=(9,))])
    state = GeneratorState(MODEL, TRAINING)
    state.make_batch(0)
    assert all(not value.any() for value in state.merged_gradient([batch], 1.0).values())
    assert state.step([batch], 1.0, 1.0, oldest=Version(0)) == 0.0
    assert all(bool(value.isfinite().all()) for value in state.module.state_dict().values())


def test_what_is_clipped_stays_short_even_where_nobody_else_judges() -> None:
    merged = merge([NodeFeedback(column(10, 10, 10, 10), 0.1, 1.0, (0, 1, 2))], Y, divisor=1.0)
    torch.testing.assert_close(merged, column(1, 1, 1, 1))


def test_feedback_on_samples_that_a_node_does_not_judge_counts_for_nothing() -> None:
    liar = NodeFeedback(column(5, 5, 5, 5), labels=(0,))
    torch.testing.assert_close(merge([liar, NodeFeedback(column(0, 2, 0, 4), labels=(1,))], Y, 2.0), column(5, 2, 0, 4))


@pytest.mark.parametrize("labels", [(0, 1, 2), tuple(range(1000)), None])
def test_where_every_node_judges_everything_the_merge_is_the_plain_one_bit_for_bit(
    labels: tuple[int, ...] | None,
) -> None:
    weights = [1.0, 1 / 3, 0.1, 1 / 7]
    given = [NodeFeedback(feedback(seed), weight, weight, labels) for seed, weight in enumerate(weights)]
    plain = torch.zeros(SHAPE)
    for one in given:
        plain = plain + one.weight * one.feedback
    assert torch.equal(merge(given, Y, sum(weights)), plain / sum(weights))


def test_labels_mean_nothing_to_a_model_without_classes() -> None:
    assert torch.equal(merge([NodeFeedback(column(1, 2, 3, 4), labels=(9,))], None, 1.0), column(1, 2, 3, 4))


# --- what else moves --------------------------------------------------------------------------------------------------


def test_batch_norm_statistics_move_once_per_batch_and_not_in_the_step() -> None:
    state = GeneratorState(MODEL, TRAINING)
    twin = copy.deepcopy(state.module).train()
    for index in range(3):
        state.make_batch(index)
        with torch.no_grad():
            twin(*latent_batch(MODEL, TRAINING.batch_size, TRAINING.seed, 0, index))
    expected = {name: value.clone() for name, value in twin.named_buffers()}
    assert expected["project.2.num_batches_tracked"] == 3
    assert same_bits(dict(state.module.named_buffers()), expected)
    state.step([judged(0, index, (1.0, feedback(index))) for index in range(3)], 3.0, 1.0, oldest=Version(0))
    assert same_bits(dict(state.module.named_buffers()), expected)


def test_snapshots_older_than_the_oldest_wanted_are_gone_and_the_others_are_not() -> None:
    state = GeneratorState(MODEL, TRAINING)
    for version in range(6):
        state.make_batch(0)
        batch = judged(version, 0, (1.0, feedback(version)))
        state.step([batch], 1.0, 1.0, oldest=Version(max(0, version - 1)))
    for version in (4, 5):
        assert state.merged_gradient([judged(version, 0, (1.0, feedback(1)))], 1.0)
    for version in (0, 1, 2, 3):
        with pytest.raises(KeyError):
            state.merged_gradient([judged(version, 0, (1.0, feedback(1)))], 1.0)


def test_a_snapshot_is_taken_once_per_version_however_many_batches_are_made() -> None:
    state = GeneratorState(MODEL, TRAINING)
    first, labels = state.make_batch(0)
    state.make_batch(1)
    again, _ = state.make_batch(0)
    assert torch.equal(first, again)  # in training mode a batch depends on the weights only
    assert labels is not None
    assert (first.shape, labels.shape) == (SHAPE, (4,))
    assert not first.requires_grad


def test_different_batches_and_versions_draw_different_latents() -> None:
    drawn = [latent_batch(MODEL, 4, 4, version, index)[0] for version in range(2) for index in range(2)]
    assert len({tuple(z.flatten().tolist()) for z in drawn}) == 4
    assert torch.equal(drawn[0], latent_batch(MODEL, 4, 4, 0, 0)[0])
    assert not torch.equal(drawn[0], latent_batch(MODEL, 4, 5, 0, 0)[0])


# --- the average ------------------------------------------------------------------------------------------------------


def test_the_average_follows_every_weight_and_statistic_young_ones_faster() -> None:
    state = GeneratorState(MODEL, msgspec.structs.replace(TRAINING, ema=0.2))
    mean = weights(state.average)
    assert same_bits(mean, weights(state.module))
    for version in range(4):
        state.make_batch(0)
        state.step([judged(version, 0, (1.0, feedback(version)))], 1.0, 1.0, oldest=Version(0))
        decay = min(0.2, (2 + version) / (11 + version))
        for name, value in state.module.state_dict().items():
            mean[name] = decay * mean[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
        for name, value in state.average.state_dict().items():
            torch.testing.assert_close(value, mean[name], **CLOSE)
    assert decay == 0.2  # and before that, it was younger
    assert not same_bits(weights(state.average), weights(state.module))


def test_samples_come_from_the_average_with_every_class_in_turn_and_leave_it_as_it_is() -> None:
    state = GeneratorState(MODEL, TRAINING)
    state.make_batch(0)
    state.step([judged(0, 0, (1.0, feedback(1)))], 1.0, 1.0, oldest=Version(0))
    before = weights(state.average)
    images, labels = state.sample(7, "grid")
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert images.shape == (7, 1, 9, 9)
    assert torch.equal(images, state.sample(7, "grid")[0])
    assert not torch.equal(images, state.sample(7, "evaluation")[0])
    assert same_bits(weights(state.average), before)


def test_samples_of_one_label_have_that_label_and_more_than_one_forward_changes_nothing() -> None:
    module = GeneratorState(MODEL, TRAINING).average
    images, labels = sample_images(module, MODEL, 205, seed=3, label=2)
    assert labels is not None
    assert labels.tolist() == [2] * 205
    z = torch.randn(205, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(images, module.eval()(z, labels), **CLOSE)


def test_samples_of_a_model_without_labels_have_none() -> None:
    model = msgspec.structs.replace(MODEL, classes=0)
    images, labels = GeneratorState(model, TRAINING).sample(3, "grid")
    assert (images.shape, labels) == ((3, 1, 9, 9), None)


# --- on disk ----------------------------------------------------------------------------------------------------------


def stepped() -> GeneratorState:
    state = GeneratorState(MODEL, TRAINING)
    for version in range(2):
        state.make_batch(0)
        state.step([judged(version, 0, (1.0, feedback(version)))], 1.0, 1.0, oldest=Version(0))
    return state


def test_a_saved_generator_comes_back_bit_for_bit(tmp_path: Path) -> None:
    state = stepped()
    save_file(*pair(state, tmp_path / "generator.safetensors"))
    saved = load_generator(tmp_path / "generator.safetensors")
    assert (saved.model, saved.version) == (MODEL, 2)
    assert same_bits(weights(saved.average), weights(state.average))
    assert same_bits(saved.module, weights(state.module))
    assert torch.equal(sample_images(saved.average, MODEL, 5, 1)[0], sample_images(state.average, MODEL, 5, 1)[0])


def pair(state: GeneratorState, path: Path) -> tuple[dict[str, torch.Tensor], Path, dict[str, str]]:
    tensors, facts = generator_file(state)
    return tensors, path, facts


@pytest.mark.parametrize(
    "facts",
    [
        {"format": FORMAT},
        {"format": FORMAT, "model": "{", "version": "1"},
        {"format": FORMAT, "model": '{"name":"mlp"}', "version": "1"},
        {"format": FORMAT, "model": msgspec.json.encode(MODEL).decode(), "version": "soon"},
        {"format": "something else"},
        {},
    ],
    ids=["no model", "broken model", "another model", "no version", "another format", "no format"],
)
def test_a_file_that_is_no_saved_generator_is_refused(tmp_path: Path, facts: dict[str, str]) -> None:
    path = tmp_path / "generator.safetensors"
    tensors, _ = generator_file(stepped())
    save_file(tensors, path, facts or None)
    with pytest.raises(DataError, match="generator"):
        load_generator(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    with pytest.raises(DataError, match="cannot read the generator"):
        load_generator(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(DataError, match="cannot read the generator"):
        load_generator(path)
