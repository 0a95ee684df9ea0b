"""Which samples of a batch a node judges, by their labels; docs/algorithm.md 5, label-aware judging."""

from __future__ import annotations

from collections.abc import Collection

import torch


def judged_rows(y: torch.Tensor | None, labels: Collection[int] | None, count: int) -> torch.Tensor:
    """(B,) bool for a batch of `count` samples with labels y (B,): all of them where either is None."""
    if y is None or labels is None:
        return torch.ones(count, dtype=torch.bool)
    held = frozenset(labels)
    return torch.tensor([label in held for label in y.tolist()], dtype=torch.bool)
