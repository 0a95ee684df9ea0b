"""Cells on a Dask cluster: the same rows as without, and a worker that is killed in mid-run takes none with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mdgan_edge.errors import TryLater
from sim.experiments.executors import in_turn, on_dask
from sim.experiments.reading import read_experiment
from tests.test_experiments import SMALL, without_time

distributed: Any = pytest.importorskip(
    "distributed", reason="the extra is not installed: pip install 'mdgan-edge[dask]'"
)

pytestmark = pytest.mark.filterwarnings("default")  # they are not ours


def test_a_killed_worker_takes_no_cell_with_it_and_the_rows_are_those_of_one_process(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(SMALL.replace('duration = "3s"', 'duration = "12s"'))
    cells = read_experiment(file, "ci", None, {}).cells
    folder = str(tmp_path / "dask")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=folder, host="127.0.0.1"
    ) as cluster:
        rows = []
        for row in on_dask(cells, cluster.scheduler_address):
            rows.append(row)
            if len(rows) == 1:
                os.kill(cluster.workers[0].pid, signal.SIGKILL)
    assert without_time(rows) == without_time(list(in_turn(cells)))


def test_where_no_scheduler_is_the_command_says_so() -> None:
    with pytest.raises(TryLater, match="no scheduler answers"):
        list(on_dask([], "tcp://127.0.0.1:1"))
