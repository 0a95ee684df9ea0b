"""The paper's tables of computation, memory and communication: by formula and measured, per node and at the hub.

Multiply-adds are counted on the real steps, seconds and memory in fresh processes, bytes on short virtual runs in which
every message goes through the codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from mdgan_edge import costs
from mdgan_edge.costs import Pair, Run
from mdgan_edge.data.images import Images
from mdgan_edge.gan.counting import measured_multiply_adds, pair_of
from mdgan_edge.gan.models import resolve
from mdgan_edge.messages import ModelSettings
from mdgan_edge.settings import (
    EXACT_REDUCTION,
    FederatedSettings,
    HubSettings,
    Settings,
    TrainingSettings,
    batches_count,
)
from sim.federated.full import FederatedFull
from sim.federated.server import ServerCore
from sim.fresh import run_fresh
from sim.full import Full
from sim.methods import cast_of
from sim.roles import ROLES, settings_for, step_of
from sim.scenario.compiling import compile_scenario
from sim.scenario.quantities import Duration
from sim.scenario.values import Method, S, Scenario
from sim.watch import Silent
from sim.world import World

RUN_MAX = Duration(3600 * S)  # no short run comes near
TRIED_ITERATIONS = 6  # of the runs whose bytes are counted
TRIED_PERIODS = 2  # swaps of a node, rounds, in them

SAID = {
    "mdgan-node": "MD-GAN, node: a task",
    "flgan-client": "FL-GAN, node: an iteration",
    "standalone": "standalone: an iteration",
    "mdgan-hub": "MD-GAN, hub: a version",
    "flgan-server": "FL-GAN, server: a round",
}
WAYS = {
    "task": "MD-GAN, task, down",
    "feedback": "MD-GAN, feedback, up",
    "swap": "MD-GAN, swap, one way",
    "round": "FL-GAN, round, down",
    "update": "FL-GAN, round, up",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is priced. `samples`: m, per node; `iterations`: I; `steps`: L; `swap` and `round_epochs`: E, of each."""

    model: ModelSettings
    nodes: int
    batch: int
    samples: int
    iterations: int
    steps: int
    swap: float | Literal["off"]
    round_epochs: float
    memory: bool  # measure seconds and memory too, in fresh processes
    batches_per_version: int | Literal["auto"] = "auto"

    @property
    def run(self) -> Run:
        """Of MD-GAN: its periods are swaps."""
        return Run(self.iterations, self.nodes, self.batch, self.samples, inf if self.swap == "off" else self.swap)

    @property
    def rounds(self) -> Run:
        """Of FL-GAN: its periods are rounds."""
        return Run(self.iterations, self.nodes, self.batch, self.samples, self.round_epochs)

    @property
    def image(self) -> int:
        """d."""
        return self.model.channels * self.model.image_size**2

    @property
    def batches(self) -> int:
        """k."""
        return batches_count(self.batches_per_version, self.nodes)


def as_said(
    model: str, image_size: int, channels: str, classes: int, discriminator_steps: int, epochs: float, **rest: Any
) -> Wanted:
    """As the command line says it."""
    grey_or_colour: Any = int(channels)
    settings = ModelSettings(name=model, image_size=image_size, channels=grey_or_colour, classes=classes)
    return Wanted(model=resolve(settings), steps=discriminator_steps, swap=epochs, round_epochs=epochs, **rest)


def price(wanted: Wanted, told: Callable[[str], None]) -> dict[str, Any]:
    """All tables. `told` hears what is being measured."""
    pair = pair_of(wanted.model)
    settings = settings_for(wanted.model, wanted.nodes, wanted.batch, wanted.steps, wanted.batches_per_version)
    told("counting multiply-adds")
    computation = _computation(wanted, pair, settings)
    processes = {}
    for role in ROLES if wanted.memory else ():
        told(f"measuring {role} in a fresh process")
        text = run_fresh(f"measuring {role}", "sim.roles", role, msgspec.json.encode(settings).decode())
        processes[role] = json.loads(text)
    told("counting bytes on short runs")
    return {
        "model": wanted.model.name,
        "parameters": {"generator": pair.generator.parameters, "discriminator": pair.discriminator.parameters},
        "nodes": wanted.nodes,
        "batch": wanted.batch,
        "batches": wanted.batches,
        "discriminator_steps": wanted.steps,
        "samples_per_node": wanted.samples,
        "iterations": wanted.iterations,
        "epochs": None if wanted.swap == "off" else wanted.swap,
        "round_epochs": wanted.round_epochs,
        "computation": computation,
        "ratio": _ratio(computation, processes),
        "seconds": {role: processes[role] for role in processes},
        "memory": _memory(wanted, pair, processes),
        "communication": _communication(wanted, pair),
        "totals": _totals(wanted, pair),
    }


