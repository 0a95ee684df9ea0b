"""A node's core on a random walk: whatever comes in whatever order, some things never happen."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mdgan_edge.actors import (
    HUB,
    Drain,
    Effect,
    Finish,
    Garbled,
    Header,
    Heard,
    JobDone,
    LinkDown,
    Nanos,
    Note,
    Reconnect,
    Run,
    Send,
    Tick,
    nanos,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    AssignedDiscriminator,
    Bye,
    ByeAck,
    DiscriminatorId,
    Epoch,
    Error,
    ErrorCode,
    Feedback,
    HeldDiscriminator,
    Hello,
    Ping,
    Pong,
    Receipt,
    Refuse,
    Session,
    TaskId,
    Verdict,
    Welcome,
)
from nodes.core import Phase
from nodes.jobs import Prepare, Prepared, Save, Saved, Train, Trained
from tests.node_world import HEADER, HELD, IMAGES, NO_HEADER, WELCOME, Node, task

CREDITS = (1, 2, 3)
RUNS = ("run-1", "run-1", "run-2")
HARMLESS = (ErrorCode.NO_SESSION, ErrorCode.EPOCH, ErrorCode.BUSY, ErrorCode.PROTOCOL)
FATAL = (ErrorCode.SHUTDOWN, ErrorCode.FORBIDDEN)
DEADLINES_MAX = 60  # so many deadlines, one after the other, bring a node with a silent hub to an end

# What may happen; most of it is what does happen, so that walks get somewhere.
MOVES = st.one_of(
    st.tuples(st.just("work")),
    st.tuples(st.just("task"), st.integers(0, 3)),
    st.tuples(st.just("task"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.1, 0.5, 1.9, 2.0, 4.0, 11.0, 31.0])),
    st.tuples(st.just("deadline")),
    st.tuples(
        st.just("welcome"), st.sampled_from(CREDITS), st.sampled_from(["run-1", "run-1", "run-2"]), st.booleans()
    ),
    st.tuples(st.just("diverge")),
    st.tuples(st.just("error"), st.sampled_from(HARMLESS)),
    st.tuples(st.just("noise"), st.integers(0, 6)),
    st.tuples(st.just("trouble"), st.sampled_from(["unreachable", "not_registered"])),
    st.tuples(st.just("old_task"), st.integers(0, 3)),
)
ENDING_MOVES = st.one_of(
    st.tuples(st.just("drain")),
    st.tuples(st.just("bye")),
    st.tuples(st.just("bye_ack")),
    st.tuples(st.just("error"), st.sampled_from(FATAL)),
)
WALKS = st.lists(st.one_of(*[MOVES] * 9, ENDING_MOVES), min_size=1, max_size=60)


class Walk:
    """One walk: plays hub and trainer, and looks at everything the node does."""

    def __init__(self) -> None:
        self.node = Node()
        self.jobs: list[Any] = []  # the trainer's, first in first out
        self.header = HEADER
        self.task_id = 0
        self.given: dict[TaskId, Header] = {}
        self.answered: Counter[TaskId] = Counter()
        self.discriminator = HELD
        self.hello_at: list[Nanos] = []
        self.finished = False
        self.see(self.node.wait(0))

    def go(self, move: tuple[Any, ...]) -> None:
        match move:
            case ("work",) | ("diverge",):
                if self.jobs:
                    job = self.jobs.pop(0)
                    self.see(self.node.take(JobDone(job, self.result(job, diverged=move[0] == "diverge"))))
            case ("task", version):
                self.give(task(self.next_task(), version), self.header)
            case ("old_task", version):
                self.give(task(self.next_task(), version), Header(self.header.epoch, Session(1)))
            case ("wait", seconds):
                self.see(self.node.wait(seconds), ticked=True)
            case ("deadline",):
                if self.node.core.deadline() is not None:
                    self.see(self.node.wait_for_deadline(), ticked=True)
            case ("welcome", credit, run_id, fresh):
                self.welcome(credit, run_id, fresh)
            case ("error", code):
                self.see(self.node.hear(Error(code, "so it is"), Header(self.header.epoch)))
            case ("trouble", trouble):
                self.see(self.node.take(LinkDown(trouble)))
            case ("drain",):
                self.see(self.node.take(Drain("TERM")))
            case ("bye",):
                self.see(self.node.hear(Bye("completed"), self.header))
            case ("bye_ack",):
                self.see(self.node.hear(ByeAck(), self.header))
            case ("noise", kind):
                self.noise(kind)
            case _:
                raise AssertionError(move)

    def noise(self, kind: int) -> None:
        events = [Heard(HUB), Garbled(HUB, "too short"), Tick()]
        messages = [Ping(1), Pong(1), Receipt(TaskId(1), Verdict.MERGED), Refuse(TaskId(1), "busy")]
        if kind < len(events):
            self.see(self.node.take(events[kind]))
        else:
            self.see(self.node.hear(messages[kind - len(events)], self.header))

    def next_task(self) -> int:
        self.task_id += 1
        return self.task_id

    def give(self, one: Any, header: Header) -> None:
        self.given[one.task_id] = header
        self.see(self.node.hear(one, header))

    def welcome(self, credit: int, run_id: str, fresh: bool) -> None:
        if self.node.core.phase is Phase.LEAVING:
            return  # it takes none, see test_node_contact
        self.header = Header(Epoch(self.header.epoch), Session(self.header.session + 1))
        if fresh:
            name = DiscriminatorId(f"d{self.header.session}-ann")
            self.discriminator = HeldDiscriminator(name, 0, HELD.architecture, 0)
        assigned = AssignedDiscriminator(self.discriminator.discriminator_id, 0, "init")
        lease_s = 10.0 if credit < 3 else 100.0  # the latter longer than the death timeout
        message: Welcome = replace(WELCOME, run_id=run_id, credit=credit, discriminator=assigned, lease_s=lease_s)
        self.see(self.node.hear(message, self.header))

    def result(self, job: Any, diverged: bool) -> Any:
        match job:
            case Prepare(_, discriminator_id, hop):
                return Prepared(HeldDiscriminator(discriminator_id, hop, HELD.architecture, 0))
            case Train(one):
                return Trained(one, None if diverged else IMAGES, 0.5, 0.25, 0.125, 1)
            case Save():
                return Saved()
            case _:
                raise AssertionError(job)

    def see(self, effects: list[Effect], ticked: bool = False) -> None:
        core = self.node.core
        assert not (self.finished and effects), f"after the end: {effects}"
        for effect in effects:
            assert not self.finished, f"after Finish: {effect}"
            self.see_one(effect)
        assert self.finished == (core.phase is Phase.OVER)
        trains = [job for job in self.jobs if isinstance(job, Train)]
        assert len(trains) <= 1
        assert sum(isinstance(job, Save) for job in self.jobs) <= 2  # the one now and then, and the last
        if core.welcome is not None and not self.finished:
            under_work = core.work.training is not None and core.work.training[1] == core._header
            assert len(core.work.waiting) + under_work <= max(CREDITS)
            assert len(core.work.waiting) <= core.welcome.credit
        deadline = core.deadline()
        assert (deadline is None) == self.finished
        if ticked and deadline is not None:
            assert deadline > self.node.now

    def see_one(self, effect: Effect) -> None:
        match effect:
            case Send(to, message, header):
                assert to == HUB
                self.see_message(message, header)
            case Run(Train() as job):
                assert not any(isinstance(one, Train) for one in self.jobs)
                assert self.given[job.task.task_id] == self.header, "a task of another session"
                self.jobs.append(job)
            case Run(job):
                self.jobs.append(job)
            case Finish(exit_code, outcome, text):
                assert text
                assert (exit_code is ExitCode.OK) == (outcome != "failed")
                self.finished = True
            case Note() | Reconnect():
                pass
            case _:
                raise AssertionError(f"a node does no such thing: {effect}")

    def see_message(self, message: Any, header: Header) -> None:
        if isinstance(message, Hello):
            assert header == Header(self.header.epoch) or header == NO_HEADER
            assert not self.hello_at or self.node.now - self.hello_at[-1] >= nanos(0.5)
            self.hello_at.append(self.node.now)
            return
        assert header == self.header, f"{message} in a session that is gone"
        if isinstance(message, Feedback | Refuse):
            self.answered[message.task_id] += 1
            assert self.answered[message.task_id] == 1, f"task {message.task_id} answered twice"
            assert self.given[message.task_id] == header
        if isinstance(message, Feedback):
            assert message.discriminator_id == self.discriminator.discriminator_id


@settings(max_examples=400, deadline=None)
@given(WALKS)
def test_whatever_happens_a_node_keeps_its_word(moves: list[tuple[Any, ...]]) -> None:
    walk = Walk()
    for move in moves:
        walk.go(move)


@settings(max_examples=100, deadline=None)
@given(WALKS)
def test_whatever_happened_a_node_whose_hub_falls_silent_ends(moves: list[tuple[Any, ...]]) -> None:
    walk = Walk()
    for move in moves:
        walk.go(move)
    for _ in range(DEADLINES_MAX):
        walk.go(("deadline",))
        walk.go(("work",))
    assert walk.finished


@settings(max_examples=100, deadline=None)
@given(WALKS)
def test_whatever_happened_a_task_in_hand_is_answered_while_the_session_lasts(moves: list[tuple[Any, ...]]) -> None:
    walk = Walk()
    for move in moves:
        walk.go(move)
    walk.go(("welcome", 2, "run-1", True))
    if walk.finished or walk.node.core.phase is Phase.LEAVING:
        return
    new = [task(walk.next_task(), version=3), task(walk.next_task(), version=2)]
    for one in new:
        walk.give(one, walk.header)
    while walk.jobs:
        walk.go(("work",))
    assert [walk.answered[one.task_id] for one in new] == [1, 1]
