"""A small world in which one party of a discriminator's journey dies right after the n-th event since that began.

A journey is a swap, an adoption or a hand-over. It begins when its id is first said, and is over when nobody who runs
has it open any more. What kinds there are, and in which weather they are met: tests/journeys.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from broker.jobs import Keep, Kept
from broker.swaps import Swaps
from mdgan_edge.actors import HUB, Effect, Event, JobDone, Run, Send
from mdgan_edge.messages import Adopt, Commit, Fetch, NodeId, Propose, SwapId
from nodes.core import NodeCore, Phase
from sim import strikes
from sim.invariants.checks import Checks
from sim.machine import Machine
from sim.play import bodies_of, plan_run
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Crash, Heal, HubCrash, S, Scenario
from sim.world import World
from tests.journeys import Kind

AWAY_S = 3  # how long who dies is away
HEALS_AFTER_S = 2  # the end of the journey if nobody dies, and then the time for which somebody may be away
LOOKED_AT_S = 55  # from the heal on: rejoin_within, and the longest doubt there may be
NEVER_HEALED_S = 600  # later than the end of any journey that is looked at
CARRIED_MAX = 4  # effects of a decision: PERSIST, two COMMITs, a line of the journal
EVENTS_MAX = 2000  # of one journey: more would be one that never ends


@dataclass(frozen=True, slots=True)
class Blow:
    """Who dies, after how many events, and how many of the last one's effects are still carried out; None: all."""

    party: str
    index: int
    carried: int | None = None
    away_s: int = AWAY_S


@dataclass(slots=True)
class Crasher:
    """A Watch around the checks. `journey`: whose events are counted; None: the first of its kind is looked for."""

    checks: Checks
    kind: Kind
    journey: SwapId | None
    blow: Blow | None
    until_over: bool
    found: SwapId | None = None  # the first of this kind on which the hub has decided
    parties: Mapping[str, NodeId] = field(default_factory=dict)  # by what they are to each other, once it has begun
    events: int = 0  # from its beginning until it is over
    over: bool = False
    over_at: int = 0
    decisions: list[int] = field(default_factory=list)  # the numbers of the events at which the hub decided
    died: NodeId | None = None

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        decided = set(decided_on(event, effects))
        self.found = self.found or next((one for one in sorted(decided) if self.kind.has(one)), None)
        if self.journey is None:
            world.stopped |= self.found is not None
        else:
            self.parties = self.parties or parties_of(effects, self.journey)
            if self.parties and not self.over:
                self._count(world, effects, self.journey in decided)
        self.checks.after(world, machine, event, effects)

    def _count(self, world: World, effects: list[Effect], decided: bool) -> None:
        assert self.journey is not None
        self.events += 1
        self.decisions += [self.events] if decided else []
        if self.blow is not None and self.events == self.blow.index:
            if self.blow.carried is not None:
                del effects[self.blow.carried :]
            world.push(world.now, self._strike, world, self.blow)
        self.over = self.events > 1 and not any(self._is_open(world, self.journey))
        if self.over and self.blow is None:
            self.over_at, world.stopped = world.now, world.stopped or self.until_over

    def _is_open(self, world: World, journey: SwapId) -> Iterator[bool]:
        """At the hub, at a node; and who leaves has not left."""
        if world.hub_core is not None:
            yield is_open(world.hub_core.swaps, journey)
        leaver = self.parties.get("leaver")
        for machine in world.machines.values():
            core = machine.process.core if machine.process is not None else None
            if isinstance(core, NodeCore):
                yield core.swapping.stage is not None and core.swapping.swap_id == journey
                yield machine.name == leaver and core.phase is Phase.LEAVING

    def _strike(self, world: World, blow: Blow) -> None:
        now, lasts, who = Duration(0), Constant(Duration(blow.away_s * S)), self.parties[blow.party]
        hit = HubCrash(at=now, lasts=lasts) if who == HUB.node else Crash(at=now, lasts=lasts, who=(who,))
        struck = world.hub if who == HUB.node else world.machines[who]
        self.died = who if struck.process is not None else None
        strikes.strike(world, 0, hit)

    def broke(self, *told: Any) -> None:
        self.checks.broke(*told)

    def started(self, *told: Any) -> None:
        self.checks.started(*told)

    def ended(self, *told: Any) -> None:
        self.checks.ended(*told)


