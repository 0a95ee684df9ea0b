"""A hub's core in a world without sockets: the test plays the nodes, the trainer and the clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from broker.core import HubCore
from broker.greeting import RunFacts
from broker.jobs import (
    Batch,
    BatchesMade,
    Checkpoint,
    Checkpointed,
    Evaluate,
    Evaluated,
    HubResult,
    MakeBatches,
    Step,
    Stepped,
)
from broker.member import Member
from mdgan_edge.actors import Effect, Event, Header, JobDone, Measure, Nanos, Peer, Received, Run, Send, Tick, nanos
from mdgan_edge.messages import (
    Epoch,
    Error,
    Feedback,
    HeldDiscriminator,
    Hello,
    Incarnation,
    Message,
    ModelSettings,
    NodeId,
    Ping,
    Receipt,
    Task,
    TaskId,
    Tensor,
    Verdict,
    Version,
    Welcome,
)
from mdgan_edge.settings import EXACT_REDUCTION, HubSettings, Settings, TrainingSettings

ALICE, BOB, CAROL, DAVE = (NodeId(name) for name in ("alice", "bob", "carol", "dave"))
EIGHT = tuple(NodeId(f"n{index}") for index in range(8))
FACTS = RunFacts(run_id="run-1", epoch=Epoch(7), architecture="d-784", image_shape=(1, 8, 8))
BATCH_SIZE = 2
SHAPE = (BATCH_SIZE, 1, 8, 8)
START_S = 1000.0
NO_EVALUATION = 1_000_000  # versions between two evaluations, where a test is not about them

SYNC: dict[str, Any] = dict(EXACT_REDUCTION)
ONE_EACH: dict[str, Any] = {"quorum": 1, "warm_up_tasks": 0, "clip_factor": 0.0}  # every feedback is a step


def batch_of(version: Version, index: int) -> Batch:
    return Batch(Tensor("float32", SHAPE, f"batch {index} of version {version}".encode()), None)


def gradient(norm: float = 1.0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return Tensor("float32", shape, b"gradient", norm)


def hello(incarnation: int = 1, held: HeldDiscriminator | None = None, **changes: Any) -> Hello:
    plain = Hello(
        incarnation=Incarnation(incarnation),
        protocol_min=1,
        protocol_max=1,
        software="test",
        shard_size=100,
        image_shape=FACTS.image_shape,
        labels=None,
        labelled=False,
        run_id=None if held is None else FACTS.run_id,
        discriminator=held,
    )
    return replace(plain, **changes)


def settings_of(hub: dict[str, Any] | None = None, **training: Any) -> Settings:
    return Settings(
        model=ModelSettings(name="mlp", image_size=8, classes=0),
        training=TrainingSettings(**{"batch_size": BATCH_SIZE, **training}),
        hub=HubSettings(**{"evaluate_every": NO_EVALUATION, **(hub or {})}),
    )


class HubWorld:
    """One hub, the messages it sent, and the jobs that its trainer has not done yet."""

    def __init__(self, hub: dict[str, Any] | None = None, **training: Any) -> None:
        self.now = nanos(START_S)
        self.settings = settings_of(hub, **training)
        self.core = HubCore(self.settings, FACTS, self.now)
        self.jobs: deque[Any] = deque()
        self.headers: dict[NodeId, Header] = {}
        self.welcomes: dict[NodeId, Welcome] = {}
        self.tasks: dict[NodeId, list[Task]] = {}  # in a node's hands, oldest first
        self.receipts: list[tuple[NodeId, TaskId, Verdict]] = []
        self.steps: list[Step] = []

    # --- events ---------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> list[Effect]:
        effects = self.core.handle(event, self.now)
        for effect in effects:
            self._deliver(effect)
        return effects

    def _deliver(self, effect: Effect) -> None:
        match effect:
            case Run(job):
                self.jobs.append(job)
                if isinstance(job, Step):
                    self.steps.append(job)
            case Send(to, Welcome() as welcome, header):
                self.headers[to.node], self.welcomes[to.node], self.tasks[to.node] = header, welcome, []
            case Send(to, Task() as task):
                self.tasks[to.node].append(task)
            case Send(to, Receipt(task_id, verdict)):
                self.receipts.append((to.node, task_id, verdict))
            case _:
                pass

    def say(self, node: NodeId, message: Message, header: Header | None = None, link: bytes = b"") -> list[Effect]:
        return self.handle(Received(Peer(node, link), header or self.headers.get(node, Header()), message))

    def greet(self, *nodes: NodeId, incarnation: int = 1, held: HeldDiscriminator | None = None) -> list[Effect]:
        return [effect for node in nodes for effect in self.say(node, hello(incarnation, held), Header())]

    def pass_time(self, seconds: float, pinging: Iterable[NodeId] = ()) -> list[Effect]:
        """Let time go by: a Tick whenever the hub asked for one, a heartbeat of each of `pinging` per second."""
        effects: list[Effect] = []
        end = self.now + nanos(seconds)
        beat = self.now + nanos(1.0)
        while (at := min(self.core.deadline() or end, beat, end)) <= end:
            self.now = Nanos(max(self.now, at))
            if at == beat:
                beat += nanos(1.0)
                effects += [effect for node in pinging for effect in self.beat(node)]
            effects += self.handle(Tick())
            if at == end:
                break
        return effects

    def tick_late(self, seconds: float) -> list[Effect]:
        """The hub's thread is held up for so long, then gets its Tick."""
        self.now = Nanos(self.now + nanos(seconds))
        return self.handle(Tick())

    def beat(self, node: NodeId) -> list[Effect]:
        """A heartbeat that names the task the node has in hand, if there is one."""
        return self.say(node, Ping(0, next((task.task_id for task in self.tasks[node]), None)))

    # --- feedback -------------------------------------------------------------------------------------------------

    def feedback(self, node: NodeId, task: Task | None = None, **changes: Any) -> Feedback:
        """The answer to a task, by default the node's oldest."""
        task = task or self.tasks[node][0]
        mine = self.welcomes[node].discriminator
        plain = Feedback(task.task_id, task.version, mine.discriminator_id, mine.hop, 0.5, 0.5, 0.1, gradient())
        return replace(plain, **changes)

    def answer(self, node: NodeId, task: Task | None = None, **changes: Any) -> list[Effect]:
        feedback = self.feedback(node, task, **changes)
        self.tasks[node] = [task for task in self.tasks[node] if task.task_id != feedback.task_id]
        return self.say(node, feedback)

    # --- the trainer ----------------------------------------------------------------------------------------------

    def work(self) -> list[Effect]:
        """Do the next job."""
        job = self.jobs.popleft()
        return self.handle(JobDone(job, done(job)))

    def work_all(self) -> list[Effect]:
        """Do every job there is, and those that follow from it."""
        effects: list[Effect] = []
        while self.jobs:
            effects += self.work()
        return effects

    # --- what the hub knows ---------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        return self.core.training.version

    def member(self, node: NodeId) -> Member:
        member = self.core.members.get(node)
        assert member is not None
        return member

    def state(self, node: NodeId) -> str:
        return self.member(node).state.value

    def header(self, node: NodeId) -> Header:
        return Header(FACTS.epoch, self.member(node).session)

    def verdicts(self) -> dict[str, int]:
        """What was counted, without the zeros."""
        return {verdict.value: count for verdict, count in self.core.verdicts.items() if count}

    def held(self, node: NodeId) -> HeldDiscriminator:
        """What the node says it holds, after it trained."""
        mine = self.welcomes[node].discriminator
        return HeldDiscriminator(mine.discriminator_id, mine.hop, FACTS.architecture, 5)

    def merged(self) -> list[list[NodeId]]:
        """Whose feedback each step merged."""
        return [[one.node for one in step.contributions] for step in self.steps]


