"""The service carries what a core decides: jobs and their results, ticks, sends, the end, and what goes wrong.

Core, trainer and endpoint are made up here; the threads, queues and the clock are the real ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mdgan_edge.actors import (
    Aside,
    Drain,
    Effect,
    Event,
    Finish,
    JobDone,
    Measure,
    Nanos,
    Note,
    Peer,
    Run,
    Send,
    Tick,
    nanos,
)
from mdgan_edge.errors import DataError, ExitCode
from mdgan_edge.messages import Bye, NodeId, Ping
from mdgan_edge.service import Service, clock

ANN = Peer(NodeId("ann"), b"1")
DONE = Finish(ExitCode.OK, "completed", "all done")
PATIENCE_S = 10.0  # how long a test waits for what has to happen

Decide = Callable[[Event], list[Effect]]


class Core:
    """Does what the test says for each event; ticks at once until the first one has come, if asked to."""

    def __init__(self, decide: Decide, ticks: int = 0) -> None:
        self.decide, self.ticks = decide, ticks
        self.events: list[Event] = []
        self.asked_at: list[Nanos] = []
        self.ticked_at: list[Nanos] = []

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        self.events.append(event)
        if event == Tick():
            self.ticks -= 1
            self.ticked_at.append(now)
        return self.decide(event)

    def deadline(self) -> Nanos | None:
        if not self.ticks:
            return None
        while len(self.asked_at) <= len(self.ticked_at):
            self.asked_at.append(Nanos(clock() + nanos(0.01)))
        return self.asked_at[-1]


class Trainer:
    """Does each job by calling it."""

    def do(self, job: Any) -> Any:
        return job()


class Endpoint:
    """Gives the events it was fed, and keeps what it is to send for as many flushes as the test says."""

    def __init__(self, events: list[Event], busy_for: int = 0) -> None:
        self.events, self.busy_for = events, busy_for
        self.sent: list[Send] = []
        self.flushed = 0
        self.closed = 0
        self._reading, self._writing = os.pipe()

    def sockets(self) -> list[int]:
        return [self._reading]

    def receive(self, now: Nanos) -> list[Event]:  # noqa: ARG002
        events, self.events = self.events, []
        return events

    def send(self, effect: Send) -> bool:
        self.sent.append(effect)
        return False

    def flush(self) -> None:
        self.flushed += 1

    def pending(self) -> bool:
        return len(self.sent) > 0 and self.flushed < self.busy_for

    def close(self) -> None:
        self.closed += 1
        if self.closed == 1:
            os.close(self._reading)
            os.close(self._writing)


class Recorder:
    """Keeps notes and measurements."""

    def __init__(self) -> None:
        self.lines: list[Note | Measure] = []

    def note(self, note: Note, now_s: float) -> None:  # noqa: ARG002
        self.lines.append(note)

    def measure(self, measure: Measure, now_s: float) -> None:  # noqa: ARG002
        self.lines.append(measure)


class World:
    """One service with everything around it."""

    def __init__(self, decide: Decide, ticks: int = 0, busy_for: int = 0, drain_max_s: float = PATIENCE_S) -> None:
        self.core = Core(decide, ticks)
        self.endpoint = Endpoint([Drain("begin")], busy_for)
        self.recorder = Recorder()
        self.service = Service(
            self.core,
            Trainer(),
            self.endpoint,  # type: ignore[arg-type]
            self.recorder,
            lambda _now: {"events": len(self.core.events)},
            drain_max_s,
        )

    def run(self) -> Finish:
        return self.service.run()


BEGIN = Drain("begin")  # what the endpoint brings first


def at_begin(*effects: Effect, then: Decide | None = None) -> Decide:
    """These effects for the first event; what `then` says for the others, or the end."""

    def decide(event: Event) -> list[Effect]:
        if event == BEGIN:
            return list(effects)
        return then(event) if then is not None else [DONE]

    return decide


@pytest.fixture
def held() -> Iterator[threading.Event]:
    """Something a job can wait for; let go at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_a_finish_ends_the_service_and_closes_what_it_used() -> None:
    world = World(at_begin(DONE))
    assert world.run() == DONE
    assert world.core.events == [BEGIN]
    assert world.endpoint.closed == 1
    note = Note("finished", "all done", {"outcome": "completed", "exit_code": 0})
    assert world.recorder.lines == [note]
    assert world.service.latest == {"events": 1}


def test_effects_are_carried_in_their_order() -> None:
    ping, bye = Send(ANN, Ping(1)), Send(ANN, Bye("completed"))
    note, measure = Note("step_rule", "quorum"), Measure("step", {"version": 1})
    world = World(at_begin(note, ping, measure, bye, DONE, Note("too", "late")))
    world.run()
    assert world.endpoint.sent == [ping, bye]
    assert world.recorder.lines[:2] == [note, measure]


def test_jobs_are_done_one_after_the_other_and_come_back_in_their_order() -> None:
    done: list[int] = []

    def job(number: int) -> Callable[[], int]:
        def work() -> int:
            done.append(number)
            return number * number

        return work

    jobs = [job(number) for number in range(6)]

    def then(event: Event) -> list[Effect]:
        assert isinstance(event, JobDone)
        return [DONE] if event.job is jobs[-1] else []

    world = World(at_begin(*[Run(one) for one in jobs], then=then))
    world.run()
    assert done == list(range(6))
    assert world.core.events == [BEGIN, *[JobDone(one, number**2) for number, one in enumerate(jobs)]]


