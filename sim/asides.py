"""What a trainer leaves aside, in virtual time: it takes as long as such a job does, beside the jobs that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdgan_edge.actors import Aside, JobDone
from sim.machine import Machine, Process

if TYPE_CHECKING:
    from sim.world import World

Left = tuple[Process, Any, Aside]  # whose, of which job, what


def begun(world: World, machine: Machine, process: Process, job: Any, result: Any) -> bool:
    """Whether the result is an Aside; if so, its end is on the heap."""
    if not isinstance(result, Aside):
        return False
    took = machine.duration(job, world.scenario.device, world.scenario.server)
    if world.heal_at is None or world.now >= world.heal_at:
        machine.slowest_ns = max(machine.slowest_ns, took)
    world.push(world.now + took, _through(world), machine, (process, job, result))
    return True


def _through(world: World) -> Any:
    def through(machine: Machine, left: Left) -> None:
        process, job, aside = left
        if machine.process is not process:
            return
        if machine.paused_until > world.now:
            world.push(machine.paused_until, through, machine, left)
        else:
            world.handle(machine, JobDone(job, aside.finish()))

    return through
