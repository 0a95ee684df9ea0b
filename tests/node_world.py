"""A node's core with a clock of its own, for the tests of the core: facts, messages and what is expected of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from mdgan_edge.actors import HUB, Effect, Event, Header, JobDone, Nanos, Note, Received, Run, Send, Tick, nanos
from mdgan_edge.messages import (
    AssignedDiscriminator,
    DiscriminatorId,
    Epoch,
    Feedback,
    HeldDiscriminator,
    Incarnation,
    Message,
    ModelSettings,
    NodeId,
    NodeTerms,
    Session,
    Task,
    TaskId,
    Tensor,
    Version,
    Welcome,
)
from nodes import greeting
from nodes.core import NodeCore
from nodes.greeting import NodeFacts
from nodes.jobs import Prepare, Prepared, Save, Saved, Train, Trained

RUN = "run-1"
HEARTBEAT_S = 2.0
LEASE_S = 10.0
DEATH_S = 60.0
HEADER = Header(Epoch(3), Session(7))
NO_HEADER = Header()
NEXT_HEADER = Header(Epoch(3), Session(8))
IMAGES = Tensor("float32", (1, 1, 1, 1), b"\0\0\0\0")
MINE = AssignedDiscriminator(DiscriminatorId("d1-ann"), 0, "init")
HELD = HeldDiscriminator(MINE.discriminator_id, MINE.hop, "fingerprint", 0)
FACTS = NodeFacts(
    node=NodeId("ann"),
    incarnation=Incarnation(4),
    software="mdgan-edge test",
    hub="tcp://192.0.2.1:5755",
    public_key="its-key",
    shard_size=100,
    image_shape=(1, 8, 8),
    labels=(0, 1),
    label_max=1,
    model=None,
    death_timeout_s=DEATH_S,
)
TERMS = NodeTerms(ModelSettings(name="mlp", image_size=8), 0, 10, "hinge", 1e-3, (0.5, 0.999), 10.0)
WELCOME = Welcome(RUN, FACTS.node, HEARTBEAT_S, LEASE_S, 2, 8, MINE, "fingerprint", TERMS)


def task(number: int, version: int = 0) -> Task:
    return Task(TaskId(number), Version(version), 10.0, 1, IMAGES, IMAGES)


def answer(to: Task, held: HeldDiscriminator = HELD) -> Feedback:
    """The feedback that goes with `trained`."""
    return Feedback(to.task_id, to.version, held.discriminator_id, held.hop, 0.5, 0.25, 0.125, IMAGES)


def trained(one: Task, tasks: int = 1, feedback: Tensor | None = IMAGES) -> JobDone:
    return JobDone(Train(one), Trained(one, feedback, 0.5, 0.25, 0.125, tasks))


def prepare(fresh: bool, welcome: Welcome = WELCOME) -> Prepare:
    mine = welcome.discriminator
    return Prepare(welcome.run_id, mine.discriminator_id, mine.hop, fresh, welcome.terms)


def send(message: Message, header: Header = HEADER) -> Send:
    return Send(HUB, message, header)


def hello(held: HeldDiscriminator | None = None, run_id: str | None = None, header: Header = NO_HEADER) -> Send:
    return Send(HUB, greeting.hello(FACTS, run_id, held), header)


def welcomed(kept: bool, again: bool = False, run_id: str = RUN) -> Note:
    facts = {"run_id": run_id, "discriminator": MINE.discriminator_id, "kept": kept}
    return Note("welcomed", greeting.welcome_text(again, kept), facts)


SAVED = JobDone(Save(), Saved())
PREPARED = JobDone(prepare(fresh=True), Prepared(HELD))
KEPT = JobDone(prepare(fresh=False), Prepared(HELD))


class Node:
    """A core and what time it is for it."""

    def __init__(self, held: HeldDiscriminator | None = None, **facts: Any) -> None:
        self.now = nanos(1000.0)
        run_id = RUN if held is not None else None
        known = {name: getattr(FACTS, name) for name in FACTS.__slots__} | facts
        self.core = NodeCore(NodeFacts(**known), run_id, held, self.now)

    def take(self, event: Event) -> list[Effect]:
        return self.core.handle(event, self.now)

    def hear(self, message: Message, header: Header = HEADER) -> list[Effect]:
        return self.take(Received(HUB, header, message))

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass and look at the clock once."""
        self.now = Nanos(self.now + nanos(seconds))
        return self.take(Tick())

    def wait_for_deadline(self) -> list[Effect]:
        at = self.core.deadline()
        assert at is not None
        self.now = max(self.now, at)
        return self.take(Tick())


def serving(credit: int = 2, **facts: Any) -> Node:
    """A node that has its discriminator and waits for tasks."""
    node = Node(**facts)
    welcome = replace(WELCOME, credit=credit)
    assert node.wait(0) == [send(greeting.hello(node.core.facts, None, None), Header())]
    assert node.hear(welcome) == [welcomed(kept=False), Run(prepare(fresh=True))]
    assert node.take(PREPARED) == []
    return node
