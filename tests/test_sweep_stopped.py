"""A sweep that is stopped in the middle: it ends soon, leaves no process behind, and loses nothing that is finished."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from click.testing import CliRunner

from sim.cli import main
from tests.shells import Shells, ended

SOON_S = 15  # for a busy machine; a cell that is under way would take hours
SWEEP = """
scores = ["quality"]
seeds = 2
[scenario]
nodes = 2
fidelity = "toy"
training.swap = "off"
[axes]
duration = ["1s", "24h"]
"""  # short, long, short, long: two processes finish two, one finishes one
WORDS = ("mdgan-sim", "sweep", "long.toml", "--out", "out", "--json")


def below(pid: int) -> set[int]:
    """Every process that this one has started, and those that these have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    parents = {int(one): int(parent) for one, parent, state in map(str.split, listed.splitlines()) if state[0] != "Z"}
    found: set[int] = set()
    while more := {one for one, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    return pids & {int(one) for one, state in map(str.split, listed.splitlines()) if state[0] != "Z"}


def under_way(shells: Shells, jobs: int) -> tuple[subprocess.Popen[str], set[int]]:
    """A sweep whose short cells are finished and whose long ones are being played, and its processes."""
    (shells.folder / "long.toml").write_text(SWEEP)
    sweep, results = shells.start(*WORDS, "--jobs", str(jobs)), shells.folder / "out" / "results.jsonl"
    shells.until(lambda: results.exists() and len(results.read_bytes().splitlines()) == jobs, "the short cells")
    return sweep, below(sweep.pid)


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGTERM, 1)])
def test_it_ends_soon_and_the_same_command_goes_on(
    number: signal.Signals, jobs: int, shells: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := shells.folder / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    sweep, processes = under_way(shells, jobs)
    assert len(processes) >= (jobs if jobs > 1 else 0)
    began = time.monotonic()
    for one in {sweep.pid, *(processes if number == signal.SIGINT else ())}:  # a terminal interrupts all of them
        os.kill(one, number)
    code, said = ended(sweep)
    assert time.monotonic() - began < SOON_S
    assert (alive(processes), list(temporary.iterdir())) == (set(), [])
    last = f"Error: stopped: out/results.jsonl has {jobs} of 4 cells; the same command goes on"
    assert (code, said.splitlines()[-1]) == (1, last), said
    assert "Traceback" not in said
    monkeypatch.chdir(shells.folder)
    (shells.folder / "long.toml").write_text(SWEEP.replace("24h", "2s"))
    again = CliRunner().invoke(main, WORDS[1:])
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)
    assert (found["played"], found["missing"]) == (4 - jobs, 0)


def test_its_processes_die_with_it_even_if_it_is_killed(shells: Shells) -> None:
    sweep, processes = under_way(shells, 2)
    shells.kill(sweep)
    shells.until(lambda: not alive(processes), "the processes to end")
