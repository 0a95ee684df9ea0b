"""How fast the virtual world is: events per CPU second and memory at several sizes, each in a fresh process."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim.fresh import run_fresh, tell_operator
from sim.invariants.checks import Checks
from sim.play import Plan, bodies_of, plan_run
from sim.scenario.quantities import Duration
from sim.scenario.values import Scenario
from sim.watch import Silent, Watch
from sim.world import World

NEVER = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `checked`: with all invariants looked at."""

    nodes: int
    checked: bool
    events: int
    cpu_s: float
    peak_mb: float

    @property
    def events_per_cpu_s(self) -> float:
        return self.events / self.cpu_s


def bench_world(sizes: Sequence[int], events: int, repeat: int, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Each size `repeat` times in turn, so that a busy machine hurts all alike. A row per size: medians."""
    runs: dict[tuple[int, bool], list[Measured]] = {}
    for _ in range(repeat):
        for nodes in sizes:
            for checked in (False, True):
                one = _in_fresh_process(nodes, checked, events)
                told(
                    f"{nodes} nodes{', checked' if checked else ''}: {one.events_per_cpu_s:,.0f} events per CPU second"
                )
                runs.setdefault((nodes, checked), []).append(one)
    return [_row(nodes, checked, several) for (nodes, checked), several in runs.items()]


def _row(nodes: int, checked: bool, several: list[Measured]) -> dict[str, Any]:
    return {
        "nodes": nodes,
        "checked": checked,
        "runs": len(several),
        "events": several[0].events,
        "events_per_cpu_s": statistics.median(one.events_per_cpu_s for one in several),
        "lowest": min(one.events_per_cpu_s for one in several),
        "highest": max(one.events_per_cpu_s for one in several),
        "peak_mb": max(one.peak_mb for one in several),
    }


def _in_fresh_process(nodes: int, checked: bool, events: int) -> Measured:
    said = run_fresh(f"a run with {nodes} nodes", "sim.bench", str(nodes), str(int(checked)), str(events))
    return Measured(**json.loads(said))


def measure(nodes: int, checked: bool, events: int) -> Measured:
    """Play a calm asynchronous swarm of tokens until so many events are handled."""
    plan = _plan(nodes)
    bodies, settings = bodies_of(plan)
    watch: Watch = Checks(plan.scenario, settings) if checked else Silent()
    world = _Counted(plan, settings, bodies, watch, events)
    started = time.process_time()
    world.run()
    cpu_s = time.process_time() - started
    return Measured(nodes, checked, world.events, cpu_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


class _Counted(World):
    """Stops after so many events."""

    def __init__(self, plan: Plan, settings: Any, bodies: Any, watch: Watch, events: int) -> None:
        super().__init__(plan.scenario, settings, bodies, watch)
        self._most = events

    def start_hub(self) -> None:
        super().start_hub()
        self.push(1_000_000, self._look, None, None)

    def _look(self, *_: object) -> None:
        self.stopped = self.events >= self._most
        self.push(self.now + 1_000_000, self._look, None, None)


def _plan(nodes: int) -> Plan:
    settings = {"training.steps": NEVER, "training.swap": "off", "hub.nodes_min": nodes}
    return plan_run(Scenario(name="bench", duration=Duration(10**12), nodes=nodes, settings=settings))


def main(nodes: str, checked: str, events: str) -> None:
    """One measurement, printed as JSON."""
    print(json.dumps(asdict(measure(int(nodes), checked == "1", int(events)))))


if __name__ == "__main__":
    tell_operator(lambda: main(*sys.argv[1:]))
