"""Looks at every event of a virtual run and says which invariants hold: true, false, or unknown.

Safety is looked at after each event, liveness once a second from the heal on. The first violation stops the run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from broker.core import Phase
from broker.jobs import Checkpoint, Checkpointed, Step, Stepped
from mdgan_edge.actors import Drain, Effect, Event, Finish, Garbled, JobDone, Note, Persist, Received, Run, Send, Tick
from mdgan_edge.messages import (
    Abort,
    Adopt,
    Bye,
    ByeAck,
    Commit,
    Error,
    Feedback,
    Hello,
    Installed,
    NodeId,
    Prepared,
    Receipt,
    Refuse,
    Task,
    Tensor,
    Verdict,
    Welcome,
)
from mdgan_edge.service import JOBS_MAX
from mdgan_edge.settings import Settings, quorum_count, quota_count
from nodes.core import NodeCore
from sim.invariants import sessions, sometimes, steps
from sim.invariants.census import Census
from sim.invariants.common import conserved, woken
from sim.invariants.credit import Credit
from sim.invariants.exits import Exits
from sim.invariants.ledger import Ledger
from sim.invariants.liveness import Liveness
from sim.invariants.names import AT_THE_END, INVARIANTS, SHOWN_BY, SOMETIMES, Found, Violation
from sim.invariants.norms import Norms
from sim.invariants.replay import Replay
from sim.invariants.swaps import SwapBook
from sim.scenario.values import Scenario

if TYPE_CHECKING:
    from broker.core import HubCore
    from sim.machine import Machine
    from sim.world import World

FORGET_AFTER = 100  # versions beyond staleness_max


class Checks:
    """A Watch. `replay`: also record the hub's events, and play them to a fresh core at the end."""

    def __init__(self, scenario: Scenario, settings: Settings, replay: bool = False) -> None:
        self.violations: list[Violation] = []
        self.sometimes: dict[str, int] = dict.fromkeys(SOMETIMES, 0)
        self._training = settings.training
        self._liveness = Liveness(scenario, settings)
        self._replay = Replay() if replay else None
        self._secrets: dict[NodeId, frozenset[bytes]] = {}
        self._alive: set[NodeId] = set()
        self._exits = Exits()
        self._swaps = SwapBook()
        self._census = Census()
        self._kept = 0  # the version of the last checkpoint
        self._norms_at: dict[int, tuple[float, ...]] = {}  # as they were when a checkpoint was begun, by its version
        self._ledger = self._new_ledger()
        self._credit = Credit(self._training.credit)
        self._buffered_max = 0
        self._seen: set[str] = set()  # what has happened, of SHOWN_BY
        self._cut_short = True  # until the run has come to its end without a violation

    def verdicts(self) -> dict[str, bool | None]:
        """By name; False where it was violated, None where this run could not show it."""
        false = {violation.invariant for violation in self.violations}
        unknown = self._liveness.unknown() | {name for name, by in SHOWN_BY.items() if by not in self._seen}
        if self._cut_short:
            unknown |= AT_THE_END
        if self._replay is None or not self._replay.complete:
            unknown = unknown | {"replay_equal"}
        if not any(self._secrets.values()):
            unknown = unknown | {"samples_stay"}
        if not self._swaps.seen:
            unknown = unknown | {"swap_decided_once", "no_swap_in_doubt"}
        if not self._ledger.labels_seen:
            unknown = unknown | {"judged_as_said"}
        return {name: False if name in false else None if name in unknown else True for name in INVARIANTS}

    # --- what the world tells -------------------------------------------------------------------------------------

    def started(self, world: World, machine: Machine) -> None:
        """A process has started."""
        self._alive.add(machine.name)
        if machine is world.hub:
            self._hub_started(world)
            if self._replay is not None:
                self._replay.begin(world)
        else:
            self.sometimes["restarted"] += machine.incarnation > 1
            self._exits.started(machine)
            self._liveness.started(world, machine)
            if machine.name not in self._secrets:
                self._secrets[machine.name] = world.bodies.secrets(machine.name)

    def _hub_started(self, world: World) -> None:
        """What was on disk must be there again, and nothing else."""
        before, core = self._ledger, world.last_hub_core
        assert core is not None
        self._ledger = self._new_ledger()
        self._ledger.outlive(before, self._kept)
        self._credit = Credit(self._training.credit)
        self._buffered_max = 0
        self.sometimes["hub_restarted"] += world.epoch > 1
        self.sometimes["resumed"] += self._kept > 0
        if core.training.version != self._kept:
            what = f"it started at version {core.training.version}, the last checkpoint is of {self._kept}"
            self._violated(world, "version_by_one", "hub", what)

    def ended(self, world: World, machine: Machine) -> None:
        """A process is gone."""
        self._alive.discard(machine.name)
        self._seen.add("end")
        finish = machine.ended
        if machine is world.hub:
            self._count_verdicts(world)
            self.sometimes["completed"] += finish is not None and finish.outcome == "completed"
        elif finish is not None:
            self._seen.add("exit")
            self._found(world, self._exits.ended(world, machine, finish))

    def broke(self, world: World, machine: Machine, event: Event, why: str) -> None:
        """A core raised."""
        self._violated(world, "no_crash", machine.name, f"{type(event).__name__}: {why}")

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        """A core has handled an event."""
        self._seen.add("event")
        if machine.name not in self._alive:
            self._violated(
                world, "no_timer_outlives", machine.name, f"{type(event).__name__} came to a process that is gone"
            )
        if machine is world.hub:
            self._hub(world, event, effects)
        else:
            self._node(world, machine, effects)
        if type(event) is Tick:
            self._seen.add("tick")
            self._found(world, woken(world, machine))
        elif type(event) is Drain:
            self._exits.drained(machine)
        if world.now >= self._liveness.look_at:
            self._found(world, self._liveness.look(world, self._ledger, self._swaps, self._census))

    def finish(self, world: World) -> None:
        """The run is over."""
        self._cut_short = world.stopped
        self._count_verdicts(world)
        self.sometimes["rejoined"] = self._ledger.rejoined
        self._found(world, conserved(world))
        sometimes.of_links(world, self.sometimes)
        if self._replay is not None and (difference := self._replay.difference(world)):
            self._violated(world, "replay_equal", "hub", difference)

    # --- the hub --------------------------------------------------------------------------------------------------

    def _hub(self, world: World, event: Event, effects: list[Effect]) -> None:
        if self._replay is not None:
            self._replay.record(world, event, effects)
        if isinstance(event, Received):
            self._received(world, event, effects)
        elif isinstance(event, JobDone):
            self._job_done(world, event.result)
            self._exits.hub_did(event.result)
        elif isinstance(event, Garbled):
            self.sometimes["garbled"] += 1
        for effect in effects:
            if isinstance(effect, Send):
                self._sent(world, effect)
            elif isinstance(effect, Persist):
                self._found(world, self._swaps.recorded(self._ledger, effect.record.owners))
            elif isinstance(effect, Run):
                if isinstance(effect.job, Step):
                    self._step(world, effect.job)
                elif isinstance(effect.job, Checkpoint):
                    self._norms_at[effect.job.version] = self._ledger.norms.recent
            elif isinstance(effect, Note):
                sometimes.of_hub_note(effect, self.sometimes)
                self._liveness.noted(world, effect)
                self._ledger.noted(effect)
                if effect.what in ("member", "quarantined"):
                    self._found(world, self._credit.noted(effect))
            elif isinstance(effect, Finish):
                self._seen.add("exit")
                self._found(world, self._exits.hub_ends(effect, self._ledger.version, self._training.steps))
        self._look_at_leavers(world, effects)
        self._look_at_queues(world)

    def _look_at_leavers(self, world: World, effects: list[Effect]) -> None:
        """BYE_ACK to a member that leaves in the middle of a run."""
        core = world.hub_core
        if core is None or core.phase is not Phase.TRAINING or self._training.newcomer == "fresh":
            return
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, ByeAck):
                node = effect.to.node
                if self._ledger.gone.get(node) == "left":
                    self._seen.add("let go")
                    self._found(world, self._census.let_go(world, self._ledger, node))

    def _received(self, world: World, event: Received, effects: list[Effect]) -> None:
        node, message, core = event.sender.node, event.message, world.last_hub_core
        assert core is not None
        if isinstance(message, Hello):
            self._found(world, self._census.greeted(world, self._ledger, effects))
            self._found(world, sessions.greeted(self._ledger, core.facts, node, message, effects))
            if any(isinstance(effect, Send) and isinstance(effect.message, Welcome) for effect in effects):
                self._seen.add("welcome")
                self._credit.welcomed(node)
            return
        self._found(world, sessions.answered(self._ledger, core.facts, event, effects))
        if isinstance(message, Feedback):
            self._feedback(world, core, event, message, effects)
        elif isinstance(message, Prepared):
            self._seen.add("prepared")
            self._swaps.prepared(node, message)
        elif isinstance(message, Installed):
            self._swaps.installed(node, message.swap_id)
        elif self._ledger.is_open(core.facts, node, event.header):
            if isinstance(message, Bye):
                self._seen.add("goodbye")
                self._ledger.left.add(node)
            elif isinstance(message, Refuse):
                self._credit.answered(node, message.task_id)

    def _feedback(self, world: World, core: HubCore, event: Received, message: Feedback, effects: list[Effect]) -> None:
        self._seen.add("feedback")
        self._ledger.feedback += 1
        self._count_feedback(world, core)
        if self._ledger.is_open(core.facts, event.sender.node, event.header):
            self._credit.answered(event.sender.node, message.task_id)
        self._perhaps_admitted(world, event, message, effects)

    def _sent(self, world: World, send: Send) -> None:
        if isinstance(send.message, Task):
            self._seen.add("task")
            self._found(world, sessions.given(self._ledger, send, send.message))
            self._found(world, self._credit.given(send.to.node, send.message.task_id))
        elif isinstance(send.message, Commit):
            self._found(world, self._swaps.committed(self._ledger, send.to.node, send.message))
            self._found(world, self._census.committed(world, send.to.node, send.message))
            if self._swaps.adoption(send.message.swap_id):
                self._found(world, self._census.adopted(world, send.to.node, send.message))
        elif isinstance(send.message, Adopt):
            self._swaps.told(send.to.node, send.message)
        elif isinstance(send.message, Abort):
            self._found(world, self._swaps.voided(send.to.node, send.message.swap_id))
        else:
            self._exits.sent(world, send)

    def _perhaps_admitted(self, world: World, event: Received, message: Feedback, effects: list[Effect]) -> None:
        """Unless the hub refuses or ignores it, it is in the buffer now, or in a step that begins at once."""
        node, given, core = event.sender.node, self._ledger.given.get(message.task_id), world.last_hub_core
        if given is None or given.node != node or message.task_id in self._ledger.admitted:
            return
        assert core is not None
        member = core.members.get(node)
        if member is None or not member.present or self._ledger.sessions.get(node) != event.header.session:
            return
        if world.hub.local(world.now) < member.quarantined_until:
            return
        in_time = True
        for effect in effects:
            answer = effect.message if isinstance(effect, Send) else None
            if isinstance(answer, Error):
                return  # it has said goodbye
            if isinstance(answer, Receipt) and answer.task_id == message.task_id:
                in_time &= answer.verdict is Verdict.MERGED  # what comes in time is in time for a step
                if answer.verdict is Verdict.WARM_UP:
                    self._ledger.norms.warm_up(message.feedback.norm)
        if not in_time:
            return
        self._found(world, sessions.admitted(self._ledger, node, message))
        self._ledger.admit(message, len(core.members.live))

    def _step(self, world: World, step: Step) -> None:
        shape = (self._training.batch_size, *world.bodies.image_shape)
        self._found(world, steps.merged(self._ledger, self._training, shape, step))
        self._seen.add("step")
        self.sometimes["clipped"] += sum(map(steps.was_clipped, step.contributions))
        self._liveness.merged(world, {one.node for one in step.contributions})
        self._ledger.forget(step.version - self._training.staleness_max - FORGET_AFTER)  # type: ignore[arg-type]

    def _job_done(self, world: World, result: Any) -> None:
        if isinstance(result, Stepped):
            self._stepped(world, result)
        elif isinstance(result, Checkpointed) and result.trouble is None:
            self._kept = result.version
            for version in [version for version in self._norms_at if version < self._kept]:
                del self._norms_at[version]

    def _stepped(self, world: World, result: Stepped) -> None:
        core = world.last_hub_core
        assert core is not None
        self._seen.add("stepped")
        if result.version != self._ledger.version + 1 or core.training.version != result.version:
            what = f"a step took {self._ledger.version} to {core.training.version}"
            self._violated(world, "version_by_one", "hub", what)
        self._ledger.version = core.training.version
        self._liveness.advanced(world)

    def _look_at_queues(self, world: World) -> None:
        core, process = world.last_hub_core, world.hub.process
        if core is None or process is None:
            return
        self._ledger.live = len(core.members.live)
        if core.training.version != self._ledger.version:
            what = f"the version is {core.training.version} after step {self._ledger.version}"
            self._violated(world, "version_by_one", "hub", what)
            self._ledger.version = core.training.version
        if core.training.buffered > self._buffered_max:
            self._buffered_max = core.training.buffered
            self._look_at_buffer(world, core)
        if process.waiting > JOBS_MAX:
            self._violated(world, "queues_bounded", "hub", f"{process.waiting} jobs wait, at most {JOBS_MAX} may")

    def _look_at_buffer(self, world: World, core: HubCore) -> None:
        members = sum(1 for _ in core.members)
        most = members * quota_count(self._training.quota, quorum_count(self._training.quorum, members))
        if core.training.buffered > most:
            what = f"{core.training.buffered} feedbacks of {members} nodes wait, at most {most} may"
            self._violated(world, "queues_bounded", "hub", what)

    def _count_verdicts(self, world: World) -> None:
        core = world.last_hub_core
        if core is None:
            return
        for verdict, count in core.verdicts.items():
            if verdict is not Verdict.MERGED:
                self.sometimes[verdict.value] += count
        self._count_feedback(world, core)

    def _count_feedback(self, world: World, core: HubCore) -> None:
        known = sum(core.verdicts.values()) + core.training.buffered
        if known != self._ledger.feedback:
            what = f"{self._ledger.feedback} feedbacks came, {known} have a verdict or wait"
            self._violated(world, "one_verdict_each", "hub", what)

    # --- nodes ----------------------------------------------------------------------------------------------------

    def _node(self, world: World, machine: Machine, effects: list[Effect]) -> None:
        process = machine.process
        if process is None or not effects:
            return
        for effect in effects:
            if isinstance(effect, Send):
                if type(effect.message) is Feedback:
                    self._look_for_samples(world, machine.name, effect.message.feedback)
            elif isinstance(effect, Note):
                sometimes.of_node_note(effect, self.sometimes)
            elif isinstance(effect, Run) and process.waiting >= JOBS_MAX:
                self._violated(world, "queues_bounded", machine.name, f"{process.waiting} jobs wait already")
        core = process.core
        if isinstance(core, NodeCore) and core.welcome is not None and len(core.work) > core.welcome.credit:
            what = f"{len(core.work)} tasks in hand, credit is {core.welcome.credit}"
            self._violated(world, "queues_bounded", machine.name, what)

    def _look_for_samples(self, world: World, node: NodeId, tensor: Tensor) -> None:
        secrets = self._secrets[node]
        if not secrets or not tensor.data:
            return
        size = len(tensor.data) // tensor.shape[0]
        for at in range(0, len(tensor.data), size):
            if tensor.data[at : at + size] in secrets:
                self._violated(world, "samples_stay", node, f"sample {at // size} of its feedback is a private one")

    # --- small things ---------------------------------------------------------------------------------------------

    def _new_ledger(self) -> Ledger:
        return Ledger(Norms(self._training.clip_factor, self._norms_at.get(self._kept, ())))

    def _found(self, world: World, found: Iterable[Found]) -> None:
        for invariant, who, what in found:
            self._violated(world, invariant, who, what)

    def _violated(self, world: World, invariant: str, who: str, what: str) -> None:
        assert invariant in INVARIANTS
        first_here = not any(violation.invariant == invariant for violation in self.violations)
        if not world.stopped or (world.over and first_here):  # at the end all are looked at, whatever was found before
            self.violations.append(Violation(invariant, world.now, who, what))
        world.stopped = True
