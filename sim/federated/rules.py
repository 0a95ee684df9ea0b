"""When a round of FL-GAN closes, how long it is, what each answer weighs, which streams are drawn from. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from mdgan_edge.messages import NodeId
from mdgan_edge.settings import FederatedSettings, Settings, quorum_count
from mdgan_edge.streams import stream_seed

ROUNDING = 1e-9
ONLY = NodeId("n0")  # standalone's machine draws what MD-GAN's only node would
LatentSeed = Callable[[int, int], int]  # (iteration, batch) -> seed; batch 0 is X_g, 1 is X_d


def updates_per_round(samples: int, epochs: float, batch_size: int) -> int:
    """Local generator updates of a client in E epochs: ceil(m_n·E / b)."""
    return max(1, math.ceil(samples * epochs / batch_size - ROUNDING))


def updates_left(steps: int, done: float) -> int:
    """How many local updates a client may still make."""
    return max(0, math.ceil(steps - done - ROUNDING))


def shares(samples: Mapping[NodeId, int]) -> dict[NodeId, float]:
    """m_n / Σm of those that answered, in the order of their names."""
    total = sum(samples.values())
    return {node: samples[node] / total for node in sorted(samples)}


def mean_updates(shares_of: Mapping[NodeId, float], updates: Mapping[NodeId, int]) -> float:
    """How many local updates an average client made: Σ share·updates; exact where all made as many."""
    counts = set(updates.values())
    if len(counts) == 1:
        return float(counts.pop())
    return sum(share * updates[node] for node, share in shares_of.items())


def closing(settings: FederatedSettings, live: int, heard: int, answered: int, timed_out: bool) -> str | None:
    """Why the round closes now; None if it does not.

    `heard`: clients that are not waited for any more; `answered`: those among them with something to average.
    """
    wanted = quorum_count(settings.participation, live)
    if heard >= wanted:
        return f"{answered} of {live} answered"
    if timed_out and answered >= settings.participants_min:
        return f"timeout with {answered} of {wanted} answers"
    return None


def local_latents(settings: Settings, node: NodeId) -> LatentSeed:
    """Of a client of FL-GAN."""
    seed = settings.training.seed
    return lambda iteration, batch: stream_seed(seed, "local", node, iteration, batch)


def hub_latents(settings: Settings) -> LatentSeed:
    """Of standalone: those of the first two batches of each of MD-GAN's versions."""
    seed = settings.training.seed
    return lambda iteration, batch: stream_seed(seed, "latent", iteration, batch)
