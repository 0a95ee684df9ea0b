"""What must become true again once everything is healed, looked at once a second of virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from broker.core import HubCore, Phase
from broker.membership import QUARANTINE_S
from broker.steprule import OWED_TIMEOUTS
from mdgan_edge.actors import Note, nanos
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings
from nodes.core import NodeCore
from nodes.core import Phase as NodePhase
from nodes.swapping import Stage
from sim.invariants.census import Census
from sim.invariants.ledger import Ledger
from sim.invariants.names import Found
from sim.invariants.swaps import DOUBT_MAX_NS, SwapBook
from sim.scenario.values import Scenario

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

LOOK_EVERY_NS = 1_000_000_000
STARVE_TASKS = 4  # a node whose tasks take long is starved after so many of them ...
OWED_TASKS = 2  # for so many tasks of the slowest all others may have to wait, if it was late before
STARVE_TASKS_OUTRUN = 12  # ... or after so many, where the others step over it until it was late a few times
NEVER = 1 << 62
UNSETTLED = (Stage.PREPARED, Stage.INSTALLING)  # the hub may have decided already
MEMBERS = frozenset({"live_are_members", "healthy_not_evicted", "one_discriminator_each", "spares_known"})
NAMES = MEMBERS | {"version_advances", "no_starvation", "no_swap_in_doubt"}


class Liveness:
    """From `settled_at` on, the heal plus rejoin_within, all must be well."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        heal, expect = scenario.heal, scenario.expect
        self._expect, self._training = expect, settings.training
        self._settled_at = NEVER if heal is None else int(heal.at) + int(expect.rejoin_within)
        self._looked_at: set[str] = set()
        self.look_at = self._settled_at
        self._evicted: dict[NodeId, str] = {}  # since the last look, and why
        self._quarantined_until: dict[NodeId, int] = {}
        self._started: dict[NodeId, int] = {}
        self._merged: dict[NodeId, int] = {}
        self._advanced_at = 0
        self._held_up_at = 0  # by work that a node began before the heal, while it was slow

    def unknown(self) -> set[str]:
        """What this run has not shown: it was never looked at, or nothing could have been seen."""
        return set(NAMES - self._looked_at)

    # --- what is seen ---------------------------------------------------------------------------------------------

    def started(self, world: World, machine: Machine) -> None:
        self._started[machine.name] = world.now

    def noted(self, world: World, note: Note) -> None:
        if note.what == "quarantined":
            self._quarantined_until[NodeId(note.facts["node"])] = world.now + nanos(QUARANTINE_S)
        shut_out = note.what == "quarantined" or (note.what == "member" and note.facts["state"] == "dead")
        if shut_out and world.now >= self._settled_at:
            self._evicted[NodeId(note.facts["node"])] = note.why

    def merged(self, world: World, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._merged[node] = world.now

    def advanced(self, world: World) -> None:
        self._advanced_at = world.now

    # --- what is looked at ----------------------------------------------------------------------------------------

    def look(self, world: World, ledger: Ledger, swaps: SwapBook, census: Census) -> Iterator[Found]:
        """Everything that is not well."""
        self.look_at = world.now + LOOK_EVERY_NS
        core = world.hub_core
        if core is None or core.phase in (Phase.FINISHING, Phase.OVER):
            self._evicted.clear()
            return
        if any(_held_up(world, machine) for machine in world.machines.values()):
            self._held_up_at = world.now
        healthy = [machine for machine in world.machines.values() if self._is_healthy(world, machine)]
        self._looked_at |= MEMBERS if healthy else set()
        if self._training.swap_barrier and any(_swaps(machine) for machine in healthy):
            self._held_up_at = world.now  # by design: nobody trains while a node swaps
        self._looked_at |= {"no_swap_in_doubt"} if world.now - self._settled_at > DOUBT_MAX_NS else set()
        for node, why in self._evicted.items():
            if any(machine.name == node for machine in healthy):
                yield "healthy_not_evicted", node, f"it runs, and the hub gave it up: {why}"
        self._evicted.clear()
        for machine in healthy:
            yield from self._membership(world, machine, ledger)
            yield from swaps.in_doubt(machine, world.now)
            yield from census.look(machine, ledger)
        since = self._settled_at
        if core.phase is Phase.TRAINING and core.started_at is not None:
            since = max(since, world.hub.true(core.started_at))
            waited_ns = OWED_TASKS * max((machine.slowest_ns for machine in healthy), default=0)
            for machine in healthy:
                yield from self._starved(world, machine, since, waited_ns)
        if len(healthy) >= (1 if core.phase is Phase.TRAINING else world.settings.hub.nodes_min):
            yield from self._version(world, core, since, len(healthy))

    def _is_healthy(self, world: World, machine: Machine) -> bool:
        process = machine.process
        if process is None or machine.behaviour is not None or machine.paused_until > world.now:
            return False
        core = process.core
        assert isinstance(core, NodeCore)
        if core.phase in (NodePhase.LEAVING, NodePhase.OVER):
            return False
        return world.now - process.started_at > int(self._expect.rejoin_within)

    def _membership(self, world: World, machine: Machine, ledger: Ledger) -> Iterator[Found]:
        core, process = world.hub_core, machine.process
        assert core is not None
        assert process is not None
        member = core.members.get(machine.name)
        if member is None or not member.present or member.incarnation != machine.incarnation:
            state = "unknown" if member is None else f"{member.state}, incarnation {member.incarnation}"
            yield "live_are_members", machine.name, f"it runs as incarnation {machine.incarnation}, at the hub: {state}"
            return
        assert isinstance(process.core, NodeCore)
        held, name = process.core.held, member.discriminator_id
        holds = held is not None and (held.discriminator_id, held.hop) == (name, member.hop)
        settled = process.core.phase is NodePhase.SERVING and process.core.swapping.stage not in UNSETTLED
        if not holds and settled:
            yield "one_discriminator_each", machine.name, f"it holds {held}, the hub says {name}"
        elif ledger.owners.get(name) != machine.name:
            yield "one_discriminator_each", machine.name, f"{name} was given to {ledger.owners.get(name)}"

    def _version(self, world: World, core: HubCore, since: int, healthy: int) -> Iterator[Found]:
        """Whoever the hub takes for live: K is never more than these, so it has to go on with any healthy node."""
        within = int(self._expect.advance_within)
        if world.now - since <= within:
            return
        self._looked_at.add("version_advances")
        stands = world.now - max(self._advanced_at, since, self._held_up_at)
        if stands > within:
            what = f"it stands at {core.training.version} for {stands / 1e9:.1f} s with {healthy} healthy nodes"
            yield "version_advances", "hub", what

    def _starved(self, world: World, machine: Machine, since: int, waited_ns: int) -> Iterator[Found]:
        if self._training.staleness_policy == "drop":
            return  # it refuses what comes late: a slow node may starve by design
        name, own = machine.name, STARVE_TASKS * machine.slowest_ns
        if 0 < self._training.step_timeout_s * 1e9 < own:  # the timeout goes over `block`
            own = STARVE_TASKS_OUTRUN * machine.slowest_ns
        within = max(int(self._expect.starve_within), own, waited_ns)
        waits_s = OWED_TIMEOUTS * self._training.step_timeout_s
        if 0 < nanos(waits_s) < OWED_TASKS * machine.slowest_ns or world.now - since <= within:
            return
        self._looked_at.add("no_starvation")
        times = (self._started, self._merged, self._quarantined_until)
        hungry = world.now - max(since, self._held_up_at, *(time.get(name, 0) for time in times))
        if hungry > within:
            yield "no_starvation", name, f"none of its feedback was merged for {hungry / 1e9:.1f} s"


def _swaps(machine: Machine) -> bool:
    core = machine.process.core if machine.process is not None else None
    return isinstance(core, NodeCore) and core.swapping.stage is not None


def _held_up(world: World, machine: Machine) -> bool:
    process, heal_at = machine.process, world.heal_at
    if process is None or heal_at is None:
        return False
    return (process.at_work and process.began_at < heal_at) or (
        bool(process.beside) and process.beside_began_at < heal_at
    )
