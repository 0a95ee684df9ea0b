"""Plays a scenario twice, in fresh processes with different hash seeds, and finds where the two part, if they do."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from mdgan_edge.errors import SelfCheckFailed
from sim.fresh import run_fresh, tell_operator
from sim.methods import cast_of
from sim.play import bodies_of, plan_run
from sim.scenario.reading import read_scenario
from sim.scenario.values import Scenario
from sim.scenario.writing import dump_scenario
from sim.trace import Trace
from sim.watch import Silent
from sim.world import World

HASH_SEEDS = ("1", "4242")


def check_determinism(scenario: Scenario) -> str:
    """The digest that both runs of a compiled scenario have. Raises SelfCheckFailed with the first difference."""
    with tempfile.TemporaryDirectory(prefix="mdgan-") as folder:
        file = Path(folder) / "scenario.toml"
        file.write_text(dump_scenario(scenario), encoding="utf-8")
        traces = [Path(folder) / f"trace-{seed}" for seed in HASH_SEEDS]
        digests = [_run(file, trace, seed) for trace, seed in zip(traces, HASH_SEEDS, strict=True)]
        if digests[0] != digests[1]:
            raise SelfCheckFailed(f"two runs of one seed differ: {first_difference(*traces)}")
    return digests[0]


def first_difference(one: Path, other: Path) -> str:
    """Where two traces part."""
    with one.open(encoding="utf-8") as first, other.open(encoding="utf-8") as second:
        for number, (left, right) in enumerate(zip_longest(first, second, fillvalue="(the end)"), start=1):
            if left != right:
                return f"line {number}: {left.strip()!r} or {right.strip()!r}"
    return "the traces are equal, their digests are not"


def _run(file: Path, trace: Path, hash_seed: str) -> str:
    what = "a run of the determinism check"
    return run_fresh(what, "sim.determinism", str(file), str(trace), more={"PYTHONHASHSEED": hash_seed})


def main(file: Path, trace: Path) -> None:
    """Play a compiled scenario, write its trace, print its digest."""
    plan = plan_run(read_scenario(file))
    bodies, settings = bodies_of(plan)
    with trace.open("w", encoding="utf-8") as lines:

        def listen(more: Sequence[str]) -> None:
            lines.write("\n".join(more) + "\n")

        world = World(plan.scenario, settings, bodies, Silent(), cast=cast_of(plan.scenario, bodies))
        world.trace = Trace(listen)
        world.run()
        print(world.trace.digest())


if __name__ == "__main__":
    tell_operator(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
