"""From a scenario to what became of it: plans it, plays it in the virtual world, and says it as run.json does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from msgspec.structs import replace

from mdgan_edge.config import flatten, settings_from
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.settings import Settings
from sim import methods
from sim.bodies import Bodies
from sim.camera import Camera
from sim.scenario.compiling import compile_scenario
from sim.scenario.drawing import draw
from sim.scenario.reading import settings_of
from sim.scenario.values import Fidelity, Method, Scenario
from sim.toy.bodies import TOY_TRAINING, fit_toy
from sim.watch import Recorder
from sim.world import World


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be played: a compiled scenario and the settings of hub and nodes."""

    scenario: Scenario
    settings: Settings
    explicit: frozenset[str]  # the settings somebody gave


@dataclass(frozen=True, slots=True)
class Played:
    """A run that is over."""

    plan: Plan
    world: World
    checks: methods.AnyChecks
    wall_s: float
    cpu_s: float
    interrupted: bool = False  # before its time, and not by a violation

    @property
    def digest(self) -> str:
        return self.world.trace.digest()

    @property
    def missed(self) -> list[str]:
        """What the scenario said would sometimes happen, and did not; of a run that was cut short nobody knows."""
        if self.interrupted:
            return []
        return [name for name in self.plan.scenario.expect.sometimes if not self.checks.sometimes.get(name)]

    @property
    def ended_at(self) -> int:
        """When the hub had taken its last step, or failed, if nothing was violated later; else when the run ended."""
        hub, core = self.world.hub, methods.core_of(self.world)
        if hub.ended is None or core.ended_at is None or self.checks.violations:
            return self.world.now
        return hub.true(core.ended_at)


def plan_run(
    scenario: Scenario,
    seed: int | None = None,
    fidelity: Fidelity | None = None,
    assignments: Mapping[str, object] | None = None,
    origin: str | None = None,
    method: Method | None = None,
) -> Plan:
    """Draw and compile. `assignments` are settings of the hub and nodes that go before those of the scenario.

    `origin` is what errors call the scenario. `method` None: as it says; what it expects is expected of that method
    only. Raises ConfigurationError for what cannot be compiled.
    """
    seed = scenario.seed if seed is None else seed
    more = _typed(assignments or {})
    scenario = replace(scenario, seed=seed, fidelity=fidelity or scenario.fidelity)
    if method not in (None, scenario.method):
        scenario = replace(scenario, method=method, expect=replace(scenario.expect, sometimes=()))
    if scenario.everything:
        scenario = draw(scenario, seed)
    if scenario.fidelity == "toy":
        scenario = replace(scenario, settings={**TOY_TRAINING, **scenario.settings})
    try:
        scenario = compile_scenario(replace(scenario, settings={**scenario.settings, **more}), seed)
        methods.refuse_what_has_no_meaning(scenario)
    except ConfigurationError as error:
        raise ConfigurationError(f"{origin or scenario.name}: {error}") from error
    settings = settings_of(scenario)
    if scenario.fidelity == "toy":
        settings = fit_toy(settings)
    return Plan(scenario, settings, frozenset(scenario.settings))


def _typed(assignments: Mapping[str, object]) -> dict[str, object]:
    """A flag's text as the value that it means, so that the saved scenario says it as a file would."""
    meant = flatten(settings_from(assignments, "--set"))
    return {key: meant[key] for key in assignments}


def bodies_of(plan: Plan, run: Any = None) -> tuple[Bodies, Settings]:
    """The trainers of the plan's fidelity, and the settings as they fit its data."""
    return methods.bodies_of(plan.scenario, plan.settings, plan.explicit, run)


def play(
    plan: Plan,
    recorder: Recorder | None = None,
    camera: Camera | None = None,
    run: Any = None,
    replay: bool = False,
    begun: Callable[[World], None] = lambda _: None,
) -> Played:
    """Play it to its end, or to the first violation. `replay`: at the end, let a fresh hub core decide all anew.

    `begun` is given the world before it is played; whoever sets its `stopped` interrupts the run.
    """
    bodies, settings = bodies_of(plan, run)
    checks = methods.checks_of(plan.scenario, settings, replay)
    world = World(plan.scenario, settings, bodies, checks, recorder, camera, methods.cast_of(plan.scenario, bodies))
    wall, cpu = time.perf_counter(), time.process_time()
    begun(world)
    world.run()
    interrupted = world.stopped and not checks.violations
    checks.finish(world)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Played(plan, world, checks, wall, cpu, interrupted)


def report(played: Played, replay: str) -> dict[str, Any]:
    """run.json."""
    world, checks = played.world, played.checks
    outcome = _outcome(played)
    return {
        **methods.core_report(world),
        "method": played.plan.scenario.method,
        "outcome": outcome,
        "ended": world.hub.ended.text if world.hub.ended is not None else None,
        "seed": played.plan.scenario.seed,
        "scenario": played.plan.scenario.name,
        "fidelity": played.plan.scenario.fidelity,
        "world": "virtual",
        "digest": played.digest,
        "virtual_s": played.ended_at / 1e9,
        "interrupted_at_s": world.now / 1e9 if played.interrupted else None,
        "wall_s": played.wall_s,
        "cpu_s": played.cpu_s,
        "events": world.events,
        "epoch": world.epoch,
        "bytes": methods.bytes_report(world),
        "undelivered_bytes": {
            "down": dict(sorted(world.post.down.dropped.items())),
            "up": dict(sorted(world.post.up.dropped.items())),
            "across": dict(sorted(world.post.across.bytes.dropped.items())),
        },
        "invariants": checks.verdicts(),
        "sometimes": dict(sorted(checks.sometimes.items())),
        "missed": played.missed,
        "violations": [
            {"invariant": one.invariant, "at_s": one.at / 1e9, "who": one.who, "what": one.what}
            for one in checks.violations
        ],
        "replay": replay,
    }


def _outcome(played: Played) -> Literal["completed", "stopped", "failed"]:
    """`stopped`: the scenario's time ran out, as most are meant to, or somebody stopped it."""
    ended = played.world.hub.ended
    if played.checks.violations or played.missed or (ended is not None and ended.outcome == "failed"):
        return "failed"
    return "stopped" if ended is None else ended.outcome
