"""Where cells are played: in this process, in several, or on a Dask cluster. Rows come as cells are finished.

A process that dies takes no cell with it: the cell is played again, and only one that dies alone counts as failed.
Processes end with this one, whatever ends it, and as soon as nobody wants more rows: each waits for the end of a pipe
whose other end only this process holds.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from mdgan_edge.errors import ConfigurationError, TryLater
from sim.experiments.playing import Row, play_cell
from sim.experiments.values import Cell

DASK_REMEDY = "--dask needs the package distributed: pip install 'mdgan-edge[dask]'"
DASK_WAIT_S = 10  # for the scheduler to answer
DIED = "its process died (killed, or out of memory)"

Rows = Generator[Row, None, None]  # whoever closes it wants no more


def in_turn(cells: Sequence[Cell]) -> Rows:
    """Here, one after the other."""
    yield from map(play_cell, cells)


def in_processes(cells: Sequence[Cell], jobs: int) -> Rows:
    """In `jobs` processes at a time."""
    left = list(cells)
    while left:
        finished: set[int] = set()
        for index, row in _pool(left, jobs):
            finished.add(index)
            yield row
        unfinished = [cell for index, cell in enumerate(left) if index not in finished]
        suspects, left = unfinished[:jobs], unfinished[jobs:]  # a process died: one of those that were under way
        for cell in suspects:
            rows = [row for _, row in _pool([cell], 1)]
            yield rows[0] if rows else _failed(cell, DIED)


def _pool(cells: Sequence[Cell], jobs: int) -> Generator[tuple[int, Row], None, None]:
    """(index, row) until all are done or a process died. What still runs when it is closed ends at once."""
    theirs, ours = get_context("spawn").Pipe(duplex=False)
    with (
        tempfile.TemporaryDirectory(prefix="mdgan-") as folder,
        ProcessPoolExecutor(min(jobs, len(cells)), get_context("spawn"), _be_worker, (theirs, folder)) as pool,
        theirs,
        ours,
    ):
        with _interrupts_blocked():
            futures = {pool.submit(play_cell, cell): index for index, cell in enumerate(cells)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            return


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process that is started now never sees a Ctrl-C, not even while it starts: it is ours to deal with."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_worker(line: Connection, folder: str) -> None:
    """Leave files in `folder` only, and end, with every process started from here, when the other end is closed."""
    tempfile.tempdir = folder
    os.setpgid(0, 0)

    def wait() -> None:
        line.poll(None)
        os.killpg(0, signal.SIGKILL)

    Thread(target=wait, daemon=True).start()


def on_dask(cells: Sequence[Cell], address: str) -> Rows:
    """On the workers of the scheduler at `address`, which gives a cell to another worker if one dies.

    Raises ConfigurationError if distributed is not installed, TryLater if nobody answers.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise ConfigurationError(DASK_REMEDY) from error
    try:
        client: Any = distributed.Client(address, timeout=DASK_WAIT_S)
    except (OSError, ValueError) as error:
        raise TryLater(f"--dask {address}: no scheduler answers there ({_one_line(error)})") from error
    with client:
        futures = {client.submit(play_cell, cell, pure=False): cell for cell in cells}
        for future in distributed.as_completed(futures):
            why = future.exception() if future.status == "error" else None
            yield future.result() if why is None else _failed(futures[future], _one_line(why))


def _failed(cell: Cell, why: str) -> Row:
    return {"cell": dict(cell.labels), "seed": cell.seed, "failed": why}


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
