"""What the hub says of a run: the parts of run.json and status.json that its core knows. Pure."""

from __future__ import annotations

from typing import Any

from broker.core import HubCore
from broker.member import Member
from broker.swaps import Swaps
from mdgan_edge.actors import NANOS_PER_SECOND, Nanos
from mdgan_edge.messages import Verdict


def run_report(core: HubCore) -> dict[str, Any]:
    """The core's part of run.json."""
    return {
        "outcome": core.ending.outcome,
        "version": core.training.version,
        "seed": core.settings.training.seed,
        "mode": core.settings.mode,
        "train_s": _seconds(core.started_at, core.ended_at),
        "nodes": nodes_report(core),
        "feedback": {
            **{verdict.value: core.verdicts[verdict] for verdict in Verdict},
            "clipped": core.training.clipped,
        },
        "swaps": swaps_report(core.swaps),
        "malformed_messages": dict(sorted(core.garbled.items())),
        "refused_connections": core.turned_away.by_reason(),
        "scores": core.evaluations.medians(),
        "scores_missing": core.evaluations.missing,
        "evaluations_skipped": core.evaluations.skipped,
    }


def swaps_report(swaps: Swaps) -> dict[str, int]:
    """How swaps ended, and which way those went that were committed; what became of discriminators without an owner."""
    counts, adopted = swaps.counts, swaps.adoptions.counts
    return {
        "committed": counts.committed,
        "aborted": counts.aborted,
        "direct": counts.direct,
        "relayed": counts.committed - counts.direct,
        "handed_over": swaps.shelving.handed_over,
        "orphans_kept": swaps.shelving.rescue.kept_count,
        "orphans_restored": adopted.orphans_restored,
        "newcomers_copied": adopted.newcomers_copied,
        "not_adopted": adopted.not_adopted,
    }


def status_report(core: HubCore, now: Nanos) -> dict[str, Any]:
    """What the live table and `status` show while the run goes on."""
    elapsed = _seconds(core.started_at, core.ended_at or now)
    rate = core.training.version / elapsed if elapsed else 0.0
    left = (core.settings.training.steps - core.training.version) / rate if rate else None
    return {
        **run_report(core),
        "phase": core.phase.name.lower(),
        "steps": core.settings.training.steps,
        "elapsed_s": elapsed,
        "steps_per_s": rate,
        "left_s": left,
        "evaluated_version": core.evaluations.last.version if core.evaluations.last else None,
        "run_id": core.facts.run_id,
        "epoch": core.facts.epoch,
    }


def nodes_report(core: HubCore) -> dict[str, Any]:
    """Every node that ever joined, by id."""
    members = sorted(core.members, key=lambda member: member.node)
    merged = sum(member.tally.merged for member in members)
    weight = sum(member.tally.weight for member in members)
    parent = core.ownership.parent
    return {one.node: {**_node(one, merged, weight), "parent": parent(one.discriminator_id)} for one in members}


def _node(member: Member, merged: int, weight: float) -> dict[str, Any]:
    tally = member.tally
    return {
        "state": member.state.value,
        "tasks": tally.tasks,
        "merged": tally.merged,
        "share": tally.merged / merged if merged else 0.0,
        "weighted_share": tally.weight / weight if weight else 0.0,
        "refused": {verdict.value: count for verdict, count in sorted(tally.refused.items()) if count},
        "staleness_mean": tally.staleness_sum / tally.merged if tally.merged else None,
        "staleness_max": tally.staleness_max if tally.merged else None,
        "rejoined": tally.rejoined,
        "incarnation": member.incarnation,
        "shard_size": member.shard_size,
        "discriminator": member.discriminator_id,
        "in_flight": len(member.in_flight),
    }


def _seconds(start: Nanos | None, end: Nanos | None) -> float | None:
    return None if start is None or end is None else (end - start) / NANOS_PER_SECOND
