"""The ordinary GAN at work in one place: discriminator steps, then a generator step, on data of its own.

What a client of FL-GAN does between two rounds, and what standalone does all the time; docs/baselines.md says more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.models import build_discriminator, build_generator
from mdgan_edge.gan.state import load_tensors, part, tensors_of
from mdgan_edge.messages import NodeId, NodeTerms
from mdgan_edge.settings import TrainingSettings
from mdgan_edge.streams import stream_seed

LatentSeed = Callable[[int, int], int]  # (iteration, batch) -> seed; batch 0 is X_g, 1 is X_d
Labelled = tuple[torch.Tensor, torch.Tensor | None]  # x (B, C, H, W), y (B,)


@dataclass(frozen=True, slots=True)
class Iteration:
    """The losses of one iteration."""

    loss_d: float
    loss_g: float


class LocalGan:
    """w and θ with an Adam each, and how many iterations were made. `common`: θ as every client of FL-GAN starts."""

    def __init__(
        self, terms: NodeTerms, training: TrainingSettings, node: NodeId, latents: LatentSeed, *, common: bool
    ) -> None:
        self._terms, self._latents = terms, latents
        self.generator: nn.Module = build_generator(terms.model, stream_seed(terms.seed, "generator"))
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=training.lr_generator, betas=terms.betas)
        self._steps = training.discriminator_steps
        self.judge = DiscriminatorState(terms, node)
        if common:
            self.judge.module.load_state_dict(common_discriminator(terms).state_dict())

    @property
    def iterations(self) -> int:
        return self.judge.tasks

    def iterate(self, x: torch.Tensor, y: torch.Tensor | None) -> Iteration:
        """L steps of D on X_r of the shard x (m, C, H, W), y (m,) and on X_d, then one step of G on X_g."""
        iteration = self.iterations
        x_g, y_g = self._generate(iteration, 0)
        with torch.no_grad():
            x_d, y_d = self._generate(iteration, 1)
        real = self.judge.real_batch(x, y)
        judged = self.judge.judge(real, x_d, y_d, x_g.detach(), y_g, self._steps)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(x_g, judged.feedback)
        self.optimizer.step()
        return Iteration(judged.loss_d, judged.loss_g)

    def _generate(self, iteration: int, batch: int) -> Labelled:
        rng = torch.Generator().manual_seed(self._latents(iteration, batch))
        model, count = self._terms.model, self._terms.batch_size
        z = torch.randn(count, model.latent_size, generator=rng)
        y = torch.randint(model.classes, (count,), generator=rng) if model.classes else None
        self.generator.train()
        return self.generator(z, y), y  # (B, C, H, W), (B,)

    # --- what is averaged -----------------------------------------------------------------------------------------

    def shared(self) -> dict[str, torch.Tensor]:
        """Parameters and float buffers of both networks by name."""
        return floats_of(self.generator, self.judge.module)

    def adopt(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from there, with the Adam states and integer buffers as they are."""
        load_floats(self.generator, self.judge.module, tensors)

    # --- on disk --------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, torch.Tensor]:
        """Both networks and both Adams by name."""
        g = tensors_of({"module": self.generator}, self.optimizer)
        return {f"g.{name}": value for name, value in g.items()} | {
            f"d.{name}": value for name, value in self.judge.tensors().items()
        }

    def load(self, tensors: Mapping[str, torch.Tensor], iterations: int) -> None:
        """The reverse."""
        load_tensors({"module": self.generator}, self.optimizer, part(tensors, "g."))
        self.judge.load(part(tensors, "d."), iterations)


def common_discriminator(terms: NodeTerms) -> nn.Module:
    """θ of FL-GAN's common start."""
    return build_discriminator(terms.model, stream_seed(terms.seed, "discriminator"))


def floats_of(generator: nn.Module, discriminator: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and float buffers of both by name; copies."""
    both = {"generator": generator, "discriminator": discriminator}
    return {
        f"{own}.{name}": value.detach().clone()
        for own, module in both.items()
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }


def load_floats(generator: nn.Module, discriminator: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """The reverse; integer buffers stay."""
    for own, module in (("generator", generator), ("discriminator", discriminator)):
        module.load_state_dict({**module.state_dict(), **part(tensors, f"{own}.")})
