"""One machine of the virtual world: its process (if it runs), its clock, its speed, its disk and its line to the hub.

Knows nothing of the heap or of other machines. A process's life: started → handles events, does its jobs one after
the other, and some beside them → finished, or gone when its machine crashes; nothing of a process that is gone has any
effect.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from broker.jobs import Checkpoint, Evaluate, Forget, Give, Keep, MakeBatches, Step
from mdgan_edge.actors import Core, Finish, Nanos, Peer, Trainer
from mdgan_edge.messages import NodeId
from nodes.jobs import Install, Offer, Prepare, Save, Shelve, Train
from sim.chance import draw
from sim.federated.jobs import Adopt, Average, Collect, LocalUpdate, Publish
from sim.links import Way
from sim.scenario.quantities import DURATION_MAX_NS
from sim.scenario.values import Byzantine, ClockError, Device, Fault, HubSlow, Server, SlowDisk, Straggler

MILLION = 1_000_000
LEAST_NS = 1_000  # of any job: time would stand still in a world where nothing takes any


@dataclass(slots=True)
class Clock:
    """A monotonic clock that is off by a jump and runs at its own pace: local time in nanoseconds."""

    since: int = 0
    local: int = 0
    pace: int = MILLION  # local microseconds per second

    def read(self, now: int) -> Nanos:
        """What it shows at a true time."""
        return Nanos(self.local + (now - self.since) * self.pace // MILLION)

    def when(self, local: int) -> int:
        """The first true time at which it shows at least `local`."""
        return self.since - (self.local - local) * MILLION // self.pace  # rounded up

    def set(self, now: int, skew: int, pace: int) -> None:
        """Jump and change the pace."""
        self.local, self.since, self.pace = self.read(now) + skew, now, pace


@dataclass(slots=True, eq=False)
class Connection:
    """One connection to the hub. `up` and `down`: whether what is on its way still arrives."""

    peer: Peer
    up: bool = True
    down: bool = True


@dataclass(slots=True, eq=False)
class Process:
    """A core and its trainer. `jobs`: what is under work first, if anything is, then what waits; `beside`: likewise."""

    core: Core
    trainer: Trainer
    started_at: int
    jobs: deque[Any] = field(default_factory=deque)
    beside: deque[Any] = field(default_factory=deque)
    places: deque[int] = field(default_factory=deque)  # of each of `jobs`: how many were asked for beside before it
    asked_beside: int = 0
    beside_began_at: int = 0
    at_work: bool = False  # the first of `jobs` is begun
    began_at: int = 0  # the job under work
    rides: bool = False  # the job under work is only pretended
    wake_at: int | None = None  # true time of the earliest tick on the heap that counts
    admitted: dict[NodeId, int] = field(default_factory=dict)  # who may call, and until when

    @property
    def waiting(self) -> int:
        """How many jobs there are in the longer of its queues."""
        return max(len(self.jobs), len(self.beside))


@dataclass(slots=True, eq=False)
class Machine:
    """A node or the hub."""

    name: NodeId
    compute_key: int
    up: Way | None = None  # the hub has no line of its own, it has all the others'
    down: Way | None = None
    process: Process | None = None
    ended: Finish | None = None  # how its last process ended by itself
    gone: bool = False  # for ever
    behind_nat: bool = False  # no other node's call comes through
    back_at: int | None = None  # while it is down, or leaves: when it is to start again
    successor: Machine | None = None  # the same device, set up anew under another name
    incarnation: int = 0  # how often it has started
    disk: Any = None
    disk_before: Any = None  # as it was before the last save
    saved_at: int = 0  # when that was
    lost_writes: int = 0  # how often a crash took the last save back
    connections: int = 0
    connection: Connection = field(default_factory=lambda: Connection(Peer(NodeId(""))))
    clock: Clock | None = None  # None: true time
    speed: float = 1.0
    ails: dict[int, Fault] = field(default_factory=dict)  # what ails it, by the fault's number; the rest follows
    slow: float = 1.0
    disk_slow: float = 1.0
    drift: int = 0  # of its clock, in parts per million
    behaviour: Byzantine | None = None
    paused_until: int = 0
    jobs_done: int = 0
    slowest_ns: int = 0  # the longest of its jobs that began in good health: after the heal
    last_proposal: Any = None  # to swap, that its core has made last; a liar makes it again
    last_feedback: Any = None  # what its core said last; a replaying node says it again

    def connect(self) -> None:
        """A new connection, which waits for nothing on the old one; nothing more comes down that."""
        self.connection.down = False
        for way in (self.up, self.down):
            if way is not None:
                way.reset()
        self.connections += 1
        self.connection = Connection(Peer(self.name, b"%d" % self.connections))

    def ail(self, number: int, fault: Fault) -> None:
        """A fault begins."""
        self.ails[number] = fault
        self._settle()

    def recover(self, number: int) -> None:
        """It is over, whatever else ails the machine."""
        self.ails.pop(number, None)
        self._settle()

    def _settle(self) -> None:
        ails = self.ails.values()
        self.slow = math.prod(one.factor for one in ails if isinstance(one, Straggler | HubSlow))
        self.disk_slow = math.prod(one.factor for one in ails if isinstance(one, SlowDisk))
        self.drift = sum(round(one.drift) for one in ails if isinstance(one, ClockError))
        self.behaviour = next((one for one in reversed(ails) if isinstance(one, Byzantine)), None)

    def local(self, now: int) -> Nanos:
        """What its clock shows."""
        return Nanos(now) if self.clock is None else self.clock.read(now)

    def true(self, local: int) -> int:
        """When its clock will show that."""
        return local if self.clock is None else self.clock.when(local)

    def duration(self, job: Any, device: Device, server: Server) -> int:
        """How long its next job takes: LEAST_NS to DURATION_MAX_NS."""
        u = draw(self.compute_key, self.jobs_done)
        self.jobs_done += 1
        nanos, times = self._effort(job, device, server, u)
        return max(LEAST_NS, round(min(DURATION_MAX_NS, max(1, nanos) * times)))

    def _effort(self, job: Any, device: Device, server: Server, u: float) -> tuple[int, float]:
        """How long it would take a machine in good health, and how many times as long it takes this one."""
        match job:
            case Train():
                return device.task.at(u), self.speed * self.slow
            case LocalUpdate(work):
                return device.task.at(u), work * self.speed * self.slow
            case MakeBatches(_, count):
                return server.batch.at(u) * count, self.slow
            case Step() | Average() | Publish():
                return server.step.at(u), self.slow
            case Evaluate():
                return server.evaluate.at(u), self.slow
            case Checkpoint() | Keep() | Give() | Forget():
                return server.checkpoint.at(u), self.slow
            case Prepare():
                return device.prepare.at(u), self.disk_slow
            case Save() | Offer() | Shelve() | Install() | Adopt() | Collect():
                return device.save.at(u), self.disk_slow
            case _:
                raise AssertionError(f"no machine does {job!r}")
