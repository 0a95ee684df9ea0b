"""What the keys of a scenario say about each other, and must not contradict. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from sim.invariants.names import SOMETIMES
from sim.scenario.compiling import ABOUT_THE_HUB, FOR_EVER, HUB, MOMENTARY, SET_UP_ANEW, Crew, kind_of
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import (
    Burst,
    Byzantine,
    Churn,
    ClockError,
    Crash,
    Device,
    Fault,
    FlashCrowd,
    HubCrash,
    HubSlow,
    Join,
    LinkChange,
    Links,
    MassExit,
    Scenario,
    Server,
    SlowDisk,
    Straggler,
)
from sim.scenario.words import near_miss

NAME = r"[a-z0-9][a-z0-9-]{0,31}"
WHO = re.compile(rf"all|one|fraction:[0-9.]{{1,20}}|count:[0-9]{{1,9}}|{NAME}")
SHOWN_MAX = 40  # characters of what is no name
GROUP = re.compile(r"all|one|fraction:.*|count:.*")
NO_TIME = Constant(Duration(0))
TERMS = ("latency", "rate_limit", "loss", "burst", "duplicate", "reorder")  # of a `link` fault


def in_the_file(index: int) -> str:
    """What a line of the churn's trace is called if it is written in the scenario itself."""
    return f"churn.trace, line {index + 1}"


def contradiction(scenario: Scenario, place: Callable[[int], str] = in_the_file) -> str | None:
    """The first thing that cannot be, in words; None if all fits. `place` says where an event of churn's trace is."""
    return next(_contradictions(scenario, place), None)


def _contradictions(scenario: Scenario, place: Callable[[int], str]) -> Iterator[str]:
    if scenario.duration <= 0:
        yield f"duration = {scenario.duration.text()}: a run takes time, such as 120s"
    if not scenario.name or "/" in scenario.name:
        yield f"name = {scenario.name!r}: a run's directory is called by it, so it is not empty and has no slash"
    for name in ("rejoin_within", "advance_within", "starve_within"):
        if getattr(scenario.expect, name) < 0:
            yield f"expect.{name} = {getattr(scenario.expect, name).text()} is negative"
    for name in scenario.expect.sometimes:
        if name not in SOMETIMES:
            yield f"expect.sometimes: nothing is counted as {name!r}: {near_miss(name, SOMETIMES)}"
    for name in ("default", "up", "down"):
        for trouble in _burst(getattr(scenario.links, name).burst):
            yield f"links.{name}.burst: {trouble}"
    if scenario.heal is not None:
        yield from _heal(scenario)
    yield from _joined_twice(scenario)
    roll = _Roll(scenario)
    for number, fault in enumerate(scenario.fault, start=1):
        for trouble in _fault(scenario, fault, roll):
            yield f"fault {number} ({kind_of(fault)}): {trouble}"
    yield from _trace(scenario, roll, place)
    yield from _churn(scenario.churn)
    yield from _drawn(scenario)
    yield from _queues(scenario)


def _churn(churn: Churn) -> Iterator[str]:
    if churn.arrivals is not None and not churn.arrivals:
        yield "churn.arrivals = 0/s: nobody ever comes: leave it out"
    if churn.gaps is not None and churn.sessions is None:
        yield "churn.gaps needs churn.sessions: how long nodes stay away means nothing if they never go"
    if churn.ends != Churn().ends and churn.sessions is None:
        yield "churn.ends needs churn.sessions: how nodes go means nothing if they never go"


def _drawn(scenario: Scenario) -> Iterator[str]:
    if not scenario.everything:
        return
    if scenario.fault:
        yield "everything = true draws the faults itself: leave [[fault]] out"
    for name, usual in (("links", Links()), ("device", Device()), ("server", Server()), ("churn", Churn())):
        if getattr(scenario, name) != usual:
            yield f"everything = true draws {name} itself: leave [{name}] out"


def _queues(scenario: Scenario) -> Iterator[str]:
    if scenario.everything:
        return
    for name in ("default", "up", "down"):
        if getattr(scenario.links, name).queue is not None and not has_rate(scenario, name):
            yield f"links.{name}.queue: nothing waits in it without a rate: give {name} a rate, or leave it out"


def has_rate(scenario: Scenario, table: str) -> bool:
    """Whether links of this table, or of those that inherit from it, ever have a rate for which messages wait."""
    links = scenario.links
    directions = ("up", "down") if table == "default" else (table,)
    ports = {"up": links.hub.down, "down": links.hub.up}
    changes = (fault for fault in scenario.fault if isinstance(fault, LinkChange) and fault.rate_limit is not None)
    changed = {fault.direction for fault in changes}
    own = any(getattr(links, name).rate or ports[name] or name in changed for name in directions)
    return bool(own or links.default.rate or "both" in changed)


