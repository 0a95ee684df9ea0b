"""The generator at work: batches out, merged feedback in, one step; its snapshots and its moving average.

Knows one network, its optimiser, and the parameters of the last few versions. Feedback on a batch of an old version is
taken back through the generator that made it: recomputed from its snapshot, since a graph kept over an optimiser step
is refused by autograd (docs/algorithm.md 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from mdgan_edge.gan.labels import judged_rows
from mdgan_edge.gan.models import build_generator
from mdgan_edge.gan.state import load_tensors, tensors_of
from mdgan_edge.messages import ModelSettings, Version
from mdgan_edge.settings import TrainingSettings
from mdgan_edge.streams import stream_seed

SAMPLE_BATCH = 100  # images per forward when drawing samples


@dataclass(frozen=True, slots=True)
class NodeFeedback:
    """One node's F, float32 (B, C, H, W): what it weighs, its part of the divisor, and the classes it judges.

    `labels` None: it judges every sample. Clipping is in `weight` and not in `part`: it is meant to shorten.
    """

    feedback: torch.Tensor
    weight: float = 1.0
    part: float = 1.0
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """Batch `index` of `version` with the feedback on it, in rank order."""

    version: Version
    index: int
    feedbacks: Sequence[NodeFeedback]


def latent_batch(
    model: ModelSettings, batch_size: int, seed: int, version: int, index: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """z (B, latent) and y (B,) of batch `index` of `version`, from the stream ("latent", version, index)."""
    rng = torch.Generator().manual_seed(stream_seed(seed, "latent", version, index))
    z = torch.randn(batch_size, model.latent_size, generator=rng)
    y = torch.randint(model.classes, (batch_size,), generator=rng) if model.classes else None
    return z, y


class GeneratorState:
    """w at the current version, its Adam state, a ring of snapshots and the exponential moving average."""

    def __init__(self, model: ModelSettings, training: TrainingSettings) -> None:
        self.model = model
        self.training = training
        self.version = Version(0)
        self.module: nn.Module = build_generator(model, stream_seed(training.seed, "generator"))
        self.average: nn.Module = build_generator(model, stream_seed(training.seed, "generator"))
        self.average.eval()
        betas = (training.beta1, training.beta2)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=training.lr_generator, betas=betas)
        self._snapshots: dict[Version, dict[str, torch.Tensor]] = {}

    # --- batches --------------------------------------------------------------------------------------------------

    def make_batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """X_index = G(z, y) of this version, (B, C, H, W) in [-1, 1], and y (B,). BatchNorm's statistics move."""
        if self.version not in self._snapshots:
            named = self.module.named_parameters()
            self._snapshots[self.version] = {name: value.detach().clone() for name, value in named}
        z, y = self._latent(self.version, index)
        self.module.train()
        with torch.no_grad():
            return self.module(z, y), y

    # --- stepping -------------------------------------------------------------------------------------------------

    def step(self, batches: Sequence[JudgedBatch], divisor: float, lr_scale: float, oldest: Version) -> float:
        """One backward over all batches, one Adam step; returns the L2 norm of the merged gradient.

        S_j = (Σ weight·F) / divisor, each sample times Σ part over those who answered / Σ part over those who judged
        it; the gradient is Σ_j J_j(w_v)^T S_j, each batch at the version that made it.
        """
        gradients = self.merged_gradient(batches, divisor)
        for name, parameter in self.module.named_parameters():
            parameter.grad = gradients[name]
        norm = float(torch.sqrt(sum((g.double().square().sum() for g in gradients.values()), torch.zeros(()).double())))
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.lr_generator * lr_scale
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.version = Version(self.version + 1)
        for version in [version for version in self._snapshots if version < oldest]:
            del self._snapshots[version]
        self._follow()
        return norm

    def merged_gradient(self, batches: Sequence[JudgedBatch], divisor: float) -> dict[str, torch.Tensor]:
        """The gradient with respect to w by name: one `autograd.backward` over every batch with feedback."""
        leaves = {batch.version: self._leaves(batch.version) for batch in batches}
        images, merged = [], []  # each (B, C, H, W)
        for batch in batches:
            z, y = self._latent(batch.version, batch.index)
            images.append(self._recompute(leaves[batch.version], z, y))
            merged.append(merge(batch.feedbacks, y, divisor))
        torch.autograd.backward(images, merged)
        total: dict[str, torch.Tensor] = {}
        for version in sorted(leaves):
            for name, leaf in leaves[version].items():
                gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
                total[name] = total[name] + gradient if name in total else gradient
        return total

    def _leaves(self, version: Version) -> dict[str, torch.Tensor]:
        return {name: value.clone().requires_grad_() for name, value in self._snapshots[version].items()}

    def _recompute(self, leaves: Mapping[str, torch.Tensor], z: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
        still = {name: value.clone() for name, value in self.module.named_buffers()}  # they moved once already
        self.module.train()
        images: torch.Tensor = functional_call(self.module, {**leaves, **still}, (z, y))
        return images

    def _latent(self, version: Version, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        return latent_batch(self.model, self.training.batch_size, self.training.seed, version, index)

    # --- on disk --------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters, buffers, average and Adam state by name, for a safetensors file."""
        return tensors_of({"module": self.module, "average": self.average}, self.optimizer)

    def load(self, tensors: Mapping[str, torch.Tensor], version: Version) -> None:
        """The reverse of `tensors`; KeyError or RuntimeError if they are of another network."""
        load_tensors({"module": self.module, "average": self.average}, self.optimizer, tensors)
        self.version = version
        self._snapshots.clear()

    # --- the average ----------------------------------------------------------------------------------------------

    def moved(self) -> None:
        """Somebody else has taken the module's step."""
        self.version = Version(self.version + 1)
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.training.ema, (1 + self.version) / (10 + self.version))  # young averages follow faster
        pairs = zip(self.average.state_dict().values(), self.module.state_dict().values(), strict=True)
        for mean, value in pairs:
            if value.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    @torch.no_grad()
    def sample(self, count: int, seed_key: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Images (count, C, H, W) of the averaged generator and their labels, classes in turn."""
        return sample_images(self.average, self.model, count, stream_seed(self.training.seed, seed_key))


@torch.no_grad()
def sample_images(
    module: nn.Module, model: ModelSettings, count: int, seed: int, label: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`count` images of a generator in evaluation mode; labels 0, 1, .., C-1, 0, .. or all `label`, if conditional."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(count, model.latent_size, generator=rng)
    y = torch.arange(count) % model.classes if model.classes else None
    if y is not None and label is not None:
        y = torch.full_like(y, label)
    module.eval()
    chunks = [
        module(z[at : at + SAMPLE_BATCH], None if y is None else y[at : at + SAMPLE_BATCH])
        for at in range(0, count, SAMPLE_BATCH)
    ]
    return torch.cat(chunks), y


def merge(feedbacks: Sequence[NodeFeedback], y: torch.Tensor | None, divisor: float) -> torch.Tensor:
    """S (B, C, H, W) of a batch with labels y (B,).

    S_b = (Σ_i weight_i·F_ib) / divisor · (Σ_i part_i) / (Σ_i part_i), the first and last sum over the i that judge
    sample b, the other over all i; 0 where nobody does. Both are alike, to the bit, where everybody judges everything.
    """
    summed = torch.zeros_like(feedbacks[0].feedback)
    answered, judged = 0.0, torch.zeros(len(summed), dtype=torch.float64)  # (B,)
    for one in feedbacks:
        rows = judged_rows(y, one.labels, len(summed))  # (B,) bool
        summed[rows] += one.weight * one.feedback[rows]
        judged[rows] += one.part
        answered += one.part
    scale = torch.where(judged > 0, answered / judged, 0.0).to(summed.dtype)
    return summed / divisor * scale[:, None, None, None]
