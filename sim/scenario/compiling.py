"""Makes the explicit form of a scenario from its seed: every fault with a time, a length and names. Pure.

A fault draws from streams named by its kind and its number among those of that kind, one stream for whom it hits, one
for when, one for how long. So another factor, length or share changes nothing else of it, and no other fault; only
taking a fault away gives the later ones of its kind other numbers, and so other chance.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.messages import NodeId
from sim.chance import draw, stream
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

OCCURRENCES_MAX = 100_000  # of one fault, and of churn
LEAST_LENGTH_NS = 1  # of a fault whose length is drawn: for no time at all is a mistake in a file
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
    """The explicit form. Raises ConfigurationError for names that no node has, and for more than can be played."""
    ends_at = int(scenario.duration) if scenario.heal is None else int(scenario.heal.at)
    faults = _churn(scenario, seed, ends_at)
    numbered = _numbered(scenario.fault)
    for _, fault, number in numbered:
        if isinstance(fault, FlashCrowd):
            faults += _crowd(fault, number, _Chance(seed, kind_of(fault), number), ends_at)
    crew = Crew(scenario, [*faults, *scenario.fault])
    for where, fault, number in numbered:
        if not isinstance(fault, FlashCrowd):
            faults += _explicit(fault, where, _Chance(seed, kind_of(fault), number), crew, ends_at)
    faults.sort(key=lambda fault: (int(fault.at or 0), kind_of(fault), fault.who, repr(fault)))
    return replace(scenario, seed=seed, everything=False, churn=Churn(), fault=tuple(faults))


def _numbered(faults: Sequence[Fault]) -> list[tuple[str, Fault, int]]:
    """Each fault with what errors call it, and its number among those of its kind."""
    seen: Counter[str] = Counter()
    numbered: list[tuple[str, Fault, int]] = []
    for index, fault in enumerate(faults, start=1):
        seen[kind_of(fault)] += 1
        numbered.append((f"fault {index} ({kind_of(fault)})", fault, seen[kind_of(fault)]))
    return numbered


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
        self._in_order = [*self.initial, *(name for _, name in self._joins)]
        self._names = {*self.initial, *(name for _, name in joins)}

    def at(self, time: int) -> list[str]:
        """All nodes that have joined by then, in the order of their coming."""
        return self._in_order[: self._count_at(time)]

    def one_at(self, time: int, u: float) -> str:
        """The node that u in [0, 1) says, of all that have joined by then."""
        return self._in_order[int(u * self._count_at(time))]

    def _count_at(self, time: int) -> int:
        return len(self.initial) + bisect_right(self._joins, time, key=lambda join: join[0])

    def known(self, name: str) -> bool:
        """Whether there ever is such a node; `n3-r1` is n3 set up anew."""
        return name in self._names or SET_UP_ANEW.sub("", name) in self._names

    def stranger(self, fault: Fault) -> str | None:
        """What is wrong if the fault names somebody who never is."""
        names = (fault.who,) if isinstance(fault.who, str) else fault.who
        unknown = None if isinstance(fault, Join) else next((name for name in names if not self.known(name)), None)
        nodes = f"n0 to n{len(self.initial) - 1}, and those that join"
        return f"a fault of kind {kind_of(fault)} names {unknown!r}, but the nodes are {nodes}" if unknown else None


class _Chance:
    """What one fault draws, each purpose from a stream of its own; what befalls many, by their names."""

    def __init__(self, seed: int, *key: str | int) -> None:
        self._seed, self._key = seed, ("fault", *key)
        self._streams: dict[str, tuple[int, int]] = {}

    def next(self, purpose: str) -> float:
        """The next number of a stream, in [0, 1)."""
        key, n = self._streams.get(purpose) or (stream(self._seed, *self._key, purpose), 0)
        self._streams[purpose] = (key, n + 1)
        return draw(key, n)

    def of(self, purpose: str, name: str) -> float:
        """A node's own number, whoever else is hit."""
        return draw(stream(self._seed, *self._key, purpose, name), 0)

    def some(self, names: Sequence[str], count: int) -> tuple[str, ...]:
        """So many of them; whom few are hit, they are also among more."""
        return tuple(sorted(sorted(names, key=lambda name: (self.of("who", name), name))[:count]))


