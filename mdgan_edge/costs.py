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


# --- memory -----------------------------------------------------------------------------------------------------------

TRAINED = 4  # copies of a network that is trained: parameters, gradients, Adam's two moments


def node_memory(pair: Pair, batch: int, image: int) -> int:
    """MD-GAN, on a node, bytes: D, a step's graph of a real and a generated batch, X_d, X_g, X_r and the feedback.

    During its first task, and during one that is about as long as nodes.trainer.LONG_TASK_S, a node keeps parameters
    and both moments once more, for whoever wants a copy.
    """
    d = pair.discriminator
    return BYTES * (TRAINED * d.parameters + 2 * batch * d.activations + 4 * batch * image)


def client_memory(pair: Pair, batch: int, image: int) -> int:
    """FL-GAN, on a client, bytes: G and D, the larger of their steps' graphs, X_d, X_r, and one row of both to send."""
    g, d = pair.generator, pair.discriminator
    graph = batch * max(2 * d.activations, g.activations + d.activations)
    return BYTES * (TRAINED * (g.parameters + d.parameters) + graph + 2 * batch * image + g.numbers + d.numbers)


def standalone_memory(pair: Pair, batch: int, image: int) -> int:
    """Standalone, bytes: as a client, with the generator's average in place of what is sent."""
    return client_memory(pair, batch, image) - BYTES * pair.discriminator.numbers


def hub_memory(pair: Pair, batch: int, image: int, batches: int, nodes: int, snapshots: int) -> int:
    """MD-GAN, at the hub, bytes: G, its average and snapshots, k batches and their graph, a feedback of each node."""
    g = pair.generator
    images = (batches + nodes) * batch * image
    return BYTES * ((TRAINED + 1 + snapshots) * g.parameters + images + batches * batch * g.activations)


def server_memory(pair: Pair, nodes: int) -> int:
    """FL-GAN, at the server, bytes: model, G's average, the row it sends, a row of each client, a sum in float64."""
    g, d = pair.generator, pair.discriminator
    both = g.numbers + d.numbers
    return BYTES * (both + g.numbers + both + nodes * both + 2 * both)


# --- bytes on the way -------------------------------------------------------------------------------------------------

LABEL_BYTES = 8  # an int64


def task_bytes(batch: int, image: int, *, labelled: bool) -> int:
    """MD-GAN, hub to node: X_d and X_g, 2bd numbers, and their labels."""
    return 2 * batch * (BYTES * image + LABEL_BYTES * labelled)


def feedback_bytes(batch: int, image: int) -> int:
    """MD-GAN, node to hub: bd numbers."""
    return BYTES * batch * image


def copy_bytes(pair: Pair) -> int:
    """MD-GAN, node to node, one way: |θ| and float buffers; three times as much where Adam's moments go along."""
    return BYTES * pair.discriminator.numbers


def model_bytes(pair: Pair) -> int:
    """FL-GAN, one way: |w| + |θ| and float buffers; a round moves it down and up."""
    return BYTES * (pair.generator.numbers + pair.discriminator.numbers)


@dataclass(frozen=True, slots=True)
class Run:
    """How much is trained: I generator updates, m samples and E epochs per node."""

    iterations: int
    nodes: int
    batch: int
    samples: int
    epochs: float = 1.0

    @property
    def periods(self) -> float:
        """How often m·E / b iterations pass: swaps of a node, rounds of FL-GAN."""
        return self.iterations * self.batch / (self.samples * self.epochs)


def mdgan_total(pair: Pair, run: Run, image: int, *, labelled: bool) -> float:
    """Bytes that all nodes and the hub send in a run of MD-GAN, synchronous, without Adam's moments in swaps."""
    task = task_bytes(run.batch, image, labelled=labelled) + feedback_bytes(run.batch, image)
    return run.nodes * (run.iterations * task + run.periods * copy_bytes(pair))


def flgan_total(pair: Pair, run: Run) -> float:
    """Bytes that all clients and the server send in a run of FL-GAN."""
    return run.nodes * run.periods * 2 * model_bytes(pair)
