"""What was seen on the wire of one hub, kept apart from the hub's own books so that they can be held against it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from broker.greeting import RunFacts
from mdgan_edge.actors import Header, Note
from mdgan_edge.messages import Feedback, Incarnation, NodeId, Session, TaskId, Version
from sim.invariants.norms import Norms

GONE = ("dead", "left", "revoked")
NOT_TAKEN = "not_handed_over"  # the hub's reason why a node went without


class Given(msgspec.Struct, frozen=True, gc=False):
    """A task that was sent."""

    node: NodeId
    session: Session
    incarnation: Incarnation
    version: Version
    labels: tuple[int, ...] | None  # which classes its node had said it holds


@dataclass(slots=True)
class Ledger:
    """Of one epoch."""

    norms: Norms
    version: int = 0
    given: dict[TaskId, Given] = field(default_factory=dict)
    applied: set[TaskId] = field(default_factory=set)
    admitted: set[TaskId] = field(default_factory=set)  # feedback that went into the buffer
    sessions: dict[NodeId, Session] = field(default_factory=dict)  # the current ones, by the last WELCOME
    incarnations: dict[NodeId, Incarnation] = field(default_factory=dict)
    labels: dict[NodeId, tuple[int, ...] | None] = field(default_factory=dict)  # by the HELLO before that
    owners: dict[str, NodeId] = field(default_factory=dict)
    assigned: dict[NodeId, tuple[str, int]] = field(default_factory=dict)  # by the last WELCOME: discriminator, hop
    spares: dict[NodeId, set[str]] = field(default_factory=dict)  # what it has beside that, as it said or by a swap
    not_taken: dict[NodeId, set[str]] = field(default_factory=dict)  # what the hub says it did without when that left
    left: set[NodeId] = field(default_factory=set)
    gone: dict[NodeId, str] = field(default_factory=dict)  # whom the hub has written off, and as what
    rejoined: int = 0  # how often a node was welcomed again without having been started again
    feedback: int = 0  # received, whatever became of it
    live: int = 0  # after the last event
    live_max: int = 0  # at any admission since the last step
    labels_seen: bool = False  # feedback of a node that had said which classes it holds was merged

    def admit(self, message: Feedback, live: int) -> None:
        """The hub took it; `live` nodes there are now, and its sender was perhaps trusted again only then."""
        self.live_max = max(self.live_max, self.live + 1, live)
        self.admitted.add(message.task_id)

    def outlive(self, hub: Ledger, version: int) -> None:
        """The hub has started anew: what its former process had made durable is known again."""
        self.version = version
        self.owners, self.incarnations, self.assigned = hub.owners, hub.incarnations, hub.assigned
        self.rejoined, self.labels_seen = hub.rejoined, hub.labels_seen

    def noted(self, note: Note) -> None:
        """A line of the hub's journal."""
        if note.what == "member" and note.facts["state"] in GONE:
            self.gone[note.facts["node"]] = note.facts["state"]
        elif note.what == NOT_TAKEN:
            self.not_taken.setdefault(note.facts["node"], set()).add(note.facts["discriminator"])

    def has_lost_its_owner(self, discriminator: str) -> bool:
        """Whether it is on record as that of a node which is not there."""
        owner = self.owners.get(discriminator)
        return owner is not None and self.assigned[owner][0] == discriminator and not self.is_there(owner)

    def is_open(self, facts: RunFacts, node: NodeId, header: Header) -> bool:
        """Whether that is the node's session now; each start of the hub counts its own anew."""
        return (header.epoch, header.session) == (facts.epoch, self.sessions.get(node))

    def is_there(self, node: NodeId) -> bool:
        """Whether it was welcomed by this hub, and is not gone."""
        return node in self.sessions and node not in self.gone

    def forget(self, older_than: Version) -> None:
        """Tasks of versions that can only be stale."""
        while self.given:
            task, given = next(iter(self.given.items()))  # the oldest: versions only grow within an epoch
            if given.version >= older_than:
                return
            del self.given[task]
            self.applied.discard(task)
            self.admitted.discard(task)
