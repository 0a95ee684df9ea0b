"""Counts what should sometimes happen: a sweep in which it never does tests less than it seems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.steprule import Reason
from mdgan_edge.actors import Note

if TYPE_CHECKING:
    from sim.world import World

MEMBER = {"suspect": "suspected", "active": "trusted_again", "dead": "died", "left": "left"}


def of_hub_note(note: Note, counts: dict[str, int]) -> None:
    """From a line of the hub's journal."""
    match note.what:
        case "member":
            name = MEMBER.get(str(note.facts["state"]))
            if name is not None:
                counts[name] += 1
        case "step_rule":
            counts["blocked" if note.why == Reason.BLOCKED.value else "timeout_step"] += 1
        case "task_refused":
            counts["refused_busy"] += note.why == "busy"
        case "swap_committed":
            counts["swapped"] += 1
            counts["direct_swap" if note.facts["direct"] else "relayed_swap"] += 1
        case "swap_aborted" | "handed_over" | "orphan_kept" | "orphan_restored" | "newcomer_copied" | "not_adopted":
            counts[note.what] += 1
        case "joined":
            counts["spare_installed"] += note.facts["action"] == "install"
        case "quarantined":
            counts["quarantined"] += 1
        case _:
            pass


def of_node_note(note: Note, counts: dict[str, int]) -> None:
    """From a line of a node's journal."""
    match note.what:
        case "welcomed":
            counts["kept_discriminator" if note.facts["kept"] else "fresh_discriminator"] += 1
        case "bad_copy":
            counts["refused_copy"] += 1
        case "hub_silent" | "session_lost" | "unreachable" | "peer_silent":
            counts[note.what] += 1
        case _:
            pass


def of_links(world: World, counts: dict[str, int]) -> None:
    """At the end: what became of messages, and of what was written."""
    for way in (world.post.up, world.post.down, world.post.across.bytes):
        counts["duplicated_message"] += way.duplicated > 0
        counts["lost_message"] += "loss" in way.dropped
        counts["partitioned_message"] += "partition" in way.dropped
    counts["lost_write"] = sum(machine.lost_writes for machine in world.machines.values())
    core = world.last_hub_core
    counts["quorum_step"] += core is not None and core.training.version > 0
