"""What must hold in every world, whatever is trained in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sim.invariants.names import Found

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World


def conserved(world: World) -> Iterator[Found]:
    """At the end: every byte that was sent is accounted for."""
    post, (up, down) = world.post, world.post.in_flight()
    ways = (("up", post.up, up), ("down", post.down, down), ("across", post.across.bytes, post.across.in_flight()))
    for way, counts, flying in ways:
        gone = counts.received + sum(counts.dropped.values()) + flying
        if counts.sent + counts.duplicated != gone:
            what = f"{way}: {counts.sent + counts.duplicated} bytes were sent, {gone} are accounted for"
            yield "bytes_conserved", "world", what


def woken(world: World, machine: Machine) -> Iterator[Found]:
    """A core has handled a Tick."""
    assert machine.process is not None
    deadline = machine.process.core.deadline()
    if deadline is not None and deadline <= machine.local(world.now):
        yield "no_busy_wait", machine.name, "it was woken, and wants to be woken again at once"
