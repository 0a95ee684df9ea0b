"""What the commands `mdgan-sim run` and `shrink` do: play a scenario, leave a run directory, say what became of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mdgan_edge.actors import Note
from mdgan_edge.command import parse_assignments, tell
from mdgan_edge.config import dump_toml
from mdgan_edge.errors import ConfigurationError, DataError, ExitCode, SelfCheckFailed
from mdgan_edge.rundir import RunDirectory, write_atomic, write_json
from sim.camera import Camera
from sim.play import Plan, Played, plan_run, play, report
from sim.recording import Recording
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario, read_scenario
from sim.scenario.values import Fidelity, Scenario
from sim.scenario.writing import dump_scenario
from sim.shrink import Fails, Failure, Shrinker
from sim.world import World

SCENARIO_FILE = "scenario.toml"
REPRO_FILE = "repro.toml"
WINDOW_FILE = "window.json"
REPORT_FILE = "report.html"
SMALL = "-small"  # ends the name of a shrunk scenario


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    scenario: str
    seed: int | None
    fidelity: Fidelity | None
    mode: str | None
    assignments: tuple[str, ...]

    def replay(self, out: Path) -> str:
        """The command that does the same again, beside what is in `out`."""
        parts = ["mdgan-sim", "run", self.scenario]
        parts += [] if self.seed is None else ["--seed", str(self.seed)]
        parts += [] if self.fidelity is None else ["--fidelity", self.fidelity]
        parts += [] if self.mode is None else ["--mode", self.mode]
        for one in self.assignments:
            parts += ["--set", one]
        return shlex.join([*parts, "--out", f"{out}-again"])

    def plan(self) -> Plan:
        """Read, draw, compile."""
        more = parse_assignments(self.assignments)
        if self.mode is not None:
            more["mode"] = self.mode
        return plan_run(find_scenario(self.scenario), self.seed, self.fidelity, more)


def run_scenario(
    wanted: Wanted, out: Path | None, force: bool, look_at: int | None
) -> tuple[dict[str, Any], RunDirectory]:
    """Play it once with everything recorded, once more with the camera on if something went wrong. Returns run.json.

    TERM and INT end it early and cleanly, a second one at once. For the main thread only.
    """
    plan = wanted.plan()
    _refuse_to_look_beyond(look_at, plan.scenario)
    run = RunDirectory.create(out, plan.scenario.name, plan.scenario.seed, force)
    write_atomic(run.path / SCENARIO_FILE, dump_scenario(plan.scenario).encode())
    write_atomic(run.config, dump_toml(plan.settings).encode())
    recording = Recording(run)
    with _signals_stop() as stop:
        played = play(plan, recording, run=run, replay=True, begun=stop.watch)
        recording.close()
        found = report(played, wanted.replay(run.path))
        write_json(run.run_json, found)
        _film(plan, played, look_at, run, stop)
        _draw(run)
    return found, run


class _Stop:
    """What a signal does: the first ends the world that is being played after the event under way."""

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
def _signals_stop() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _film(plan: Plan, played: Played, look_at: int | None, run: RunDirectory, stop: _Stop) -> None:
    first = played.checks.violations[0] if played.checks.violations else None
    at = look_at if first is None else first.at
    if at is None or played.interrupted:
        return
    camera = Camera(at)
    play(plan, camera=camera, begun=stop.watch)
    if stop.asked:
        return  # half a film shows nothing
    write_json(run.path / WINDOW_FILE, camera.film(first.invariant if first else None))


def _draw(run: RunDirectory) -> None:
    from sim.report.page import write_report

    try:
        write_report(run.path)
    except ConfigurationError as error:  # the extra is not installed; the run is worth having without
        tell(Note("no_report", str(error), level="warning"))


def look_time(text: str | None) -> int | None:
    """A time on the command line, in nanoseconds."""
    if text is None:
        return None
    try:
        return int(Duration.parse(text))
    except ValueError as error:
        raise ConfigurationError(f"--look-at: {error}") from error


def _refuse_to_look_beyond(look_at: int | None, scenario: Scenario) -> None:
    if look_at is not None and not 0 <= look_at <= scenario.duration:
        end = scenario.duration.text()
        raise ConfigurationError(f"--look-at {Duration(look_at).text()} is not within the run, which ends at {end}")


def summary_lines(found: dict[str, Any], run: RunDirectory) -> list[str]:
    """How it ended, for people."""
    verdicts = list(found["invariants"].values())
    merged = found["feedback"]["merged"]
    speed = f"{found['events']:,} events in {found['wall_s']:.1f} s"
    counted = (
        f"{verdicts.count(True)} hold, {verdicts.count(False)} violated, {verdicts.count(None)} not to be seen here"
    )
    ended = f"{found['outcome']} at version {found['version']} after {found['virtual_s']:g} virtual seconds"
    return [
        f"{found['scenario']}, seed {found['seed']}: {ended}; {merged} feedbacks merged",
        *_interruption_lines(found),
        *(f"  {name}: {value:.3f}" for name, value in sorted(found["scores"].items()) if value is not None),
        f"invariants: {counted}",
        *violation_lines(found),
        f"digest:     {found['digest']} ({speed})",
        f"record:     {run.run_json}",
        *([f"report:     {run.path / REPORT_FILE}"] if (run.path / REPORT_FILE).exists() else []),
    ]


def _interruption_lines(found: dict[str, Any]) -> list[str]:
    at_s = found["interrupted_at_s"]
    return [] if at_s is None else [f"interrupted at {at_s:.6f} s of virtual time: what comes later is unknown"]


def violation_lines(found: dict[str, Any]) -> list[str]:
    """What was violated, when, by whom, and how to see it again."""
    lines = [
        f"VIOLATED {one['invariant']} at {one['at_s']:.6f} s by {one['who']}: {one['what']}"
        for one in found["violations"]
    ]
    lines += [f"EXPECTED {name}, and it never happened" for name in found["missed"]]
    return [*lines, f"seed {found['seed']}; again: {found['replay']}"] if lines else []


def refuse_if_failed(found: dict[str, Any]) -> None:
    """Raises SelfCheckFailed if an invariant is false or something expected did not happen."""
    false = [name for name, verdict in found["invariants"].items() if verdict is False]
    if false or found["missed"]:
        named = [*(f"{name} is violated" for name in false), *(f"{name} never happened" for name in found["missed"])]
        raise SelfCheckFailed(f"{'; '.join(named)}; again: {found['replay']}")


# --- shrinking --------------------------------------------------------------------------------------------------------


def shrink_run(folder: Path, told: Callable[[str], None]) -> tuple[Path, Scenario, Failure, int]:
    """Write repro.toml beside a failing run: the smallest scenario found that fails for the same reason.

    Raises ConfigurationError if there is nothing to make small.
    """
    run = RunDirectory.open(folder)
    file = run.path / SCENARIO_FILE
    if not file.exists():
        raise DataError(f"{folder} is not a run of `mdgan-sim run`: it has no {SCENARIO_FILE}")
    found = _outcome(run)
    if found.get("missed") and not found.get("violations"):
        missed = ", ".join(found["missed"])
        why = "a counter that stayed zero cannot be shrunk"
        raise ConfigurationError(f"{folder} holds a run that failed only by expect.sometimes ({missed}): {why}")
    failing = fails_in_replay if _violates_replay(found) else fails
    shrinker = Shrinker(failing, told)
    shrunk = shrinker.shrink(plan_run(read_scenario(file)).scenario)
    if shrunk is None:
        raise ConfigurationError(f"{folder} holds a run that violates nothing: there is nothing to shrink")
    scenario, failure = shrunk
    about = f"Violates {failure[0]} at {failure[1] / 1e9:.6f} s; shrunk from {scenario.name} in {shrinker.runs} runs."
    scenario = _renamed(replace(scenario, about=about), failure, failing)
    repro = folder / REPRO_FILE
    write_atomic(repro, dump_scenario(scenario).encode())
    return repro, scenario, failure, shrinker.runs


def fails(scenario: Scenario, replay: bool = False) -> Failure | None:
    """Which invariant a compiled scenario violates first, and when."""
    violations = play(plan_run(scenario), replay=replay).checks.violations
    return (violations[0].invariant, violations[0].at) if violations else None


def fails_in_replay(scenario: Scenario) -> Failure | None:
    """The same where a fresh hub core decides all anew at the end, which takes longer."""
    return fails(scenario, replay=True)


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


def _renamed(scenario: Scenario, failure: Failure, failing: Fails) -> Scenario:
    """Under a name of its own, so that to play it does not ask for the directory of the run it came from."""
    renamed = replace(scenario, name=f"{scenario.name}{SMALL}")
    return renamed if failing(renamed) == failure else scenario
