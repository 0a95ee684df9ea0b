"""How a machine's trainer gets its jobs done in virtual time: one after the other, beside, aside.

A job takes as long as the machine says, and its result is computed when it completes. What a process that is gone had
in hand has no effect; a machine that stands still completes nothing until it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from broker.jobs import Evaluate
from mdgan_edge.actors import Aside, JobDone, Run
from nodes.core import NodeCore
from nodes.jobs import Install, Save, Shelve, Train, Trained
from sim.byzantine import pretended, rides_free
from sim.federated.jobs import Collect
from sim.machine import LEAST_NS, Machine, Process

if TYPE_CHECKING:
    from sim.world import World


class Jobs:
    """Those of all machines of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, machine: Machine, process: Process, run: Run) -> None:
        """A core has asked for a job."""
        if not run.beside:
            process.jobs.append(run.job)
            process.places.append(process.asked_beside)
            self._begin(machine, process)
            return
        process.beside.append(run.job)
        process.asked_beside += 1
        if len(process.beside) == 1:
            self._begin_beside(machine, process)

    # --- one after the other --------------------------------------------------------------------------------------

    def _begin(self, machine: Machine, process: Process) -> None:
        """The next one, unless something beside that was asked for before it is not done."""
        if process.at_work or not process.jobs or process.places[0] > process.asked_beside - len(process.beside):
            return
        job = process.jobs[0]
        process.rides = type(job) is Train and rides_free(machine)
        took = machine.duration(job, self._world.scenario.device, self._world.scenario.server)
        if process.rides or type(job) is Evaluate:
            took = LEAST_NS  # what it leaves aside takes the time
        process.at_work, process.began_at = True, self._world.now
        self._lasts(machine, took)
        self._world.push(self._world.now + took, self._done, machine, process)

    def _done(self, machine: Machine, process: Process) -> None:
        if machine.process is not process:
            return
        if machine.paused_until > self._world.now:
            self._world.push(machine.paused_until, self._done, machine, process)
            return
        job = process.jobs.popleft()
        process.places.popleft()
        process.at_work = False
        result = self._pretend(machine, process, job) if process.rides else self._do(machine, process, job)
        self._begin(machine, process)
        if isinstance(result, Aside):
            self._leave_aside(machine, process, job, result)
        else:
            self._world.handle(machine, JobDone(job, result))

    def _do(self, machine: Machine, process: Process, job: Any) -> Any:
        kind = type(job)
        if kind is Save or kind is Collect:
            machine.disk_before, machine.saved_at = self._world.bodies.keep(machine.disk), self._world.now
        elif kind is Shelve or kind is Install:
            machine.disk_before = None  # a swap waits until its writes are through, and with them all before
        return process.trainer.do(job)

    def _pretend(self, machine: Machine, process: Process, job: Train) -> Trained:
        held = process.core.held if isinstance(process.core, NodeCore) else None
        return pretended(machine, job.task, held.tasks if held is not None else 0, self._world.scenario.seed)

    # --- beside, aside --------------------------------------------------------------------------------------------

    def _begin_beside(self, machine: Machine, process: Process) -> None:
        job, process.beside_began_at = process.beside[0], self._world.now
        self._later(machine, process, job, lambda: self._done_beside(machine, process, job))

    def _done_beside(self, machine: Machine, process: Process, job: Any) -> Any:
        process.beside.popleft()
        result = self._do(machine, process, job)
        if process.beside:
            self._begin_beside(machine, process)
        self._begin(machine, process)
        return result

    def _leave_aside(self, machine: Machine, process: Process, job: Any, aside: Aside) -> None:
        self._later(machine, process, job, aside.finish)

    def _later(self, machine: Machine, process: Process, job: Any, result: Callable[[], Any]) -> None:
        """As long as such a job takes."""
        took = machine.duration(job, self._world.scenario.device, self._world.scenario.server)
        self._lasts(machine, took)

        def through(machine: Machine, process: Process) -> None:
            if machine.process is not process:
                return
            if machine.paused_until > self._world.now:
                self._world.push(machine.paused_until, through, machine, process)
            else:
                self._world.handle(machine, JobDone(job, result()))

        self._world.push(self._world.now + took, through, machine, process)

    def _lasts(self, machine: Machine, took: int) -> None:
        """Remember how long a job takes that began in good health."""
        if self._world.heal_at is None or self._world.now >= self._world.heal_at:
            machine.slowest_ns = max(machine.slowest_ns, took)