def _at_most(faults: Iterable[Fault], where: str, ends_at: int) -> list[Fault]:
    """All of them. Raises ConfigurationError if they are too many."""
    kept: list[Fault] = []
    for fault in faults:
        if len(kept) == OCCURRENCES_MAX:
            raise _too_many(where, ends_at)
        kept.append(fault)
    return kept


def _too_many(where: str, ends_at: int) -> ConfigurationError:
    limit = f"{OCCURRENCES_MAX:,} occurrences (OCCURRENCES_MAX)"
    return ConfigurationError(
        f"{where} makes more than {limit} before {Duration(ends_at).text()}: let it come less often"
    )


# --- churn ------------------------------------------------------------------------------------------------------------


def _churn(scenario: Scenario, seed: int, ends_at: int) -> list[Fault]:
    return _at_most(_comings_and_goings(scenario, seed, ends_at), "[churn]", ends_at)


def _comings_and_goings(scenario: Scenario, seed: int, ends_at: int) -> Iterator[Fault]:
    churn = scenario.churn
    starts: list[tuple[int, str]] = [(0, name) for name in node_names(scenario.nodes)]
    if churn.arrivals:
        chance = _Chance(seed, "churn")
        times = _poisson(churn.arrivals, 0, ends_at, lambda: chance.next("arrival"), "[churn]")
        arrivals = [(at, f"c{index}") for index, at in enumerate(times)]
        yield from (Join(at=Duration(at), who=(name,)) for at, name in arrivals)
        starts += arrivals
    yield from _from_trace(churn.trace, ends_at)
    if churn.sessions is not None:
        for at, name in starts:
            yield from _sessions(churn, at, name, ends_at, _Chance(seed, "churn", name))


def _sessions(churn: Churn, at: int, name: str, ends_at: int, chance: _Chance) -> Iterator[Fault]:
    assert churn.sessions is not None
    while True:
        at += max(1, churn.sessions.at(chance.next("session")))
        leaves = chance.next("end") < {"leave": 1.0, "crash": 0.0, "both": 0.5}[churn.ends]
        gap = None if churn.gaps is None else min(churn.gaps.at(chance.next("gap")), ends_at - at)
        if at >= ends_at:
            return
        lasts = None if gap is None else Constant(Duration(gap))
        kind = Leave if leaves else Crash
        yield kind(at=Duration(at), lasts=lasts, who=(name,))
        if gap is None:
            return
        at += gap


def _from_trace(trace: tuple[tuple[Duration, str, str], ...], ends_at: int) -> Iterator[Fault]:
    """Who joins after having been there comes back: that is how long it was away, and no new node."""
    returns: list[Duration | None] = []
    joins_next: dict[str, Duration] = {}
    for at, what, name in reversed(trace):
        returns.append(joins_next.get(name))
        if what == "join":
            joins_next[name] = at
    seen: set[str] = set()
    for (at, what, name), back in zip(trace, reversed(returns), strict=True):
        if at < ends_at and what == "join" and name not in seen:
            yield Join(at=at, who=(name,))
        elif at < ends_at and what != "join":
            lasts = None if back is None else Constant(Duration(min(back, ends_at) - at))
            yield (Leave if what == "leave" else Crash)(at=at, lasts=lasts, who=(name,))
        seen.add(name)


def _poisson(rate: float, start: int, ends_at: int, uniform: Callable[[], float], where: str) -> Iterator[int]:
    at = float(start)
    for _ in range(OCCURRENCES_MAX):
        at -= math.log1p(-uniform()) / rate * 1e9
        if at >= ends_at:
            return
        yield int(at)
    raise _too_many(where, ends_at)


