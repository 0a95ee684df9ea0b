"""What must become true again for a baseline once everything is healed, looked at once a second of virtual time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mdgan_edge.actors import Note, nanos
from mdgan_edge.messages import NodeId
from mdgan_edge.settings import Settings
from sim.federated.alone import AloneCore
from sim.federated.alone import Phase as AlonePhase
from sim.federated.client import ClientCore
from sim.federated.client import Phase as ClientPhase
from sim.federated.rules import updates_per_round
from sim.federated.server import Phase, ServerCore
from sim.invariants.names import Found
from sim.scenario.values import Scenario

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

LOOK_EVERY_NS = 1_000_000_000
STARVE_ROUNDS = 4
NEVER = 1 << 62
NAMES = frozenset({"live_are_members", "healthy_not_evicted", "version_advances", "no_starvation"})


class Liveness:
    """From `settled_at` on, the heal plus rejoin_within, all must be well."""

    def __init__(self, scenario: Scenario, settings: Settings) -> None:
        heal, self._expect = scenario.heal, scenario.expect
        self._settings = settings
        self._settled_at = NEVER if heal is None else int(heal.at) + int(self._expect.rejoin_within)
        self.look_at = self._settled_at
        self.looked_at: set[str] = set()
        self._evicted: dict[NodeId, str] = {}
        self._started: dict[NodeId, int] = {}
        self._averaged: dict[NodeId, int] = {}
        self._advanced_at = 0
        self._longest = 0  # time between two averages

    # --- what is seen ---------------------------------------------------------------------------------------------

    def started(self, world: World, machine: Machine) -> None:
        self._started[machine.name] = world.now

    def noted(self, world: World, note: Note) -> None:
        if note.facts["state"] == "dead" and world.now >= self._settled_at:
            self._evicted[NodeId(note.facts["node"])] = note.why

    def averaged(self, world: World, nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            self._averaged[node] = world.now

    def advanced(self, world: World) -> None:
        if world.now >= self._settled_at:
            self._longest = max(self._longest, world.now - max(self._advanced_at, self._settled_at))
        self._advanced_at = world.now

    # --- what is looked at ----------------------------------------------------------------------------------------

    def look(self, world: World) -> Iterator[Found]:
        """Everything that is not well."""
        self.look_at = world.now + LOOK_EVERY_NS
        core = world.last_core
        if world.hub.process is None:
            self._evicted.clear()
            return
        if isinstance(core, AloneCore):
            if core.phase is AlonePhase.TRAINING:
                yield from self._version(world, world.hub.slowest_ns)
            return
        assert isinstance(core, ServerCore)
        if core.phase not in (Phase.WAITING, Phase.TRAINING):
            self._evicted.clear()
            return
        healthy = [machine for machine in world.machines.values() if self._is_healthy(world, machine)]
        self.looked_at |= {"live_are_members", "healthy_not_evicted"} if healthy else set()
        for node, why in self._evicted.items():
            if any(machine.name == node for machine in healthy):
                yield "healthy_not_evicted", node, f"it runs, and the server gave it up: {why}"
        self._evicted.clear()
        for machine in healthy:
            yield from _membership(core, machine)
        if core.phase is Phase.TRAINING and healthy:
            timeout = nanos(self._settings.federated.round_timeout_s)
            yield from self._version(world, timeout + min(self._round_of(world, machine) for machine in healthy))
            for machine in healthy:
                yield from self._starved(world, machine, timeout)

    def _is_healthy(self, world: World, machine: Machine) -> bool:
        process = machine.process
        if process is None or machine.paused_until > world.now:
            return False
        core = process.core
        assert isinstance(core, ClientCore)
        if core.phase in (ClientPhase.LEAVING, ClientPhase.OVER):
            return False
        return world.now - process.started_at > int(self._expect.rejoin_within)

    def _round_of(self, world: World, machine: Machine) -> int:
        """The longest that its own part of a round may take."""
        settings = self._settings
        samples = world.bodies.shard_size(machine.name)
        return machine.slowest_ns * updates_per_round(samples, settings.federated.epochs, settings.training.batch_size)

    def _version(self, world: World, own: int) -> Iterator[Found]:
        """A round may take its timeout, or, while nobody has answered, as long as the quickest client needs."""
        within = int(self._expect.advance_within) + own
        if world.now - self._settled_at <= within:
            return
        self.looked_at.add("version_advances")
        stands = world.now - max(self._advanced_at, self._settled_at)
        if stands > within:
            yield "version_advances", "hub", f"nothing was averaged for {stands / 1e9:.1f} s"

    def _starved(self, world: World, machine: Machine, timeout: int) -> Iterator[Found]:
        if self._settings.federated.participation != "all" or 2 * self._round_of(world, machine) > timeout:
            return  # by design: a round does not wait for everybody, or not for so slow a client
        within = max(int(self._expect.starve_within), STARVE_ROUNDS * self._longest)
        if not self._longest or world.now - self._settled_at <= within:
            return
        self.looked_at.add("no_starvation")
        since = max(self._settled_at, self._started[machine.name], self._averaged.get(machine.name, 0))
        if world.now - since > within and world.now - self._advanced_at < self._longest:
            what = f"none of its updates was averaged for {(world.now - since) / 1e9:.1f} s"
            yield "no_starvation", machine.name, what


def _membership(core: ServerCore, machine: Machine) -> Iterator[Found]:
    client = core.members.get(machine.name)
    if client is None or not client.active or client.incarnation != machine.incarnation:
        state = "unknown" if client is None else f"{client.state}, incarnation {client.incarnation}"
        yield "live_are_members", machine.name, f"it runs as incarnation {machine.incarnation}, at the server: {state}"