# --- computation ------------------------------------------------------------------------------------------------------


def multiply_adds(pair: Pair, role: str, batch: int, steps: int, batches: int) -> int:
    """By formula: of one iteration, or, at FL-GAN's server, none that torch counts: it only adds rows up."""
    match role:
        case "mdgan-node":
            return batch * costs.node_work(pair, steps)
        case "flgan-client" | "standalone":
            return batch * costs.local_work(pair, steps)
        case "mdgan-hub":
            return batch * costs.hub_work(pair, batches)
        case _:
            return 0


def _computation(wanted: Wanted, pair: Pair, settings: Settings) -> dict[str, dict[str, int]]:
    found = {}
    for role in ROLES:
        step = step_of(role, settings)
        step()  # Adam makes its state
        formula = multiply_adds(pair, role, wanted.batch, wanted.steps, min(wanted.batches, wanted.nodes))
        unjudged = max(0, wanted.batches - wanted.nodes) if role == "mdgan-hub" else 0
        formula += unjudged * wanted.batch * pair.generator.forward  # made and never looked at
        found[role] = {"formula": formula, "measured": measured_multiply_adds(step)}
    return found


def _ratio(computation: dict[str, dict[str, int]], processes: dict[str, dict[str, float]]) -> dict[str, float | None]:
    """FL-GAN / MD-GAN per iteration on a node: what MD-GAN spares it."""
    node, client = computation["mdgan-node"], computation["flgan-client"]
    timed = processes["flgan-client"]["cpu_s"] / processes["mdgan-node"]["cpu_s"] if processes else None
    return {
        "formula": client["formula"] / node["formula"],
        "measured": client["measured"] / node["measured"],
        "cpu_seconds": timed,
    }


# --- memory -----------------------------------------------------------------------------------------------------------


def _memory(wanted: Wanted, pair: Pair, processes: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    b, d = wanted.batch, wanted.image
    formula = {
        "mdgan-node": costs.node_memory(pair, b, d),
        "flgan-client": costs.client_memory(pair, b, d),
        "standalone": costs.standalone_memory(pair, b, d),
        "mdgan-hub": costs.hub_memory(pair, b, d, wanted.batches, wanted.nodes, snapshots=1),
        "flgan-server": costs.server_memory(pair, wanted.nodes),
    }
    return {role: {"formula": value, "measured": _grown(processes.get(role))} for role, value in formula.items()}


def _grown(process: dict[str, float] | None) -> float | None:
    """What a process has at its peak beyond one that only has torch."""
    return None if process is None else process["peak_bytes"] - process["bare_bytes"]


# --- communication ----------------------------------------------------------------------------------------------------


def _communication(wanted: Wanted, pair: Pair) -> dict[str, dict[str, float]]:
    """Bytes of one message of each kind: its tensors by formula, and what was on the wire in a run."""
    labelled = wanted.model.classes > 0
    mdgan = _short_run("mdgan", wanted)
    flgan = _short_run("flgan", wanted)
    post, core = mdgan.post, mdgan.last_hub_core
    assert core is not None
    answers = sum(member.tally.tasks for member in core.members)
    swaps = core.swaps.counts.committed if wanted.swap != "off" else 0
    server = flgan.last_core
    assert isinstance(server, ServerCore)
    rounds = sum(client.rounds for client in server.members)
    updates = sum(client.averaged for client in server.members)
    rows = {
        "task": (costs.task_bytes(wanted.batch, wanted.image, labelled=labelled), post.tasks, answers),
        "feedback": (costs.feedback_bytes(wanted.batch, wanted.image), post.feedback, answers),
        "swap": (costs.copy_bytes(pair), post.copies + post.across.copies, 2 * swaps),
        "round": (costs.model_bytes(pair), flgan.post.rounds, rounds),
        "update": (costs.model_bytes(pair), flgan.post.updates, updates),
    }
    return {
        name: {"formula": formula, "measured": total / count, "framing": total / count - formula, "messages": count}
        for name, (formula, total, count) in rows.items()
        if count
    }


def _short_run(method: Method, wanted: Wanted) -> World:
    """A few iterations on noise, at fidelity full, on perfect links."""
    nodes, batch = wanted.nodes, wanted.batch
    images = _noise(wanted.model, nodes * batch * TRIED_ITERATIONS)
    epochs = 1 / TRIED_PERIODS
    training = TrainingSettings(
        steps=TRIED_ITERATIONS + 1,  # so that the last swap is over before the run is
        batch_size=batch,
        swap=epochs,
        swap_optimizer="stay",
        **EXACT_REDUCTION,  # type: ignore[arg-type]
    )
    settings = replace(
        Settings(mode="sync", model=wanted.model, training=training),
        hub=HubSettings(nodes_min=nodes, evaluate_every=2 * TRIED_ITERATIONS),
        federated=FederatedSettings(epochs=epochs),
    )
    scenario = compile_scenario(
        Scenario(name="cost", duration=RUN_MAX, nodes=nodes, fidelity="full", method=method), seed=0
    )
    kind = Full if method == "mdgan" else FederatedFull
    bodies = kind(settings, images, nodes, None, None, None)
    world = World(scenario, settings, bodies, Silent(), cast=cast_of(scenario, bodies))
    world.run()
    assert world.hub.ended is not None
    return world


def _noise(model: ModelSettings, count: int) -> Images:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, model.channels, model.image_size, model.image_size), np.uint8)
    return Images(x, np.arange(count) % model.classes if model.classes else None, "noise")


