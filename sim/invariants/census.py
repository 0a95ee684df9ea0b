"""Where copies of discriminators are: in a process, or on a disk. Looked up in the world itself, not in any core."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mdgan_edge.actors import Effect, Send
from mdgan_edge.messages import Commit, DiscriminatorId, NodeId, Welcome
from nodes.core import NodeCore
from nodes.jobs import Install, Prepare, Shelve, name_of
from sim.invariants.ledger import Ledger
from sim.invariants.names import Found

if TYPE_CHECKING:
    from sim.machine import Machine, Process
    from sim.world import World

Name = tuple[DiscriminatorId, int]
CHANGING = (Prepare, Shelve, Install)  # jobs that do something to what lies beside


class Census:
    """The register gives a discriminator to a node only if it is there, and takes it away only if it is not."""

    def __init__(self) -> None:
        self._seen: dict[NodeId, tuple[str, int, Process]] = {}  # what a node was given, found in this process of it

    def greeted(self, world: World, ledger: Ledger, effects: Sequence[Effect]) -> Iterator[Found]:
        """The hub answers a HELLO; the ledger says what its node owned before that."""
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Welcome):
                node, given = effect.to.node, effect.message.discriminator
                before = ledger.assigned.get(node)
                if before is None or before[0] == given.discriminator_id or not has(world.machines[node], before):
                    continue
                if all(one.discriminator_id != before[0] for one in world.owners.values() if one.node != node):
                    what = f"it has {before[0]}, hop {before[1]}, which nobody owns any more"
                    yield "discriminator_not_lost", node, what

    def committed(self, world: World, node: NodeId, commit: Commit) -> Iterator[Found]:
        """The hub says COMMIT."""
        machine = world.machines[node]
        if not machine.gone and not has(machine, (commit.discriminator_id, commit.hop)):
            what = f"it was given {commit.discriminator_id}, hop {commit.hop}, and has no copy"
            yield "discriminator_not_lost", node, what

    def adopted(self, world: World, node: NodeId, commit: Commit) -> Iterator[Found]:
        """The hub says COMMIT to a node that adopts: what it held is gone for good."""
        process = world.machines[node].process
        held = process.core.held if process is not None and isinstance(process.core, NodeCore) else None
        if held is None or (held.discriminator_id, held.hop) == (commit.discriminator_id, commit.hop):
            return
        if held.is_trained:
            yield "discriminator_not_lost", node, f"it had {held.discriminator_id}, and was given another instead"

    def let_go(self, world: World, ledger: Ledger, node: NodeId) -> Iterator[Found]:
        """The hub says BYE_ACK to a node that leaves in mid-run; a machine that is lost it knows of only in a while."""
        mine = {ledger.assigned[node][0]} | (ledger.spares[node] & names_in(world.machines[node]))
        shelf = {one.discriminator_id for one in world.hub.disk.orphans.listed}
        for name in sorted(mine - shelf - ledger.not_taken.get(node, set())):
            there = (one for one in world.machines.values() if ledger.is_there(one.name))
            if ledger.has_lost_its_owner(name) and not any(name in names_in(machine) for machine in there):
                yield "handed_over", node, f"it leaves with {name}, of which nobody who is there has a copy"

    def look(self, machine: Machine, ledger: Ledger) -> Iterator[Found]:
        """Once a second, at a healthy node: what it owns and once had, it still has."""
        name, process = ledger.assigned.get(machine.name), machine.process
        if name is None or process is None:
            return
        yield from _spares(machine, process)
        if has(machine, name):
            self._seen[machine.name] = (*name, process)
        elif self._seen.get(machine.name) == (*name, process):
            yield "discriminator_not_lost", machine.name, f"it had {name[0]}, hop {name[1]}, and no copy is left"


def _spares(machine: Machine, process: Process) -> Iterator[Found]:
    """What its core says of them goes into the next HELLO, and decides what it gives."""
    trainer: Any = process.trainer
    core, changing = process.core, (*process.beside, *process.jobs)
    if not isinstance(core, NodeCore) or core.held is None or any(isinstance(job, CHANGING) for job in changing):
        return
    known, there = (sorted(map(name_of, spares)) for spares in (core.spares, trainer.spares))
    if known != there:
        yield "spares_known", machine.name, f"beside what it holds it has {there}, and knows of {known}"


def names_in(machine: Machine) -> set[str]:
    """The discriminators of which a copy of any age is there."""
    trainer: Any = machine.process.trainer if machine.process is not None else None
    kept = (machine.disk.held, *machine.disk.spares)
    return {one.discriminator_id for one in kept if one is not None} | ({trainer.name[0]} if trainer else set())


def has(machine: Machine, name: tuple[str, int]) -> bool:
    """Whether a copy is in the machine's process, or on its disk: held, in the shadow slot, or as a backup."""
    trainer: Any = machine.process.trainer if machine.process is not None else None
    if trainer is not None and trainer.name == name:
        return True
    kept = (machine.disk.held, *machine.disk.spares)
    return any(one is not None and (one.discriminator_id, one.hop) == name for one in kept)
