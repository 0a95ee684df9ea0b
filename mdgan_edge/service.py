"""Carries what a core decides: one I/O thread with all sockets, two that work, bounded queues between them.

The I/O thread owns the endpoint and the core and never waits for training; the training thread does one job after the
other, the one beside it those that need not wait for what is under work; what a job leaves aside has a thread of its
own until it is through; the calling thread waits for the end, takes signals and looks at the status once in a while.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from mdgan_edge.actors import (
    Admit,
    Aside,
    Core,
    Dial,
    Drain,
    Effect,
    Event,
    Finish,
    HangUp,
    JobDone,
    Measure,
    Nanos,
    Note,
    Persist,
    Reconnect,
    Run,
    Send,
    Tick,
    Trainer,
    TurnAway,
    nanos,
)
from mdgan_edge.errors import ExitCode, OperatorError
from mdgan_edge.journal import Journal
from mdgan_edge.wire.endpoint import Endpoint
from mdgan_edge.wire.transport import NodeEndpoint, Poll, Waker

JOBS_MAX = 16  # jobs a core may have under way; more would be a bug of the core
ASIDES_MAX = 2  # jobs a core may have aside
POLL_MAX_S = 1.0  # the loop looks around at least so often
FLUSH_EVERY_S = 0.02  # while something waits to be sent
FAREWELL_FLUSH_S = 2.0  # how long the last messages may take to leave
DRAIN_MAX_S = 20.0  # after TERM or INT the process ends within this
STATUS_EVERY_S = 1.0

Status = Mapping[str, Any]


class Recorder(Protocol):
    """Where notes and measurements go."""

    def note(self, note: Note, now_s: float) -> None:
        """Take a line of the journal."""

    def measure(self, measure: Measure, now_s: float) -> None:
        """Take a line of metrics."""


class FileRecorder:
    """Notes into journal.jsonl (and to `tell`), measurements into metrics.jsonl."""

    def __init__(self, journal: Journal, metrics: Journal | None, tell: Callable[[Note], None]) -> None:
        self._journal, self._metrics, self._tell = journal, metrics, tell

    def note(self, note: Note, now_s: float) -> None:
        self._journal.note(note, now_s)
        self._tell(note)

    def measure(self, measure: Measure, now_s: float) -> None:
        if self._metrics is not None:
            self._metrics.measure(measure, now_s)


def clock() -> Nanos:
    """The monotonic clock of every real process."""
    return Nanos(time.monotonic_ns())


class _Order:
    """No job is begun before those beside that were asked for earlier are done. `asked`: how many there were so far."""

    def __init__(self) -> None:
        self.asked = 0
        self._done = 0
        self._over = False
        self._changed = threading.Condition()

    def done(self) -> None:
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def end(self) -> None:
        """None will be done any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def wait_for(self, place: int) -> bool:
        """Until so many are done; False if they never will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._done >= place)
            return self._done >= place


class Service:
    """Runs one core until it says Finish."""

    def __init__(
        self,
        core: Core,
        trainer: Trainer,
        endpoint: Endpoint,
        recorder: Recorder,
        status: Callable[[Nanos], Status],
        drain_max_s: float = DRAIN_MAX_S,
        persist: Callable[[Any], None] | None = None,
    ) -> None:
        self._core, self._trainer, self._endpoint, self._recorder = core, trainer, endpoint, recorder
        self._status, self._persist = status, persist
        self._drain_max_s = drain_max_s
        self.latest: Status = {}  # refreshed by the I/O thread, replaced as a whole
        self._waker = Waker()
        self._inbox: deque[Event | BaseException] = deque()
        self._jobs: queue.Queue[tuple[Run, int] | None] = queue.Queue(JOBS_MAX)
        self._beside: queue.Queue[Run | None] = queue.Queue(JOBS_MAX)
        self._order = _Order()
        self._asides: list[threading.Thread] = []
        self._done = threading.Event()
        self._closed = False  # the waker is; only the calling thread and the two that do jobs could still wake it
        self._finish: Finish | None = None
        self._broken: BaseException | None = None
        self._drain_by: Nanos | None = None
        self._status_at = Nanos(0)
        self._trouble_told = False

    def run(self, meanwhile: Callable[[Status], None] = lambda _: None) -> Finish:
        """Until Finish. `meanwhile` is called with the latest status about once a second, in this thread.

        Raises what the trainer raised.
        """
        threads = [
            threading.Thread(target=self._io_loop, name="io", daemon=True),
            threading.Thread(target=self._train_loop, name="train", daemon=True),
            threading.Thread(target=self._beside_loop, name="beside", daemon=True),
        ]
        for thread in threads:
            thread.start()
        while not self._done.wait(STATUS_EVERY_S):
            self._look(meanwhile)
        threads[0].join()
        self._close_waker(threads[1:])
        self._look(meanwhile)
        if self._broken is not None:
            raise self._broken
        assert self._finish is not None
        return self._finish

    def _look(self, meanwhile: Callable[[Status], None]) -> None:
        """A status that cannot be written is no reason to end a run; it is said once."""
        try:
            meanwhile(self.latest)
        except OperatorError as error:
            if not self._trouble_told:
                self._trouble_told = True
                self._recorder.note(Note("status_lost", str(error), level="warning"), clock() / 1e9)

    def _close_waker(self, at_work: Iterable[threading.Thread]) -> None:
        """Unless another thread still works: it would write to a pipe whose number a file may have by then."""
        threads = (*at_work, *self._asides)
        for thread in threads:
            thread.join(FLUSH_EVERY_S)
        if not any(thread.is_alive() for thread in threads):
            self._closed = True
            self._waker.close()

    def post(self, event: Event | BaseException) -> None:
        """Hand an event to the core, from any thread; an exception is raised in the calling thread instead."""
        if not self._closed:
            self._inbox.append(event)
            self._waker.wake()

    def drain(self, reason: str) -> None:
        """Finish cleanly; a second call ends the process at once."""
        if self._drain_by is not None:
            os._exit(ExitCode.UNEXPECTED)
        self._drain_by = Nanos(clock() + nanos(self._drain_max_s))
        self.post(Drain(reason))

    # --- the threads that work ------------------------------------------------------------------------------------

    def _train_loop(self) -> None:
        while (entry := self._jobs.get()) is not None:
            run, place = entry
            if not self._order.wait_for(place) or not self._work(run.job):
                return

    def _beside_loop(self) -> None:
        while (run := self._beside.get()) is not None and self._work(run.job):
            self._order.done()
        self._order.end()

    def _work(self, job: Any) -> bool:
        """Do a job; whether to go on."""
        try:
            result = self._trainer.do(job)
        except BaseException as broken:  # noqa: BLE001  (whatever it is, the process has to end with it)
            self.post(broken)
            return False
        if isinstance(result, Aside):
            self._leave_aside(job, result)
        else:
            self.post(JobDone(job, result))
        return True

    def _leave_aside(self, job: Any, aside: Aside) -> None:
        self._asides = [thread for thread in self._asides if thread.is_alive()]
        assert len(self._asides) < ASIDES_MAX
        self._asides.append(threading.Thread(target=self._finish_aside, args=(job, aside), name="aside", daemon=True))
        self._asides[-1].start()

    def _finish_aside(self, job: Any, aside: Aside) -> None:
        try:
            self.post(JobDone(job, aside.finish()))
        except BaseException as broken:  # noqa: BLE001  (as above)
            self.post(broken)

    # --- the I/O thread -------------------------------------------------------------------------------------------

    def _io_loop(self) -> None:
        try:
            poll = Poll(self._waker)
            while self._finish is None:
                self._turn()
                poll.wait(self._endpoint, self._timeout_s())
            self._flush_farewell()
        except BaseException as broken:  # noqa: BLE001  (raised again in the calling thread)
            self._broken = broken
        finally:
            with suppress(queue.Full):  # those that work are daemons and end with the process
                self._jobs.put_nowait(None)
            with suppress(queue.Full):
                self._beside.put_nowait(None)
            self._endpoint.close()
            self._done.set()

    def _turn(self) -> None:
        self._waker.drain()
        now = clock()
        for event in [*self._take_inbox(), *self._endpoint.receive(now)]:
            self._handle(event, now)
        deadline = self._core.deadline()
        if deadline is not None and deadline <= now:
            self._handle(Tick(), now)
        if self._endpoint.pending():
            self._endpoint.flush()
        if now >= self._status_at:
            self._status_at = Nanos(now + nanos(STATUS_EVERY_S))
            self.latest = self._status(now)
        if self._finish is None and self._drain_by is not None and now >= self._drain_by:
            self._finish = Finish(
                ExitCode.UNEXPECTED, "stopped", f"stopped without a farewell after {self._drain_max_s:g} s"
            )

    def _take_inbox(self) -> list[Event]:
        events: list[Event] = []
        while self._inbox:
            event = self._inbox.popleft()
            if isinstance(event, BaseException):
                raise event
            events.append(event)
        return events

    def _handle(self, event: Event, now: Nanos) -> None:
        if self._finish is None:
            for effect in self._core.handle(event, now):
                self._carry(effect, now)

    def _carry(self, effect: Effect, now: Nanos) -> None:
        match effect:
            case Send():
                self._endpoint.send(effect)
            case Run(_, True):
                self._order.asked += 1
                self._beside.put_nowait(effect)
            case Run():
                self._jobs.put_nowait((effect, self._order.asked))
            case Persist(record):
                assert self._persist is not None, "this process has nothing to remember"
                self._persist(record)
            case Note():
                self._recorder.note(effect, now / 1e9)
            case Measure():
                self._recorder.measure(effect, now / 1e9)
            case Reconnect():
                assert isinstance(self._endpoint, NodeEndpoint), "only a node has a link to make anew"
                self._endpoint.reconnect()
            case Admit() | Dial() | HangUp() | TurnAway():
                assert isinstance(self._endpoint, NodeEndpoint), "only nodes call each other"
                self._endpoint.carry(effect, now)
            case Finish(exit_code, outcome, text):
                self._recorder.note(
                    Note("finished", text, {"outcome": outcome, "exit_code": int(exit_code)}), now / 1e9
                )
                self._finish = effect
                self.latest = self._status(now)

    def _timeout_s(self) -> float:
        if self._finish is not None:
            return 0.0
        now, deadline = clock(), self._core.deadline()
        times = [POLL_MAX_S, (self._status_at - now) / 1e9]
        if deadline is not None:
            times.append((deadline - now) / 1e9)
        if self._endpoint.pending():
            times.append(FLUSH_EVERY_S)
        return max(0.0, min(times))

    def _flush_farewell(self) -> None:
        until = clock() + nanos(FAREWELL_FLUSH_S)
        while self._endpoint.pending() and clock() < until:
            self._endpoint.flush()
            time.sleep(FLUSH_EVERY_S)


@contextmanager
def signals_drain(service: Service) -> Iterator[None]:
    """TERM and INT drain, a second one ends the process at once. For the main thread only."""

    def handler(number: int, _frame: object) -> None:
        service.drain(f"{signal.Signals(number).name} received")

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
