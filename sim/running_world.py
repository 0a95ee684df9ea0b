"""What the command `mdgan-sim run` does: plays a scenario, leaves a run directory, says what became of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdgan_edge.actors import Note
from mdgan_edge.command import parse_assignments, tell
from mdgan_edge.config import dump_toml
from mdgan_edge.errors import ConfigurationError, ExitCode, Failed, SelfCheckFailed
from mdgan_edge.rundir import RunDirectory, write_atomic, write_json
from sim.camera import Camera
from sim.play import Plan, Played, plan_run, play, report
from sim.recording import Recording
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import Fidelity, Method, Scenario
from sim.scenario.writing import dump_scenario
from sim.stopping import Stop, signals_stop

SCENARIO_FILE = "scenario.toml"
WINDOW_FILE = "window.json"
REPORT_FILE = "report.html"

# Settings that mean nothing where there are no sockets, and as many nodes as the scenario says.
OWN_TO_A_WORLD = frozenset(
    f"node.{name}" for name in ("hub", "data", "shard", "shard_seed", "resize", "channels", "model")
) | {"hub.bind", "swarm.nodes"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line says."""

    scenario: str
    seed: int | None
    fidelity: Fidelity | None
    mode: str | None
    assignments: tuple[str, ...]
    method: Method | None = None

    def replay(self, out: Path) -> str:
        """The command that does the same again, beside what is in `out`; as often as one likes."""
        parts = ["mdgan-sim", "run", self.scenario]
        parts += [] if self.seed is None else ["--seed", str(self.seed)]
        parts += [] if self.fidelity is None else ["--fidelity", self.fidelity]
        parts += [] if self.method is None else ["--method", self.method]
        parts += [] if self.mode is None else ["--mode", self.mode]
        for one in self.assignments:
            parts += ["--set", one]
        return shlex.join([*parts, "--out", f"{out}-again", "--force"])

    def plan(self) -> Plan:
        """Read, draw, compile."""
        more = parse_assignments(self.assignments)
        if self.mode is not None:
            more["mode"] = self.mode
        scenario, origin = find_scenario(self.scenario), Path(self.scenario).name
        return plan_run(scenario, self.seed, self.fidelity, more, origin, self.method)


def run_scenario(
    wanted: Wanted, out: Path | None, force: bool, look_at: int | None
) -> tuple[dict[str, Any], RunDirectory]:
    """Play it once with everything recorded, once more with the camera on if something went wrong. Returns run.json.

    TERM and INT end it early and cleanly, a second one at once. For the main thread only.
    """
    plan = wanted.plan()
    _refuse_to_look_beyond(look_at, plan.scenario)
    if ignored := sorted(plan.explicit & OWN_TO_A_WORLD):
        tell(Note("not_used", f"a virtual run decides these itself: {', '.join(ignored)}", level="warning"))
    run = RunDirectory.create(out, plan.scenario.name, plan.scenario.seed, force)
    write_atomic(run.path / SCENARIO_FILE, dump_scenario(plan.scenario).encode())
    write_atomic(run.config, dump_toml(plan.settings).encode())
    recording = Recording(run)
    with signals_stop() as stop:
        played = play(plan, recording, run=run, replay=True, begun=stop.watch)
        recording.close()
        found = report(played, wanted.replay(run.path))
        write_json(run.run_json, found)
        _film(plan, played, look_at, run, stop)
        _draw(run)
    return found, run


def _film(plan: Plan, played: Played, look_at: int | None, run: RunDirectory, stop: Stop) -> None:
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
    merged = f"{found['feedback']['merged']} {'feedbacks' if found['method'] == 'mdgan' else 'updates'} merged"
    speed = f"{found['events']:,} events in {found['wall_s']:.1f} s"
    counted = (
        f"{verdicts.count(True)} hold, {verdicts.count(False)} violated, {verdicts.count(None)} not to be seen here"
    )
    ended = f"{found['outcome']} at version {found['version']} after {found['virtual_s']:g} virtual seconds"
    return [
        f"{found['scenario']}, seed {found['seed']}: {ended}; {merged}",
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
    """Raises SelfCheckFailed if an invariant is false or something expected did not happen, Failed if the hub did."""
    false = [name for name, verdict in found["invariants"].items() if verdict is False]
    if false or found["missed"]:
        named = [*(f"{name} is violated" for name in false), *(f"{name} never happened" for name in found["missed"])]
        raise SelfCheckFailed(f"{'; '.join(named)}; again: {found['replay']}")
    if found["outcome"] == "failed":
        raise Failed(ExitCode.UNEXPECTED, f"the hub failed: {found['ended']}; again: {found['replay']}")
