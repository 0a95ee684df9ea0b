"""The virtual world: production cores on a heap of events, in integer nanoseconds that nobody waits for.

Deterministic in the scenario and its seed. A job's duration is the machine's, its result is computed when it
completes. What breaks, and when, is in the compiled scenario (sim/strikes.py plays it); what must hold is looked at by
a Watch after every event.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from broker.core import HubCore
from broker.ownership import Owner, Record
from mdgan_edge.actors import (
    HUB,
    Admit,
    Core,
    Dial,
    Drain,
    Effect,
    Event,
    Finish,
    HangUp,
    LinkDown,
    Measure,
    Nanos,
    Note,
    Persist,
    Reconnect,
    RegisterChanged,
    Run,
    Send,
    Tick,
    TurnAway,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import NodeId
from mdgan_edge.service import DRAIN_MAX_S
from mdgan_edge.settings import Settings
from sim import strikes
from sim.bodies import Bodies
from sim.camera import Camera
from sim.cast import Cast, MdGan
from sim.chance import draw, stream
from sim.garbage import seldom_collected
from sim.jobs import Jobs
from sim.links import Line, Way, overlay
from sim.machine import Machine, Process
from sim.post import Post
from sim.raised import Raised, what_was_raised
from sim.scenario.compiling import node_names
from sim.scenario.values import Scenario
from sim.trace import Trace, label
from sim.watch import Recorder, Watch

START_WITHIN_NS = 200_000_000  # nodes start within this, as processes do
LEAST_TICK_NS = 1_000  # between two ticks of a core that wants one at once


class World:
    """One run. `scenario` is compiled. `run` plays it; `now`, `machines`, `hub` and `events` can be looked at after."""

    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        bodies: Bodies,
        watch: Watch,
        recorder: Recorder | None = None,
        camera: Camera | None = None,
        cast: Cast | None = None,
    ) -> None:
        self.scenario, self.settings, self.bodies = scenario, settings, bodies
        self.cast: Cast = cast or MdGan()
        self.run_id = f"{scenario.name}-{scenario.seed}"
        self.watch, self.recorder, self.camera = watch, recorder, camera
        self.trace = Trace()
        self.now = 0
        self.events = 0
        self.epoch = 0
        self.end_at = int(scenario.duration)
        self.heal_at = int(scenario.heal.at) if scenario.heal is not None else None
        self.stopped = False  # by whoever looks on
        self.over = False
        self.raised: Raised | None = None  # by a core, last
        self.post, self.jobs = Post(self), Jobs(self)
        self._heap: list[tuple[int, int, Any, Any, Any]] = []
        self._seq = 0
        links = scenario.links
        self._ports = (Line(links.hub.up), Line(links.hub.down))
        self._up = overlay(links.default, links.up)
        self._down = overlay(links.default, links.down)
        self.machines: dict[NodeId, Machine] = {}
        self.hub = Machine(HUB.node, stream(scenario.seed, "compute", HUB.node))
        self.hub.disk = bodies.hub_disk()
        self.owners: dict[NodeId, Owner] = {}  # what the hub has made durable
        self.issued = 0
        self.last_core: Core | None = None  # of the hub that runs, or ran last, ...
        self.last_hub_core: HubCore | None = None  # ... if it is MD-GAN's
        self.meet = settings.training.swap != "off" or settings.training.newcomer == "copy"  # nodes call each other
        self.register = {name: str(name) for name in node_names(scenario.nodes)}  # a node's key is its name
        self.hub_cuts = 0  # isolations of the hub that go on
        self.hub_back_at: int | None = None  # while the hub is down: when it starts again, if ever

    def run(self) -> None:
        """To the end of the scenario, or until nothing is left to happen, or until the watch stops it."""
        self.start_hub()
        for name in node_names(self.scenario.nodes):
            machine = self.add_machine(name)
            first = round(START_WITHIN_NS * draw(stream(self.scenario.seed, "start", name), 0))
            self.push(first, self._start_node, machine, None)
        if self.heal_at is not None:
            self.push(self.heal_at, self._heal, None, None)
        for number, fault in enumerate(self.scenario.fault):
            self.push(int(fault.at or 0), self._strike, number, fault)
        with seldom_collected():
            self._play()
        self.now = min(self.end_at, self.now) if self.stopped else self.end_at
        self.over = True

    def _play(self) -> None:
        heap = self._heap
        while heap and not self.stopped:
            at, _, action, target, thing = heappop(heap)
            if at > self.end_at:
                heappush(heap, (at, 0, action, target, thing))
                break
            self.now = at
            action(target, thing)

    def push(self, at: int, action: Any, target: Any, thing: Any) -> None:
        """Let `action(target, thing)` happen at a true time."""
        self._seq += 1
        heappush(self._heap, (at, self._seq, action, target, thing))

    def pending(self, action: Any) -> list[Any]:
        """What waits on the heap for this action."""
        return [thing for _, _, waiting, _, thing in self._heap if waiting == action]

    # --- processes ------------------------------------------------------------------------------------------------

    @property
    def hub_core(self) -> HubCore | None:
        """The hub's core while it runs."""
        process = self.hub.process
        return process.core if process is not None and isinstance(process.core, HubCore) else None

    def add_machine(self, name: NodeId) -> Machine:
        """A machine with an empty disk and a line to the hub."""
        assert name not in self.machines, f"there is a machine {name} already"
        seed = self.scenario.seed
        machine = Machine(name, stream(seed, "compute", name))
        machine.up = Way(stream(seed, "link", name, HUB.node), {-1: self._up}, self._ports[1])
        machine.down = Way(stream(seed, "link", HUB.node, name), {-1: self._down}, self._ports[0])
        if self.heal_at is not None and self.now >= self.heal_at:
            machine.up.heal()
            machine.down.heal()
        machine.up.cuts = machine.down.cuts = self.hub_cuts
        machine.speed = self._speed(name)
        machine.behind_nat = draw(stream(seed, "nat", name), 0) < self.scenario.links.relayed
        machine.disk = self.bodies.disk()
        self.machines[name] = machine
        if name not in self.register:
            self.register[name] = name
            self.push(self.now, self._register_changed, self.hub, None)
        return machine

    def _register_changed(self, hub: Machine, _: None) -> None:
        if hub.paused_until > self.now:
            self.push(hub.paused_until, self._register_changed, hub, None)
        elif hub.process is not None and self.meet:
            self.handle(hub, RegisterChanged(keys=dict(self.register)))

    def _speed(self, name: NodeId) -> float:
        sigma = self.scenario.device.speed_sigma
        if not sigma:
            return 1.0
        return strikes.lognormal_factor(sigma, draw(stream(self.scenario.seed, "speed", name), 0))

    def start_hub(self) -> None:
        """A new epoch."""
        self.epoch += 1
        self.hub_back_at = None
        core = self.last_core = self.cast.hub(self)
        self.last_hub_core = core if isinstance(core, HubCore) else None
        self.hub.process = Process(core, self.bodies.hub(self.hub.disk), self.now)
        self.watch.started(self, self.hub)
        self._arm(self.hub, self.hub.process)

    def _start_node(self, machine: Machine, _: None) -> None:
        self.start_node(machine)

    def start_node(self, machine: Machine) -> None:
        """Start the machine's process from its disk."""
        if machine.process is not None or machine.gone or self.hub.ended is not None:
            return
        machine.incarnation += 1
        core = self.cast.node(self, machine)
        if core is None:
            return
        machine.ended = None
        machine.connect()
        trainer = self.bodies.node(machine.name, machine.disk)
        machine.process = Process(core, trainer, self.now)
        self.watch.started(self, machine)
        self.handle(machine, Tick())

    def bring_back(self, machine: Machine, at: int) -> None:
        """Let it start again then, or when the last fault that keeps it down is over, or once its process has ended."""
        machine.back_at = max(machine.back_at or 0, at)
        self.push(at, self._come_back, machine, None)

    def _come_back(self, machine: Machine, _: None) -> None:
        if machine.back_at is not None and machine.back_at <= self.now and machine.process is None:
            machine.back_at = None
            self.start_node(machine)

    def crash(self, machine: Machine) -> None:
        """SIGKILL. What it sent before is on its way still."""
        machine.paused_until = 0
        if machine.process is None:
            return
        machine.process = None
        machine.connection.down = False
        self.watch.ended(self, machine)

    def break_connection(self, machine: Machine) -> None:
        """A reset: what is on its way is lost, both ends connect anew by themselves."""
        machine.connection.up = False
        machine.connect()

    def drain(self, machine: Machine, reason: str) -> None:
        """SIGTERM."""
        if machine.process is not None:
            self.push(self.now + round(DRAIN_MAX_S * 1e9), self._drain_ends, machine, machine.process)
            self.handle(machine, Drain(reason))

    def _drain_ends(self, machine: Machine, process: Process) -> None:
        if machine.process is process:
            self._finish(machine, Finish(ExitCode.UNEXPECTED, "stopped", "stopped without a farewell"))

    # --- what happens on the heap ---------------------------------------------------------------------------------

    def _strike(self, number: int, fault: Any) -> None:
        self.trace.add(self.now, "world", f"fault {fault.__struct_config__.tag} {' '.join(fault.who)}")
        strikes.strike(self, number, fault)

    def _heal(self, *_: object) -> None:
        """Faults end by themselves at the latest now; what links lose by nature, they lose no more."""
        for machine in self.machines.values():
            for way in (machine.up, machine.down):
                if way is not None:
                    way.heal()

    def _tick(self, machine: Machine, process: Process) -> None:
        if machine.process is not process or process.wake_at != self.now:
            return  # of a process that is gone, or an alarm that was set again
        process.wake_at = None
        if machine.paused_until > self.now:
            process.wake_at = machine.paused_until
            self.push(machine.paused_until, self._tick, machine, process)
            return
        deadline = process.core.deadline()
        if deadline is not None and machine.true(deadline) <= self.now:
            self.handle(machine, Tick())
        else:
            self._arm(machine, process)

    def _arm(self, machine: Machine, process: Process) -> None:
        deadline = process.core.deadline()
        if deadline is None:
            return
        at = deadline if machine.clock is None else machine.clock.when(deadline)
        wake_at = process.wake_at
        if wake_at is not None and wake_at <= at:
            return
        if at <= self.now:
            at = self.now + LEAST_TICK_NS
        process.wake_at = at
        self.push(at, self._tick, machine, process)

    # --- events and effects ---------------------------------------------------------------------------------------

    def handle(self, machine: Machine, event: Event) -> None:
        """Let a machine's core handle an event and carry out what it decides."""
        process, now = machine.process, self.now
        assert process is not None
        self.events += 1
        self.trace.event(now, machine.name, event)
        if self.camera is not None:
            self.camera.event(now, machine.name, label(event))
        try:
            effects = process.core.handle(event, Nanos(now) if machine.clock is None else machine.clock.read(now))
        except Exception as error:  # noqa: BLE001  (a core that raises is what we are looking for)
            self._broke(machine, event, what_was_raised(error))
            return
        self.watch.after(self, machine, event, effects)
        for effect in effects:
            if type(effect) is Send:
                self.post.send(machine, effect)
            elif type(effect) is Run:
                self.jobs.run(machine, process, effect)
            else:
                self._carry(machine, process, effect)
        if machine.process is process:
            self._arm(machine, process)

    def _broke(self, machine: Machine, event: Event, raised: Raised) -> None:
        self.raised = raised
        if self.recorder is not None:
            note = Note("raised", raised.text, {"traceback": list(raised.traceback)}, "warning")
            self.recorder.note(self.now, machine.name, note)
        self.watch.broke(self, machine, event, raised.text)
        machine.process = None

    def _carry(self, machine: Machine, process: Process, effect: Effect) -> None:
        match effect:
            case Note():
                if self.recorder is not None:
                    self.recorder.note(self.now, machine.name, effect)
            case Measure():
                if self.recorder is not None:
                    self.recorder.measure(self.now, machine.name, effect)
            case Persist(Record(owners, issued)):
                self.owners.update({owner.node: owner for owner in owners})  # whoever loses one gets another at once
                self.issued = issued
            case Reconnect():
                self.break_connection(machine)
                if self.hub.process is None:
                    self.push(self.now + LEAST_TICK_NS, self._unreachable, machine, process)
            case Admit() | Dial() | HangUp() | TurnAway():
                self.post.across.carry(machine, effect)
            case Finish():
                self._finish(machine, effect)

    def _unreachable(self, machine: Machine, process: Process) -> None:
        if machine.process is process:
            self.handle(machine, LinkDown("unreachable"))

    def _finish(self, machine: Machine, finish: Finish) -> None:
        assert machine.process is not None
        machine.ended = finish
        machine.process = None
        if machine is not self.hub:
            machine.connection.down = False
        self.watch.ended(self, machine)
        if machine.back_at is not None:
            self.push(max(self.now, machine.back_at), self._come_back, machine, None)
