"""Plays a scenario with one seed after the other, and keeps a line of JSON for each: what broke, and how it went on.

Run `python -m scripts.play_seeds SCENARIO --seeds 0-199 --out FILE`; seeds that FILE has already are not played again.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import click

from mdgan_edge.actors import Measure, Note
from mdgan_edge.command import one_line, parse_assignments
from mdgan_edge.errors import ConfigurationError, OperatorError, SelfCheckFailed
from mdgan_edge.messages import NodeId
from sim.play import Plan, plan_run, play
from sim.scenario.reading import find_scenario


class Pace:
    """A Recorder of when the version grew, s, and of how many nodes were live at each step."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.live: list[int] = []

    def note(self, now: int, who: NodeId, note: Note) -> None: ...

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:  # noqa: ARG002
        if measure.what == "stepped":
            self.steps.append(now / 1e9)
        elif measure.what == "step":
            self.live.append(int(measure.values["live"]))


def longest_pause(steps: Sequence[float], end: float) -> float | None:
    """The longest time without a new version, from the first one to the end of the run, s; None without any."""
    return max(later - at for at, later in pairwise([*steps, end])) if steps else None


def line_of(plan: Plan, replay: bool) -> dict[str, Any]:
    """Play it; what is kept of it."""
    pace = Pace()
    played = play(plan, pace, replay=replay)
    verdicts, core = played.checks.verdicts(), played.world.last_hub_core
    assert core is not None
    return {
        "scenario": plan.scenario.name,
        "seed": plan.scenario.seed,
        "violated": [
            f"{one.invariant} at {one.at / 1e9:g} s, {one.who}: {one.what}" for one in played.checks.violations
        ],
        "unknown": [name for name, verdict in verdicts.items() if verdict is None],
        "missed": played.missed,
        "versions": core.training.version,
        "first_version_s": pace.steps[0] if pace.steps else None,
        "longest_pause_s": longest_pause(pace.steps, played.world.now / 1e9),
        "live": [min(pace.live, default=0), max(pace.live, default=0)],
        "sometimes": {name: count for name, count in sorted(played.checks.sometimes.items()) if count},
        "digest": played.digest,
        "events": played.world.events,
        "cpu_s": round(played.cpu_s, 2),
    }


def seeds_of(text: str) -> range:
    """`A-B`, both included, or `A`. Raises ConfigurationError."""
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit() or int(last or first) < int(first):
        raise ConfigurationError(f"--seeds {text}: write FIRST-LAST, such as 0-199")
    return range(int(first), int(last or first) + 1)


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    """What was kept so far; a line that a kill has torn is none."""
    for line in file.read_text().splitlines() if file.exists() else ():
        if line.endswith("}"):
            yield json.loads(line)


def in_short(kept: Sequence[dict[str, Any]]) -> list[str]:
    """For a terminal."""
    broken, still = (
        sum(map(test, kept)) for test in (lambda one: bool(one["violated"]), lambda one: not one["versions"])
    )
    counted: Counter[str] = Counter()
    for line in kept:
        counted.update(line["sometimes"])
    pauses = sorted(line["longest_pause_s"] for line in kept if line["versions"])
    return [
        f"{len(kept)} seeds, {broken} with a violated invariant, {still} without any version",
        *(
            [f"longest time without a new version: {pauses[-1]:.2f} s, median of seeds {median(pauses):.2f} s"]
            if pauses
            else []
        ),
        *(f"{what}: {_span(line[what] for line in kept)}" for what in ("versions", "events")),
        f"live nodes at a step: {_span(count for line in kept for count in line['live'])}",
        f"CPU seconds: {sum(line['cpu_s'] for line in kept):,.0f}",
        *(f"  {name}: {count:,}" for name, count in sorted(counted.items())),
    ]


def _span(values: Iterable[int]) -> str:
    found = list(values)
    return f"{min(found):,} to {max(found):,}"


@click.command()
@click.argument("scenario")
@click.option("--seeds", default="0-9", show_default=True, help="FIRST-LAST.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any key of docs/configuration.md.")
@click.option("--replay", is_flag=True, help="Also let a fresh hub core decide all anew at the end.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON lines, one per seed.")
def main(scenario: str, seeds: str, assignments: tuple[str, ...], replay: bool, out: Path) -> None:
    """Play SCENARIO with many seeds, and say at the end what came of all."""
    wanted, more = find_scenario(scenario), parse_assignments(assignments)
    done = {line["seed"] for line in lines_of(out)}
    for seed in seeds_of(seeds):
        if seed in done:
            continue
        line = line_of(plan_run(wanted, seed, None, more), replay)
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        click.echo(f"seed {seed}: {line['versions']} versions, {line['violated'] or 'nothing violated'}", err=True)
    kept = list(lines_of(out))
    if not kept:
        return
    for text in in_short(kept):
        click.echo(text)
    if any(line["violated"] for line in kept):
        raise SelfCheckFailed(f"invariants are violated: {out} says which, with which seed")


if __name__ == "__main__":
    try:
        main()
    except OperatorError as error:
        click.echo(f"Error: {one_line(str(error))}", err=True)
        sys.exit(error.exit_code)