def parties_of(effects: list[Effect], journey: SwapId) -> dict[str, NodeId]:
    """Of the journey that begins with one of these; empty if none does."""
    for effect in effects:
        message = effect.message if isinstance(effect, Send) else None
        if not isinstance(message, Propose | Adopt | Fetch) or message.swap_id != journey:
            continue
        assert isinstance(effect, Send)
        match message:
            case Propose(_, proposer, partner):
                return {"proposer": proposer, "partner": partner, "hub": HUB.node}
            case Adopt(_, giver):
                return {"giver": giver.node, "taker": effect.to.node, "hub": HUB.node}
            case Fetch():
                return {"leaver": message.to, "hub": HUB.node}
    return {}


def decided_on(event: Event, effects: list[Effect]) -> Iterator[SwapId]:
    """The journeys of which the hub decides something here: COMMIT, a copy for the shelf, what became of that."""
    for effect in effects:
        if isinstance(effect, Send) and isinstance(effect.message, Commit):
            yield effect.message.swap_id
        elif isinstance(effect, Run) and isinstance(effect.job, Keep):
            yield effect.job.copy.swap_id
    if isinstance(event, JobDone) and isinstance(event.result, Kept):
        yield event.result.swap_id


def is_open(swaps: Swaps, journey: SwapId) -> bool:
    """Whether anything of it is under way at the hub: one half, an adoption, a hand-over, or no INSTALLED yet."""
    told, adopting = swaps._told.values(), swaps.adoptions._open.values()
    handing_over = (*swaps.shelving._open.values(), *swaps.shelving._under_way.values())
    ids = (*(one for one, _ in swaps._halves), *(one.swap_id for one in told), *(one.swap_id for one in adopting))
    return journey in (*ids, *(one.swap_id for one in handing_over), *swaps.shelving.rescue._wanted)


@dataclass(frozen=True, slots=True)
class Target:
    """The first journey of its kind in a seed on which the hub decides."""

    kind: Kind
    seed: int
    journey: SwapId
    healed_at: int

    def played(self, blow: Blow | None = None) -> Crasher:
        return played(self.kind, self.seed, self.journey, self.healed_at, blow)

    def blows(self) -> list[Blow]:
        """All that can befall it."""
        calm = self.played()
        assert calm.checks.violations == [], f"{self}, and nobody dies"
        assert calm.over
        assert calm.events < EVENTS_MAX
        assert calm.decisions
        parties = {who: party for party, who in calm.parties.items()}.values()  # the hub may be the giver: one death
        moments = range(1, calm.events + 1)
        whole = [Blow(party, index, None, away) for away in self.kind.away_s for party in parties for index in moments]
        return whole + [Blow("hub", index, carried) for index in calm.decisions for carried in range(CARRIED_MAX)]


def played(kind: Kind, seed: int, journey: SwapId | None, healed_at: int, blow: Blow | None = None) -> Crasher:
    heal, end = Heal(at=Duration(healed_at)), Duration(healed_at + LOOKED_AT_S * S)
    scenario: Scenario = replace(kind.weather(seed), heal=heal, duration=end)
    plan = plan_run(scenario, seed)
    bodies, settings = bodies_of(plan)
    late = healed_at == NEVER_HEALED_S * S
    crasher = Crasher(Checks(plan.scenario, settings), kind, journey, blow, late)
    world = World(plan.scenario, settings, bodies, crasher)
    world.run()
    crasher.checks.finish(world)
    return crasher


def target(kind: Kind, seed: int) -> Target | None:
    """None if there is no such journey in that seed."""
    late = NEVER_HEALED_S * S
    journey = played(kind, seed, None, late).found
    over_at = played(kind, seed, journey, late).over_at if journey is not None else 0
    healed_at = over_at + (HEALS_AFTER_S + max(kind.away_s)) * S
    return Target(kind, seed, journey, healed_at) if journey is not None else None
