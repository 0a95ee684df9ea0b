"""What the keys of a scenario say about each other, and must not contradict. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sim.scenario.compiling import ABOUT_THE_HUB, HUB, MOMENTARY, Crew, kind_of
from sim.scenario.values import Burst, Churn, Fault, FlashCrowd, Join, LinkChange, MassExit, Scenario

NAME = r"[a-z0-9][a-z0-9-]{0,31}"
WHO = re.compile(rf"all|one|fraction:[0-9.]+|count:[0-9]+|{NAME}")
GROUP = re.compile(r"all|one|fraction:.*|count:.*")


def contradiction(scenario: Scenario) -> str | None:
    """The first thing that cannot be, in words; None if all fits."""
    return next(_contradictions(scenario), None)


def _contradictions(scenario: Scenario) -> Iterator[str]:
    if scenario.duration <= 0:
        yield f"duration = {scenario.duration.text()}: a run takes time, such as 120s"
    if not scenario.name or "/" in scenario.name:
        yield f"name = {scenario.name!r}: a run's directory is called by it, so it is not empty and has no slash"
    for name in ("rejoin_within", "advance_within", "starve_within"):
        if getattr(scenario.expect, name) < 0:
            yield f"expect.{name} = {getattr(scenario.expect, name).text()} is negative"
    for name in ("default", "up", "down"):
        for trouble in _burst(getattr(scenario.links, name).burst):
            yield f"links.{name}.burst: {trouble}"
    if scenario.heal is not None:
        yield from _heal(scenario)
    yield from _joined_twice(scenario)
    crew = Crew(scenario, scenario.fault)
    for number, fault in enumerate(scenario.fault, start=1):
        for trouble in _fault(scenario, fault, crew):
            yield f"fault {number} ({kind_of(fault)}): {trouble}"
    yield from _trace(scenario, crew)
    if scenario.churn.gaps is not None and scenario.churn.sessions is None:
        yield "churn.gaps needs churn.sessions: how long nodes stay away means nothing if they never go"
    if scenario.everything and scenario.fault:
        yield "everything = true draws the faults itself: leave [[fault]] out"


def _heal(scenario: Scenario) -> Iterator[str]:
    assert scenario.heal is not None
    at, end = scenario.heal.at, scenario.duration
    if at < 0 or at >= end:
        yield f"heal.at = {at.text()} is not within the run, which ends at {end.text()}"
    elif at + scenario.expect.rejoin_within > end:
        wanted = scenario.expect.rejoin_within.text()
        yield f"the heal at {at.text()} leaves less than expect.rejoin_within = {wanted} before the end at {end.text()}"


def _fault(scenario: Scenario, fault: Fault, crew: Crew) -> Iterator[str]:
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
    if fault.stability < 0:
        yield f"stability = {fault.stability.text()} is negative"
    if fault.rate is not None and not fault.rate:
        yield "rate = 0/s never comes: leave the fault out"
    if fault.lasts is not None and isinstance(fault, MOMENTARY):
        yield "`for` means nothing to it: it happens in a moment"
    if fault.lasts is not None and isinstance(fault, FlashCrowd):
        yield "`for` means nothing to it: those who come stay"
    if fault.rate is not None and isinstance(fault, Join | FlashCrowd | MassExit):
        yield "it cannot have a rate: nodes that come and go at a rate are [churn] arrivals and sessions"
    if isinstance(fault, FlashCrowd | MassExit) and fault.within < 0:
        yield f"within = {fault.within.text()} is negative"
    if isinstance(fault, LinkChange):
        yield from _burst(fault.burst)
    yield from _who(scenario, fault, crew)


def _who(scenario: Scenario, fault: Fault, crew: Crew) -> Iterator[str]:
    who = fault.who
    if isinstance(fault, ABOUT_THE_HUB):
        if who not in ("all", HUB):
            yield f"who = {who!r} means nothing to it: it befalls the hub"
        return
    if not who:
        yield "who names nobody"
    if isinstance(fault, Join):
        if isinstance(who, str):
            yield 'who must list the new nodes, such as ["x1", "x2"]'
        elif old := sorted(set(who) & set(crew.initial)):
            yield f"{old[0]} is there from the start: give a new node a new name"
        return
    names = (who,) if isinstance(who, str) else who
    for name in names:
        if WHO.fullmatch(name) is None:
            yield f"who = {name!r}: write all, one, fraction:0.3, count:3, or names of nodes"
            return
    yield from _amount(who) if isinstance(who, str) and GROUP.fullmatch(who) else _unknown(scenario, fault, crew)


def _amount(who: str) -> Iterator[str]:
    word, _, number = who.partition(":")
    if word == "fraction" and (number.count(".") > 1 or number == "." or not 0 < float(number) <= 1):
        yield f"who = {who!r}: a fraction is above 0 and at most 1"
    if word == "count" and int(number) == 0:
        yield f"who = {who!r}: at least one"


def _unknown(scenario: Scenario, fault: Fault, crew: Crew) -> Iterator[str]:
    if scenario.churn != Churn() or any(isinstance(one, FlashCrowd) for one in scenario.fault):
        return  # names that the seed makes are known when it is compiled
    if stranger := crew.stranger(fault):
        yield stranger


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


def _trace(scenario: Scenario, crew: Crew) -> Iterator[str]:
    known: set[str] = {*crew.initial}
    before = 0
    for number, (at, what, name) in enumerate(scenario.churn.trace, start=1):
        if re.fullmatch(NAME, name) is None:
            yield f"churn.trace, line {number}: {name!r} is no name of a node"
        elif at < before:
            yield f"churn.trace, line {number}: {at.text()} is before the line above it, or the start"
        elif what != "join" and name not in known:
            yield f"churn.trace, line {number}: {name} has not joined yet"
        known.add(name)
        before = at
