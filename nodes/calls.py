"""The node's dealings with other nodes themselves: whom it has called, and what it does not take from those that call.

Pure. What it says to them is swapping's business; this knows only that it goes over a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from mdgan_edge.actors import (
    HUB,
    LOST_PART,
    Dial,
    Effect,
    Garbled,
    HangUp,
    Header,
    Note,
    Received,
    Run,
    Send,
    TurnAway,
)
from mdgan_edge.messages import Message, Neighbour, NodeId, PeerMessage
from nodes.jobs import Install, SwapJob
from nodes.swapping import Act


class Calls:
    """At most one at a time: the one that the open swap wants."""

    def __init__(self) -> None:
        self.called: Neighbour | None = None

    def follow(self, wanted: Neighbour | None) -> list[Effect]:
        """Call whom the swap wants, and end the call that it wants no more."""
        before, self.called = self.called, wanted
        if wanted == before:
            return []
        effects: list[Effect] = [] if before is None else [HangUp(before.node)]
        if wanted is not None and wanted.endpoint is not None:
            effects.append(Dial(wanted.node, wanted.public_key, wanted.endpoint))
        return effects


def header(of_the_hub: Header) -> Header:
    """Of what is said from node to node: it belongs to no session, but to the same start of the hub."""
    return Header(epoch=of_the_hub.epoch)


def effects(acts: list[Act], of_the_hub: Header, send: Callable[[Message], Send]) -> list[Effect]:
    """What swapping wants done; `send` makes what goes to the hub."""
    found: list[Effect] = []
    for act in acts:
        match act:
            case Note():
                found.append(act)
            case Send():
                found.append(replace(act, header=header(of_the_hub)))
            case _:
                found.append(_run(act) if isinstance(act, SwapJob) else send(act))
    return found


def _run(job: SwapJob) -> Run:
    """Copies are made and put away beside a task: it may take long, and what it trains is lost where they cross."""
    return Run(job, beside=not isinstance(job, Install))


def unfit(said: Received, me: NodeId) -> list[Effect]:
    """What is done about a node that says what no node may say to another, or says it as somebody else; often nothing.

    The sender is proven by its key, and has to stand in the message.
    """
    message = said.message
    if isinstance(message, PeerMessage) and (message.sender, message.to) == (said.sender.node, me):
        return []
    why = f"{type(message).__name__} is not for it to say"
    return [Note("peer_refused", why, {"node": said.sender.node}, "warning"), TurnAway(said.sender.node)]


def garbled(what: Garbled) -> list[Effect]:
    """A line in the journal; a node that does so is not listened to any more."""
    note = Note("malformed", what.detail or what.check, {"from": what.sender.node}, "warning")
    trusted = what.sender.node == HUB.node or what.check == LOST_PART
    return [note] if trusted else [note, TurnAway(what.sender.node)]
