"""A discriminator at work: L steps, then the feedback of the updated weights; which real samples; its state on disk."""

from __future__ import annotations

import copy

import msgspec
import pytest
import torch

from mdgan_edge.gan.discriminator import DiscriminatorState, Judged
from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import ModelSettings, NodeId, NodeTerms, Tensor

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
TERMS = NodeTerms(MODEL, 4, 4, "non_saturating", 0.01, (0.5, 0.9), 10.0)
ANN = NodeId("ann")
LOSSES = ("non_saturating", "saturating", "hinge", "wgan_gp")

Labelled = tuple[torch.Tensor, torch.Tensor]


def images(seed: int, count: int = 4) -> Labelled:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 9, 9, generator=rng) * 2 - 1, torch.randint(3, (count,), generator=rng)


def terms(loss: str) -> NodeTerms:
    return msgspec.structs.replace(TERMS, loss=loss)


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


REAL, X_D, X_G = images(1), images(2), images(3)

# --- one task ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("loss", ["non_saturating", "saturating", "hinge"])
def test_a_task_is_l_adam_steps_on_the_same_batches_and_then_the_gradient_of_the_updated_weights(
    loss: str, steps: int
) -> None:
    state = DiscriminatorState(terms(loss), ANN)
    twin = copy.deepcopy(state.module)
    adam = torch.optim.Adam(twin.parameters(), lr=0.01, betas=(0.5, 0.9))
    for _ in range(steps):
        adam.zero_grad()
        loss_d = discriminator_loss(loss, twin, *REAL, *X_D, 10.0)
        loss_d.backward()
        adam.step()
    x = X_G[0].clone().requires_grad_()
    loss_g = generator_loss(loss, twin, x, X_G[1])
    (expected,) = torch.autograd.grad(loss_g, x)
    found = state.judge(REAL, *X_D, *X_G, steps)
    assert torch.equal(found.feedback, expected)
    assert (found.loss_d, found.loss_g) == (loss_d.item(), loss_g.item())
    assert same_bits(state.module.state_dict(), twin.state_dict())
    assert found.finite
    assert state.tasks == 1


def test_feedback_is_by_the_updated_discriminator_and_not_by_the_one_before() -> None:
    state = DiscriminatorState(TERMS, ANN)
    x = X_G[0].clone().requires_grad_()
    (before,) = torch.autograd.grad(generator_loss(TERMS.loss, state.module, x, X_G[1]), x)
    assert not torch.allclose(state.judge(REAL, *X_D, *X_G, 1).feedback, before, rtol=1e-2)


def test_judging_leaves_no_gradient_of_its_own_in_the_discriminator() -> None:
    state = DiscriminatorState(TERMS, ANN)
    twin = copy.deepcopy(state.module)
    discriminator_loss(TERMS.loss, twin, *REAL, *X_D, 10.0).backward()
    state.judge(REAL, *X_D, *X_G, 1)
    left = {name: parameter.grad for name, parameter in state.module.named_parameters()}
    for name, parameter in twin.named_parameters():
        assert left[name] is not None
        assert torch.equal(left[name], parameter.grad)  # of LD alone


def test_judging_changes_neither_the_images_nor_what_wants_their_gradient() -> None:
    x = X_G[0].clone()
    DiscriminatorState(TERMS, ANN).judge(REAL, *X_D, x, X_G[1], 1)
    assert torch.equal(x, X_G[0])
    assert not x.requires_grad


def test_chance_within_a_task_depends_on_run_node_and_task_only() -> None:
    def judge(node: str, tasks: int) -> torch.Tensor:
        state = DiscriminatorState(terms("wgan_gp"), NodeId(node), seed_node=ANN)
        state.tasks = tasks
        torch.rand(7)  # whatever else draws from torch's own stream
        return state.judge(REAL, *X_D, *X_G, 1).feedback

    assert torch.equal(judge("ann", 0), judge("ann", 0))
    assert not torch.equal(judge("ann", 0), judge("ann", 1))
    assert not torch.equal(judge("ann", 0), judge("bob", 0))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen(broken: float) -> None:
    state = DiscriminatorState(TERMS, ANN)
    assert not state.judge(REAL, *X_D, torch.full_like(X_G[0], broken), X_G[1], 1).finite
    assert not state.judge((torch.full_like(REAL[0], broken), REAL[1]), *X_D, *X_G, 1).finite


