"""The real training step of every party, ready to be counted and timed: what each does in one iteration, or one round.

Run as a module it does a role's step again and again in a fresh process and prints, as JSON, seconds and memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from msgspec.structs import replace

from broker.greeting import node_terms
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.discriminator import DiscriminatorState
from mdgan_edge.gan.generator import GeneratorState, JudgedBatch, NodeFeedback
from mdgan_edge.gan.local import LocalGan, floats_of
from mdgan_edge.gan.parcel import pack
from mdgan_edge.messages import ModelSettings, NodeId, Version
from mdgan_edge.settings import Settings, TrainingSettings, batches_count
from sim.federated.full import averaged
from sim.federated.jobs import Answer
from sim.federated.rules import ONLY, hub_latents, local_latents
from sim.fresh import tell_operator

ROLES = ("mdgan-node", "mdgan-hub", "flgan-client", "flgan-server", "standalone")
STATUS = Path("/proc/self/status")
KILO = 1024
WARM_UP, REPEATS = 3, 15

Step = Callable[[], Any]


def settings_for(
    model: ModelSettings, nodes: int, batch: int, steps: int, batches: int | Literal["auto"] = "auto"
) -> Settings:
    """Synchronous, with an L of `steps` and a k of `batches`."""
    training = TrainingSettings(
        batch_size=batch, batches_per_version=batches, discriminator_steps=steps, swap="off", staleness_max=0
    )
    return replace(Settings(), model=model, training=training, swarm=replace(Settings().swarm, nodes=nodes))


def step_of(role: str, settings: Settings) -> Step:
    """One iteration of a node, client or hub; one round of FL-GAN's server."""
    torch.set_num_threads(1)
    match role:
        case "mdgan-node":
            return _node(settings)
        case "mdgan-hub":
            return _hub(settings)
        case "flgan-client":
            return _local(settings, common=True)
        case "flgan-server":
            return _server(settings)
        case "standalone":
            return _local(settings, common=False)
        case _:
            raise AssertionError(role)


def _images(settings: Settings, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    model, rng = settings.model, torch.Generator().manual_seed(0)
    x = torch.rand(count, model.channels, model.image_size, model.image_size, generator=rng) * 2 - 1
    return x, torch.arange(count) % model.classes if model.classes else None


def _node(settings: Settings) -> Step:
    state = DiscriminatorState(node_terms(settings), ONLY)
    b = settings.training.batch_size
    real, (x_d, y_d), (x_g, y_g) = (_images(settings, b) for _ in range(3))
    return lambda: state.judge(real, x_d, y_d, x_g, y_g, settings.training.discriminator_steps)


def _hub(settings: Settings) -> Step:
    state = GeneratorState(settings.model, settings.training)
    nodes = settings.swarm.nodes
    k = batches_count(settings.training.batches_per_version, nodes)
    feedback, _ = _images(settings, settings.training.batch_size)

    def step() -> None:
        for index in range(k):
            state.make_batch(index)
        judged = [
            JudgedBatch(state.version, index, [NodeFeedback(feedback) for rank in range(nodes) if rank % k == index])
            for index in range(min(k, nodes))
        ]
        state.step(judged, float(nodes), 1.0, Version(state.version + 1))

    return step


def _local(settings: Settings, *, common: bool) -> Step:
    latents = local_latents(settings, ONLY) if common else hub_latents(settings)
    gan = LocalGan(node_terms(settings), settings.training, ONLY, latents, common=common)
    x, y = _images(settings, 10 * settings.training.batch_size)
    return lambda: gan.iterate(x, y)


def _server(settings: Settings) -> Step:
    gan = LocalGan(node_terms(settings), settings.training, ONLY, local_latents(settings, ONLY), common=True)
    like = floats_of(gan.generator, gan.judge.module)
    nodes = settings.swarm.nodes
    answers = tuple(Answer(NodeId(f"n{rank}"), 1 / nodes, pack(like)[0]) for rank in range(nodes))
    return lambda: averaged(answers, like)


# --- in a process of its own ------------------------------------------------------------------------------------------


def main(role: str, settings: Settings) -> None:
    """Measure and print."""
    _warm_torch()
    before = _memory("VmRSS")
    step = step_of(role, settings)
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    found = {"cpu_s": statistics.median(seconds), "fastest_cpu_s": min(seconds), "slowest_cpu_s": max(seconds)}
    print(json.dumps(found | {"bare_bytes": before, "peak_bytes": _memory("VmHWM")}))


def _memory(field: str) -> int:
    """Resident bytes of this process, now (VmRSS) or at most so far (VmHWM); ru_maxrss may be the parent's."""
    if not STATUS.exists():
        raise ConfigurationError(f"memory is read from {STATUS}, which is not here: use --no-processes")
    (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{field}:"))
    return KILO * int(line.split()[1])


def _warm_torch() -> None:
    """What any process has that trains with torch."""
    torch.set_num_threads(1)
    layer = torch.nn.Conv2d(1, 1, 3)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.zeros(1, 1, 4, 4)).sum().backward()
    optimizer.step()


if __name__ == "__main__":
    tell_operator(lambda: main(sys.argv[1], msgspec.json.decode(sys.argv[2], type=Settings)))
