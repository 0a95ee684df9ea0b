"""Multiply-adds and bytes of a whole run: on a node, at the hub, in all. Formulas are those of mdgan_edge/costs.py.

What is counted is what was asked of the networks in training; evaluations are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdgan_edge import costs
from mdgan_edge.gan.counting import pair_of
from mdgan_edge.settings import Settings, batches_count
from sim.scenario.values import Method


def multiply_adds(settings: Settings, method: Method, nodes: int, found: Mapping[str, Any]) -> dict[str, float]:
    """`node`: on an average one, `hub`, `total`. `found` is run.json; standalone has one machine, the hub."""
    training, pair = settings.training, pair_of(settings.model)
    batch, steps = training.batch_size, training.discriminator_steps
    local = batch * costs.local_work(pair, steps)
    match method:
        case "mdgan":
            tasks = sum(one["tasks"] for one in found["nodes"].values())
            node = batch * costs.node_work(pair, steps) * tasks / nodes
            batches = batches_count(training.batches_per_version, nodes)
            hub = batch * costs.hub_work(pair, min(batches, nodes)) * found["version"]
        case "flgan":
            node, hub = local * found["updates"], 0
        case "standalone":
            node, hub = 0, local * found["updates"]
    return {"node": node, "hub": hub, "total": nodes * node + hub}


def bytes_of(found: Mapping[str, Any], nodes: int) -> dict[str, float]:
    """Measured. `node`: sent and received by an average one; `hub`: the same of the hub; `total`: sent by anybody."""
    sent = found["bytes"]
    across = sent["across"]
    node = (sent["nodes_sent"] + sent["nodes_received"] + 2 * across) / nodes
    hub = sent["hub_sent"] + sent["hub_received"]
    return {"node": node, "hub": hub, "total": sent["hub_sent"] + sent["nodes_sent"] + across}
