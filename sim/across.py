"""Messages from node to node: up the sender's line and down the receiver's, and never over the hub's.

A call's life: dialled → over when its caller hangs up or dials another, when its connection is reset, or when one of
the two processes is gone. A call to a node behind NAT is never put through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mdgan_edge.actors import Admit, Dial, HangUp, Peer, PeerEffect, Received, Send, TurnAway
from mdgan_edge.messages import Copy, NodeId
from mdgan_edge.wire.codec import decode, encode
from mdgan_edge.wire.peers import ADMITTED_FOR, ADMITTED_MAX
from sim.links import LANES, Bytes, Fate, Lane
from sim.machine import Machine, Process
from sim.sizes import Sizes
from sim.trace import label

if TYPE_CHECKING:
    from sim.world import World


class Call(msgspec.Struct, gc=False, eq=False):
    """A connection that one node has opened to another."""

    caller: Machine
    callee: Machine
    between: tuple[Process, Process | None]
    link: bytes
    open: bool = True

    def stands(self) -> bool:
        """Whether both ends are there still."""
        return self.open and (self.caller.process, self.callee.process) == self.between


class Passing(msgspec.Struct, gc=False):
    """A message on its way: to the middle first, then to the other node."""

    call: Call
    event: Received
    size: int
    to_callee: bool
    lane: Lane
    sent_at: int

    def ends(self) -> tuple[Machine, Machine]:
        """From whom to whom."""
        ends = (self.call.caller, self.call.callee)
        return ends if self.to_callee else (ends[1], ends[0])


class Across:
    """Carries every message between two nodes of one world."""

    def __init__(self, world: World, sizes: Sizes) -> None:
        self.bytes = Bytes()
        self.copies = 0  # bytes received of these
        self._world, self._size_of = world, sizes.of
        self._calls: dict[NodeId, Call] = {}  # by the caller, which makes one at a time
        self._by_link: dict[tuple[NodeId, bytes], Call] = {}  # by the callee and its name for it
        self._made = 0
        self._is_halfway, self._arrives = self._halfway, self._arrive  # bound once, as in Post

    def carry(self, machine: Machine, effect: PeerEffect) -> None:
        """Who may call a node, and whom it calls."""
        assert machine.process is not None
        admitted = machine.process.admitted
        match effect:
            case Admit(node):
                admitted.pop(node, None)
                admitted[node] = self._world.now + ADMITTED_FOR
                if len(admitted) > ADMITTED_MAX:
                    del admitted[next(iter(admitted))]
            case TurnAway(node):
                admitted.pop(node, None)
            case HangUp():
                self.hang_up(machine)
            case Dial(node):
                self.hang_up(machine)
                self._dial(machine, node)

    def reset(self, machine: Machine) -> None:
        """Every connection of this node breaks."""
        for call in [*self._calls.values()]:
            if machine in (call.caller, call.callee):
                self.hang_up(call.caller)

    def hang_up(self, caller: Machine) -> None:
        """Nothing of its call arrives any more."""
        call = self._calls.pop(caller.name, None)
        if call is not None:
            call.open = False
            del self._by_link[call.callee.name, call.link]

    def send(self, machine: Machine, send: Send) -> None:
        """What a core says to another node."""
        size = self._size_of(send.message)
        self.bytes.sent += size
        to_callee = not send.to.link
        call = self._calls.get(machine.name) if to_callee else self._by_link.get((machine.name, send.to.link))
        if call is None or (to_callee and call.callee.name != send.to.node):
            self.bytes.drop("connection gone", size)
            return
        sender = Peer(machine.name, call.link if to_callee else b"")
        event = self._received(sender, send, size)
        passing = Passing(call, event, size, to_callee, LANES[type(send.message)], self._world.now)
        assert machine.up is not None
        fate = machine.up.across(size, self._world.now, passing.lane, self._world.hub_cuts)
        if isinstance(fate, str):
            self._film(passing, fate)
        self._put(fate, self._is_halfway, passing)

    def in_flight(self) -> int:
        """Bytes on their way."""
        waiting = [*self._world.pending(self._is_halfway), *self._world.pending(self._arrives)]
        return sum(thing.size for thing in waiting if isinstance(thing, Passing))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _dial(self, caller: Machine, node: NodeId) -> None:
        callee = self._world.machines.get(node)
        if callee is None or caller.process is None:
            return
        self._made += 1
        call = Call(caller, callee, (caller.process, callee.process), b"%d" % self._made)
        self._calls[caller.name] = self._by_link[node, call.link] = call

    def _received(self, sender: Peer, send: Send, size: int) -> Received:
        if not self._world.bodies.through_codec:
            return Received(sender, send.header, send.message, size)
        header, _, read = decode(encode(send.header, 0, send.message))
        return Received(sender, header, read, size)

    def _put(self, fate: Fate, then: Any, passing: Passing) -> None:
        world = self._world
        if isinstance(fate, str):
            world.trace.lost(fate)
            self.bytes.drop(fate, passing.size)
            return
        times = fate if isinstance(fate, tuple) else (fate,)
        self.bytes.duplicated += passing.size * (len(times) - 1)
        for at in times:
            world.push(at, then, passing.ends()[1], passing)

    def _halfway(self, target: Machine, passing: Any) -> None:
        assert target.down is not None
        fate: Fate = target.down.across(passing.size, self._world.now, passing.lane, self._world.hub_cuts)
        if passing.to_callee and target.behind_nat:
            fate = "no way in"
        self._film(passing, fate)
        self._put(fate, self._arrives, passing)

    def _arrive(self, target: Machine, passing: Any) -> None:
        world, process = self._world, target.process
        if target.paused_until > world.now:
            world.push(target.paused_until, self._arrives, target, passing)
            return
        if process is None or not passing.call.stands():
            self.bytes.drop("connection gone", passing.size)
            return
        if passing.to_callee and process.admitted.get(passing.call.caller.name, 0) <= world.now:
            self.bytes.drop("not admitted", passing.size)
            return
        self.bytes.received += passing.size
        if type(passing.event.message) is Copy:
            self.copies += passing.size
        world.handle(target, passing.event)

    def _film(self, passing: Passing, fate: Fate) -> None:
        if self._world.camera is not None:
            source, target = passing.ends()
            self._world.camera.message(passing.sent_at, source.name, target.name, label(passing.event), fate)
