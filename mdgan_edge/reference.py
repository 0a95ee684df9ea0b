"""The paper's Algorithm 1 and its competitors in one process, straight from the text: what all else must equal.

It shares only networks, losses and stream_seed with the rest. What both sides must agree on:

- Networks: build_generator(model, stream_seed(seed, "generator")) and, for the node with id n,
  build_discriminator(model, stream_seed(seed, "discriminator", n)). All modules stay in train mode. Optimisers:
  torch.optim.Adam(parameters, lr, betas=(beta1, beta2)), everything else at its default.
- Versions t = 0, 1, ...: step i of the paper makes version i from version t = i - 1. Batch j of version t:
  rng = torch.Generator().manual_seed(stream_seed(seed, "latent", t, j)), z = torch.randn(b, latent, generator=rng),
  then, if classes > 0, y = torch.randint(classes, (b,), generator=rng). One forward per batch, in order of j
  (BatchNorm's running statistics move once per batch).
- k = batches_count(batches_per_version, N). The node of rank r (position of its id in the sorted list of ids) gets
  X_g = X[r mod k] and X_d = X[(r + 1) mod k], each with its labels.
- Task i of a node (0-based count of the tasks that it has done, with whatever discriminator):
  torch.manual_seed(stream_seed(seed, "train", n, i)); X_r = the samples at torch.randperm(m, generator=rng)[:b] with
  rng from stream_seed(seed, "real", n, i). L Adam steps on LD with the same X_r and X_d, then F = dLG/dX_g by the
  updated discriminator. That backward leaves no gradients in the discriminator.
- Merge: S_j = (F_a + F_b + ...) / M, summed in float32 one after the other in rank order, M = number of feedbacks of
  all nodes at this step. One torch.autograd.backward over the X_j that have feedback, in order of j, one Adam step.
- Swaps come from outside, as pairs of nodes: which pairs form is chance of the network, and no stream gives it. Those
  of version t happen before the first task of t, one after the other. Parameters and buffers change places. Adam's
  moments and steps go along ("travel"), stay with the node ("stay") or begin at zero at both ("reset").
- FL-GAN: every node starts from common w, seeded as above, and common theta, seeded stream_seed(seed, "discriminator").
  A round: each node makes ceil(m_n E / b) iterations, or as many as are left of the run; then the server's parameters
  and float buffers are the mean of the nodes', weighted with m_n / sum m, summed in float64 in rank order and rounded;
  all go on from there, each with its own Adam states and integer buffers. Iteration i of a node (0-based count over all
  rounds) generates X_g, then X_d, with latents from stream_seed(seed, "local", n, i, j), j = 0 for X_g and 1 for X_d;
  L steps on LD and one on LG; X_r and torch's stream as for task i. The run is as long as the iterations of an average
  node: the mean of theirs in a round, weighted alike.
- One torch thread (torch.set_num_threads(1), by the caller): sums over threads differ in their last bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.models import build_discriminator, build_generator
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings, TrainingSettings, batches_count
from mdgan_edge.streams import stream_seed

_ROUNDING = 1e-9  # of counts that are sums of fractions

Shard = tuple[Tensor, Tensor | None]  # x float32 (m, C, H, W) in [-1, 1], y int64 (m,)
Batch = tuple[Tensor, Tensor | None]  # x float32 (b, C, H, W), y int64 (b,)
SeedAt = Callable[[int], int]  # version -> seed of a latent batch


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """Where the networks ended (state dicts), and per step the last (LD, LG), means over the nodes."""

    generator: dict[str, Tensor]
    discriminators: dict[NodeId, dict[str, Tensor]]
    losses: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class FederatedResult:
    """Where the server's networks ended (state dicts), and after how many rounds."""

    generator: dict[str, Tensor]
    discriminator: dict[str, Tensor]
    rounds: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """Before the tasks of `version`, two nodes exchange their discriminators."""

    version: int
    nodes: tuple[NodeId, NodeId]


def md_gan(
    settings: Settings, shards: Mapping[NodeId, Shard], steps: int, swaps: Sequence[Pairing] = ()
) -> ReferenceResult:
    """Section 3 of docs/algorithm.md for `steps` generator steps, with these swaps in this order."""
    seed, training = settings.training.seed, settings.training
    generator = build_generator(settings.model, stream_seed(seed, "generator"))
    optimizer = _adam(generator, training.lr_generator, training)
    nodes = [_Node(settings, node, shards[node]) for node in sorted(shards)]
    by_id = {node.id: node for node in nodes}
    k = batches_count(training.batches_per_version, len(nodes))
    losses = []
    for t in range(steps):
        for one, other in (pairing.nodes for pairing in swaps if pairing.version == t):
            _swap(by_id[one], by_id[other], training)
        batches = [_generate(generator, settings, stream_seed(seed, "latent", t, j)) for j in range(k)]
        feedbacks = []
        for rank, node in enumerate(nodes):
            j = rank % k
            feedbacks.append((j, node.answer(x_d=batches[(rank + 1) % k], x_g=batches[j])))
        optimizer.zero_grad()
        backward([x for x, _ in batches], merge(feedbacks))
        optimizer.step()
        losses.append(_mean_losses(nodes))
    return _result(generator, nodes, losses)


