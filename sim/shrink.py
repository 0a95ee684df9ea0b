"""Makes a failing scenario small: fewer faults, plainer links, fewer nodes, less time, and still the same failure.

Faults are reduced by delta debugging (Zeller, Hildebrandt 2002). Fates of messages hang on their own count, so
taking a fault away leaves the rest of the run's chance as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.scenario.compiling import without_strangers
from sim.scenario.quantities import Duration
from sim.scenario.values import Device, Fault, Links, Scenario, Server

RUNS_MAX = 400
AFTER_NS = 1_000_000_000  # what a shrunk run keeps after the violation

T = TypeVar("T")
Failure = tuple[str, int]  # which invariant, and when, in nanoseconds
Fails = Callable[[Scenario], Failure | None]


@dataclass(slots=True)
class Shrinker:
    """`fails` plays a compiled scenario and says what was violated first."""

    fails: Fails
    told: Callable[[str], None] = lambda _: None
    runs: int = 0
    _invariant: str = field(default="", init=False)

    def shrink(self, scenario: Scenario) -> tuple[Scenario, Failure] | None:
        """The smallest scenario found that violates the same invariant; None if the first one does not fail."""
        scenario = replace(scenario, expect=replace(scenario.expect, sometimes=()))  # a small run shows less
        failure = self.fails(scenario)
        self.runs += 1
        if failure is None:
            return None
        self._invariant = failure[0]
        smaller = self._cut(scenario, failure[1])
        before = None
        while before != smaller:
            before = smaller
            smaller = self._fewer(smaller)
            smaller = self._fewer_nodes(smaller)
            smaller = self._as_plain_as_can_be(smaller)
        failure = self.fails(smaller)
        assert failure is not None
        smaller = self._cut(smaller, failure[1])
        return smaller, failure

    def _same(self, scenario: Scenario) -> bool:
        if self.runs >= RUNS_MAX:
            return False
        self.runs += 1
        try:
            failure = self.fails(scenario)
        except ConfigurationError:
            return False  # a setting that is left out may leave another that contradicts the default
        same = failure is not None and failure[0] == self._invariant
        if same:
            self.told(f"{len(scenario.fault)} faults, {scenario.nodes} nodes, {scenario.duration.text()} still fail")
        return same

    def _cut(self, scenario: Scenario, at: int) -> Scenario:
        """End soon after the violation, if what is violated can be seen by then."""
        end = Duration(min(int(scenario.duration), at + AFTER_NS))
        kept = tuple(fault for fault in scenario.fault if int(fault.at or 0) < end)
        heal = scenario.heal if scenario.heal is not None and scenario.heal.at < end else None
        expect = scenario.expect
        if heal is not None:  # what a file says of the end has to fit
            expect = replace(expect, rejoin_within=Duration(min(int(expect.rejoin_within), end - int(heal.at))))
        shorter = without_strangers(replace(scenario, duration=end, fault=kept, heal=heal, expect=expect))
        return shorter if shorter != scenario and self._same(shorter) else scenario

    def _fewer(self, scenario: Scenario) -> Scenario:
        single = [one for fault in scenario.fault for one in _split(fault)]
        if len(single) > len(scenario.fault) and not self._same(_with(scenario, single)):
            single = list(scenario.fault)
        return _with(scenario, delta_debug(single, lambda faults: self._same(_with(scenario, faults))))

    def _fewer_nodes(self, scenario: Scenario) -> Scenario:
        for nodes in _smaller_counts(scenario.nodes):
            fewer = without_strangers(replace(scenario, nodes=nodes))
            if self._same(fewer):
                return self._fewer_nodes(fewer)
        return scenario

    def _as_plain_as_can_be(self, scenario: Scenario) -> Scenario:
        for plainer in _plainer(scenario):
            if self._same(plainer):
                return self._as_plain_as_can_be(plainer)
        return scenario


def delta_debug(items: list[T], fails: Callable[[list[T]], bool]) -> list[T]:
    """A 1-minimal sublist that still fails (ddmin); `items` is known to fail."""
    if items and fails([]):
        return []
    parts = 2
    while len(items) >= 2:
        size = -(-len(items) // parts)
        chunks = [items[at : at + size] for at in range(0, len(items), size)]
        for index in range(len(chunks)):
            rest = [item for other, chunk in enumerate(chunks) if other != index for item in chunk]
            if fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                return items
            parts = min(2 * parts, len(items))
    return items


def _with(scenario: Scenario, faults: list[Fault]) -> Scenario:
    return without_strangers(replace(scenario, fault=tuple(faults)))


def _split(fault: Fault) -> list[Fault]:
    return [replace(fault, who=(name,)) for name in fault.who] if len(fault.who) > 1 else [fault]


def _smaller_counts(nodes: int) -> list[int]:
    return sorted({nodes // 4, nodes // 2, nodes * 3 // 4, nodes - 1} - {0, nodes})


def _plainer(scenario: Scenario) -> Iterator[Scenario]:
    """The same with one thing as it is by default."""
    if scenario.links != Links():
        yield replace(scenario, links=Links())
    for direction in ("up", "down", "default"):
        terms = getattr(scenario.links, direction)
        for name in ("rate", "loss", "burst", "duplicate", "reorder", "queue", "latency"):
            if getattr(terms, name) is not None:
                plainer = replace(scenario.links, **{direction: replace(terms, **{name: None})})
                yield replace(scenario, links=plainer)
    if scenario.device != Device():
        yield replace(scenario, device=Device())
    if scenario.server != Server():
        yield replace(scenario, server=Server())
    for key in sorted(scenario.settings):
        if key not in ("training.steps", "hub.evaluate_every"):
            yield replace(scenario, settings={name: value for name, value in scenario.settings.items() if name != key})
