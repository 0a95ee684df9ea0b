"""What becomes of a message on its way: delay, queueing, loss, duplication, overtaking.

A message's fate is drawn from the count of messages on its own way, so one fault less leaves all other fates as they
were. Ways keep their order as a TCP connection does, but for what is reordered on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from msgspec import structs

from mdgan_edge.actors import NANOS_PER_SECOND
from mdgan_edge.wire.outbox import BULK, HEARTBEATS
from mdgan_edge.wire.parts import PART_BYTES
from sim.chance import draw
from sim.federated.messages import SMALL
from sim.scenario.distributions import Constant, Distribution
from sim.scenario.quantities import Duration
from sim.scenario.values import Burst, LinkTerms

LATENCY = Constant(Duration(1_000_000))  # where a scenario says nothing
QUEUE_BYTES = 64_000_000  # as a node's outbox
DRAWS = 8  # numbers each message may draw: its fate is at n*DRAWS and what follows
HEALED_QUANTILE = 0.99  # of its latency: what takes longer than that is a fault, whatever the distribution says
REORDER_FACTOR = 3.0  # what is overtaken takes so many times its latency more


class Lane(Enum):
    """As in a process's outbox: heartbeats pass between the parts of a large message, everything passes a copy."""

    HEARTBEAT = auto()
    USUAL = auto()
    BULK = auto()


_LANES: dict[type, Lane] = {
    **dict.fromkeys((*HEARTBEATS, *SMALL), Lane.HEARTBEAT),
    **dict.fromkeys(BULK, Lane.BULK),
}


def lane_of(message: object) -> Lane:
    """Where it travels."""
    return _LANES.get(type(message), Lane.USUAL)


class Bytes:
    """Bytes on one direction of all links."""

    def __init__(self) -> None:
        self.sent = self.duplicated = self.received = 0
        self.dropped: dict[str, int] = {}

    def drop(self, why: str, size: int) -> None:
        self.dropped[why] = self.dropped.get(why, 0) + size


Fate = int | tuple[int, int] | str  # of a message: when it arrives, when both copies do, or why it never does


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one way, with every question answered. `plain`: nothing but latency."""

    latency: Distribution = LATENCY
    rate: int | None = None
    loss: float = 0.0
    burst: Burst | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    queue: int = QUEUE_BYTES

    @property
    def plain(self) -> bool:
        return not (self.rate or self.loss or self.burst or self.duplicate or self.reorder)


def overlay(*layers: LinkTerms) -> LinkTerms:
    """Later layers lie over earlier ones."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= {name: value for name, value in structs.asdict(layer).items() if value is not None}
    return LinkTerms(**said)


def settle_terms(layers: Iterable[LinkTerms]) -> Terms:
    """What no layer says is as in Terms."""
    said = structs.asdict(overlay(*layers))
    return replace(Terms(), **{name: value for name, value in said.items() if value is not None})


@dataclass(slots=True)
class Line:
    """A line of limited rate that one or many ways share."""

    rate: int | None
    free_at: int = 0
    bulk_free_at: int = 0  # of copies, which let everything else pass

    def take(self, size: int, now: int, queue: float, lane: Lane) -> int | None:
        """When the last bit has left, or None if the queue is full."""
        if self.rate is None:
            return now
        part, own = self._time(PART_BYTES), self._time(size)
        start = max(now, self.free_at)
        match lane:
            case Lane.HEARTBEAT:
                return min(max(start, self.bulk_free_at), now + part) + own
            case Lane.BULK:
                start = max(start, self.bulk_free_at)
            case Lane.USUAL if self.bulk_free_at > start:
                start += min(part, self.bulk_free_at - start)
                self.bulk_free_at += own
            case _:
                pass
        if (start - now) * self.rate > queue * 8 * NANOS_PER_SECOND:
            return None
        if lane is Lane.BULK:
            self.bulk_free_at = start + own
        else:
            self.free_at = start + own
        return start + own

    def _time(self, size: int) -> int:
        assert self.rate is not None
        return size * 8 * NANOS_PER_SECOND // self.rate