def standalone(
    settings: Settings, node: NodeId, shard: Shard, steps: int, streams: tuple[SeedAt, SeedAt]
) -> ReferenceResult:
    """The ordinary GAN: all data in one place, the generator's loss differentiated from end to end.

    `streams` seed the latents of (X_g, X_d) at each iteration. X_g is generated first, which decides only the order in
    which the two batches move BatchNorm's running statistics.
    """
    training = settings.training
    generator = build_generator(settings.model, stream_seed(training.seed, "generator"))
    optimizer = _adam(generator, training.lr_generator, training)
    judge = _Node(settings, node, shard)
    losses = []
    for i in range(steps):
        x_g, x_d = (_generate(generator, settings, seed_at(i)) for seed_at in streams)
        with judge.training_stream():
            judge.train(x_d)
            loss = judge.loss_of(x_g)
            optimizer.zero_grad()
            torch.autograd.backward(loss, inputs=list(generator.parameters()))
            optimizer.step()
        losses.append(_mean_losses([judge]))
    return _result(generator, [judge], losses)


def fl_gan(settings: Settings, shards: Mapping[NodeId, Shard], iterations: int) -> FederatedResult:
    """Federated averaging of whole GANs: section 4 of docs/algorithm.md, until so many local iterations are made."""
    seed, total = settings.training.seed, sum(len(x) for x, _ in shards.values())
    clients = [_Client(settings, node, shards[node]) for node in sorted(shards)]
    share = {client.id: len(shards[client.id][0]) / total for client in clients}
    generator = build_generator(settings.model, stream_seed(seed, "generator"))
    discriminator = build_discriminator(settings.model, stream_seed(seed, "discriminator"))
    done, rounds = 0.0, 0
    while done < iterations - _ROUNDING:
        left, made = math.ceil(iterations - done - _ROUNDING), {}
        for client in clients:
            made[client.id] = min(left, client.iterations_per_round)
            client.take(generator, discriminator)
            for _ in range(made[client.id]):
                client.iterate()
        _load_mean(generator, [(share[client.id], client.generator) for client in clients])
        _load_mean(discriminator, [(share[client.id], client.discriminator) for client in clients])
        done += made[clients[0].id] if len(set(made.values())) == 1 else sum(share[n] * made[n] for n in made)
        rounds += 1
    return FederatedResult(generator.state_dict(), discriminator.state_dict(), rounds)


def merge(feedbacks: Sequence[tuple[int, Tensor]]) -> dict[int, Tensor]:
    """S_j of every batch j that has feedback, from (j, F) in rank order; the divisor M is their number."""
    sums: dict[int, Tensor] = {}
    for j, feedback in feedbacks:
        sums[j] = sums[j] + feedback if j in sums else feedback
    return {j: sums[j] / len(feedbacks) for j in sorted(sums)}


def backward(batches: Sequence[Tensor], merged: Mapping[int, Tensor]) -> None:
    """One backward pass through the generator from all batches that have feedback."""
    chosen = sorted(merged)
    torch.autograd.backward([batches[j] for j in chosen], [merged[j] for j in chosen])