def _crowd(fault: FlashCrowd, number: int, chance: _Chance, ends_at: int) -> list[Fault]:
    names = [f"f{number}-{index}" for index in range(fault.count)]
    start, within = int(fault.at or 0), int(fault.within)
    times = [min(start + int(chance.of("when", name) * within), ends_at - 1) for name in names]
    return [Join(at=Duration(at), who=(name,)) for at, name in zip(times, names, strict=True)]


# --- one fault --------------------------------------------------------------------------------------------------------


def _explicit(fault: Fault, where: str, chance: _Chance, crew: Crew, ends_at: int) -> list[Fault]:
    if isinstance(fault, Partition) and fault.one_way is True:
        fault = replace(fault, one_way="up" if chance.next("way") < 0.5 else "down")
    if fault.rate is not None:
        return list(_occurrences(fault, where, chance, crew, ends_at))
    at = int(fault.at or 0)
    who = _chosen(fault, crew, at, chance)
    if isinstance(fault, MassExit):
        return _exits(fault, who, at, chance, ends_at)
    return [_fixed(fault, at, who, chance.next("for"), ends_at)] if who else []


def _occurrences(fault: Fault, where: str, chance: _Chance, crew: Crew, ends_at: int) -> Iterator[Fault]:
    busy_until: dict[str, int] = {}
    pool = _chosen(fault, crew, int(fault.at or 0), chance)
    all_there_are = fault.who == "all" and not isinstance(fault, ABOUT_THE_HUB)  # those that join later too
    for at in _poisson(fault.rate or 0.0, int(fault.at or 0), ends_at, lambda: chance.next("when"), where):
        u = chance.next("which")
        name = crew.one_at(at, u) if all_there_are else pool[int(u * len(pool))]
        one = _fixed(replace(fault, rate=None), at, (name,), chance.next("for"), ends_at)
        if at < busy_until.get(name, 0):
            continue  # it is still under this very fault, or has had no rest since
        length = one.lasts.at(0.5) if one.lasts is not None else 0
        busy_until[name] = at + length + int(fault.stability)
        yield one


def _exits(fault: MassExit, who: tuple[str, ...], at: int, chance: _Chance, ends_at: int) -> list[Fault]:
    one = (Leave if fault.how == "leave" else Crash)(lasts=fault.lasts, stability=fault.stability)
    times = [min(at + int(chance.of("when", name) * fault.within), ends_at - 1) for name in who]
    pairs = zip(times, who, strict=True)
    return [_fixed(one, time, (name,), chance.of("for", name), ends_at) for time, name in pairs]


def _fixed(fault: Fault, at: int, who: tuple[str, ...], u: float, ends_at: int) -> Fault:
    return replace(fault, at=Duration(at), who=who, lasts=_length(fault, at, u, ends_at))


def _length(fault: Fault, at: int, u: float, ends_at: int) -> Any:
    if isinstance(fault, MOMENTARY) or (isinstance(fault, FOR_EVER) and fault.lasts is None):
        return None
    left = ends_at - at
    drawn = left if fault.lasts is None else fault.lasts.at(u)
    return Constant(Duration(min(left, max(LEAST_LENGTH_NS, drawn, int(fault.stability)))))


def _chosen(fault: Fault, crew: Crew, at: int, chance: _Chance) -> tuple[str, ...]:
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
            return chance.some(names, 1)
        case "fraction":
            return chance.some(names, max(1, round(float(number) * len(names))))
        case "count":
            return chance.some(names, int(number))
        case _:
            return _named(replace(fault, who=(fault.who,)), crew)


def _named(fault: Fault, crew: Crew) -> tuple[str, ...]:
    assert not isinstance(fault.who, str)
    if stranger := crew.stranger(fault):
        raise ConfigurationError(stranger)
    return tuple(sorted(fault.who))
