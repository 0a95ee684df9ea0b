"""What a training step costs, from the layers of the networks alone: multiply-adds, bytes, memory. Pure.

A layer of m multiply-adds forward costs m more for the gradient of its weights and m more for that of its input.
docs/costs.md derives every formula and says what is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BYTES = 4  # of a float32


@dataclass(frozen=True, slots=True)
class Network:
    """One network. `layers`: multiply-adds of each layer with weights, forward, per sample, in order."""

    layers: tuple[int, ...]
    parameters: int
    buffers: int = 0  # other float numbers that training moves: BatchNorm's statistics
    activations: int = 0  # numbers kept for the backward pass, per sample

    @property
    def forward(self) -> int:
        """Multiply-adds per sample."""
        return sum(self.layers)

    @property
    def weights_only(self) -> int:
        """Backward with gradients of all weights; the first layer's input needs none."""
        return 2 * self.forward - self.layers[0]

    @property
    def input_only(self) -> int:
        """Backward to the input, no gradients of weights."""
        return self.forward

    @property
    def numbers(self) -> int:
        """What travels of it: parameters and float buffers."""
        return self.parameters + self.buffers


def perceptron(sizes: Sequence[int]) -> Network:
    """Dense layers with biases, as sizes of input, hidden layers and output."""
    layers = tuple(inputs * outputs for inputs, outputs in pairwise(sizes))
    return Network(layers, sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes)), 0, sum(sizes))


@dataclass(frozen=True, slots=True)
class Pair:
    """Generator and discriminator."""

    generator: Network
    discriminator: Network


def discriminator_work(pair: Pair, steps: int) -> int:
    """Multiply-adds per sample of `steps` (L) steps on a real and a generated batch."""
    d = pair.discriminator
    return steps * 2 * (d.forward + d.weights_only)


def feedback_work(pair: Pair) -> int:
    """Multiply-adds per sample of dLG/dX."""
    d = pair.discriminator
    return d.forward + d.input_only


def node_work(pair: Pair, steps: int) -> int:
    """MD-GAN, on a node: one task, per sample of a batch."""
    return discriminator_work(pair, steps) + feedback_work(pair)


def local_work(pair: Pair, steps: int) -> int:
    """FL-GAN on a client, and standalone: one iteration, per sample: X_d, L steps, then X_g forward and backward."""
    g = pair.generator
    return discriminator_work(pair, steps) + feedback_work(pair) + 2 * g.forward + g.weights_only


def hub_work(pair: Pair, batches: int) -> int:
    """MD-GAN, at the hub: one version, per sample: k batches made, each judged one recomputed and taken back."""
    g = pair.generator
    return batches * (2 * g.forward + g.weights_only)


def work_ratio(pair: Pair, steps: int) -> float:
    """How many times a node's task a local iteration is."""
    return local_work(pair, steps) / node_work(pair, steps)
