"""Plays the faults of a compiled scenario on the world: what each kind does when it comes, and undoes when it ends.

Faults may overlap. What lasts on a way or a machine is kept by the fault's number, so that each ends on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, assert_never

from mdgan_edge.messages import NodeId
from sim.links import Way
from sim.machine import MILLION, Clock, Machine
from sim.scenario.values import (
    Byzantine,
    ClockError,
    Clog,
    Crash,
    Fault,
    FlashCrowd,
    HubCrash,
    HubIsolated,
    HubPause,
    HubSlow,
    Join,
    Leave,
    LinkChange,
    LinkTerms,
    MassExit,
    Partition,
    Pause,
    Reset,
    SlowDisk,
    Straggler,
)

if TYPE_CHECKING:
    from sim.world import World

_EDGE = 2.0**-40


def lognormal_factor(sigma: float, u: float) -> float:
    """A factor of median 1."""
    return math.exp(sigma * NormalDist().inv_cdf(max(u, _EDGE)))


def strike(world: World, number: int, fault: Fault) -> None:
    """The fault's time has come; its end, if it has one, goes onto the heap."""
    ends_at = min(world.end_at + 1, world.now + fault.lasts.at(0.5)) if fault.lasts is not None else world.end_at + 1
    for machine in _machines(world, fault):
        _begin(world, number, fault, machine, ends_at)


def _machines(world: World, fault: Fault) -> list[Machine]:
    if isinstance(fault, HubCrash | HubPause | HubSlow):
        return [world.hub]
    if isinstance(fault, HubIsolated):
        return [world.machines[name] for name in sorted(world.machines)]
    if isinstance(fault, Join):
        return [world.machines.get(NodeId(name)) or world.add_machine(NodeId(name)) for name in fault.who]
    known = (world.machines.get(NodeId(name)) for name in fault.who)
    return [machine for machine in known if machine is not None]


def _begin(world: World, number: int, fault: Fault, machine: Machine, ends_at: int) -> None:

    def end(undo: Callable[[], None]) -> None:
        world.push(ends_at, lambda *_: undo(), None, None)

    match fault:
        case LinkChange():
            ways = _ways(machine, fault.direction)
            for way in ways:
                way.lay(number, _change(fault))
            end(lambda: _lift(number, ways))
        case Clog(direction=direction):
            for way in _ways(machine, direction):
                way.held_until = max(way.held_until, ends_at)
        case Partition() | HubIsolated():
            ways = _ways(machine, _cut_direction(fault))
            for way in ways:
                way.cuts += 1
            end(lambda: _mend(ways))
        case Reset():
            world.break_connection(machine)
        case Straggler(factor=factor) | HubSlow(factor=factor):
            machine.slow *= factor
            end(lambda: _quicken(machine, factor))
        case SlowDisk(factor=factor):
            machine.disk_slow *= factor
            end(lambda: _quicken_disk(machine, factor))
        case Pause() | HubPause():
            machine.paused_until = max(machine.paused_until, ends_at)
        case Crash():
            _crash(world, fault, machine, ends_at)
        case HubCrash():
            _crash_hub(world, ends_at)
        case ClockError(skew=skew, drift=drift):
            machine.clock = machine.clock or Clock()
            machine.clock.set(world.now, max(0, skew), MILLION + round(drift))
            end(lambda: _right_clock(world, machine))
        case Byzantine():
            machine.behaviour = fault
            end(lambda: _behave(machine, fault))
        case Join():
            world.start_node(machine)
        case Leave():
            world.drain(machine, "asked to leave")
            if fault.lasts is not None:
                end(lambda: world.start_node(machine))
        case FlashCrowd() | MassExit():
            raise AssertionError("compiling makes single events of it")
        case _:
            assert_never(fault)


# --- links ------------------------------------------------------------------------------------------------------------


def _ways(machine: Machine, direction: str) -> list[Way]:
    ways = [machine.up if direction != "down" else None, machine.down if direction != "up" else None]
    return [way for way in ways if way is not None]


def _cut_direction(fault: Partition | HubIsolated) -> str:
    if isinstance(fault, HubIsolated) or fault.one_way is False:
        return "both"
    assert fault.one_way is not True, "compiling draws the direction"
    return fault.one_way


def _change(fault: LinkChange) -> LinkTerms:
    return LinkTerms(
        latency=fault.latency,
        rate=fault.rate_limit,
        loss=fault.loss,
        burst=fault.burst,
        duplicate=fault.duplicate,
        reorder=fault.reorder,
    )


def _lift(number: int, ways: list[Way]) -> None:
    for way in ways:
        way.lift(number)


def _mend(ways: list[Way]) -> None:
    for way in ways:
        way.cuts -= 1


# --- machines ---------------------------------------------------------------------------------------------------------


def _quicken(machine: Machine, factor: float) -> None:
    machine.slow /= factor


def _quicken_disk(machine: Machine, factor: float) -> None:
    machine.disk_slow /= factor


def _behave(machine: Machine, fault: Byzantine) -> None:
    if machine.behaviour is fault:
        machine.behaviour = None


def _right_clock(world: World, machine: Machine) -> None:
    assert machine.clock is not None
    machine.clock.set(world.now, 0, MILLION)  # its pace is right again; a monotonic clock does not jump back


def _crash(world: World, fault: Crash, machine: Machine, ends_at: int) -> None:
    world.crash(machine)
    if fault.lost_writes and machine.disk_before is not None:
        machine.disk, machine.disk_before = machine.disk_before, None
    if fault.lasts is None:
        machine.gone = True
        return
    if fault.keep_disk:
        world.push(ends_at, lambda *_: world.start_node(machine), None, None)
    else:
        machine.gone = True
        world.push(ends_at, lambda *_: world.start_node(_anew(world, machine)), None, None)


def _anew(world: World, machine: Machine) -> Machine:
    """Its disk held its keys: the device is set up anew, under a new name."""
    stem, _, generation = machine.name.partition("-r")
    return world.add_machine(NodeId(f"{stem}-r{int(generation or 0) + 1}"))


def _crash_hub(world: World, ends_at: int) -> None:
    if world.hub.process is None:
        return
    world.crash(world.hub)
    world.hub_back_at = ends_at
    for name in sorted(world.machines):
        world.break_connection(world.machines[name])
    world.push(ends_at, lambda *_: world.start_hub(), None, None)
