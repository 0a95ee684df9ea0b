"""Every setting of a hub, a node and a swarm, as frozen values with their defaults, ranges and presets.

Durations are seconds, sizes are pixels or samples. `config.py` fills these from file, environment and flags.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from mdgan_edge.bounds import SWAP_EPOCHS_MAX, Credit, Staleness, Steps
from mdgan_edge.messages import ModelSettings, SwapOptimizer
from mdgan_edge.streams import SEED_MAX

Positive = Annotated[float, msgspec.Meta(gt=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=SEED_MAX)]
SwapEpochs = Annotated[float, msgspec.Meta(gt=0, le=SWAP_EPOCHS_MAX)]
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Quorum = AtLeastOne | Annotated[float, msgspec.Meta(gt=0, le=1)] | Literal["all"]

Mode = Literal["async", "sync"]
LossName = Literal["non_saturating", "saturating", "hinge", "wgan_gp"]
StalenessPolicy = Literal["block", "drop"]
StalenessWeight = Literal["none", "inverse", "polynomial", "hinge"]


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is computed. Symbols are those of docs/algorithm.md."""

    seed: Seed = 0  # the seed of everything random
    steps: AtLeastOne = 2000  # generator steps until the run is complete
    batch_size: Annotated[int, msgspec.Meta(ge=2, le=512)] = 10  # b: images per batch
    batches_per_version: AtLeastOne | Literal["auto"] = "auto"  # k: batches per version; auto: max(2, ceil(ln N))
    discriminator_steps: Steps = 1  # L: Adam steps of a discriminator per task
    loss: LossName = "non_saturating"  # of both sides; docs/algorithm.md has the formulas
    gradient_penalty: Annotated[float, msgspec.Meta(ge=0)] = 10.0  # weight of the gradient penalty, for wgan_gp only
    lr_generator: Positive = 1e-3  # learning rate of the generator's Adam
    lr_discriminator: Positive = 4e-4  # learning rate of the discriminators' Adam
    beta1: Fraction = 0.5  # of both Adams; asynchrony adds momentum of its own, so keep it at most 0.5
    beta2: Fraction = 0.999  # of both Adams
    ema: Fraction = 0.99  # decay of the generator's exponential moving average, per step
    quorum: Quorum = 0.5  # K: count, fraction or all
    staleness_policy: StalenessPolicy = "block"  # block: wait rather than outrun a task by more than tau; drop: refuse
    staleness_max: Staleness = 8  # tau: the oldest feedback merged, in versions
    staleness_weight: StalenessWeight = "inverse"  # alpha(s): what feedback of staleness s weighs
    staleness_exponent: Positive = 0.5  # a of polynomial: (1+s)^-a
    staleness_knee: NotNegative = 4  # b of hinge: 1 up to here, then 1/(1+s-b)
    rate_fair: bool = False  # slow nodes weigh more, so that none is left out: for shards that differ
    label_aware: bool = True  # a node judges only samples of classes that it holds; means nothing without classes
    scale_lr: bool = True  # scale the generator's learning rate by min(1, merged/live)
    credit: Credit = 2  # tasks in flight per node
    quota: AtLeastOne | Literal["auto"] = "auto"  # feedbacks of one node in one step; auto: ceil(K/2)
    clip_factor: Annotated[float, msgspec.Meta(ge=0)] = 10.0  # times the running median norm; 0: never clip
    step_timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0  # T_max; 0: wait for the quorum for ever
    quorum_min: AtLeastOne = 1  # K_min, once T_max has passed
    swap: SwapEpochs | Literal["off"] = 1.0  # E: local epochs between two swaps of discriminators; skewed shards: 0.25
    swap_optimizer: SwapOptimizer = "travel"  # Adam's moments go along, stay with the node, or begin at zero
    swap_barrier: bool = False  # nobody trains while a node swaps
    newcomer: Literal["copy", "fresh"] = "copy"  # a newcomer gets an orphaned discriminator or a copy, or a fresh one
    warm_up_tasks: NotNegative = 1  # a newcomer's first answers train D but are not merged


class HubSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the hub meets its nodes and looks at its generator."""

    bind: str = "tcp://127.0.0.1:5755"  # where the hub listens
    nodes_min: AtLeastOne = 1  # training starts with so many nodes; if it goes on, at most death_timeout_s later
    heartbeat_s: Positive = 2.0  # a node that has nothing else to say says PING this often
    suspect_after_missed: AtLeastOne = 3  # so many heartbeats missed make a suspect
    lease_s: Positive = 10.0  # the least time a task may take
    death_timeout_s: Positive = 30.0  # a node that is silent for so long is dead to the hub
    evaluate_every: AtLeastOne = 200  # versions
    checkpoint_every: AtLeastOne = 50  # versions; what a sudden death of the hub can cost
    samples: Annotated[int, msgspec.Meta(ge=10, le=100_000)] = 1000  # images per evaluation
    data: str = "none"  # real images for the scores, see docs/data.md, or none; of a swarm: its own data


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one node knows before it meets its hub."""

    hub: str = "tcp://127.0.0.1:5755"  # where the hub listens
    data: str = "digits"  # the private images: digits, npz:FILE, folder:DIR, ..., see docs/data.md
    shard: str = "all"  # all | classes=0-4 | iid:3/8 | dirichlet=0.3:3/8 | labels=2:3/8 | by-file:3/8
    shard_seed: Seed = 0  # deals the data out; the same on every node that shares a source
    resize: Annotated[int, msgspec.Meta(ge=8, le=64)] | None = None  # crop and scale to this many pixels
    channels: Literal[1, 3] | None = None  # turn images into grey (1) or colour (3)
    model: str | None = None  # pin a model: refuse any other, or permit a package.module:factory
    withhold_labels: bool = False  # do not tell the hub which classes the shard holds
    death_timeout_s: Positive = 300.0  # a hub that is silent for so long is given up
    peer_bind: str = ""  # where it listens for other nodes that swap with it; empty: nowhere, all goes through the hub
    peer_endpoint: str = ""  # what the others are told, such as the outer address; empty: what was bound


class SwarmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole swarm on this machine."""

    nodes: AtLeastOne = 8  # how many node processes
    data: str = "digits"  # the images that are dealt out: digits, npz:FILE, folder:DIR, ..., see docs/data.md
    shards: str = "iid"  # iid | dirichlet=0.3 | labels=2 | by-file: how the data is dealt out to the nodes


class FederatedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The baseline FL-GAN, which only the simulator plays: when its server averages."""

    epochs: Positive = 1.0  # E: local epochs between two rounds
    participation: Quorum = "all"  # answers of live clients that a round waits for: count, fraction or all
    round_timeout_s: Positive = 120.0  # a round that is older closes with those that answered
    participants_min: AtLeastOne = 1  # as long as so many did


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All sections of a configuration file."""

    mode: Mode = "async"  # sync: exactly the paper's Algorithm 1, nothing but a set of training settings
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    hub: HubSettings = HubSettings()
    node: NodeSettings = NodeSettings()
    swarm: SwarmSettings = SwarmSettings()
    federated: FederatedSettings = FederatedSettings()


# Nothing but these settings makes the asynchronous hub the paper's Algorithm 1 (docs/algorithm.md, "exact reduction").
EXACT_REDUCTION: dict[str, object] = {
    "quorum": "all",
    "staleness_policy": "block",
    "staleness_max": 0,
    "staleness_weight": "none",
    "rate_fair": False,
    "label_aware": False,
    "scale_lr": False,
    "credit": 1,
    "quota": 1,
    "clip_factor": 0.0,
    "step_timeout_s": 0.0,
    "swap_barrier": True,
    "warm_up_tasks": 0,
}


ROUNDING = 1e-9  # 0.55 of 20 is 11, whatever floating point says


@lru_cache(typed=True)  # 1 is a count, 1.0 a fraction
def quorum_count(quorum: int | float | str, live: int) -> int:
    """K for `live` nodes: a count stays, a fraction is rounded up, "all" is everyone; at least 1, at most live."""
    match quorum:
        case "all":
            count = live
        case int():
            count = quorum
        case float():
            count = math.ceil(quorum * live - ROUNDING)
        case _:
            raise AssertionError(quorum)
    return max(1, min(count, live))


def batches_count(setting: int | str, live: int) -> int:
    """k for `live` nodes: as set, or max(2, ceil(ln N)); the paper gives no base for its logarithm."""
    if isinstance(setting, int):
        return setting
    return max(2, math.ceil(math.log(max(live, 1))))


def quota_count(setting: int | str, quorum: int) -> int:
    """How many feedbacks of one node one step may hold: as set, or ceil(K/2)."""
    return setting if isinstance(setting, int) else math.ceil(quorum / 2)