@dataclass(slots=True)
class Way:
    """One direction of one node's link."""

    key: int  # of its stream of chance
    layers: dict[int, LinkTerms]  # what the scenario says (number -1), and faults over it by their number
    port: Line  # the hub's, shared
    terms: Terms = field(init=False)
    line: Line = field(init=False)
    plain: bool = field(init=False)
    constant: int | None = field(init=False)  # the latency, if it never changes
    sent: int = 0
    last_at: int = 0  # arrival of the last one, while nothing but latency is at work
    afloat: list[tuple[int, int]] = field(default_factory=list)  # of those under way else: when it left, and arrives
    bad: bool = False  # in a burst of loss, at seen_at
    seen_at: int = 0
    cuts: int = 0  # partitions that lie on it now, those of the hub among them
    held_until: int = 0  # clogged
    healed: bool = False

    def __post_init__(self) -> None:
        self.line = Line(None)
        self._settle()

    def reset(self) -> None:
        """A new connection: what comes on it waits for nothing on the old one, sent or not."""
        self.last_at = 0
        self.line.free_at = self.line.bulk_free_at = 0
        self.afloat.clear()

    def lay(self, number: int, terms: LinkTerms) -> None:
        """A fault changes the terms."""
        self.layers[number] = terms
        self._settle()

    def lift(self, number: int) -> None:
        """The fault is over."""
        self.layers.pop(number, None)
        self._settle()

    def heal(self) -> None:
        """From now on nothing is lost, and nothing is as late as once in a hundred times."""
        self.healed = True
        self._settle()

    def _settle(self) -> None:
        self.terms = settle_terms(self.layers.values())
        if self.healed:
            self.terms = replace(self.terms, loss=0.0, burst=None)
        self.line.rate = self.terms.rate
        self.plain = self.terms.plain and self.port.rate is None
        if self.plain:
            self.last_at = max([self.last_at, *(at for _, at in self.afloat)])
        latency = self.terms.latency
        self.constant = int(latency.value) if isinstance(latency, Constant) else None

    def carry(self, size: int, now: int, lane: Lane = Lane.USUAL) -> Fate:
        """What becomes of a message of `size` bytes."""
        n = self.sent * DRAWS
        self.sent += 1
        if self.cuts:
            return "partition"
        if not self.plain:
            return self._carry(size, now, n, lane)
        at = now + (self._latency(n) if self.constant is None else self.constant)
        if at < self.last_at:
            at = self.last_at
        if at < self.held_until:
            at = self.held_until
        self.last_at = at
        return at

    def across(self, size: int, now: int, lane: Lane, hub_cuts: int) -> Fate:
        """The same for half the way from node to node: past the hub's port and cuts, in no order with the rest."""
        n = self.sent * DRAWS
        self.sent += 1
        if self.cuts > hub_cuts:
            return "partition"
        return self._carry(size, now, n, lane, to_hub=False)

    def _carry(self, size: int, now: int, n: int, lane: Lane, to_hub: bool = True) -> Fate:
        terms = self.terms
        if terms.loss and draw(self.key, n + 1) < terms.loss:
            return "loss"
        if terms.burst is not None and self._lost_in_burst(terms.burst, now, n):
            return "burst"
        left_at = self.line.take(size, now, terms.queue, lane)
        if left_at is not None and to_hub:
            left_at = self.port.take(size, left_at, math.inf, lane)  # the hub queues for each node apart
        if left_at is None:
            return "queue full"
        latency = self._latency(n)
        if terms.reorder and draw(self.key, n + 2) < terms.reorder:
            late = left_at + latency + round(REORDER_FACTOR * latency * draw(self.key, n + 3))
            return max(late, self.held_until)
        at = max(left_at + latency, self.held_until)
        if to_hub:
            at = self._in_order(left_at, at, now)
        if terms.duplicate and draw(self.key, n + 4) < terms.duplicate:
            return at, at + terms.latency.at(draw(self.key, n + 5))
        return at

    def _in_order(self, left_at: int, at: int, now: int) -> int:
        """Nothing arrives before what has left before it: lanes pass each other in the outbox, not on the line."""
        self.afloat = [one for one in self.afloat if one[1] > now]
        at = max([at, self.last_at, *(arrives for left, arrives in self.afloat if left <= left_at)])
        self.afloat.append((left_at, at))
        return at

    def _latency(self, n: int) -> int:
        u = draw(self.key, n)
        return self.terms.latency.at(min(u, HEALED_QUANTILE) if self.healed else u)

    def _lost_in_burst(self, burst: Burst, now: int, n: int) -> bool:
        """The two-state Markov chain in continuous time: how likely it is bad now, given how it was when last seen."""
        pace = 1 / max(1, burst.lasts) + 1 / max(1, burst.every)
        share = burst.lasts / max(1, burst.lasts + burst.every)
        memory = math.exp(-pace * (now - self.seen_at))
        self.bad = draw(self.key, n + 6) < share + (self.bad - share) * memory
        self.seen_at = now
        return self.bad and draw(self.key, n + 7) < burst.loss
