"""Where cells are played: in this process, in several, or on a Dask cluster. Rows come as cells are finished.

A process that dies takes no cell with it: the cell is played again, and only one that dies alone counts as failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from mdgan_edge.errors import ConfigurationError, TryLater
from sim.experiments.playing import Row, play_cell
from sim.experiments.values import Cell

DASK_REMEDY = "--dask needs the package distributed: pip install 'mdgan-edge[dask]'"
DASK_WAIT_S = 10  # for the scheduler to answer
DIED = "its process died (killed, or out of memory)"


def in_turn(cells: Sequence[Cell]) -> Iterator[Row]:
    """Here, one after the other."""
    return map(play_cell, cells)


def in_processes(cells: Sequence[Cell], jobs: int) -> Iterator[Row]:
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


def _pool(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[int, Row]]:
    """(index, row) until all are done or a process died."""
    with ProcessPoolExecutor(min(jobs, len(cells)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(play_cell, cell): index for index, cell in enumerate(cells)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def on_dask(cells: Sequence[Cell], address: str) -> Iterator[Row]:
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
