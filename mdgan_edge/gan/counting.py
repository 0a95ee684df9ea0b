"""What the real networks and training steps cost: layers as costs.py takes them, and the same measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mdgan_edge.costs import Network, Pair
from mdgan_edge.gan.models import build_discriminator, build_generator
from mdgan_edge.messages import ModelSettings

WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def pair_of(model: ModelSettings) -> Pair:
    """Both networks of a model."""
    z = torch.zeros(2, model.latent_size)
    y = torch.zeros(2, dtype=torch.int64) if model.classes else None
    x = torch.zeros(2, model.channels, model.image_size, model.image_size)
    return Pair(network_of(build_generator(model, 0), z, y), network_of(build_discriminator(model, 0), x))


def network_of(module: nn.Module, *inputs: Tensor | None) -> Network:
    """Its layers with weights in the order they run, as a forward pass of `inputs` (B, ...) meets them."""
    layers: list[int] = []
    kept: list[int] = []

    def weighted(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        layers.append(multiply_adds(layer, given[0], out))

    def any_leaf(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        kept.append(out[0].numel())

    hooks = []
    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            hooks.append(layer.register_forward_hook(weighted))
        if not list(layer.children()) and not isinstance(layer, nn.Flatten | nn.Unflatten):
            hooks.append(layer.register_forward_hook(any_leaf))
    try:
        with torch.no_grad():
            module.train()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(parameter.numel() for parameter in module.parameters())
    floats = sum(value.numel() for value in module.state_dict().values() if value.is_floating_point())
    first = inputs[0]
    assert first is not None
    return Network(tuple(layers), parameters, floats - parameters, first[0].numel() + sum(kept))


def multiply_adds(layer: nn.Module, given: Tensor, out: Tensor) -> int:
    """Of one layer forward, per sample: weights times the places each is used at."""
    match layer:
        case nn.Linear():
            return layer.weight.numel()
        case nn.Conv2d():
            return layer.weight.numel() * out.shape[2] * out.shape[3]
        case nn.ConvTranspose2d():
            return layer.weight.numel() * given.shape[2] * given.shape[3]
        case _:
            raise AssertionError(layer)


def measured_multiply_adds(work: Callable[[], Any]) -> int:
    """Of everything that `work` does, forward and backward, by the FLOPs torch knows of: 2 are one multiply-add."""
    with _Counter() as counter:
        work()
    flops: int = counter.flops
    assert flops % 2 == 0
    return flops // 2


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation. FlopCounterMode follows modules too, and fails with autograd.grad."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        out = func(*args, **given)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **given, out_val=out))
        return out
