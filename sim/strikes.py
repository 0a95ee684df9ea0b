"""Plays the faults of a compiled scenario on the world: what each kind does when it comes, and undoes when it ends.

Faults may overlap. What lasts on a way or a machine is kept by the fault's number, so that each ends on its own; a
process that crashes again while it is down, node or hub, starts when the last of these crashes is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from mdgan_edge.messages import NodeId
from sim.links import Way
from sim.machine import MILLION, Clock, Machine
from sim.scenario.compiling import SET_UP_ANEW
from sim.scenario.distributions import bounded_exp, normal_quantile
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


UNSYNCED_MAX_NS = 5_000_000_000  # how long a write may wait in memory before it is on the disk


def lognormal_factor(sigma: float, u: float) -> float:
    """A factor of median 1."""
    return bounded_exp(sigma * normal_quantile(u))


def strike(world: World, number: int, fault: Fault) -> None:
    """The fault's time has come; its end, if it has one, goes onto the heap."""
    ends_at = min(world.end_at + 1, world.now + fault.lasts.at(0.5)) if fault.lasts is not None else world.end_at + 1
    if isinstance(fault, HubIsolated):
        _isolate(world, +1)
        world.push(ends_at, lambda *_: _isolate(world, -1), None, None)
    for machine in _machines(world, fault):
        _begin(world, number, fault, machine, ends_at)


def _machines(world: World, fault: Fault) -> list[Machine]:
    if isinstance(fault, HubIsolated):
        return []
    if isinstance(fault, HubCrash | HubPause | HubSlow):
        return [world.hub]
    if isinstance(fault, Join):
        return [world.machines.get(NodeId(name)) or world.add_machine(NodeId(name)) for name in fault.who]
    known = (world.machines.get(NodeId(name)) for name in fault.who)
    return [_now(machine) for machine in known if machine is not None]


def _now(machine: Machine) -> Machine:
    """The device as it is called now."""
    while machine.successor is not None:
        machine = machine.successor
    return machine


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
        case Partition():
            ways = _ways(machine, _cut_direction(fault))
            _cut(ways, +1)
            end(lambda: _cut(ways, -1))
        case Reset():
            world.break_connection(machine)
            world.post.across.reset(machine)
        case Straggler() | HubSlow() | SlowDisk() | Byzantine():
            machine.ail(number, fault)
            end(lambda: _now(machine).recover(number))
        case ClockError(skew=skew):
            machine.ail(number, fault)
            _set_clock(world, machine, skew)
            end(lambda: _right_clock(world, _now(machine), number))
        case Pause() | HubPause():
            if machine.process is not None:
                machine.paused_until = max(machine.paused_until, ends_at)
        case Crash():
            _crash(world, fault, machine, ends_at)
        case HubCrash():
            _crash_hub(world, ends_at)
        case Join():
            world.start_node(machine)
        case Leave():
            _leave(world, fault, machine, ends_at)
        case HubIsolated() | FlashCrowd() | MassExit():
            raise AssertionError("of the first there is one, of the others compiling makes single events")
        case _:
            assert_never(fault)


# --- links ------------------------------------------------------------------------------------------------------------


def _ways(machine: Machine, direction: str) -> list[Way]:
    ways = [machine.up if direction != "down" else None, machine.down if direction != "up" else None]
    return [way for way in ways if way is not None]


def _cut_direction(fault: Partition) -> str:
    if fault.one_way is False:
        return "both"
    assert fault.one_way is not True, "compiling draws the direction"
    return fault.one_way


def _isolate(world: World, by: int) -> None:
    """Every line, and those to come."""
    world.hub_cuts += by
    for machine in world.machines.values():
        if machine.successor is None:
            _cut(_ways(machine, "both"), by)


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


def _cut(ways: list[Way], by: int) -> None:
    for way in ways:
        way.cuts += by


# --- machines ---------------------------------------------------------------------------------------------------------


def _set_clock(world: World, machine: Machine, skew: int) -> None:
    machine.clock = machine.clock or Clock()
    machine.clock.set(world.now, skew, MILLION + machine.drift)


def _right_clock(world: World, machine: Machine, number: int) -> None:
    """Its pace is right again, but for other faults; a monotonic clock does not jump back."""
    machine.recover(number)
    _set_clock(world, machine, 0)


def _leave(world: World, fault: Leave, machine: Machine, ends_at: int) -> None:
    if machine.gone or machine.process is None:
        return
    if fault.lasts is None:
        machine.gone = True
    else:
        world.bring_back(machine, ends_at)
    world.drain(machine, "asked to leave")


def _crash(world: World, fault: Crash, machine: Machine, ends_at: int) -> None:
    if machine.gone or (machine.process is None and machine.back_at is None):
        return  # it is not there, and would not have come
    world.crash(machine)
    if fault.lost_writes:
        _lose_last_write(world, machine)
    if fault.lasts is None:
        machine.gone = True
    elif fault.keep_disk:
        world.bring_back(machine, ends_at)
    else:
        machine.gone = True
        world.push(max(ends_at, machine.back_at or 0), lambda *_: _set_up_anew(world, machine), None, None)


def _lose_last_write(world: World, machine: Machine) -> None:
    """What was saved a moment ago has not reached the disk."""
    if machine.disk_before is not None and world.now - machine.saved_at <= UNSYNCED_MAX_NS:
        machine.disk, machine.disk_before = machine.disk_before, None
        machine.lost_writes += 1


def _set_up_anew(world: World, machine: Machine) -> None:
    """Its disk held its keys: the same device on the same line has a new name."""
    stem = SET_UP_ANEW.sub("", machine.name)
    generation = int(machine.name[len(stem) + len("-r") :] or 0) + 1
    successor = world.add_machine(NodeId(f"{stem}-r{generation}"))
    successor.up, successor.down = machine.up, machine.down
    successor.speed, successor.clock, successor.behind_nat = machine.speed, machine.clock, machine.behind_nat
    machine.successor = successor
    for number, fault in machine.ails.items():
        successor.ail(number, fault)
    world.start_node(successor)


def _crash_hub(world: World, ends_at: int) -> None:
    if world.hub.process is not None:
        world.crash(world.hub)
        for name in sorted(world.machines):
            world.break_connection(world.machines[name])
    elif world.hub_back_at is None:
        return  # its run is over
    world.hub_back_at = max(world.hub_back_at or 0, ends_at)
    if ends_at < world.end_at:
        world.push(ends_at, lambda *_: _bring_back_hub(world), None, None)


def _bring_back_hub(world: World) -> None:
    if world.hub_back_at is not None and world.hub_back_at <= world.now:
        world.start_hub()
