"""Makes the explicit form of a scenario from its seed: every fault with a time, a length and names. Pure.

Each fault draws from a stream named by what it says itself, so taking one away leaves the others as they were.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import NodeId
from mdgan_edge.streams import stream_seed
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import (
    Churn,
    Crash,
    Fault,
    FlashCrowd,
    HubCrash,
    HubIsolated,
    HubPause,
    HubSlow,
    Join,
    Leave,
    MassExit,
    Partition,
    Reset,
    Scenario,
)

OCCURRENCES_MAX = 100_000  # of one fault with a rate
HUB = ("hub",)
SET_UP_ANEW = re.compile(r"-r[0-9]+$")
ABOUT_THE_HUB = (HubCrash, HubIsolated, HubPause, HubSlow)
MOMENTARY = (Reset, Join)  # these have no end
FOR_EVER = (Crash, Leave)  # these have an end only if they say so


def node_names(count: int) -> list[NodeId]:
    """n0, n1, ..: a node keeps its name, and so its chance, whatever the count."""
    return [NodeId(f"n{index}") for index in range(count)]


def kind_of(fault: Fault) -> str:
    """As a file names it."""
    return str(fault.__struct_config__.tag)


def compile_scenario(scenario: Scenario, seed: int) -> Scenario:
    """The explicit form. Raises ConfigurationError for names that no node has."""
    ends_at = int(scenario.duration) if scenario.heal is None else int(scenario.heal.at)
    faults: list[Fault] = [*_churn(scenario, seed, ends_at)]
    seen: dict[str, int] = {}
    for fault in scenario.fault:
        if isinstance(fault, FlashCrowd):
            text = repr(fault)
            seen[text] = seen.get(text, 0) + 1
            faults += _crowd(fault, _rng(seed, text, seen[text]), sum(seen.values()), ends_at)
    crew = Crew(scenario, [*faults, *scenario.fault])
    for fault in scenario.fault:
        if isinstance(fault, FlashCrowd):
            continue
        text = repr(fault)
        seen[text] = seen.get(text, 0) + 1
        faults += _explicit(fault, _rng(seed, text, seen[text]), crew, ends_at)
    faults.sort(key=lambda fault: (int(fault.at or 0), kind_of(fault), fault.who, repr(fault)))
    return replace(scenario, seed=seed, everything=False, churn=Churn(), fault=tuple(faults))


def without_strangers(scenario: Scenario) -> Scenario:
    """A compiled scenario without faults of nodes that it does not have: what is left when joins or nodes are cut."""
    crew = Crew(scenario, scenario.fault)
    kept: list[Fault] = []
    for fault in scenario.fault:
        if isinstance(fault, Join | HubCrash | HubIsolated | HubPause | HubSlow):
            kept.append(fault)
        elif who := tuple(name for name in fault.who if crew.known(name)):
            kept.append(replace(fault, who=who))
    return replace(scenario, fault=tuple(kept))


class Crew:
    """Who exists when."""

    def __init__(self, scenario: Scenario, faults: Iterable[Fault]) -> None:
        joins = [(int(fault.at or 0), name) for fault in faults if isinstance(fault, Join) for name in fault.who]
        self.initial = node_names(scenario.nodes)
        self._joins = sorted(joins)
        self._names = {*self.initial, *(name for _, name in joins)}

    def at(self, time: int) -> list[str]:
        """All nodes that have joined by then, in the order of their coming."""
        return [*self.initial, *(name for joined, name in self._joins if joined <= time)]

    def known(self, name: str) -> bool:
        """Whether there ever is such a node; `n3-r1` is n3 set up anew."""
        return name in self._names or SET_UP_ANEW.sub("", name) in self._names

    def stranger(self, fault: Fault) -> str | None:
        """What is wrong if the fault names somebody who never is."""
        names = (fault.who,) if isinstance(fault.who, str) else fault.who
        unknown = None if isinstance(fault, Join) else next((name for name in names if not self.known(name)), None)
        nodes = f"n0 to n{len(self.initial) - 1}, and those that join"
        return f"a fault of kind {kind_of(fault)} names {unknown!r}, but the nodes are {nodes}" if unknown else None


def _rng(seed: int, *key: str | int) -> random.Random:
    return random.Random(stream_seed(seed, "fault", *key))


# --- churn ------------------------------------------------------------------------------------------------------------


def _churn(scenario: Scenario, seed: int, ends_at: int) -> Iterator[Fault]:
    churn = scenario.churn
    starts: list[tuple[int, str]] = [(0, name) for name in node_names(scenario.nodes)]
    if churn.arrivals:
        arrivals = [(at, f"c{index}") for index, at in enumerate(_poisson(churn.arrivals, 0, ends_at, _rng(seed, "c")))]
        yield from (Join(at=Duration(at), who=(name,)) for at, name in arrivals)
        starts += arrivals
    yield from _from_trace(churn.trace, ends_at)
    if churn.sessions is not None:
        for at, name in starts:
            yield from _sessions(churn, at, name, ends_at, _rng(seed, "session", name))


def _sessions(churn: Churn, at: int, name: str, ends_at: int, rng: random.Random) -> Iterator[Fault]:
    assert churn.sessions is not None
    while True:
        at += max(1, churn.sessions.at(rng.random()))
        leaves = churn.ends == "leave" or (churn.ends == "both" and rng.random() < 0.5)
        gap = None if churn.gaps is None else min(churn.gaps.at(rng.random()), ends_at - at)
        if at >= ends_at:
            return
        lasts = None if gap is None else Constant(Duration(gap))
        kind = Leave if leaves else Crash
        yield kind(at=Duration(at), lasts=lasts, who=(name,))
        if gap is None:
            return
        at += gap


def _from_trace(trace: tuple[tuple[Duration, str, str], ...], ends_at: int) -> Iterator[Fault]:
    for index, (at, what, name) in enumerate(trace):
        if at >= ends_at:
            continue
        if what == "join" and not any(known == name for _, _, known in trace[:index]):
            yield Join(at=at, who=(name,))
        elif what in ("leave", "crash"):
            back = next((then for then, again, who in trace[index + 1 :] if who == name and again == "join"), None)
            lasts = None if back is None else Constant(Duration(min(back, ends_at) - at))
            yield (Leave if what == "leave" else Crash)(at=at, lasts=lasts, who=(name,))


def _poisson(rate: float, start: int, ends_at: int, rng: random.Random) -> Iterator[int]:
    at = float(start)
    for _ in range(OCCURRENCES_MAX):
        at += rng.expovariate(rate) * 1e9
        if at >= ends_at:
            return
        yield int(at)


def _crowd(fault: FlashCrowd, rng: random.Random, number: int, ends_at: int) -> list[Fault]:
    start = int(fault.at or 0)
    times = sorted(min(start + int(rng.random() * fault.within), ends_at - 1) for _ in range(fault.count))
    return [Join(at=Duration(at), who=(f"f{number}-{index}",)) for index, at in enumerate(times)]


# --- one fault --------------------------------------------------------------------------------------------------------


def _explicit(fault: Fault, rng: random.Random, crew: Crew, ends_at: int) -> list[Fault]:
    if isinstance(fault, Partition) and fault.one_way is True:
        fault = replace(fault, one_way=rng.choice(("up", "down")))
    if fault.rate is None:
        at = int(fault.at or 0)
        who = _chosen(fault, crew, at, rng)
        if isinstance(fault, MassExit):
            return _exits(fault, who, at, rng, ends_at)
        return [_fixed(fault, at, who, rng, ends_at)] if who else []
    return list(_occurrences(fault, rng, crew, ends_at))


def _occurrences(fault: Fault, rng: random.Random, crew: Crew, ends_at: int) -> Iterator[Fault]:
    busy_until: dict[str, int] = {}
    pool = None if isinstance(fault, ABOUT_THE_HUB) else _pool(fault, crew, int(fault.at or 0), rng)
    for at in _poisson(fault.rate or 0.0, int(fault.at or 0), ends_at, rng):
        names = list(HUB) if pool is None else (crew.at(at) if fault.who == "all" else pool)
        name = rng.choice(names)
        one = _fixed(replace(fault, rate=None), at, (name,), rng, ends_at)
        if at < busy_until.get(name, 0):
            continue  # it is still under this very fault, or has had no rest since
        length = one.lasts.at(0.5) if one.lasts is not None else 0
        busy_until[name] = at + length + int(fault.stability)
        yield one


def _pool(fault: Fault, crew: Crew, at: int, rng: random.Random) -> list[str]:
    return list(_chosen(fault, crew, at, rng))


def _exits(fault: MassExit, who: tuple[str, ...], at: int, rng: random.Random, ends_at: int) -> list[Fault]:
    kind = Leave if fault.how == "leave" else Crash
    times = [min(at + int(rng.random() * fault.within), ends_at - 1) for _ in who]
    pairs = zip(times, who, strict=True)
    return [_fixed(kind(lasts=fault.lasts), time, (name,), rng, ends_at) for time, name in pairs]


def _fixed(fault: Fault, at: int, who: tuple[str, ...], rng: random.Random, ends_at: int) -> Fault:
    return replace(fault, at=Duration(at), who=who, lasts=_length(fault, at, rng, ends_at))


def _length(fault: Fault, at: int, rng: random.Random, ends_at: int) -> Any:
    if isinstance(fault, MOMENTARY) or (isinstance(fault, FOR_EVER) and fault.lasts is None):
        return None
    left = ends_at - at
    drawn = left if fault.lasts is None else fault.lasts.at(rng.random())
    return Constant(Duration(min(left, max(drawn, int(fault.stability)))))


def _chosen(fault: Fault, crew: Crew, at: int, rng: random.Random) -> tuple[str, ...]:
    if isinstance(fault, ABOUT_THE_HUB):
        return HUB
    if not isinstance(fault.who, str):
        return _named(fault, crew)
    names = crew.at(at)
    word, _, number = fault.who.partition(":")
    match word:
        case "all":
            return tuple(sorted(names))
        case "one":
            return (rng.choice(names),)
        case "fraction":
            return tuple(sorted(rng.sample(names, max(1, round(float(number) * len(names))))))
        case "count":
            return tuple(sorted(rng.sample(names, min(int(number), len(names)))))
        case _:
            return _named(replace(fault, who=(fault.who,)), crew)


def _named(fault: Fault, crew: Crew) -> tuple[str, ...]:
    assert not isinstance(fault.who, str)
    if stranger := crew.stranger(fault):
        raise ConfigurationError(stranger)
    return tuple(sorted(fault.who))
