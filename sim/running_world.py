"""What the commands `mdgan-sim run` and `shrink` do: play a scenario, leave a run directory, say what became of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mdgan_edge.actors import Note
from mdgan_edge.command import parse_assignments, tell
from mdgan_edge.config import dump_toml
from mdgan_edge.errors import ConfigurationError, DataError, SelfCheckFailed
from mdgan_edge.rundir import RunDirectory, write_atomic, write_json
from sim.camera import Camera
from sim.play import Plan, Played, plan_run, play, report
from sim.recording import Recording
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario, read_scenario
from sim.scenario.values import Fidelity, Scenario
from sim.scenario.writing import dump_scenario
from sim.shrink import Fails, Failure, Shrinker

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
    """Play it once with everything recorded, once more with the camera on if something went wrong. Returns run.json."""
    plan = wanted.plan()
    run = RunDirectory.create(out, plan.scenario.name, plan.scenario.seed, force)
    write_atomic(run.path / SCENARIO_FILE, dump_scenario(plan.scenario).encode())
    write_atomic(run.config, dump_toml(plan.settings).encode())
    recording = Recording(run)
    played = play(plan, recording, run=run, replay=True)
    recording.close()
    found = report(played, wanted.replay(run.path))
    write_json(run.run_json, found)
    _film(plan, played, look_at, run)
    _draw(run)
    return found, run


def _film(plan: Plan, played: Played, look_at: int | None, run: RunDirectory) -> None:
    first = played.checks.violations[0] if played.checks.violations else None
    at = look_at if first is None else first.at
    if at is None:
        return
    camera = Camera(at)
    play(plan, camera=camera)
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
        *(f"  {name}: {value:.3f}" for name, value in sorted(found["scores"].items()) if value is not None),
        f"invariants: {counted}",
        *violation_lines(found),
        f"digest:     {found['digest']} ({speed})",
        f"record:     {run.run_json}",
        *([f"report:     {run.path / REPORT_FILE}"] if (run.path / REPORT_FILE).exists() else []),
    ]


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
    """Write repro.toml beside a failing run: the smallest scenario found that fails for the same reason."""
    run = RunDirectory.open(folder)
    file = run.path / SCENARIO_FILE
    if not file.exists():
        raise DataError(f"{folder} is not a run of `mdgan-sim run`: it has no {SCENARIO_FILE}")
    failing = fails_in_replay if _violates_replay(run) else fails
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


def _violates_replay(run: RunDirectory) -> bool:
    try:
        return json.loads(run.run_json.read_bytes())["invariants"]["replay_equal"] is False
    except (OSError, ValueError, KeyError, TypeError):
        return False  # it ended before it could say


def _renamed(scenario: Scenario, failure: Failure, failing: Fails) -> Scenario:
    """Under a name of its own, so that to play it does not ask for the directory of the run it came from."""
    renamed = replace(scenario, name=f"{scenario.name}{SMALL}")
    return renamed if failing(renamed) == failure else scenario