def training_world(*nodes: NodeId, hub: dict[str, Any] | None = None, **training: Any) -> HubWorld:
    """All nodes are in and have their first task."""
    world = HubWorld({"nodes_min": len(nodes), **(hub or {})}, **training)
    world.greet(*nodes)
    world.work_all()
    assert all(len(world.tasks[node]) == 1 for node in nodes)
    return world


def done(job: Any) -> HubResult:
    match job:
        case MakeBatches(version, count):
            return BatchesMade(version, tuple(batch_of(version, index) for index in range(count)))
        case Step(version=version):
            return Stepped(Version(version + 1), 1.0, 0.1)
        case Evaluate(version):
            return Evaluated(version, {"fid": float(version)}, None, None, 0.1)
        case Checkpoint(version):
            return Checkpointed(version, None)
        case _:
            raise AssertionError(job)


def stepped(version: int) -> Measure:
    """The line of metrics about the step that `done` made."""
    return Measure("stepped", {"version": version, "gradient_norm": 1.0, "seconds": 0.1})


def sent(effects: list[Effect], kind: type[Any]) -> list[tuple[NodeId, Any]]:
    """To whom messages of one kind went."""
    return [
        (effect.to.node, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, kind)
    ]


def errors(effects: list[Effect]) -> list[tuple[NodeId, str]]:
    return [(node, error.code.value) for node, error in sent(effects, Error)]
