"""What the command `mdgan-sim shrink` does: takes a failing run, makes it small, and writes it beside the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError, DataError, ExitCode, Failed
from mdgan_edge.rundir import RunDirectory, write_atomic
from sim.play import plan_run, play
from sim.running_world import SCENARIO_FILE
from sim.scenario.reading import read_scenario
from sim.scenario.values import Scenario
from sim.scenario.writing import dump_scenario
from sim.shrink import Failure, Shrinker
from sim.stopping import Stop, signals_stop
from sim.world import World

REPRO_FILE = "repro.toml"
SMALL = "-small"  # ends the name of a shrunk scenario, and of the directory where it is played
SIDES = ("hub", "world")  # whoever else violates something is a node


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was found: a file, the scenario in it, how that fails, and in how many runs. `early`: why no more were."""

    repro: Path
    scenario: Scenario
    failure: Failure
    runs: int
    early: str | None

    @property
    def again(self) -> str:
        """The command that plays it, as often as one likes."""
        out = f"{self.repro.parent}{SMALL}"
        return shlex.join(["mdgan-sim", "run", str(self.repro), "--out", out, "--force"])


def shrink_run(folder: Path, told: Callable[[str], None]) -> Shrunk:
    """Write repro.toml beside a failing run: the smallest scenario found that fails for the same reason.

    TERM and INT end the search, and what was found by then is written; a second one ends the process at once.
    Raises ConfigurationError if there is nothing to make small. For the main thread only.
    """
    run = RunDirectory.open(folder)
    file = run.path / SCENARIO_FILE
    if not file.exists():
        raise DataError(f"{folder} is not a run of `mdgan-sim run`: it has no {SCENARIO_FILE}")
    found = _outcome(run)
    _refuse_missed(folder, found)
    scenario = plan_run(read_scenario(file, str(file)), origin=str(file)).scenario
    with signals_stop() as stop:
        failing = partial(fails, replay=_violates_replay(found), begun=stop.watch)
        shrinker = Shrinker(failing, told, lambda: stop.asked)
        shrunk = shrinker.shrink(scenario)
        if shrunk is None:
            raise _nothing_to_shrink(folder, stop)
        small, failure = shrunk
        small = _renamed(_labelled(small, failure, shrinker.runs), failure, failing)
        early = _why_early(shrinker, stop)
    repro = folder / REPRO_FILE
    write_atomic(repro, dump_scenario(small).encode())
    return Shrunk(repro, small, failure, shrinker.runs, early)


def fails(scenario: Scenario, replay: bool = False, begun: Callable[[World], None] = lambda _: None) -> Failure | None:
    """How a compiled scenario fails first. `replay`: a fresh hub core decides all anew at the end, which takes long."""
    played = play(plan_run(scenario), replay=replay, begun=begun)
    for one in played.checks.violations:
        raised = played.world.raised if one.invariant == "no_crash" else None
        side = one.who if one.who in SIDES else "node"
        return Failure(one.invariant, one.at, side, "" if raised is None else raised.cause)
    return None


def _refuse_missed(folder: Path, found: dict[str, Any]) -> None:
    if found.get("missed") and not found.get("violations"):
        missed = ", ".join(found["missed"])
        why = "a counter that stayed zero cannot be shrunk"
        raise ConfigurationError(f"{folder} holds a run that failed only by expect.sometimes ({missed}): {why}")


def _nothing_to_shrink(folder: Path, stop: Stop) -> Failed | ConfigurationError:
    if stop.asked:
        return Failed(
            ExitCode.UNEXPECTED, f"stopped before {folder} was played once: nothing is known, nothing written"
        )
    return ConfigurationError(f"{folder} holds a run that violates nothing: there is nothing to shrink")


def _why_early(shrinker: Shrinker, stop: Stop) -> str | None:
    if stop.asked:
        return "stopped: with more runs it may become smaller"
    if shrinker.spent:
        return f"{shrinker.runs} runs (RUNS_MAX) were played: it may become smaller if its own run is shrunk"
    return None


def _outcome(run: RunDirectory) -> dict[str, Any]:
    """run.json; nothing if the run ended before it could say."""
    try:
        found = json.loads(run.run_json.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _violates_replay(found: dict[str, Any]) -> bool:
    invariants = found.get("invariants")
    return isinstance(invariants, dict) and invariants.get("replay_equal") is False


def _labelled(scenario: Scenario, failure: Failure, runs: int) -> Scenario:
    about = f"Violates {failure.invariant} at {failure.at / 1e9:.6f} s; shrunk from {scenario.name} in {runs} runs."
    return replace(scenario, about=about)


def _renamed(scenario: Scenario, failure: Failure, failing: Callable[[Scenario], Failure | None]) -> Scenario:
    """Under a name of its own, so that to play it does not ask for the directory of the run it came from."""
    renamed = replace(scenario, name=f"{scenario.name}{SMALL}")
    return renamed if failing(renamed) == failure else scenario