class _Node:
    """One node: its shard, the discriminator it holds, and how many tasks it has done."""

    def __init__(self, settings: Settings, node: NodeId, shard: Shard) -> None:
        self.id = node
        self._shard = shard
        self._training = settings.training
        seed = stream_seed(settings.training.seed, "discriminator", node)
        self.discriminator = build_discriminator(settings.model, seed)
        self.optimizer = _adam(self.discriminator, settings.training.lr_discriminator, settings.training)
        self._tasks = 0
        self.loss_d = self.loss_g = 0.0

    def answer(self, x_d: Batch, x_g: Batch) -> Tensor:
        """Train on X_d, then the feedback on X_g: float32 (b, C, H, W)."""
        with self.training_stream():
            self.train(x_d)
            images = x_g[0].detach().requires_grad_()
            (feedback,) = torch.autograd.grad(self.loss_of((images, x_g[1])), images)
        return feedback

    def train(self, x_d: Batch) -> None:
        """L Adam steps with one real batch, then the task counts as done."""
        x_real, y_real = self._real_batch()
        for _ in range(self._training.discriminator_steps):
            self.optimizer.zero_grad()
            loss = discriminator_loss(
                self._training.loss,
                self.discriminator,
                x_real,
                y_real,
                x_d[0].detach(),
                x_d[1],
                self._training.gradient_penalty,
            )
            torch.autograd.backward(loss)
            self.optimizer.step()
            self.loss_d = loss.item()
        self._tasks += 1

    def loss_of(self, x_g: Batch) -> Tensor:
        """LG of a batch, by the discriminator as it is now."""
        loss = generator_loss(self._training.loss, self.discriminator, *x_g)
        self.loss_g = loss.item()
        return loss

    @contextmanager
    def training_stream(self) -> Iterator[None]:
        """Torch's global stream as this task sees it, put back afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self._training.seed, "train", self.id, self._tasks))
            yield

    def _real_batch(self) -> Batch:
        x, y = self._shard
        rng = _stream(stream_seed(self._training.seed, "real", self.id, self._tasks))
        chosen = torch.randperm(len(x), generator=rng)[: self._training.batch_size]
        return x[chosen], None if y is None else y[chosen]


class _Client(_Node):
    """One node of FL-GAN: it trains a generator too."""

    def __init__(self, settings: Settings, node: NodeId, shard: Shard) -> None:
        super().__init__(settings, node, shard)
        self._settings = settings
        training, epochs = settings.training, settings.federated.epochs
        self.iterations_per_round = max(1, math.ceil(len(shard[0]) * epochs / training.batch_size - _ROUNDING))
        self.generator = build_generator(settings.model, stream_seed(training.seed, "generator"))
        self._optimizer_g = _adam(self.generator, training.lr_generator, training)

    def take(self, generator: nn.Module, discriminator: nn.Module) -> None:
        """The server's parameters and float buffers."""
        for own, other in ((self.generator, generator), (self.discriminator, discriminator)):
            floats = {name: value for name, value in other.state_dict().items() if value.is_floating_point()}
            own.load_state_dict({**own.state_dict(), **floats})

    def iterate(self) -> None:
        """L discriminator steps and a generator step."""
        seeds = [stream_seed(self._training.seed, "local", self.id, self._tasks, j) for j in (0, 1)]
        x_g, x_d = (_generate(self.generator, self._settings, seed) for seed in seeds)
        with self.training_stream():
            self.train(x_d)
            self._optimizer_g.zero_grad()
            torch.autograd.backward(self.loss_of(x_g), inputs=list(self.generator.parameters()))
            self._optimizer_g.step()


def _load_mean(module: nn.Module, weighted: Sequence[tuple[float, nn.Module]]) -> None:
    """Its float parameters and buffers become sum of weight times theirs."""
    states = [(weight, other.state_dict()) for weight, other in weighted]
    mean = {}
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            total = torch.zeros(value.shape, dtype=torch.float64)
            for weight, state in states:
                total += weight * state[name].double()
            mean[name] = total.to(value.dtype)
    module.load_state_dict({**module.state_dict(), **mean})


def _swap(one: _Node, other: _Node, training: TrainingSettings) -> None:
    one.discriminator, other.discriminator = other.discriminator, one.discriminator
    if training.swap_optimizer == "travel":
        one.optimizer, other.optimizer = other.optimizer, one.optimizer
        return
    for node in (one, other):
        own, node.optimizer = node.optimizer, _adam(node.discriminator, training.lr_discriminator, training)
        if training.swap_optimizer == "stay":
            node.optimizer.load_state_dict(own.state_dict())


def _generate(generator: nn.Module, settings: Settings, seed: int) -> Batch:
    rng, count, model = _stream(seed), settings.training.batch_size, settings.model
    z = torch.randn(count, model.latent_size, generator=rng)
    y = torch.randint(model.classes, (count,), generator=rng) if model.classes > 0 else None
    return generator(z, y), y


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _adam(module: nn.Module, lr: float, training: TrainingSettings) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr, betas=(training.beta1, training.beta2))


def _mean_losses(nodes: Sequence[_Node]) -> tuple[float, float]:
    return sum(n.loss_d for n in nodes) / len(nodes), sum(n.loss_g for n in nodes) / len(nodes)


def _result(generator: nn.Module, nodes: Sequence[_Node], losses: list[tuple[float, float]]) -> ReferenceResult:
    return ReferenceResult(generator.state_dict(), {n.id: n.discriminator.state_dict() for n in nodes}, losses)