def _heal(scenario: Scenario) -> Iterator[str]:
    assert scenario.heal is not None
    at, end = scenario.heal.at, scenario.duration
    if at < 0 or at >= end:
        yield f"heal.at = {at.text()} is not within the run, which ends at {end.text()}"
    elif at + scenario.expect.rejoin_within > end:
        wanted = scenario.expect.rejoin_within.text()
        yield f"the heal at {at.text()} leaves less than expect.rejoin_within = {wanted} before the end at {end.text()}"


def _fault(scenario: Scenario, fault: Fault, roll: _Roll) -> Iterator[str]:
    if fault.at is None and fault.rate is None:
        yield 'say when it comes: at = "10s", or rate = "0.1/s"'
        return
    at = fault.at
    if at is not None and at < 0:
        yield f"at = {at.text()} is before the start"
    if at is not None and at >= scenario.duration:
        yield f"at = {at.text()} is after the end of the run at {scenario.duration.text()}"
    elif at is not None and scenario.heal is not None and at >= scenario.heal.at:
        yield f"at = {at.text()} is not before the heal at {scenario.heal.at.text()}, after which nothing may fail"
    if fault.rate is not None and not fault.rate:
        yield "rate = 0/s never comes: leave the fault out"
    if fault.rate is not None and isinstance(fault, Join | FlashCrowd | MassExit):
        yield "it cannot have a rate: nodes that come and go at a rate are [churn] arrivals and sessions"
    if isinstance(fault, FlashCrowd | MassExit):
        yield from _within(scenario, fault)
    yield from _length(fault)
    yield from _nothing_to_it(fault)
    yield from _who(fault, roll)


def _within(scenario: Scenario, fault: FlashCrowd | MassExit) -> Iterator[str]:
    within, end = fault.within, scenario.duration
    if within < 0:
        yield f"within = {within.text()} is negative"
    elif (fault.at or 0) < end < (fault.at or 0) + within:
        yield f"within = {within.text()} goes beyond the end of the run at {end.text()}"


def _length(fault: Fault) -> Iterator[str]:
    given = [
        name for name, value in (("for", fault.lasts), ("stability", fault.stability or None)) if value is not None
    ]
    if fault.stability < 0:
        yield f"stability = {fault.stability.text()} is negative"
    elif given and isinstance(fault, MOMENTARY):
        yield f"`{given[0]}` means nothing to it: it happens in a moment"
    elif given and isinstance(fault, FlashCrowd):
        yield f"`{given[0]}` means nothing to it: those who come stay"
    elif given == ["stability"] and isinstance(fault, (*FOR_EVER, MassExit)):
        yield "`stability` means nothing to it without `for`: those who go stay away"
    elif given == ["stability"]:
        yield "`stability` means nothing to it without `for`: it lasts to the heal, or else to the end"
    elif fault.lasts == NO_TIME and not fault.stability and not _leaves_something(fault):
        yield "for = 0s: it does nothing in no time"


def _leaves_something(fault: Fault) -> bool:
    """Whether it makes a difference although it is over at once."""
    return isinstance(fault, (*FOR_EVER, MassExit, HubCrash)) or (isinstance(fault, ClockError) and fault.skew > 0)


def _nothing_to_it(fault: Fault) -> Iterator[str]:
    if isinstance(fault, LinkChange):
        yield from _burst(fault.burst)
        if all(getattr(fault, name) is None for name in TERMS):
            yield f"it changes nothing: give it one of {', '.join(TERMS)}"
    if isinstance(fault, Straggler | SlowDisk | HubSlow) and fault.factor == 1:
        yield "factor = 1 changes nothing"
    if isinstance(fault, Byzantine):
        if fault.how == "scale" and fault.factor == 1:
            yield "factor = 1 changes nothing"
        if not fault.chance:
            yield "chance = 0 never comes: leave the fault out"
    if isinstance(fault, Crash):
        yield from _disk(fault)
    if isinstance(fault, ClockError):
        if fault.skew < 0:
            yield f"skew = {fault.skew.text()} is negative: a monotonic clock only jumps forward"
        if not fault.skew and not round(fault.drift):
            yield 'it changes nothing: give it skew = "2s", or drift = 10_000 (parts per million)'


def _disk(fault: Crash) -> Iterator[str]:
    if fault.lasts is None and not fault.keep_disk:
        yield "keep_disk = false means nothing without `for`: it never starts again"
    if fault.lost_writes and (fault.lasts is None or not fault.keep_disk):
        without = "without `for`: it never starts again" if fault.lasts is None else "if it does not keep its disk"
        yield f"lost_writes = true means nothing {without}"


