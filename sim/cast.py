"""Who plays in a world: which cores run on the hub's machine and on the nodes', and which messages they know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from broker.core import HubCore
from broker.greeting import RunFacts
from mdgan_edge.actors import Core
from mdgan_edge.messages import Epoch, Incarnation
from mdgan_edge.wire.codec import PROTOCOL, Vocabulary
from nodes.core import NodeCore
from nodes.greeting import NodeFacts

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World


class Cast(Protocol):
    """The cores of one method. Each starts from its machine's disk."""

    vocabulary: Vocabulary

    def hub(self, world: World) -> Core:
        """What runs on the hub's machine, in a new epoch."""

    def node(self, world: World, machine: Machine) -> Core | None:
        """What runs on a node's; None where the method has no nodes."""


class MdGan:
    """The production cores."""

    vocabulary = PROTOCOL

    def hub(self, world: World) -> Core:
        facts = RunFacts(
            run_id=world.run_id,
            epoch=Epoch(world.epoch),
            architecture=world.bodies.architecture,
            image_shape=world.bodies.image_shape,
            version=world.hub.disk.version,
            owners=tuple(world.owners.values()),
            issued=world.issued,
            shelf=world.hub.disk.orphans.listed,
            norms=world.hub.disk.norms,
            keys=dict(world.register),
        )
        return HubCore(world.settings, facts, world.hub.local(world.now))

    def node(self, world: World, machine: Machine) -> Core | None:
        bodies, settings = world.bodies, world.settings
        facts = NodeFacts(
            node=machine.name,
            incarnation=Incarnation(machine.incarnation),
            software="simulated",
            hub="simulated",
            public_key="",
            shard_size=bodies.shard_size(machine.name),
            image_shape=bodies.image_shape,
            labels=bodies.labels(machine.name),
            label_max=settings.model.classes - 1 if settings.model.classes else None,
            model=None,
            death_timeout_s=settings.node.death_timeout_s,
            peer_endpoint=f"tcp://{machine.name}" if world.meet else None,
        )
        disk = machine.disk
        return NodeCore(facts, disk.run_id, disk.held, machine.local(world.now), disk.spares)
