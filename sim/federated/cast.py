"""The baselines' cores on the machines of a world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdgan_edge.actors import Core
from mdgan_edge.messages import Epoch, Incarnation
from sim.federated.alone import AloneCore
from sim.federated.client import ClientCore, ClientFacts
from sim.federated.server import ServerCore, ServerFacts
from sim.federated.wire import FEDERATED

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World


class FlGan:
    """FL-GAN. `work`: of a local update, in tasks of MD-GAN."""

    vocabulary = FEDERATED

    def __init__(self, work: float) -> None:
        self._work = work

    def hub(self, world: World) -> Core:
        return ServerCore(world.settings, _server_facts(world))

    def node(self, world: World, machine: Machine) -> Core | None:
        hub = world.settings.hub
        facts = ClientFacts(
            node=machine.name,
            incarnation=Incarnation(machine.incarnation),
            samples=world.bodies.shard_size(machine.name),
            batch_size=world.settings.training.batch_size,
            epochs=world.settings.federated.epochs,
            work=self._work,
            heartbeat_s=hub.heartbeat_s,
            lease_s=hub.lease_s,
            death_timeout_s=world.settings.node.death_timeout_s,
        )
        return ClientCore(facts, machine.local(world.now))


class Standalone:
    """One machine, the hub's; the nodes' stay empty."""

    vocabulary = FEDERATED

    def __init__(self, work: float) -> None:
        self._work = work

    def hub(self, world: World) -> Core:
        return AloneCore(world.settings, _server_facts(world), self._work, world.hub.local(world.now))

    def node(self, world: World, machine: Machine) -> Core | None:  # noqa: ARG002
        return None


def _server_facts(world: World) -> ServerFacts:
    disk = world.hub.disk
    return ServerFacts(world.run_id, Epoch(world.epoch), int(disk.version), disk.updates)
