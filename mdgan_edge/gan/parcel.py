"""A discriminator as it travels: named tensors in one row of floats and one of integers, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mdgan_edge.gan.state import ADAM
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import Tensor

FLOAT, INTEGER = torch.float32, torch.int64
STEPS_MAX = 1 << 24  # of Adam: it counts them in a float32, which gets no further
BATCHES_MAX = 1 << 48  # that a batch normalisation has seen


def pack(tensors: Mapping[str, torch.Tensor]) -> tuple[Tensor, Tensor | None]:
    """float32 (n,) and int64 (m,), in the order of their names; None if there are no integers."""
    numbers = _row(tensors, FLOAT)
    counters = _row(tensors, INTEGER)
    assert sum(value.numel() for value in tensors.values()) == len(numbers) + len(counters), (
        "a dtype that cannot travel"
    )
    return to_wire(numbers), to_wire(counters) if len(counters) else None


def unpack(like: Mapping[str, torch.Tensor], numbers: Tensor, counters: Tensor | None) -> dict[str, torch.Tensor]:
    """The reverse, in the names and shapes of `like`.

    Raises ValueError if these are not so many, or not finite, or if training could not go on from them.
    """
    rows = {
        FLOAT: to_torch(numbers),
        INTEGER: torch.empty(0, dtype=INTEGER) if counters is None else to_torch(counters),
    }
    wanted = {dtype: sum(value.numel() for value in like.values() if value.dtype == dtype) for dtype in rows}
    if any(row.dtype != dtype for dtype, row in rows.items()):
        raise ValueError("it has numbers of another kind")
    if any(row.shape != (wanted[dtype],) for dtype, row in rows.items()):
        raise ValueError("it has another number of parameters")
    if not bool(torch.isfinite(rows[FLOAT]).all()):
        raise ValueError("it is not finite")
    taken = dict.fromkeys(rows, 0)
    found = {}
    for name in sorted(like):
        start, count = taken[like[name].dtype], like[name].numel()
        found[name] = rows[like[name].dtype][start : start + count].reshape(like[name].shape).clone()
        taken[like[name].dtype] = start + count
        _check(name, found[name])
    return found


def _check(name: str, values: torch.Tensor) -> None:
    """What Adam and batch normalisation divide by and take roots of; all else a network may have of any size."""
    key = name.rpartition(".")[2]
    match key:
        case "step" if name.startswith(ADAM):
            sound = (values >= 0) & (values <= STEPS_MAX) & (values == values.round())
        case "num_batches_tracked":
            sound = (values >= 0) & (values <= BATCHES_MAX)
        case "exp_avg_sq" | "max_exp_avg_sq" | "running_var":
            sound = values >= 0
        case _:
            return
    if not bool(sound.all()):
        raise ValueError(f"its {key} is one that no training leaves")


def _row(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    chosen = [tensors[name].reshape(-1) for name in sorted(tensors) if tensors[name].dtype == dtype]
    return torch.cat(chosen) if chosen else torch.empty(0, dtype=dtype)
