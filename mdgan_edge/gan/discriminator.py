"""A discriminator at work: steps against generated images, then feedback on them.

Knows one network, its optimiser and how often it was trained; docs/algorithm.md 3 has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from mdgan_edge.gan.labels import judged_rows
from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.models import build_discriminator
from mdgan_edge.gan.state import ADAM, load_tensors, tensors_of, unused_adam
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


class Samples(Protocol):
    """Real samples in [-1, 1]: a tensor (m, C, H, W), or what gives the same when rows are taken from it."""

    def __len__(self) -> int: ...

    def __getitem__(self, chosen: torch.Tensor, /) -> torch.Tensor: ...


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

    def real_batch(self, x: Samples, y: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
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
        labels: Collection[int] | None = None,
    ) -> Judged:
        """`steps` Adam steps on LD with the same X_r and X_d, then F = dLG/dX_g with the updated parameters.

        Only samples whose label is among `labels` are judged; None: all are.
        """
        torch.manual_seed(stream_seed(self.terms.seed, "train", self.node, self.tasks))
        self.tasks += 1
        self.module.train()
        rows = judged_rows(y_d, labels, len(x_d))  # (B,) bool
        loss_d = self._train(real, x_d[rows], None if y_d is None else y_d[rows], steps)
        feedback, loss_g = self._feedback(x_g, y_g, labels)
        return Judged(feedback, loss_d, loss_g)

    def _train(
        self,
        real: tuple[torch.Tensor, torch.Tensor | None],
        x_d: torch.Tensor,
        y_d: torch.Tensor | None,
        steps: int,
    ) -> float:
        """The last LD; no step and 0 without X_d: real samples alone would only drive the logit up."""
        loss_d = torch.zeros(())
        for _ in range(steps if len(x_d) else 0):
            self.optimizer.zero_grad(set_to_none=True)
            loss_d = discriminator_loss(
                self.terms.loss, self.module, real[0], real[1], x_d, y_d, self.terms.gradient_penalty
            )
            loss_d.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return loss_d.item()

    def _feedback(
        self, x_g: torch.Tensor, y_g: torch.Tensor | None, labels: Collection[int] | None
    ) -> tuple[torch.Tensor, float]:
        """F, and LG over the judged samples J: their part of F is (|J|/B) dLG/dX_g, that of the others exactly 0."""
        feedback = torch.zeros_like(x_g)
        rows = judged_rows(y_g, labels, len(x_g))  # (B,) bool
        x = x_g[rows].detach().requires_grad_()  # (|J|, C, H, W)
        if not len(x):
            return feedback, 0.0
        loss_g = generator_loss(self.terms.loss, self.module, x, None if y_g is None else y_g[rows])
        (gradient,) = torch.autograd.grad(loss_g, x)  # only with respect to the images: θ gets no gradient
        feedback[rows] = gradient * (len(x) / len(x_g))
        return feedback, loss_g.item()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters, buffers and Adam state by name, for a safetensors file."""
        return tensors_of({"module": self.module}, self.optimizer)

    def travelling(
        self, tensors: Mapping[str, torch.Tensor] | None = None, *, optimizer: bool
    ) -> dict[str, torch.Tensor]:
        """What moves of such tensors, by default its own: parameters, buffers, Adam's moments; always as many."""
        tensors = self.tensors() if tensors is None else tensors
        if not optimizer:
            return {name: value for name, value in tensors.items() if not name.startswith(ADAM)}
        return {**unused_adam(self.module), **tensors}

    def take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Be another discriminator from now on. Adam's moments: those that came along, its own, or none."""
        own = self.tensors() if self.terms.swap_optimizer == "stay" else {}
        moments = {name: value for name, value in {**own, **tensors}.items() if name.startswith(ADAM)}
        networks = {name: value for name, value in tensors.items() if not name.startswith(ADAM)}
        load_tensors({"module": self.module}, self.optimizer, {**networks, **moments})

    def load(self, tensors: Mapping[str, torch.Tensor], tasks: int) -> None:
        """The reverse of `tensors`; KeyError or RuntimeError if they are of another network."""
        load_tensors({"module": self.module}, self.optimizer, tensors)
        self.tasks = tasks
