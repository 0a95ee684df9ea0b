"""Plays one cell and says what came of it, as a row of results.jsonl: alike wherever it runs, but for `spent`."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from broker.member import PRESENT
from mdgan_edge.actors import Measure
from mdgan_edge.errors import OperatorError
from mdgan_edge.journal import plain
from mdgan_edge.messages import NodeId
from mdgan_edge.rundir import RunDirectory
from sim.curves import Curves
from sim.experiments.conditions import conditions_of, key_of, plan_cell
from sim.experiments.values import Cell, Priced
from sim.play import Played, bodies_of, play, report
from sim.world import World

SAMPLES = 20  # images of a row's picture: two of each of ten classes
SAMPLES_SEED = 0
CHANGED = "its images changed while it was played: nobody can say which it saw"
REPLAY = "the command that made it"

_ALONE = Lock()  # torch has one global stream of chance, so a process plays one cell at a time

Row = dict[str, Any]


def play_cell(cell: Cell) -> Row:
    """The row of this cell; if it cannot be played, or what must hold does not, `failed` says why."""
    row: Row = {"cell": dict(cell.labels), "seed": cell.seed}
    with _ALONE:
        _make_ready(cell)
        cpu, wall, load = time.process_time(), time.perf_counter(), os.getloadavg()[0]
        try:
            row |= _played(cell) if cell.priced is None else _priced(cell, cell.priced)
        except OperatorError as error:
            row |= {"failed": str(error)}
        except Exception as error:  # noqa: BLE001  (whatever a run raises is its result; the other cells go on)
            row |= {"failed": f"{type(error).__name__}: {error}"}
        gc.collect()  # a world is full of rings, and holds some hundred megabytes until somebody looks for these
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        load = (load + os.getloadavg()[0]) / 2
    spent = {"cpu_s": cpu, "wall_s": wall, "load": load, "cores": os.cpu_count()}
    found: Row = plain(row | {"spent": spent})
    return found


def _make_ready(cell: Cell) -> None:
    """Import what a run needs and have its classifier in the cache, so that no cell pays for what all share."""
    if cell.scenario.fidelity == "full" and cell.priced is None:
        from sim.full import Full

        with suppress(Exception):  # whatever is wrong is so again when it is played
            bodies, _ = bodies_of(plan_cell(cell))
            assert isinstance(bodies, Full)
            bodies.scoring()


def _played(cell: Cell) -> Row:
    plan = plan_cell(cell)
    conditions = conditions_of(plan, cell)
    curve = Watched()
    with tempfile.TemporaryDirectory(prefix="mdgan-") as folder:
        run = RunDirectory.create(Path(folder) / "run", "cell", cell.seed) if plan.scenario.fidelity == "full" else None
        played = play(plan, curve, run=run, begun=curve.begin)
        samples = None if run is None else _samples(run.generator)
    failed = _failure(played) if conditions_of(plan, cell) == conditions else CHANGED
    row = {"key": key_of(conditions), "conditions": conditions, "failed": failed}
    return row | _figures(played) | {"curve": curve.columns(), "samples": samples}


def _priced(cell: Cell, priced: Priced) -> Row:
    from mdgan_edge.gan.models import resolve
    from sim.cost import Wanted, price

    plan = plan_cell(cell)
    conditions, training = conditions_of(plan, cell), plan.settings.training  # of these the names in PRICES
    wanted = Wanted(
        model=resolve(plan.settings.model),
        nodes=plan.scenario.nodes,
        batch=training.batch_size,
        samples=priced.images // plan.scenario.nodes,
        iterations=training.steps,
        steps=training.discriminator_steps,
        swap=training.swap,
        round_epochs=plan.settings.federated.epochs,
        batches_per_version=training.batches_per_version,
        memory=priced.processes,
    )
    found = price(wanted, lambda _: None)
    return {"key": key_of(conditions), "conditions": conditions, "failed": None, "price": found}


def _failure(played: Played) -> str | None:
    for violation in played.checks.violations:
        return f"{violation.invariant} is violated: {violation.what}"
    if played.missed:
        return f"{played.missed[0]} never happened"
    ended = played.world.hub.ended
    return f"the hub failed: {ended.text}" if ended is not None and ended.outcome == "failed" else None


def _figures(played: Played) -> Row:
    found = report(played, REPLAY)
    scenario = played.plan.scenario
    work = None
    if scenario.fidelity == "full":
        from sim.experiments.work import multiply_adds

        work = multiply_adds(played.world.settings, scenario.method, scenario.nodes, found)
    nodes = found["nodes"]
    there = {node: one for node, one in nodes.items() if one["state"] in PRESENT} or nodes  # all have left at the end
    return {
        "outcome": found["outcome"],
        "updates": found.get("updates", found["version"]),
        "versions": found["version"],
        "virtual_s": found["virtual_s"],
        "merged": {node: one["merged"] for node, one in there.items()},
        "weights": {node: one["weighted_share"] for node, one in there.items()},
        "swaps": found["swaps"],
        "nodes": scenario.nodes,
        "multiply_adds": work,
        "bytes": found["bytes"],
        "events": found["events"],
        "digest": found["digest"],
    }


def _samples(generator: Path) -> str | None:
    """A PNG of a few images of the averaged generator in hexadecimal; None if there is no generator."""
    if not generator.exists():
        return None
    from mdgan_edge.data.grid import grid_png
    from mdgan_edge.gan.generator import sample_images
    from mdgan_edge.gan.saved import load_generator

    saved = load_generator(generator)
    images, _ = sample_images(saved.average, saved.model, SAMPLES, SAMPLES_SEED)  # (SAMPLES, C, H, W)
    return grid_png(images.numpy(), columns=SAMPLES // 2, scale=1).hex()


class Watched(Curves):
    """Every evaluation, and how many nodes were gone at each."""

    def __init__(self) -> None:
        super().__init__()
        self._world: World | None = None
        self._gone: list[int] = []

    def begin(self, world: World) -> None:
        """The world that is about to be played."""
        self._world = world

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:
        """See Curves."""
        super().measure(now, who, measure)
        self._gone += [self._gone_now()] * (len(self.points) - len(self._gone))

    def columns(self) -> dict[str, list[Any]]:
        """By name; null where an evaluation did not have it."""
        names = dict.fromkeys(name for point in self.points for name in point["scores"])
        return {
            "updates": [point["updates"] for point in self.points],
            "virtual_s": [point["at_s"] for point in self.points],
            "gone": self._gone,
            **{name: [point["scores"].get(name) for point in self.points] for name in names},
        }

    def _gone_now(self) -> int:
        """How many machines that the scenario began with have no process now."""
        world = self._world
        assert world is not None
        first = list(world.machines.values())[: world.scenario.nodes]
        return sum(machine.process is None for machine in first)
