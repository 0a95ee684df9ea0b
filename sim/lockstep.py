"""One process, no delay, no sockets: the production cores and trainers, with messages handed over in memory.

Time stands still while a message or a job is under way, and leaps to the next deadline when all wait.

Every message still goes through the codec. Each link keeps its order; which link speaks next is either the oldest
message's turn, or drawn, which permutes the order in which feedback arrives.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping

from broker.core import HubCore
from broker.greeting import RunFacts
from broker.trainer import HubTrainer
from mdgan_edge.actors import (
    HUB,
    Aside,
    Core,
    Effect,
    Event,
    Finish,
    JobDone,
    Nanos,
    Note,
    Peer,
    Received,
    Run,
    Send,
    Tick,
    Trainer,
    nanos,
)
from mdgan_edge.data.images import Images
from mdgan_edge.gan.models import architecture, build_discriminator
from mdgan_edge.messages import Epoch, Incarnation, NodeId
from mdgan_edge.settings import Settings
from mdgan_edge.wire.codec import decode, encode
from nodes.core import NodeCore
from nodes.greeting import NodeFacts
from nodes.trainer import NodeTrainer

TURN = Nanos(1_000)  # virtual nanoseconds between two events
IDLE_MAX_S = 3600.0  # virtual seconds without a job done: nothing will ever come of it


class Lockstep:
    """A swarm without time. After `run`, `hub` and `nodes` are trainers with what they learned, `notes` the journal."""

    def __init__(self, settings: Settings, shards: Mapping[NodeId, Images], shuffle_seed: int | None) -> None:
        shape = (settings.model.channels, settings.model.image_size, settings.model.image_size)
        fingerprint = architecture(build_discriminator(settings.model, seed=0))
        facts = RunFacts("lockstep", Epoch(1), fingerprint, shape)
        self.core = HubCore(settings, facts, Nanos(0))
        self.hub = HubTrainer(settings, None, None)
        self.nodes = {node: NodeTrainer(node, shard, None) for node, shard in sorted(shards.items())}
        self._cores: dict[NodeId, Core] = {HUB.node: self.core}
        self._trainers: dict[NodeId, Trainer] = {HUB.node: self.hub, **self.nodes}
        for node, shard in shards.items():
            self._cores[node] = NodeCore(_facts(node, shard, settings.model.name), None, None, Nanos(0))
        self._links: dict[tuple[NodeId, NodeId], deque[tuple[int, Event]]] = {}
        self._chance = random.Random(shuffle_seed) if shuffle_seed is not None else None
        self._now = self._worked_at = Nanos(0)
        self.notes: list[Note] = []  # the hub's journal
        self._sent = 0
        self._seq = 0

    def run(self) -> None:
        """Until the hub has said Finish."""
        for node in self.nodes:
            self._carry(node, self._cores[node].handle(Tick(), self._now))
        while self._links or self.core.deadline() is not None:
            if self._links:
                self._hand_over()
            else:
                self._leap()

    def _hand_over(self) -> None:
        self._now = Nanos(self._now + TURN)
        source, target = self._next_link()
        queue = self._links[source, target]
        _, event = queue.popleft()
        if not queue:
            del self._links[source, target]
        if isinstance(event, JobDone):
            result = self._trainers[target].do(event.job)
            event = JobDone(event.job, result.finish() if isinstance(result, Aside) else result)
            self._worked_at = self._now
        self._carry(target, self._cores[target].handle(event, self._now))

    def _leap(self) -> None:
        """All wait: let the time come for which the first of them waits."""
        deadlines = {who: at for who, core in self._cores.items() if (at := core.deadline()) is not None}
        self._now = max(self._now, min(deadlines.values()))
        assert self._now - self._worked_at < nanos(IDLE_MAX_S), "nobody works, and the run is not over"
        for who, at in deadlines.items():
            if at <= self._now:
                self._carry(who, self._cores[who].handle(Tick(), self._now))

    def _next_link(self) -> tuple[NodeId, NodeId]:
        if self._chance is None:
            return min(self._links, key=lambda link: self._links[link][0][0])
        return self._chance.choice(sorted(self._links))

    def _carry(self, me: NodeId, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to):
                    self._put(me, to.node, self._through_codec(me, effect))
                case Run(job):
                    self._put(me, me, JobDone(job, None))  # its result is computed when it completes
                case Note() if me == HUB.node:
                    self.notes.append(effect)
                case Finish():
                    self._links = {link: queue for link, queue in self._links.items() if link[1] != me}
                case _:
                    pass

    def _put(self, source: NodeId, target: NodeId, event: Event) -> None:
        self._sent += 1
        self._links.setdefault((source, target), deque()).append((self._sent, event))

    def _through_codec(self, me: NodeId, send: Send) -> Received:
        self._seq += 1
        header, _, message = decode(encode(send.header, self._seq, send.message))
        return Received(Peer(me, me.encode()), header, message)


def _facts(node: NodeId, shard: Images, model: str) -> NodeFacts:
    labels = shard.labels or None
    return NodeFacts(
        node=node,
        incarnation=Incarnation(1),
        software="lockstep",
        hub="memory",
        public_key="",
        shard_size=len(shard),
        image_shape=shard.shape,
        labels=labels,
        label_max=max(labels) if labels else None,
        model=model,
        death_timeout_s=3600.0,
    )
