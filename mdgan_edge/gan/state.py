"""Networks and their Adam as named tensors, and back: what a file must hold to go on to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

ADAM = "adam."


def tensors_of(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """`<module>.<name>` for parameters and buffers, `adam.<index>.<key>` for the optimiser; copies."""
    named = {f"{own}.{name}": value for own, module in modules.items() for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        named.update({f"{ADAM}{index}.{key}": torch.as_tensor(value) for key, value in state.items()})
    return {name: value.detach().clone().contiguous() for name, value in named.items()}


def unused_adam(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state of an Adam that has not stepped yet, as `tensors_of` names it: torch makes it at the first step."""
    named: dict[str, torch.Tensor] = {}
    for index, parameter in enumerate(module.parameters()):
        zeros = torch.zeros_like(parameter, requires_grad=False)
        named |= {f"{ADAM}{index}.step": torch.zeros(()), f"{ADAM}{index}.exp_avg": zeros}
        named[f"{ADAM}{index}.exp_avg_sq"] = zeros.clone()
    return named


def load_tensors(
    modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """The reverse; KeyError or RuntimeError if they are of another network."""
    for own, module in modules.items():
        module.load_state_dict(part(tensors, f"{own}."))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in part(tensors, ADAM).items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every number of every one is finite."""
    return all(bool(torch.isfinite(value).all()) for value in tensors)


def part(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Those whose names begin so, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def read_file(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Metadata and tensors of a safetensors file. Raises OSError or SafetensorError."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
