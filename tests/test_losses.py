"""Every loss against its formula written out, with and without class terms."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.losses import discriminator_loss, generator_loss

torch.set_num_threads(1)

NAMES = ("non_saturating", "saturating", "hinge", "wgan_gp")
CLASSES = 3


class Judge(nn.Module):
    """A small discriminator whose slope varies from place to place."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1 + classes))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        scores = self.layers(x)
        return scores[:, 0], scores[:, 1:] if scores.shape[1] > 1 else None


@pytest.fixture(params=[0, CLASSES], ids=["unconditional", "conditional"])
def judge(request: pytest.FixtureRequest) -> Judge:
    torch.manual_seed(3)
    return Judge(request.param)


def batch(seed: int, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 4, 4, generator=rng), torch.randint(CLASSES, (count,), generator=rng)


def cls(judge: Judge, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    class_logits = judge(x)[1]
    return torch.zeros(()) if class_logits is None else functional.nll_loss(class_logits.log_softmax(1), y)


def adversarial_discriminator(name: str, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    match name:
        case "non_saturating" | "saturating":
            return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
        case "hinge":
            return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
        case _:
            return fake.mean() - real.mean()


def adversarial_generator(name: str, fake: torch.Tensor) -> torch.Tensor:
    match name:
        case "non_saturating":
            return -fake.sigmoid().log().mean()
        case "saturating":
            return (1 - fake.sigmoid()).log().mean()
        case _:
            return -fake.mean()


@pytest.mark.parametrize("name", NAMES)
def test_the_discriminator_loss_is_its_formula(name: str, judge: Judge) -> None:
    (x_real, y_real), (x_fake, y_fake) = batch(1), batch(2, count=4)
    expected = adversarial_discriminator(name, judge(x_real)[0], judge(x_fake)[0])
    expected = expected + cls(judge, x_real, y_real) + cls(judge, x_fake, y_fake)
    loss = discriminator_loss(name, judge, x_real, y_real, x_fake, y_fake, gradient_penalty=0.0)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_loss_is_its_formula(name: str, judge: Judge) -> None:
    x, y = batch(2)
    loss = generator_loss(name, judge, x, y)
    assert loss.shape == ()
    torch.testing.assert_close(loss, adversarial_generator(name, judge(x)[0]) + cls(judge, x, y))


def test_labels_are_needed_only_where_the_discriminator_judges_classes() -> None:
    x, y = batch(1)
    unconditional = Judge(0)
    torch.testing.assert_close(
        discriminator_loss("hinge", unconditional, x, None, x, None, 0.0),
        discriminator_loss("hinge", unconditional, x, y, x, y, 0.0),
    )
    with pytest.raises(AssertionError, match="labels"):
        generator_loss("hinge", Judge(CLASSES), x, None)


def penalty_of(judge: Judge, x_real: torch.Tensor, x_fake: torch.Tensor, seed: int) -> torch.Tensor:
    """The penalty of wgan_gp alone: the loss with weight 1 minus the loss with weight 0."""
    losses = []
    for weight in (1.0, 0.0):
        torch.manual_seed(seed)
        losses.append(discriminator_loss("wgan_gp", judge, x_real, None, x_fake, None, weight))
    return losses[0] - losses[1]


def test_the_gradient_penalty_is_measured_between_real_and_fake() -> None:
    torch.manual_seed(3)
    judge = Judge(0)
    (x_real, _), (x_fake, _) = batch(1), batch(2)
    torch.manual_seed(7)
    mix = torch.rand(5, 1, 1, 1)
    between = ((1 - mix) * x_real + mix * x_fake).requires_grad_()
    slopes = torch.stack([torch.autograd.grad(judge(x[None])[0].sum(), x)[0] for x in between.unbind()])
    expected = ((slopes.flatten(1).square().sum(1).sqrt() - 1) ** 2).mean()
    torch.testing.assert_close(penalty_of(judge, x_real, x_fake, seed=7), expected)


def test_the_gradient_penalty_of_a_linear_critic_is_known() -> None:
    judge, linear = Judge(0), nn.Linear(16, 1)
    nn.init.constant_(linear.weight, 0.75)  # a slope of length 0.75 * sqrt(16) = 3
    judge.layers = nn.Sequential(nn.Flatten(), linear)
    torch.testing.assert_close(penalty_of(judge, batch(1)[0], batch(2, count=4)[0], seed=0), torch.tensor(4.0))


def test_the_gradient_penalty_trains_the_discriminator_and_no_image() -> None:
    judge = Judge(0)
    x_fake = batch(2)[0].requires_grad_()
    torch.autograd.backward(penalty_of(judge, batch(1)[0], x_fake, seed=0))
    weight = judge.layers[1].weight
    assert isinstance(weight, torch.Tensor)
    assert weight.grad is not None
    assert weight.grad.abs().max() > 1e-3  # more than rounding leaves
    assert x_fake.grad is None or x_fake.grad.abs().max() == 0


@pytest.mark.parametrize("name", ["non_saturating", "saturating", "hinge"])
def test_only_wgan_gp_is_penalised_and_draws_random_numbers(name: str, judge: Judge) -> None:
    (x_real, y_real), (x_fake, y_fake) = batch(1), batch(2)
    before = torch.get_rng_state()
    losses = [discriminator_loss(name, judge, x_real, y_real, x_fake, y_fake, weight) for weight in (0.0, 10.0)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_image_can_be_judged_better(name: str, judge: Judge) -> None:
    x, y = batch(2)
    x.requires_grad_()
    loss = generator_loss(name, judge, x, y)
    (feedback,) = torch.autograd.grad(loss, x)
    assert generator_loss(name, judge, (x - 0.1 * feedback).detach(), y) < loss


@pytest.mark.parametrize(("name", "hint"), [("hingle", "did you mean 'hinge'"), ("l2", "Losses: non_saturating")])
def test_an_unknown_loss_is_refused_with_the_near_miss(name: str, hint: str) -> None:
    x, y = batch(1)
    with pytest.raises(ConfigurationError, match=hint):
        discriminator_loss(name, Judge(0), x, y, x, y, 0.0)
    with pytest.raises(ConfigurationError, match=hint):
        generator_loss(name, Judge(0), x, y)
