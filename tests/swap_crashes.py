"""A small world in which one party of a swap dies right after the n-th event since that swap was proposed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from broker.swaps import Swaps
from mdgan_edge.actors import Effect, Event, Send
from mdgan_edge.messages import Commit, Propose, SwapId
from nodes.core import NodeCore
from sim import strikes
from sim.invariants.checks import Checks
from sim.machine import Machine
from sim.play import bodies_of, plan_run
from sim.scenario.distributions import Constant, Lognormal
from sim.scenario.quantities import Duration
from sim.scenario.values import MS, Crash, Device, Expect, Heal, HubCrash, Links, LinkTerms, S, Scenario
from sim.world import World

Party = Literal["proposer", "partner", "hub"]
PARTIES: tuple[Party, ...] = ("proposer", "partner", "hub")
AWAY = Constant(Duration(3 * S))
HEALS_AFTER_S = 5  # the end of the swap if nobody dies
LOOKED_AT_S = 55  # from the heal on: rejoin_within, and the longest doubt there may be
NEVER_HEALED_S = 600  # later than the end of any swap that is looked at
CARRIED_MAX = 4  # effects of a decision: PERSIST, two COMMITs, a line of the journal
EVENTS_MAX = 2000  # of one swap: more would be a swap that never ends


def weather(nodes: int) -> Scenario:
    """Every node is due for a swap after every task; a tenth of all messages is lost, a tenth comes twice."""
    link = LinkTerms(latency=Lognormal(Duration(30 * MS), 0.5), loss=0.1, duplicate=0.1)
    return Scenario(
        name="swap-crash",
        duration=Duration(0),
        nodes=nodes,
        settings={"training.steps": 1_000_000, "training.swap": 0.01, "hub.heartbeat_s": 2.0, "hub.lease_s": 5.0},
        links=Links(default=link),
        device=Device(task=Lognormal(Duration(2 * S), 0.3)),
        expect=Expect(rejoin_within=Duration(12 * S), advance_within=Duration(20 * S), starve_within=Duration(40 * S)),
    )


@dataclass(frozen=True, slots=True)
class Blow:
    """Who dies, after how many events, and how many of the last one's effects are still carried out; None: all."""

    party: Party
    index: int
    carried: int | None = None


class Crasher:
    """A Watch around the checks. `swap_id`: whose events are counted."""

    def __init__(self, checks: Checks, swap_id: SwapId | None, blow: Blow | None, until_over: bool) -> None:
        self.checks, self._swap_id, self._blow, self._until_over = checks, swap_id, blow, until_over
        self.committed: SwapId | None = None  # the first that the hub has put on record
        self.swap: Propose | None = None
        self.events = 0  # since it was proposed, until it is over
        self.over = False
        self.over_at = 0
        self.commits: list[int] = []  # the numbers of those at which the hub said COMMIT

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:
        said = [effect.message for effect in effects if isinstance(effect, Send)]
        commits = [one.swap_id for one in said if isinstance(one, Commit)]
        self.committed = self.committed or next(iter(commits), None)
        if self._swap_id is None and self.committed is not None:
            world.stopped = True
        proposed = (one for one in said if isinstance(one, Propose) and one.swap_id == self._swap_id)
        self.swap = self.swap or next(proposed, None)
        if self.swap is not None and not self.over:
            self._count(world, effects, self._swap_id in commits)
        self.checks.after(world, machine, event, effects)

    def _count(self, world: World, effects: list[Effect], commits: bool) -> None:
        assert self.swap is not None
        self.events += 1
        if commits:
            self.commits.append(self.events)
        if self._blow is not None and self.events == self._blow.index:
            if self._blow.carried is not None:
                del effects[self._blow.carried :]
            world.push(world.now, self._strike, world, self.swap)
        self.over = self.events > 1 and is_over(world, self.swap.swap_id)
        if self.over and self._blow is None:
            self.over_at, world.stopped = world.now, self._until_over

    def _strike(self, world: World, swap: Propose) -> None:
        assert self._blow is not None
        if self._blow.party == "hub":
            strikes.strike(world, 0, HubCrash(at=Duration(0), lasts=AWAY))
        else:
            who = swap.sender if self._blow.party == "proposer" else swap.to
            strikes.strike(world, 0, Crash(at=Duration(0), lasts=AWAY, who=(who,)))

    def broke(self, *told: Any) -> None:
        self.checks.broke(*told)

    def started(self, *told: Any) -> None:
        self.checks.started(*told)

    def ended(self, *told: Any) -> None:
        self.checks.ended(*told)


def is_over(world: World, swap_id: SwapId) -> bool:
    """Neither at a node nor at the hub is anything of it open."""
    cores = [one.process.core for one in world.machines.values() if one.process is not None]
    at_nodes = (core.swapping for core in cores if isinstance(core, NodeCore))
    return not any(one.stage is not None and one.swap_id == swap_id for one in at_nodes) and not (
        world.hub_core is not None and is_open(world.hub_core.swaps, swap_id)
    )


def is_open(swaps: Swaps, swap_id: SwapId) -> bool:
    """Whether one half is here, or somebody has not said INSTALLED."""
    return any(one == swap_id for one, _ in swaps._halves) or any(
        told.swap_id == swap_id for told in swaps._told.values()
    )


@dataclass(frozen=True, slots=True)
class Target:
    """The first swap of a seed that is put on record."""

    seed: int
    nodes: int
    swap_id: SwapId
    healed_at: int

    def played(self, blow: Blow | None = None) -> Crasher:
        return played(self.seed, self.nodes, self.swap_id, self.healed_at, blow)

    def blows(self) -> list[Blow]:
        """All that can befall it."""
        calm = self.played()
        assert calm.checks.violations == [], f"{self}, and nobody dies"
        assert calm.over
        assert calm.events < EVENTS_MAX
        assert calm.commits
        whole = [Blow(party, index) for party in PARTIES for index in range(1, calm.events + 1)]
        return whole + [Blow("hub", index, carried) for index in calm.commits for carried in range(CARRIED_MAX)]


def played(seed: int, nodes: int, swap_id: SwapId | None, healed_at: int, blow: Blow | None = None) -> Crasher:
    heal, end = Heal(at=Duration(healed_at)), Duration(healed_at + LOOKED_AT_S * S)
    plan = plan_run(replace(weather(nodes), heal=heal, duration=end), seed)
    bodies, settings = bodies_of(plan)
    crasher = Crasher(Checks(plan.scenario, settings), swap_id, blow, healed_at == NEVER_HEALED_S * S)
    world = World(plan.scenario, settings, bodies, crasher)
    world.run()
    crasher.checks.finish(world)
    return crasher


def target(seed: int, nodes: int) -> Target:
    late = NEVER_HEALED_S * S
    swap_id = played(seed, nodes, None, late).committed
    assert swap_id is not None, f"seed {seed} swaps nothing"
    return Target(seed, nodes, swap_id, played(seed, nodes, swap_id, late).over_at + HEALS_AFTER_S * S)
