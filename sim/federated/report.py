"""What the baselines' cores say of a run: the keys of run.json that MD-GAN's hub fills, where they mean something."""

from __future__ import annotations

from typing import Any

from mdgan_edge.actors import NANOS_PER_SECOND, Nanos
from mdgan_edge.messages import Verdict
from sim.federated.alone import AloneCore
from sim.federated.members import Client
from sim.federated.server import ServerCore

NO_SWAPS = {"committed": 0, "aborted": 0, "direct": 0, "relayed": 0}


def baseline_report(core: ServerCore | AloneCore) -> dict[str, Any]:
    """`version` counts rounds of FL-GAN; `updates` counts local generator updates of either baseline."""
    last = core.evaluations.last
    return {
        "outcome": core.outcome,
        "version": core.round if isinstance(core, ServerCore) else core.version,
        "updates": core.updates,
        "seed": core.settings.training.seed,
        "mode": core.settings.mode,
        "train_s": _seconds(core.started_at, core.ended_at),
        "nodes": _nodes(core) if isinstance(core, ServerCore) else {},
        "feedback": {
            **{verdict.value: core.verdicts[verdict.value] for verdict in Verdict},
            "merged": core.verdicts["averaged"],
            "clipped": 0,
        },
        "swaps": NO_SWAPS,
        "malformed_messages": dict(sorted(core.garbled.items())),
        "refused_connections": {},
        "scores": core.evaluations.medians(),
        "scores_missing": last.missing if last else "nothing was evaluated yet",
    }


def _nodes(core: ServerCore) -> dict[str, Any]:
    clients = sorted(core.members, key=lambda client: client.node)
    averaged = sum(client.averaged for client in clients)
    return {client.node: _node(client, averaged) for client in clients}


def _node(client: Client, averaged: int) -> dict[str, Any]:
    share = client.averaged / averaged if averaged else 0.0
    return {
        "state": client.state,
        "tasks": client.rounds,
        "merged": client.averaged,
        "share": share,
        "weighted_share": None,
        "refused": dict(sorted(client.refused.items())),
        "staleness_mean": 0.0 if client.averaged else None,
        "staleness_max": 0 if client.averaged else None,
        "rejoined": client.rejoined,
        "incarnation": client.incarnation,
        "shard_size": client.samples,
    }


def _seconds(start: Nanos | None, end: Nanos | None) -> float | None:
    return None if start is None or end is None else (end - start) / NANOS_PER_SECOND