# --- whole runs -------------------------------------------------------------------------------------------------------


def _totals(wanted: Wanted, pair: Pair) -> dict[str, float]:
    """What everybody sends in a whole run, by formula; the last figure is what is unfavourable to MD-GAN."""
    run, labelled = wanted.run, wanted.model.classes > 0
    mdgan = costs.mdgan_total(pair, run, wanted.image, labelled=labelled)
    flgan = costs.flgan_total(pair, wanted.rounds)
    task, copy = costs.task_bytes(wanted.batch, wanted.image, labelled=labelled), costs.copy_bytes(pair)
    return {
        "periods": run.periods,
        "rounds": wanted.rounds.periods,
        "mdgan_bytes": mdgan,
        "flgan_bytes": flgan,
        "mdgan_per_node": mdgan / wanted.nodes,
        "flgan_per_node": flgan / wanted.nodes,
        "largest_message_mdgan": max(task, copy) if run.periods else task,
        "largest_message_flgan": costs.model_bytes(pair),
        "mdgan_to_flgan": mdgan / flgan,
    }


# --- for people -------------------------------------------------------------------------------------------------------


def periods_said(found: dict[str, Any]) -> str:
    """E of swaps and of rounds, and how many there are; an older result has one E for both."""
    epochs, totals = found["epochs"], found["totals"]
    round_epochs, rounds = found.get("round_epochs", epochs), totals.get("rounds", totals["periods"])
    if epochs == round_epochs:
        return f"E = {epochs:g}: {rounds:.1f} swaps of a node, or rounds"
    swaps = "no swaps" if epochs is None else f"E = {epochs:g}: {totals['periods']:.1f} swaps of a node"
    return f"{swaps}; FL-GAN's E = {round_epochs:g}: {rounds:.1f} rounds"


def lines(found: dict[str, Any]) -> list[str]:
    """The tables as text."""
    ratio, totals, parameters = found["ratio"], found["totals"], found["parameters"]
    networks = f"G {parameters['generator']:,} parameters, D {parameters['discriminator']:,}"
    sizes = f"N = {found['nodes']}, b = {found['batch']}, k = {found['batches']}, L = {found['discriminator_steps']}"
    text = [f"{found['model']}: {networks}; {sizes}", ""]
    text += [f"{'multiply-adds':28}{'formula':>16}{'measured':>16}{'CPU ms':>10}"]
    for role, row in found["computation"].items():
        timed = found["seconds"].get(role)
        ms = "" if timed is None else f"{1000 * timed['cpu_s']:.2f}"
        text.append(f"{SAID[role]:28}{row['formula']:>16,}{row['measured']:>16,}{ms:>10}")
    timed_ratio = "" if ratio["cpu_seconds"] is None else f"{ratio['cpu_seconds']:.2f}"
    text.append(f"{'FL-GAN / MD-GAN, node':28}{ratio['formula']:>16.3f}{ratio['measured']:>16.3f}{timed_ratio:>10}")
    text += ["", f"{'memory, bytes':28}{'formula':>16}{'measured':>16}"]
    for role, memory in found["memory"].items():
        measured = "" if memory["measured"] is None else f"{memory['measured']:,.0f}"
        text.append(f"{SAID[role].split(':')[0]:28}{memory['formula']:>16,}{measured:>16}")
    text += ["", f"{'bytes of a message':28}{'formula':>16}{'measured':>16}{'framing':>10}"]
    for name, row in found["communication"].items():
        text.append(f"{WAYS[name]:28}{row['formula']:>16,}{row['measured']:>16,.1f}{row['framing']:>10,.1f}")
    run = f"I = {found['iterations']:,}, m = {found['samples_per_node']:,} samples a node, {periods_said(found)}"
    text += [
        "",
        f"a run of {run}",
        f"{'all bytes, MD-GAN':28}{totals['mdgan_bytes']:>16,.0f}",
        f"{'all bytes, FL-GAN':28}{totals['flgan_bytes']:>16,.0f}",
        f"{'MD-GAN / FL-GAN':28}{totals['mdgan_to_flgan']:>16.2f}",
    ]
    return text