def test_a_core_goes_on_deciding_while_a_job_is_under_work(held: threading.Event) -> None:
    def then(event: Event) -> list[Effect]:
        if event == Drain("meanwhile"):
            held.set()  # only now may the job end
            return []
        return [DONE] if isinstance(event, JobDone) else []

    def job() -> bool:
        world.service.post(Drain("meanwhile"))
        return held.wait(PATIENCE_S)

    world = World(at_begin(Run(job), then=then))
    world.run()
    assert world.core.events == [BEGIN, Drain("meanwhile"), JobDone(job, True)]


def test_jobs_go_on_while_an_earlier_one_has_left_its_end_aside(held: threading.Event) -> None:
    def evaluate() -> Aside:
        return Aside(lambda: held.wait(PATIENCE_S))

    def step() -> str:
        return "stepped"

    def then(event: Event) -> list[Effect]:
        assert isinstance(event, JobDone)
        if event.job is step:
            held.set()  # only now may the evaluation end
        return [DONE] if event.job is evaluate else []

    world = World(at_begin(Run(evaluate), Run(step), then=then))
    world.run()
    assert world.core.events == [BEGIN, JobDone(step, "stepped"), JobDone(evaluate, True)]


def test_what_is_left_aside_does_not_hold_up_the_end(held: threading.Event) -> None:
    def evaluate() -> Aside:
        return Aside(lambda: held.wait(PATIENCE_S))

    def step() -> str:
        return "stepped"

    world = World(at_begin(Run(evaluate), Run(step)))
    assert world.run() == DONE
    assert world.core.events == [BEGIN, JobDone(step, "stepped")]
    held.set()  # its result finds nobody there


def test_what_is_raised_aside_is_raised_by_run() -> None:
    error = ZeroDivisionError("ours")

    def broken() -> None:
        raise error

    world = World(at_begin(Run(lambda: Aside(broken)), then=lambda _: []))
    with pytest.raises(ZeroDivisionError) as raised:
        world.run()
    assert raised.value is error


def test_a_tick_comes_at_the_deadline_and_not_before() -> None:
    def decide(event: Event) -> list[Effect]:
        return [DONE] if event == Tick() and not world.core.ticks else []

    world = World(decide, ticks=4)
    world.run()
    assert world.core.events == [BEGIN, *[Tick()] * 4]
    assert len(world.core.ticked_at) == 4
    for asked, ticked in zip(world.core.asked_at, world.core.ticked_at, strict=False):
        assert asked <= ticked < asked + nanos(PATIENCE_S)


@pytest.mark.parametrize("error", [DataError("the disk is full: make room"), ZeroDivisionError("ours"), SystemExit(3)])
def test_what_the_trainer_raises_is_raised_by_run(error: BaseException) -> None:
    def job() -> None:
        raise error

    world = World(at_begin(Run(job)))
    with pytest.raises(type(error)) as raised:
        world.run()
    assert raised.value is error
    assert world.core.events == [BEGIN]
    assert world.endpoint.closed == 1


def test_what_the_core_raises_is_raised_by_run() -> None:
    def decide(event: Event) -> list[Effect]:
        raise AssertionError(f"not expected: {event}")

    world = World(decide)
    with pytest.raises(AssertionError, match="not expected"):
        world.run()
    assert world.endpoint.closed == 1


def test_the_last_messages_leave_before_the_end() -> None:
    world = World(at_begin(Send(ANN, Bye("completed")), DONE), busy_for=4)
    world.run()
    assert world.endpoint.flushed == 4


def test_what_cannot_be_sent_is_tried_again_while_nothing_else_happens() -> None:
    world = World(at_begin(Send(ANN, Ping(1)), then=lambda event: [DONE] if event == Drain("enough") else []))
    world.endpoint.busy_for = 1_000_000
    flush = world.endpoint.flush

    def count() -> None:
        flush()
        if world.endpoint.flushed == 3:
            world.endpoint.busy_for = 3
            world.service.post(Drain("enough"))

    world.endpoint.flush = count  # type: ignore[method-assign]
    assert world.run() == DONE
    assert world.endpoint.flushed == 3


def test_a_drain_reaches_the_core_as_an_event() -> None:
    world = World(at_begin(then=lambda event: [DONE] if event == Drain("SIGTERM received") else []))
    world.service.drain("SIGTERM received")
    assert world.run() == DONE
    assert Drain("SIGTERM received") in world.core.events


def test_a_core_that_does_not_finish_after_a_drain_is_ended() -> None:
    world = World(lambda _: [], drain_max_s=0.05)
    world.service.drain("SIGTERM received")
    assert world.run() == Finish(ExitCode.UNEXPECTED, "stopped", "stopped without a farewell after 0.05 s")
    assert world.core.events == [Drain("SIGTERM received"), BEGIN]


def test_events_after_the_finish_reach_nobody() -> None:
    world = World(at_begin(DONE))
    world.endpoint.events += [Tick(), Tick()]
    world.run()
    world.service.post(Tick())  # and it is not an error, whoever comes too late
    assert world.core.events == [BEGIN]


def test_a_job_that_outlives_the_service_harms_nothing(held: threading.Event) -> None:
    threads: list[threading.Thread] = []

    def job() -> bool:
        threads.append(threading.current_thread())
        world.service.post(Drain("end"))
        return held.wait(PATIENCE_S)

    world = World(at_begin(Run(job)))
    assert world.run() == DONE
    pipes = [os.pipe() for _ in range(4)]  # these take the numbers of whatever was closed
    held.set()
    threads[0].join(PATIENCE_S)
    assert not threads[0].is_alive()
    for reading, writing in pipes:
        os.set_blocking(reading, False)
        with pytest.raises(BlockingIOError):
            os.read(reading, 1)  # nobody wrote to what is not theirs
        os.close(reading)
        os.close(writing)