def _who(fault: Fault, roll: _Roll) -> Iterator[str]:
    who = fault.who
    if isinstance(fault, FlashCrowd):
        if who != "all":
            yield f"who = {who!r} means nothing to it: those who come are new, and named by the seed"
        return
    if isinstance(fault, ABOUT_THE_HUB):
        if who not in ("all", HUB):
            yield f"who = {who!r} means nothing to it: it befalls the hub"
        return
    if not who:
        yield "who names nobody"
    if isinstance(fault, Join):
        if isinstance(who, str):
            yield 'who must list the new nodes, such as ["x1", "x2"]'
        else:
            yield from (why for name in who if (why := roll.unfit(name)))
        return
    names = (who,) if isinstance(who, str) else who
    for name in names:
        if WHO.fullmatch(name) is None:
            shown = name if len(name) <= SHOWN_MAX else f"{name[:SHOWN_MAX]}..."
            yield f"who = {shown!r}: write all, one, fraction:0.3, count:3, or names of nodes"
            return
    if isinstance(who, str) and GROUP.fullmatch(who):
        yield from _amount(who, None if roll.grows else len(roll.crew.at(int(fault.at or 0))))
    elif not roll.grows and (stranger := roll.crew.stranger(fault)):  # else the seed makes names
        yield stranger


def _amount(who: str, there: int | None) -> Iterator[str]:
    word, _, number = who.partition(":")
    if word == "fraction" and (number.count(".") > 1 or number == "." or not 0 < float(number) <= 1):
        yield f"who = {who!r}: a fraction is above 0 and at most 1"
    if word == "count" and int(number) == 0:
        yield f"who = {who!r}: at least one"
    elif word == "count" and there is not None and int(number) > there:
        yield f"who = {who!r}: there are only {there} nodes then"


def _joined_twice(scenario: Scenario) -> Iterator[str]:
    seen: set[str] = set()
    for number, fault in enumerate(scenario.fault, start=1):
        if isinstance(fault, Join) and not isinstance(fault.who, str):
            for name in fault.who:
                if name in seen:
                    yield f"fault {number} (join): {name} has joined already: give a new node a new name"
                seen.add(name)


def _burst(burst: Burst | None) -> Iterator[str]:
    if burst is not None and (burst.every <= 0 or burst.lasts <= 0):
        yield "every and lasts must be above 0"


def _trace(scenario: Scenario, roll: _Roll, place: Callable[[int], str]) -> Iterator[str]:
    there = dict.fromkeys(roll.initial, True)
    before = 0
    for index, (at, what, name) in enumerate(scenario.churn.trace):
        trouble = None
        if at >= scenario.duration:
            trouble = f"{at.text()} is after the end of the run at {scenario.duration.text()}"
        elif at < before:
            trouble = f"{at.text()} is before the line above it, or the start"
        elif what == "join" and there.get(name):
            trouble = f"{name} is there already"
        elif what == "join" and name not in there:
            trouble = f"{name} joins by a fault too" if name in roll.joining else roll.unfit(name)
        elif what != "join" and name not in there:
            trouble = f"{name} has not joined yet"
        elif what != "join" and not there[name]:
            trouble = f"{name} is gone already"
        if trouble:
            yield f"{place(index)}: {trouble}"
        there[name] = what == "join"
        before = at


class _Roll:
    """Who there is, and which names new nodes cannot have."""

    def __init__(self, scenario: Scenario) -> None:
        joins = [fault for fault in scenario.fault if isinstance(fault, Join)]
        crowds = [fault.count for fault in scenario.fault if isinstance(fault, FlashCrowd)]
        churn = scenario.churn
        self.crew = Crew(scenario, scenario.fault)
        self.initial: frozenset[str] = frozenset(self.crew.initial)
        self.joining = frozenset(name for fault in joins for name in fault.who)
        self.grows = bool(churn.arrivals or churn.trace or crowds)  # beyond those whom faults name
        self._arrivals = bool(churn.arrivals)
        self._crowds = frozenset(f"f{number}-{i}" for number, count in enumerate(crowds, 1) for i in range(count))

    def unfit(self, name: str) -> str | None:
        """Why a new node cannot be called so."""
        if re.fullmatch(NAME, name) is None or name in HUB:
            return f"{name!r} is no name for a node: small letters, digits and dashes, at most 32, and not 'hub'"
        if name in self.initial:
            return f"{name} is there from the start: give a new node a new name"
        stem = SET_UP_ANEW.sub("", name)
        if stem != name and self.crew.known(stem):
            return f"{name} is what {stem} is called once it is set up anew: give a new node another name"
        if name in self._crowds or (self._arrivals and re.fullmatch("c[0-9]+", name)):
            return f"{name} is a name that compiling gives to nodes of churn or crowds: give a new node another"
        return None
