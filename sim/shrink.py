"""Makes a failing scenario small: fewer faults, plainer links, fewer nodes, less time, and still the same failure.

Faults are reduced by delta debugging (Zeller, Hildebrandt 2002). Fates of messages hang on their own count, so
taking a fault away leaves the rest of the run's chance as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.scenario.checking import has_rate
from sim.scenario.compiling import without_strangers
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Device, Fault, Heal, Links, Scenario, Server

RUNS_MAX = 400
AFTER_NS = 1_000_000_000  # what a shrunk run keeps after the violation

T = TypeVar("T")


class Failure(NamedTuple):
    """What is violated first. `cause`: of a core that raised, the exception's type and innermost frame."""

    invariant: str
    at: int  # virtual nanoseconds
    side: str = ""  # hub, node or world
    cause: str = ""

    def alike(self, other: Failure) -> bool:
        """Whether this is the same mistake, whenever and at whichever node it shows."""
        return (self.invariant, self.side, self.cause) == (other.invariant, other.side, other.cause)


Fails = Callable[[Scenario], Failure | None]


@dataclass(slots=True)
class Shrinker:
    """`fails` plays a compiled scenario and says what was violated first; `stopped`: whether to try no more."""

    fails: Fails
    told: Callable[[str], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
    runs: int = 0
    _failure: Failure = field(default=Failure("", 0), init=False)  # of the smallest found so far

    @property
    def spent(self) -> bool:
        """Whether as many runs have been played as may be."""
        return self.runs >= RUNS_MAX

    def shrink(self, scenario: Scenario) -> tuple[Scenario, Failure] | None:
        """The smallest scenario found that fails in the same way; None if the first one does not fail."""
        scenario = replace(scenario, expect=replace(scenario.expect, sometimes=()))  # a small run shows less
        failure = self.fails(scenario)
        self.runs += 1
        if failure is None:
            return None
        self._failure = failure
        smaller = self._cut(scenario)
        before = None
        while before != smaller:
            before = smaller
            smaller = self._fewer(smaller)
            smaller = self._fewer_nodes(smaller)
            smaller = self._as_plain_as_can_be(smaller)
            smaller = self._healed_earlier(smaller)
            smaller = self._cut(smaller)
        return smaller, self._failure

    def _same(self, scenario: Scenario) -> bool:
        if self.spent or self.stopped():
            return False
        self.runs += 1
        try:
            failure = self.fails(scenario)
        except ConfigurationError:
            return False  # a setting that is left out may leave another that contradicts the default
        if failure is None or not failure.alike(self._failure):
            return False
        self._failure = failure
        self.told(f"{len(scenario.fault)} faults, {scenario.nodes} nodes, {scenario.duration.text()} still fail")
        return True

    def _cut(self, scenario: Scenario) -> Scenario:
        """End soon after the violation, if what is violated can be seen by then."""
        end = Duration(min(int(scenario.duration), self._failure.at + AFTER_NS))
        kept = tuple(fault for fault in scenario.fault if int(fault.at or 0) < end)
        heal = scenario.heal if scenario.heal is not None and scenario.heal.at < end else None
        expect = scenario.expect
        if heal is not None:  # what a file says of the end has to fit
            expect = replace(expect, rejoin_within=Duration(min(int(expect.rejoin_within), end - int(heal.at))))
        shorter = _with(replace(scenario, duration=end, heal=heal, expect=expect), list(kept))
        return shorter if shorter != scenario and self._same(shorter) else scenario

    def _healed_earlier(self, scenario: Scenario) -> Scenario:
        """Heal earlier, and end as much earlier."""
        for at in _earlier_heals(scenario):
            sooner = _healed_at(scenario, at)
            if self._same(sooner):
                return self._healed_earlier(sooner)
        return scenario

    def _fewer(self, scenario: Scenario) -> Scenario:
        single = [one for fault in scenario.fault for one in _split(fault)]
        if len(single) > len(scenario.fault) and not self._same(_with(scenario, single)):
            single = list(scenario.fault)
        return _with(scenario, delta_debug(single, lambda faults: self._same(_with(scenario, faults))))

    def _fewer_nodes(self, scenario: Scenario) -> Scenario:
        for nodes in _smaller_counts(scenario.nodes):
            fewer = _with(replace(scenario, nodes=nodes), list(scenario.fault))
            if self._same(fewer):
                return self._fewer_nodes(fewer)
        return scenario

    def _as_plain_as_can_be(self, scenario: Scenario) -> Scenario:
        for plainer in map(_without_queues, _plainer(scenario)):
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
    return _without_queues(without_strangers(replace(scenario, fault=tuple(faults))))


def _without_queues(scenario: Scenario) -> Scenario:
    """Queues that nothing waits in since a rate is gone mean nothing, so a file may not have them."""
    links = scenario.links
    for name in ("default", "up", "down"):
        if getattr(links, name).queue is not None and not has_rate(scenario, name):
            links = replace(links, **{name: replace(getattr(links, name), queue=None)})
    return replace(scenario, links=links)


def _split(fault: Fault) -> list[Fault]:
    return [replace(fault, who=(name,)) for name in fault.who] if len(fault.who) > 1 else [fault]


def _earlier_heals(scenario: Scenario) -> list[int]:
    """No sooner than a second before, which is worth a run."""
    if scenario.heal is None:
        return []
    now = int(scenario.heal.at)
    return [at for at in (0, now // 4, now // 2, now * 3 // 4, now - AFTER_NS) if 0 <= at <= now - AFTER_NS]


def _healed_at(scenario: Scenario, at: int) -> Scenario:
    """The same with an earlier heal and end; what went on until the heal goes on until then."""
    assert scenario.heal is not None
    kept = [_over_by(fault, at) for fault in scenario.fault if int(fault.at or 0) < at]
    end = Duration(int(scenario.duration) - int(scenario.heal.at) + at)
    return _with(replace(scenario, duration=end, heal=Heal(at=Duration(at))), kept)


def _over_by(fault: Fault, end: int) -> Fault:
    if fault.lasts is None:
        return fault
    return replace(fault, lasts=Constant(Duration(min(fault.lasts.at(0.5), end - int(fault.at or 0)))))


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
