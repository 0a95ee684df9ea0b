"""What a scenario's method changes: trainers, cores, checkers, and what is said at the end.

MD-GAN is played by the production cores; sim/federated holds those of its baselines.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from broker.core import HubCore
from broker.report import run_report
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.settings import Settings
from sim.bodies import Bodies, Tokens
from sim.cast import Cast, MdGan
from sim.federated.alone import AloneCore
from sim.federated.cast import FlGan, Standalone
from sim.federated.checks import FederatedChecks
from sim.federated.report import baseline_report
from sim.federated.server import ServerCore
from sim.federated.tokens import FederatedTokens
from sim.federated.toy import AloneToy, FederatedToy
from sim.invariants.checks import Checks
from sim.scenario.values import Byzantine, Scenario
from sim.toy.bodies import Toy
from sim.world import World

AnyChecks = Checks | FederatedChecks


def refuse_what_has_no_meaning(scenario: Scenario) -> None:
    """Raises ConfigurationError if this method cannot be played under the scenario's faults."""
    if scenario.method != "mdgan" and any(isinstance(fault, Byzantine) for fault in scenario.fault):
        raise ConfigurationError(
            f"method = {scenario.method!r}: byzantine nodes lie about feedback, which only MD-GAN has; "
            "leave the fault out, or play mdgan"
        )


def bodies_of(scenario: Scenario, settings: Settings, explicit: frozenset[str], run: Any) -> tuple[Bodies, Settings]:
    """The trainers of the scenario's method and fidelity, and the settings as they fit its data."""
    match scenario.fidelity:
        case "tokens":
            fitted = replace(settings, model=replace(settings.model, name="tokens", classes=0))
            return Tokens(fitted) if scenario.method == "mdgan" else FederatedTokens(fitted), fitted
        case "toy":
            return _toy(scenario, settings), settings
        case "full":
            return _full(scenario, settings, explicit, run)


def _toy(scenario: Scenario, settings: Settings) -> Bodies:
    match scenario.method:
        case "mdgan":
            return Toy(settings, scenario.nodes)
        case "flgan":
            return FederatedToy(settings, scenario.nodes)
        case "standalone":
            return AloneToy(settings)


def _full(scenario: Scenario, settings: Settings, explicit: frozenset[str], run: Any) -> tuple[Bodies, Settings]:
    from sim.full import Full, load_full

    if scenario.method == "mdgan":
        full = load_full(settings, explicit, scenario.nodes, run, Full)
        return full, full.settings
    from sim.federated.full import AloneFull, FederatedFull

    kind, nodes = (FederatedFull, scenario.nodes) if scenario.method == "flgan" else (AloneFull, 1)
    baseline = load_full(settings, explicit, nodes, run, kind)
    return baseline, baseline.settings


def cast_of(scenario: Scenario, bodies: Bodies) -> Cast:
    """The cores that play."""
    match scenario.method:
        case "mdgan":
            return MdGan()
        case "flgan":
            return FlGan(bodies.work)
        case "standalone":
            return Standalone(bodies.work)


def checks_of(scenario: Scenario, settings: Settings, replay: bool) -> AnyChecks:
    """What looks on."""
    if scenario.method == "mdgan":
        return Checks(scenario, settings, replay)
    return FederatedChecks(scenario, settings)


def core_of(world: World) -> HubCore | ServerCore | AloneCore:
    """The core of the hub that runs, or ran last."""
    core = world.last_core
    assert isinstance(core, HubCore | ServerCore | AloneCore)
    return core


def core_report(world: World) -> dict[str, Any]:
    """The core's part of run.json."""
    core = core_of(world)
    return run_report(core) if isinstance(core, HubCore) else baseline_report(core)


def bytes_report(world: World) -> dict[str, int]:
    """Bytes that went where, by direction and by what they were for."""
    post = world.post
    return {
        "hub_sent": post.down.sent,
        "hub_received": post.up.received,
        "nodes_sent": post.up.sent,
        "nodes_received": post.down.received,
        "tasks": post.tasks,
        "feedback": post.feedback,
        "across": post.across.bytes.sent,
        "swaps": post.copies + post.across.copies,
        "rounds": post.rounds,
        "updates": post.updates,
    }
