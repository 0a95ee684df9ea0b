"""Messages between machines: what becomes of each on its way, and how many bytes went where.

A letter's life: sent → lost, or on its way (once, or twice) → arrived, or dropped because the process or the connection
it was for is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from mdgan_edge.actors import HUB, Event, Garbled, Peer, Received, Send
from mdgan_edge.messages import Copy, Feedback, Message, Propose, Task
from sim.across import Across
from sim.byzantine import lies
from sim.federated.messages import Round, Update
from sim.links import LANES, Bytes, Lane, Way
from sim.machine import Connection, Machine
from sim.sizes import Sizes
from sim.trace import label

if TYPE_CHECKING:
    from sim.world import World


class Letter(msgspec.Struct, gc=False):
    """A message on its way."""

    connection: Connection
    event: Event
    size: int
    to_hub: bool


class Post:
    """Carries every message of one world. `up`: to the hub; `down`: from it; `across`: from node to node."""

    def __init__(self, world: World) -> None:
        self.up, self.down = Bytes(), Bytes()
        self.tasks = self.feedback = 0  # bytes that the hub sent, and got, of these
        self.copies = 0  # bytes that the hub got and sent of these
        self.rounds = self.updates = 0  # bytes that FL-GAN's server sent, and got, of these
        self._world = world
        self._through_codec = world.bodies.through_codec
        self._vocabulary = world.cast.vocabulary
        sizes = Sizes(self._vocabulary)
        self._size_of = sizes.of
        self.across = Across(world, sizes)
        self._arrives = self._arrive  # bound once: it goes onto the heap with every letter

    def send(self, machine: Machine, send: Send) -> None:
        """What a core gives to the wire, or what a lying machine makes of it."""
        if machine is self._world.hub:
            self._send_down(send)
            return
        if send.to.node != HUB.node:
            self._send_across(machine, send)
        elif machine.behaviour is None:
            self._send_up(machine, send, send.message)
        else:
            for message in lies(machine, send.message, self._world.scenario.seed):
                self._send_up(machine, send, message)
        if type(send.message) is Feedback:
            machine.last_feedback = send.message
        elif type(send.message) is Propose:
            machine.last_proposal = send.message

    def in_flight(self) -> tuple[int, int]:
        """Bytes on their way up and down."""
        letters = [thing for thing in self._world.pending(self._arrives) if isinstance(thing, Letter)]
        return (
            sum(letter.size for letter in letters if letter.to_hub),
            sum(letter.size for letter in letters if not letter.to_hub),
        )

    # --- on the way -----------------------------------------------------------------------------------------------

    def _send_down(self, send: Send) -> None:
        target, message = self._world.machines[send.to.node], send.message
        size = self._size_of(message)
        self.down.sent += size
        kind: Any = type(message)
        if kind is Task:
            self.tasks += size
        elif kind is Copy:
            self.copies += size
        elif kind is Round:
            self.rounds += size
        connection = target.connection
        if connection.peer is not send.to and connection.peer != send.to:
            self.down.drop("connection gone", size)
            return
        assert target.down is not None
        letter = Letter(connection, self._received(HUB, send, message), size, to_hub=False)
        self._carry(target.down, target, letter, LANES[kind], self.down)

    def _send_across(self, machine: Machine, send: Send) -> None:
        if machine.behaviour is None:
            self.across.send(machine, send)
            return
        for message in lies(machine, send.message, self._world.scenario.seed):
            assert not isinstance(message, Garbled), "nobody lies so to another node"
            self.across.send(machine, replace(send, message=message))

    def _send_up(self, machine: Machine, send: Send, message: Message | Garbled) -> None:
        connection = machine.connection
        size = self._size_of(message)
        self.up.sent += size
        if isinstance(message, Garbled):
            event: Event = Garbled(connection.peer, message.check, message.detail)
        else:
            event = self._received(connection.peer, send, message)
        assert machine.up is not None
        letter = Letter(connection, event, size, to_hub=True)
        self._carry(machine.up, self._world.hub, letter, LANES[type(message)], self.up)

    def _received(self, sender: Peer, send: Send, message: Message) -> Received:
        if not self._through_codec:
            return Received(sender, send.header, message)
        header, _, read = self._vocabulary.decode(self._vocabulary.encode(send.header, 0, message))
        return Received(sender, header, read)

    def _carry(self, way: Way, target: Machine, letter: Letter, lane: Lane, counts: Bytes) -> None:
        world = self._world
        fate = way.carry(letter.size, world.now, lane)
        if world.camera is not None:
            name = letter.connection.peer.node
            ends = (name, HUB.node) if letter.to_hub else (HUB.node, name)
            world.camera.message(world.now, *ends, label(letter.event), fate)
        if isinstance(fate, str):
            world.trace.lost(fate)
            counts.drop(fate, letter.size)
            return
        times = fate if isinstance(fate, tuple) else (fate,)
        counts.duplicated += letter.size * (len(times) - 1)
        back_at = world.hub_back_at if letter.to_hub else None  # until then it waits in the node's outbox
        for at in times:
            world.push(at if back_at is None else max(at, back_at), self._arrives, target, letter)

    def _arrive(self, machine: Machine, letter: Any) -> None:
        world = self._world
        if machine.paused_until > world.now:
            world.push(machine.paused_until, self._arrives, machine, letter)
            return
        if letter.to_hub:
            counts, alive = self.up, letter.connection.up
            if alive and world.hub_back_at is not None and world.hub_back_at > world.now:
                world.push(world.hub_back_at, self._arrives, machine, letter)  # it stays away longer than it seemed
                return
        else:
            counts, alive = self.down, letter.connection.down
        if machine.process is None or not alive:
            counts.drop("process gone" if alive else "connection gone", letter.size)
            return
        counts.received += letter.size
        if letter.to_hub and type(letter.event) is Received:
            kind: Any = type(letter.event.message)
            if kind is Feedback:
                self.feedback += letter.size
            elif kind is Copy:
                self.copies += letter.size
            elif kind is Update:
                self.updates += letter.size
        world.handle(machine, letter.event)