def test_two_nodes_begin_with_different_weights_and_one_node_always_with_the_same() -> None:
    one, again, other = (DiscriminatorState(TERMS, NodeId(node)).module.state_dict() for node in ("ann", "ann", "bob"))
    assert same_bits(one, again)
    assert not same_bits(one, other)
    assert same_bits(one, DiscriminatorState(TERMS, NodeId("bob"), seed_node=ANN).module.state_dict())


# --- label-aware judging ----------------------------------------------------------------------------------------------

Y = torch.tensor([0, 2, 1, 2])


def judge(labels: tuple[int, ...] | None, loss: str = TERMS.loss) -> tuple[Judged, DiscriminatorState]:
    state = DiscriminatorState(terms(loss), ANN)
    return state.judge(REAL, X_D[0], Y, X_G[0], Y, 2, labels), state


@pytest.mark.parametrize("loss", LOSSES)
def test_a_node_that_knows_every_label_judges_as_if_it_were_not_asked_bit_for_bit(loss: str) -> None:
    (aware, knowing), (plain, blind) = judge((0, 1, 2, 7), loss), judge(None, loss)
    assert torch.equal(aware.feedback, plain.feedback)
    assert (aware.loss_d, aware.loss_g) == (plain.loss_d, plain.loss_g)
    assert same_bits(knowing.tensors(), blind.tensors())


@pytest.mark.parametrize("loss", LOSSES)
def test_feedback_on_samples_of_other_labels_is_exactly_zero(loss: str) -> None:
    feedback = judge((0, 1), loss)[0].feedback
    assert [bool(row.any()) for row in feedback] == [True, False, True, False]


@pytest.mark.parametrize("loss", LOSSES)
def test_samples_of_other_labels_change_nothing_that_a_discriminator_learns(loss: str) -> None:
    state = DiscriminatorState(terms(loss), ANN)
    state.judge(REAL, X_D[0], Y, X_G[0], Y, 2, (0, 1))
    other = torch.where((Y == 2)[:, None, None, None], images(9)[0], X_D[0])
    twin = DiscriminatorState(terms(loss), ANN)
    twin.judge(REAL, other, Y, X_G[0], Y, 2, (0, 1))
    assert same_bits(state.tensors(), twin.tensors())
    assert not same_bits(state.tensors(), judge(None, loss)[1].tensors())


def test_what_a_sample_is_told_does_not_depend_on_how_many_others_the_node_knows() -> None:
    state = DiscriminatorState(terms("hinge"), ANN)
    state.judge(REAL, *X_D, *X_G, 1)

    def told(labels: tuple[int, ...] | None) -> torch.Tensor:
        twin = copy.deepcopy(state)
        return twin.judge(REAL, X_D[0], Y, X_G[0], Y, 0, labels).feedback  # no step: all judge with the same weights

    torch.testing.assert_close(told((0,))[0], told(None)[0])
    torch.testing.assert_close(told((0, 1))[[0, 2]], told(None)[[0, 2]])


def test_a_node_that_knows_no_label_of_a_batch_learns_nothing_and_answers_with_zeros() -> None:
    judged, state = judge((7,))
    assert not judged.feedback.any()
    assert judged.feedback.shape == X_G[0].shape
    assert (judged.loss_d, judged.loss_g, judged.finite, state.tasks) == (0.0, 0.0, True, 1)
    assert same_bits(state.tensors(), DiscriminatorState(TERMS, ANN).tensors())


def test_without_labels_of_the_batch_all_of_it_is_judged() -> None:
    unconditional = msgspec.structs.replace(TERMS, model=msgspec.structs.replace(MODEL, classes=0))
    aware, plain = (
        DiscriminatorState(unconditional, ANN).judge((REAL[0], None), X_D[0], None, X_G[0], None, 1, labels)
        for labels in ((7,), None)
    )
    assert torch.equal(aware.feedback, plain.feedback)


# --- real samples -----------------------------------------------------------------------------------------------------


