"""What swaps cost on the wire, with real processes: |θ| per copy and the framing that the codec puts around it (T5).

Synchronous, so that swaps lie between two versions and no copy is under way when the run ends. Copies of a swap that
came to nothing have cost as much.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Header
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.gan.models import architecture, build_discriminator
from mdgan_edge.messages import (
    Copy,
    DiscriminatorId,
    Epoch,
    ModelSettings,
    NodeId,
    Session,
    SwapId,
    SwapOptimizer,
    Tensor,
)
from mdgan_edge.settings import EXACT_REDUCTION, HubSettings, Mode, Settings, SwarmSettings, TrainingSettings
from mdgan_edge.wire.codec import encode
from mdgan_edge.wire.outbox import Outgoing
from mdgan_edge.wire.parts import size
from sim.processes import warm_up
from sim.running import make_swarm
from sim.swarm import Swarm, node_name

pytestmark = pytest.mark.xdist_group("swarms")

THETA = 670_219  # numbers in the discriminator of the paper's MNIST MLP
STEPS = {"direct": 20, "relayed": 7}  # a first call may be in vain: whom to expect comes by another way than who comes
NOBODY_LISTENS = "tcp://127.0.0.1:1"
SYNC: Mode = "sync"
SETTINGS = Settings(
    mode=SYNC, model=ModelSettings(name="mlp"), hub=HubSettings(data="none"), swarm=SwarmSettings(nodes=2)
)
LEAST_NAMES = (SwapId("node-0/1/1"), 0, 1, 1)  # of a swap, a hop, a message, a session: as short as they can be ...
MOST_NAMES = (SwapId("node-0/1/999"), 999, 65_535, (1 << 64) - 1)  # ... and as long as they can get in this run


def played(out: Path, steps: int, optimizer: SwapOptimizer, reached_at: str) -> dict[str, Any]:
    """run.json of two nodes that swap before every third version. `reached_at`: what they say of where they are."""
    images_per_node = 2_000
    swaps: dict[str, Any] = {"swap": 30 / images_per_node, "swap_optimizer": optimizer}
    training = TrainingSettings(**{**EXACT_REDUCTION, "steps": steps, **swaps})
    explicit = frozenset({"hub.data", "model.name", "mode"})
    prepared = make_swarm(replace(SETTINGS, training=training), explicit, out, force=False)
    warm_up()
    swarm = Swarm(prepared.settings, prepared.options)
    try:
        swarm.start_hub()
        for rank in range(2):
            shard = take(prepared.options.images, parse_shard(shard_text("iid", rank, 2)), 0)
            swarm.start_node(node_name(rank, 2), shard, reached_at)
        swarm.watch(None)
    finally:
        swarm.end()
    report: dict[str, Any] = json.loads((out / "run.json").read_text())
    return report


def numbers_of(optimizer: SwapOptimizer) -> int:
    """In one copy: |θ|; two moments as large and a step count per tensor, where Adam goes along."""
    tensors = len(list(build_discriminator(ModelSettings(name="mlp"), seed=0).parameters()))
    return THETA if optimizer == "stay" else 3 * THETA + tensors


def on_the_wire(optimizer: SwapOptimizer, names: tuple[SwapId, int, int, int], discriminator: str) -> int:
    """What the codec makes of one copy, in parts as it leaves."""
    swap_id, hop, seq, session = names
    numbers = numbers_of(optimizer)
    tensor = Tensor("float32", (numbers,), bytes(4 * numbers))
    kind = architecture(build_discriminator(ModelSettings(name="mlp"), seed=0))
    nodes = NodeId("node-0"), NodeId("node-1")
    copy = Copy(swap_id, *nodes, DiscriminatorId(discriminator), hop, kind, "d" * 32, tensor)
    frames = encode(Header(Epoch(1), Session(session)), seq, copy)
    return sum(size(piece) for piece in Outgoing(Copy, seq, frames).pieces())


@pytest.mark.parametrize(
    ("way", "optimizer", "reached_at"), [("direct", "travel", ""), ("relayed", "stay", NOBODY_LISTENS)]
)
def test_a_swap_costs_its_parameters_and_the_measured_framing_once_or_twice_if_the_hub_relays_it(
    tmp_path: Path, way: str, optimizer: SwapOptimizer, reached_at: str
) -> None:
    report = played(tmp_path / "run", STEPS[way], optimizer, reached_at)
    swaps = report["swaps"]
    assert swaps[way] >= 1
    discriminator = report["nodes"]["node-0"]["discriminator"]
    least, most = (on_the_wire(optimizer, names, discriminator) for names in (LEAST_NAMES, MOST_NAMES))
    parameters = 4 * numbers_of(optimizer)
    times = 2 * swaps["direct"] + 4 * swaps["relayed"]  # a relayed copy comes to the hub and leaves it
    copies = round(report["bytes"]["swaps"] / most)
    assert times <= copies <= times + 4 * swaps["aborted"]
    assert copies * parameters < copies * least <= report["bytes"]["swaps"] <= copies * most
    assert most - least < parameters * 1e-5, "names and numbers of messages, which grow by a digit or two"
    assert most - parameters < parameters * 1e-3, "all of the framing"
