"""Why a process may end by itself: it was dismissed, it is done, or a node waited long enough for a hub in vain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from broker.core import Phase
from broker.jobs import BatchesMade
from mdgan_edge.actors import HUB, Finish, Send
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Bye, Error, ErrorCode, NodeId
from sim.invariants.names import Found

if TYPE_CHECKING:
    from sim.machine import Machine
    from sim.world import World

DISMISSED = frozenset({ExitCode.OK, ExitCode.TRY_LATER})  # the codes of a node that was told to leave


class Exits:
    """Keeps who was dismissed: by its operator, or by a hub whose run is over."""

    def __init__(self) -> None:
        self._dismissed: set[NodeId] = set()
        self._diverged = False  # an image of the generator was not finite

    def started(self, machine: Machine) -> None:
        self._dismissed.discard(machine.name)

    def drained(self, machine: Machine) -> None:
        """Its operator wants it to end."""
        self._dismissed.add(machine.name)

    def hub_did(self, result: Any) -> None:
        """A job of the hub is done."""
        self._diverged |= isinstance(result, BatchesMade) and not result.finite

    def hub_ends(self, finish: Finish, version: int, steps: int) -> Iterator[Found]:
        """The hub's core says that it is over."""
        reasons = {"completed": version >= steps, "stopped": HUB.node in self._dismissed, "failed": self._diverged}
        if not reasons[finish.outcome]:
            yield "exits_explained", HUB.node, f"it ended as {finish.outcome} at version {version} of {steps}"

    def sent(self, world: World, send: Send) -> None:
        """The hub sends something."""
        message = send.message
        farewell = isinstance(message, Bye) or (isinstance(message, Error) and message.code is ErrorCode.SHUTDOWN)
        if farewell and _run_ends(world):
            self._dismissed.add(send.to.node)

    def ended(self, world: World, machine: Machine, finish: Finish) -> Iterator[Found]:
        """A node's core has said that it is over."""
        code = finish.exit_code
        dismissed = code in DISMISSED and machine.name in self._dismissed
        drained = code is ExitCode.UNEXPECTED and finish.outcome == "stopped"
        given_up = code is ExitCode.HUB_UNREACHABLE and _hub_was_away(world, machine)
        if not dismissed and not drained and not given_up:
            yield "exits_explained", machine.name, f"it ended with {int(code)}: {finish.text}"


def _run_ends(world: World) -> bool:
    core = world.last_hub_core
    return core is not None and core.phase in (Phase.FINISHING, Phase.OVER)


def _hub_was_away(world: World, machine: Machine) -> bool:
    return world.hub.ended is not None or world.now <= (world.heal_at or world.end_at) or bool(machine.behaviour)
