"""Looks at every event of a baseline's run and says which invariants hold: true, false, or unknown.

Those of MD-GAN that mean nothing here stay unknown. What the server counts is held against the messages themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from broker.jobs import Checkpointed
from mdgan_edge.actors import Drain, Effect, Event, Finish, JobDone, Nanos, Note, Received, Run, Send, Tick
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import NodeId, Session, Tensor
from mdgan_edge.service import JOBS_MAX
from mdgan_edge.settings import Settings
from sim.federated.alone import AloneCore
from sim.federated.jobs import Average, Averaged, LocallyUpdated
from sim.federated.liveness import NAMES as LIVENESS
from sim.federated.liveness import Liveness
from sim.federated.messages import Enter, Leave, Round, Update
from sim.federated.server import ServerCore
from sim.invariants.common import conserved, woken
from sim.invariants.names import INVARIANTS, OF_FLGAN, Found, Violation
from sim.scenario.values import Scenario

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

SHOWN_BY: Mapping[str, str] = {  # what must have happened at least once before one can be said to hold
    "applied_once": "average",
    "version_by_one": "stepped",
    "queues_bounded": "event",
    "sound_feedback": "average",
    "no_work_after_leave": "goodbye",
    "no_timer_outlives": "end",
    "bytes_conserved": "event",
    "exits_explained": "exit",
    "no_busy_wait": "tick",
    "no_crash": "event",
    "mean_as_accounted": "average",
    "mean_exact": "numbers",
    "round_not_held_up": "average",
}
SOMETIMES = (
    "quorum_step",
    "timeout_step",
    "late",
    "duplicate",
    "malformed",
    "epoch",
    "died",
    "left",
    "rejoined",
    "restarted",
    "lost_write",
    "session_lost",
    "hub_restarted",
    "resumed",
    "duplicated_message",
    "lost_message",
    "partitioned_message",
    "completed",
)
SLACK_NS = 1_000_000  # of the heap's least steps
DIFFERENCE_MAX = 2.0**-23  # of the mean, relative to the largest number that goes into it: one rounding to float32


class FederatedChecks:
    """A Watch."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        self.violations: list[Violation] = []
        self.sometimes: dict[str, int] = dict.fromkeys(SOMETIMES, 0)
        self._settings = settings
        self._liveness = Liveness(scenario, settings)
        self._alive: set[NodeId] = set()
        self._seen: set[str] = set()
        self._came: dict[NodeId, list[Update]] = {}  # the updates of each client in the open round
        self._sessions: dict[NodeId, Session] = {}  # as the server's own messages say
        self._number = 0  # of that round, or of updates on one machine
        self._opened_at: int | None = None
        self._averaging: Average | None = None
        self._kept = 0
        self._left: set[NodeId] = set()
        self._dismissed: set[NodeId] = set()
        self._cut_short = True

    def verdicts(self) -> dict[str, bool | None]:
        """By name; False where it was violated, None where it means nothing here, or this run could not show it."""
        false = {violation.invariant for violation in self.violations}
        shown = {name for name, by in SHOWN_BY.items() if by in self._seen} | self._liveness.looked_at
        if self._cut_short:
            shown.discard("bytes_conserved")
        names = [*INVARIANTS, *OF_FLGAN]
        return {name: False if name in false else True if name in shown else None for name in names}

    # --- what the world tells -------------------------------------------------------------------------------------

    def started(self, world: World, machine: Machine) -> None:
        """A process has started."""
        self._alive.add(machine.name)
        if machine is not world.hub:
            self._dismissed.discard(machine.name)
            self.sometimes["restarted"] += machine.incarnation > 1
            self._liveness.started(world, machine)
            return
        self.sometimes["hub_restarted"] += world.epoch > 1
        self.sometimes["resumed"] += self._kept > 0
        self._came, self._number, self._opened_at, self._averaging = {}, _version(world), None, None
        self._sessions.clear()
        if self._number != self._kept:
            what = f"it started at {self._number}, the last checkpoint is of {self._kept}"
            self._violated(world, "version_by_one", "hub", what)

    def ended(self, world: World, machine: Machine) -> None:
        """A process is gone."""
        self._alive.discard(machine.name)
        self._seen.add("end")
        finish = machine.ended
        if finish is None:
            return
        self._seen.add("exit")
        if machine is world.hub:
            self.sometimes["completed"] += finish.outcome == "completed"
            return
        left = finish.exit_code is ExitCode.OK and (machine.name in self._dismissed)
        away = finish.exit_code is ExitCode.HUB_UNREACHABLE and (
            world.hub.ended is not None or world.now <= (world.heal_at or world.end_at)
        )
        if not left and not away and finish.outcome != "stopped":
            what = f"it ended with {int(finish.exit_code)}: {finish.text}"
            self._violated(world, "exits_explained", machine.name, what)

    def broke(self, world: World, machine: Machine, event: Event, why: str) -> None:
        """A core raised."""
        self._violated(world, "no_crash", machine.name, f"{type(event).__name__}: {why}")

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        """A core has handled an event."""
        self._seen.add("event")
        process = machine.process
        if machine.name not in self._alive or process is None:
            what = f"{type(event).__name__} came to a process that is gone"
            self._violated(world, "no_timer_outlives", machine.name, what)
            return
        if process.waiting + sum(isinstance(effect, Run) for effect in effects) > JOBS_MAX:
            self._violated(world, "queues_bounded", machine.name, f"{process.waiting} jobs wait already")
        if machine is world.hub:
            self._hub(world, event, effects)
        else:
            self._client(machine, event, effects)
        if type(event) is Tick:
            self._seen.add("tick")
            self._found(world, woken(world, machine))
        if world.now >= self._liveness.look_at:
            self._found(world, self._liveness.look(world))

    def finish(self, world: World) -> None:
        """The run is over."""
        self._cut_short = world.stopped
        self._found(world, conserved(world))
        core = world.last_core
        assert isinstance(core, ServerCore | AloneCore)
        for name in ("late", "duplicate", "malformed", "epoch"):
            self.sometimes[name] = core.verdicts[name]
        if isinstance(core, ServerCore):
            self.sometimes["rejoined"] = sum(client.rejoined for client in core.members)
        for way in (world.post.up, world.post.down):
            self.sometimes["duplicated_message"] += way.duplicated > 0
            self.sometimes["lost_message"] += "loss" in way.dropped
            self.sometimes["partitioned_message"] += "partition" in way.dropped
        self.sometimes["lost_write"] = sum(machine.lost_writes for machine in world.machines.values())

    # --- the server -----------------------------------------------------------------------------------------------

    def _hub(self, world: World, event: Event, effects: list[Effect]) -> None:
        if isinstance(event, Received):
            self._received(event)
        elif isinstance(event, JobDone):
            self._job_done(world, event.result)
        elif isinstance(event, Drain):
            self._dismissed.add(world.hub.name)
        for effect in effects:
            if isinstance(effect, Send):
                self._sent(world, effect)
            elif isinstance(effect, Run) and isinstance(effect.job, Average):
                self._averages(world, effect.job)
            elif isinstance(effect, Note):
                self._noted(world, effect)
            elif isinstance(effect, Finish):
                self._found(world, self._ends(world, effect))
        self._look_at_round(world)

    def _received(self, event: Received) -> None:
        node, message = event.sender.node, event.message
        match message:
            case Enter():
                self._left.discard(node)
            case Update(number) if number == self._number and math.isfinite(message.numbers.norm):
                if self._sessions.get(node) != event.header.session:
                    return
                self._came.setdefault(node, []).append(message)
            case Leave():
                self._seen.add("goodbye")
                self._left.add(node)
            case _:
                pass

    def _sent(self, world: World, send: Send) -> None:
        message: Any = send.message
        if send.header.session:
            self._sessions[send.to.node] = send.header.session
        if isinstance(message, Round):
            if send.to.node in self._left:
                self._violated(world, "no_work_after_leave", send.to.node, f"round {message.round} goes there")
            if self._opened_at is None:
                self._opened_at = world.now
        elif isinstance(message, Leave):
            self._dismissed.add(send.to.node)

    def _averages(self, world: World, job: Average) -> None:
        self._seen.add("average")
        nodes = [one.node for one in job.answers]
        if len(set(nodes)) < len(nodes):
            self._violated(world, "applied_once", "hub", f"a client counts twice in round {job.round}")
        strangers = [node for node in nodes if node not in self._came]
        if strangers:
            what = f"{strangers[0]} counts in round {job.round}, and sent nothing for it"
            self._violated(world, "mean_as_accounted", "hub", what)
            return
        self._found(world, self._weighed(job))
        for one in job.answers:
            if not math.isfinite(one.numbers.norm) or one.numbers.shape != job.answers[0].numbers.shape:
                self._violated(world, "sound_feedback", one.node, f"its numbers count in round {job.round}")
        self._averaging, self._opened_at = job, None
        self._liveness.averaged(world, nodes)
        self.sometimes["quorum_step"] += 1

    def _weighed(self, job: Average) -> Iterator[Found]:
        total = sum(self._came[one.node][-1].samples for one in job.answers)
        for one in job.answers:
            due = self._came[one.node][-1].samples / total
            if not math.isclose(one.share, due, rel_tol=1e-12):
                yield "mean_as_accounted", one.node, f"it weighs {one.share} in round {job.round}, not {due}"
            if all(one.numbers != update.numbers for update in self._came[one.node]):
                yield "mean_as_accounted", one.node, f"other numbers than it sent count in round {job.round}"

    def _job_done(self, world: World, result: Any) -> None:
        if isinstance(result, Averaged):
            self._found(world, self._is_mean(result))
        if isinstance(result, Averaged | LocallyUpdated):
            self._seen.add("stepped")
            now = _version(world)
            if now != self._number + 1:
                self._violated(world, "version_by_one", "hub", f"it went from {self._number} to {now}")
            self._number, self._came = now, {}
            self._liveness.advanced(world)
        elif isinstance(result, Checkpointed) and result.trouble is None:
            self._kept = int(result.version)

    def _is_mean(self, result: Averaged) -> Iterator[Found]:
        job, self._averaging = self._averaging, None
        assert job is not None
        if not result.numbers.data:
            return
        self._seen.add("numbers")
        rows = np.stack([_row(one.numbers) for one in job.answers])  # (M, n)
        mean = np.average(rows, axis=0, weights=[one.share for one in job.answers])
        off = np.abs(_row(result.numbers) - mean) > DIFFERENCE_MAX * np.abs(rows).max(axis=0)
        if off.any():
            yield "mean_exact", "hub", f"number {int(off.argmax())} of round {job.round} is not the mean"

    def _look_at_round(self, world: World) -> None:
        core, federated = world.last_core, self._settings.federated
        if not isinstance(core, ServerCore) or self._opened_at is None or core.opened_at is None:
            return
        enough = len(self._came) >= federated.participants_min
        lasts = world.hub.local(world.now) - core.opened_at
        if enough and lasts > Nanos(round(federated.round_timeout_s * 1e9) + SLACK_NS):
            what = f"round {core.round} is open for {lasts / 1e9:.1f} s with {len(self._came)} answers"
            self._violated(world, "round_not_held_up", "hub", what)

    def _noted(self, world: World, note: Note) -> None:
        if note.what == "member":
            self._sessions.pop(NodeId(note.facts["node"]), None)
            self.sometimes["died" if note.facts["state"] == "dead" else "left"] += 1
            self._liveness.noted(world, note)
        elif note.what == "round":
            self.sometimes["timeout_step"] += note.why.startswith("timeout")

    def _ends(self, world: World, finish: Finish) -> Iterator[Found]:
        core = world.last_core
        assert isinstance(core, ServerCore | AloneCore)
        reasons = {
            "completed": core.updates >= self._settings.training.steps - 1e-6,
            "stopped": world.hub.name in self._dismissed,
            "failed": True,
        }
        if not reasons[finish.outcome]:
            yield "exits_explained", "hub", f"it ended as {finish.outcome} after {core.updates} updates"

    # --- clients --------------------------------------------------------------------------------------------------

    def _client(self, machine: Machine, event: Event, effects: list[Effect]) -> None:
        if isinstance(event, Drain):
            self._dismissed.add(machine.name)
        for effect in effects:
            if isinstance(effect, Note):
                self.sometimes["session_lost"] += effect.what == "session_lost"

    # --- small things ---------------------------------------------------------------------------------------------

    def _found(self, world: World, found: Iterable[Found]) -> None:
        for invariant, who, what in found:
            self._violated(world, invariant, who, what)

    def _violated(self, world: World, invariant: str, who: str, what: str) -> None:
        assert invariant in SHOWN_BY or invariant in LIVENESS
        first_here = not any(violation.invariant == invariant for violation in self.violations)
        if not world.stopped or (world.over and first_here):
            self.violations.append(Violation(invariant, world.now, who, what))
        world.stopped = True


def _version(world: World) -> int:
    core = world.last_core
    assert isinstance(core, ServerCore | AloneCore)
    return core.round if isinstance(core, ServerCore) else int(core.version)


def _row(tensor: Tensor) -> Any:
    return np.frombuffer(tensor.data, np.float32).astype(np.float64)
