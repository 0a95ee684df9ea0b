"""A discriminator at work: steps against generated images, then feedback on them.

Knows one network, its optimiser and how often it was trained; docs/algorithm.md 3 has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.models import build_discriminator
from mdgan_edge.gan.state import load_tensors, tensors_of
from mdgan_edge.messages import NodeId, NodeTerms
from mdgan_edge.streams import stream_seed


@dataclass(frozen=True, slots=True)
class Judged:
    """What one task gives: feedback float32 (B, C, H, W) = dLG/dX_g, and the last losses."""

    feedback: torch.Tensor
    loss_d: float
    loss_g: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss_d) and math.isfinite(self.loss_g) and bool(torch.isfinite(self.feedback).all())


class DiscriminatorState:
    """θ, its Adam state and the number of tasks it was trained on, for one node."""

    def __init__(self, terms: NodeTerms, node: NodeId, seed_node: NodeId | None = None) -> None:
        self.terms = terms
        self.node = node
        self.tasks = 0
        self.module: nn.Module = build_discriminator(
            terms.model, stream_seed(terms.seed, "discriminator", seed_node or node)
        )
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=terms.lr, betas=terms.betas)

    def real_batch(self, x: torch.Tensor, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """X_r of the next task, without replacement: x (m, C, H, W) → (B, C, H, W)."""
        rng = torch.Generator().manual_seed(stream_seed(self.terms.seed, "real", self.node, self.tasks))
        chosen = torch.randperm(len(x), generator=rng)[: self.terms.batch_size]
        return x[chosen], None if y is None or not self.terms.model.classes else y[chosen]

    def judge(
        self,
        real: tuple[torch.Tensor, torch.Tensor | None],
        x_d: torch.Tensor,
        y_d: torch.Tensor | None,
        x_g: torch.Tensor,
        y_g: torch.Tensor | None,
        steps: int,
    ) -> Judged:
        """`steps` Adam steps on LD with the same X_r and X_d, then F = dLG/dX_g with the updated parameters."""
        torch.manual_seed(stream_seed(self.terms.seed, "train", self.node, self.tasks))
        self.tasks += 1
        self.module.train()
        loss_d = torch.zeros(())
        for _ in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            loss_d = discriminator_loss(
                self.terms.loss, self.module, real[0], real[1], x_d, y_d, self.terms.gradient_penalty
            )
            loss_d.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        x_g = x_g.detach().requires_grad_()
        loss_g = generator_loss(self.terms.loss, self.module, x_g, y_g)
        (feedback,) = torch.autograd.grad(loss_g, x_g)  # only with respect to the images: θ gets no gradient
        return Judged(feedback, loss_d.item(), loss_g.item())

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters, buffers and Adam state by name, for a safetensors file."""
        return tensors_of({"module": self.module}, self.optimizer)

    def load(self, tensors: Mapping[str, torch.Tensor], tasks: int) -> None:
        """The reverse of `tensors`; KeyError or RuntimeError if they are of another network."""
        load_tensors({"module": self.module}, self.optimizer, tensors)
        self.tasks = tasks
