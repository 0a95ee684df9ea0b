"""Perceptrons by hand: forward, backward and Adam on one flat vector of float32 parameters.

Layers are affine, h W + b, with tanh between them and none after the last. A network is its layers, which are views
into a vector: what changes the vector changes the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]  # (P,)
Matrix = NDArray[np.float32]
Layers = Sequence[tuple[Matrix, Vector]]  # (inputs, outputs) and (outputs,) of each layer

HIDDEN = (32, 32)
EPSILON = 1e-8  # of Adam


def parameter_count(sizes: Sequence[int]) -> int:
    """P of a network with so many inputs, units of each hidden layer, and outputs."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def initial_parameters(sizes: Sequence[int], seed: int, first_gain: float = 1.0, bias_max: float = 0.0) -> Vector:
    """(P,): weights uniform with variance 2 / (inputs + outputs) (Glorot, Bengio 2010).

    Those of the first layer are `first_gain` times that; biases of hidden layers are uniform up to +-`bias_max`.
    """
    rng = np.random.default_rng(seed)
    parameters = np.zeros(parameter_count(sizes), np.float32)
    layers = layers_of(parameters, sizes)
    for weight, _ in layers:
        bound = np.sqrt(6 / sum(weight.shape))
        weight[:] = rng.uniform(-bound, bound, weight.shape)
    for _, bias in layers[:-1]:
        bias[:] = rng.uniform(-bias_max, bias_max, bias.shape)
    layers[0][0][:] *= first_gain
    return parameters


def layers_of(parameters: Vector, sizes: Sequence[int]) -> Layers:
    """The layers of a network as views of its parameters (P,)."""
    layers, at = [], 0
    for inputs, outputs in pairwise(sizes):
        bias_at = at + inputs * outputs
        layers.append((parameters[at:bias_at].reshape(inputs, outputs), parameters[bias_at : bias_at + outputs]))
        at = bias_at + outputs
    return layers


def forward(layers: Layers, x: Matrix) -> list[Matrix]:
    """Of x (B, inputs): x itself, the activations of each hidden layer, and the outputs."""
    activations = [x]
    for weight, bias in layers[:-1]:
        h = np.dot(activations[-1], weight)  # (B, units)
        h += bias
        activations.append(np.tanh(h, out=h))
    weight, bias = layers[-1]
    activations.append(np.dot(activations[-1], weight) + bias)
    return activations


def backward(layers: Layers, activations: Sequence[Matrix], slope: Matrix, gradient: Layers | None = None) -> Matrix:
    """dL/dx (B, inputs) from `slope` = dL/d outputs (B, outputs); dL/d parameters are written into `gradient`."""
    for index in range(len(layers) - 1, -1, -1):
        if gradient is not None:
            np.dot(activations[index].T, slope, out=gradient[index][0])
            np.add.reduce(slope, axis=0, out=gradient[index][1])
        slope = np.dot(slope, layers[index][0].T)
        if index:
            slope *= 1 - np.square(activations[index])  # tanh' = 1 - tanh^2
    return slope


class Adam:
    """Kingma, Ba 2015, as torch.optim.Adam computes it. `mean` and `square` are the moments (P,)."""

    def __init__(self, count: int, betas: tuple[float, float]) -> None:
        self.betas = betas
        self.steps = 0
        self.mean: Vector = np.zeros(count, np.float32)
        self.square: Vector = np.zeros(count, np.float32)

    def step(self, parameters: Vector, gradient: Vector, lr: float) -> None:
        """One step down the gradient, in place."""
        self.steps += 1
        beta1, beta2 = self.betas
        self.mean += (1 - beta1) * (gradient - self.mean)
        self.square *= beta2
        self.square += (1 - beta2) * np.square(gradient)
        denominator = np.sqrt(self.square)
        denominator *= (1 - beta2**self.steps) ** -0.5
        denominator += EPSILON
        parameters -= lr / (1 - beta1**self.steps) * (self.mean / denominator)
