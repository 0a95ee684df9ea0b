"""Which batches a node gets next: pure arithmetic over rank, credit and quota."""

from __future__ import annotations

from broker.member import Member
from mdgan_edge.messages import Version


def may_have_task(member: Member, buffered: int, credit: int, quota: int, version: Version) -> bool:
    """Within its credit, one task per version at a time, and no more than the next step could merge.

    `buffered`: how many of its feedbacks wait for that step already; `quota`: how many of one node it may hold.
    """
    if len(member.in_flight) >= credit:
        return False
    for task in member.in_flight.values():
        if task.version == version:
            return False
    return buffered < quota


def batch_indices(rank: int, turn: int, batches: int) -> tuple[int, int]:
    """(g, d): the node of `rank` judges X_g and trains against X_d = the next one.

    The paper's assignment at `turn` 0; a node that is faster than the quorum moves on to the next batches with each
    further task it gets at the same version.
    """
    g = (rank + turn) % batches
    return g, (g + 1) % batches
