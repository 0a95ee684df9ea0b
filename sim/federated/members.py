"""FL-GAN's clients as its server knows them: sessions, signs of life, who has answered, what each has given. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from mdgan_edge.actors import Nanos, Peer, nanos
from mdgan_edge.messages import Incarnation, NodeId, Session
from mdgan_edge.settings import HubSettings
from sim.federated.messages import Enter

State = Literal["active", "dead", "left"]
NO_ROUND = -1


@dataclass(slots=True)
class Client:
    """One client. A life: active → dead (silent for too long) or left → active again with a new session."""

    node: NodeId
    peer: Peer
    incarnation: Incarnation
    session: Session
    samples: int  # m_n
    heard_at: Nanos
    state: State = "active"
    sent_round: int = NO_ROUND  # the last it was sent in this session, ...
    again_at: int = 0  # ... before when it is not sent again, ...
    again_s: float = 0.0  # ... and how long after that
    heard_round: int = NO_ROUND  # the last whose answer is not waited for any more
    rounds: int = 0  # of how many it was sent the model
    averaged: int = 0  # of its updates
    rejoined: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def active(self) -> bool:
        return self.state == "active"


class Members:
    """All clients that ever entered."""

    def __init__(self, settings: HubSettings) -> None:
        self._death = nanos(settings.death_timeout_s)
        self._sweep = nanos(settings.heartbeat_s)
        self._clients: dict[NodeId, Client] = {}
        self._sessions = 0
        self.live = 0
        self.sweep_at: Nanos | None = None  # while anybody is there

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def get(self, node: NodeId) -> Client | None:
        return self._clients.get(node)

    def enter(self, peer: Peer, enter: Enter, now: Nanos) -> Client:
        """A new session; what it answered before in this round still counts."""
        self._sessions += 1
        session = Session(self._sessions)
        client = self._clients.get(peer.node)
        if client is None:
            client = Client(peer.node, peer, enter.incarnation, session, enter.samples, now)
            self._clients[peer.node] = client
            self.live += 1
        else:
            self.live += not client.active
            client.rejoined += 1
        client.peer, client.incarnation, client.session = peer, enter.incarnation, session
        client.samples, client.heard_at, client.state, client.sent_round = enter.samples, now, "active", NO_ROUND
        if self.sweep_at is None:
            self.sweep_at = Nanos(now + self._sweep)
        return client

    def end(self, client: Client, state: State) -> None:
        """It is dead, or has left."""
        assert client.active
        client.state = state
        self.live -= 1

    def sweep(self, now: Nanos) -> list[Client]:
        """Those that have been silent for too long: dead from now on."""
        if self.sweep_at is None or now < self.sweep_at:
            return []
        silent = [client for client in self if client.active and now - client.heard_at >= self._death]
        for client in silent:
            self.end(client, "dead")
        self.sweep_at = Nanos(now + self._sweep) if self.live else None
        return silent
