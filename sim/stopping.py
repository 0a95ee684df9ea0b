"""What TERM and Ctrl-C do: the first ends a virtual world after the event under way, the second the process.

Where nothing is lost by it, as among the cells of a sweep, either is an exception.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from mdgan_edge.errors import ExitCode
from sim.world import World


class Stop:
    """`asked`: a signal has come."""

    def __init__(self) -> None:
        self.asked = False
        self._world: World | None = None

    def watch(self, world: World) -> None:
        """This is the world that is being played."""
        self._world = world
        self._pass_on()

    def ask(self, _number: int, _frame: object) -> None:
        """A signal has come; the second ends the process at once."""
        if self.asked:
            os._exit(ExitCode.UNEXPECTED)
        self.asked = True
        self._pass_on()

    def _pass_on(self) -> None:
        world = self._world
        if self.asked and world is not None and world.now < world.end_at:  # else it is over, and being judged
            world.stopped = True


@contextmanager
def signals_stop() -> Iterator[Stop]:
    """While inside, signals ask for a stop. For the main thread only."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """While inside, signals raise KeyboardInterrupt. For the main thread only."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