def chosen(state: DiscriminatorState, count: int = 12) -> list[int]:
    """Which of `count` numbered samples make the next batch."""
    x = torch.arange(count, dtype=torch.float32).reshape(count, 1, 1, 1)
    batch, y = state.real_batch(x, torch.arange(count))
    assert y is not None
    assert batch.flatten().tolist() == y.tolist()
    return y.tolist()


def test_a_real_batch_is_keyed_by_the_number_of_the_task() -> None:
    state, twin = DiscriminatorState(TERMS, ANN), DiscriminatorState(TERMS, ANN)
    batches = []
    for task in range(4):
        state.tasks = task
        batches.append(chosen(state))
    assert len({tuple(batch) for batch in batches}) == 4
    twin.tasks = 2
    assert chosen(twin) == chosen(twin) == batches[2]
    assert chosen(DiscriminatorState(TERMS, NodeId("bob"))) != batches[0]


def test_a_real_batch_holds_no_sample_twice() -> None:
    state = DiscriminatorState(TERMS, ANN)
    for task in range(50):
        state.tasks = task
        assert len(set(chosen(state, count=5))) == 4


def test_labels_stay_behind_when_the_model_has_none() -> None:
    without = msgspec.structs.replace(TERMS, model=msgspec.structs.replace(MODEL, classes=0))
    x, y = images(1, count=9)
    assert DiscriminatorState(without, ANN).real_batch(x, y)[1] is None
    assert DiscriminatorState(TERMS, ANN).real_batch(x, None)[1] is None


# --- on disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_training_that_is_resumed_equals_training_that_was_not_interrupted(loss: str) -> None:
    shard = images(7, count=11)

    def train(state: DiscriminatorState, count: int) -> list[torch.Tensor]:
        return [state.judge(state.real_batch(*shard), *X_D, *X_G, 2).feedback for _ in range(count)]

    whole = DiscriminatorState(terms(loss), ANN)
    expected = train(whole, 5)
    first = DiscriminatorState(terms(loss), ANN)
    train(first, 3)
    kept = first.tensors()
    train(first, 1)  # what follows is not to reach what was kept
    second = DiscriminatorState(terms(loss), ANN)
    second.load(kept, 3)
    found = train(second, 2)
    assert all(torch.equal(*pair) for pair in zip(found, expected[3:], strict=True))
    assert same_bits(second.tensors(), whole.tensors())


def test_what_is_kept_holds_weights_and_adam_state_by_name() -> None:
    state = DiscriminatorState(TERMS, ANN)
    state.judge(REAL, *X_D, *X_G, 2)
    kept = state.tensors()
    module = {f"module.{name}" for name in state.module.state_dict()}
    count = len(list(state.module.parameters()))
    adam = {f"adam.{index}.{key}" for index in range(count) for key in ("step", "exp_avg", "exp_avg_sq")}
    assert kept.keys() == module | adam
    assert kept["adam.0.step"] == 2


def test_a_state_of_another_network_is_refused() -> None:
    other = msgspec.structs.replace(TERMS, model=msgspec.structs.replace(MODEL, classes=4))
    with pytest.raises(RuntimeError, match="size mismatch"):
        DiscriminatorState(TERMS, ANN).load(DiscriminatorState(other, ANN).tensors(), 0)
    with pytest.raises(RuntimeError, match="Missing key"):
        DiscriminatorState(TERMS, ANN).load({}, 0)


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tensor", [images(5)[0], images(5)[1], images(5)[0].transpose(0, 2), torch.zeros(0, 3)])
def test_a_tensor_comes_back_from_its_bytes(tensor: torch.Tensor) -> None:
    back = to_torch(to_wire(tensor))
    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_a_tensor_from_bytes_has_memory_of_its_own() -> None:
    wire = to_wire(torch.ones(3))
    to_torch(wire).add_(1)
    assert to_torch(wire).tolist() == [1, 1, 1]


def test_bytes_carry_their_norm_and_nan_if_not_finite() -> None:
    assert to_wire(torch.tensor([3.0, 4.0])) == Tensor("float32", (2,), b"\0\0\x40\x40\0\0\x80\x40", 5.0)
    assert to_wire(torch.full((4,), 1e30)).norm == pytest.approx(2e30)
    for broken in (float("nan"), float("inf")):
        norm = to_wire(torch.tensor([1.0, broken])).norm
        assert norm != norm
