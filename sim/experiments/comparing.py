"""What `mdgan-sim compare` does: the experiment `compare` with its full budget, as a table, a picture and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.rundir import write_json
from sim.experiments.reading import find_experiment, read_experiment
from sim.experiments.running import Means, Outcome, Told, sweep
from sim.experiments.summary import groups, said_of, words
from sim.experiments.values import BudgetName

EXPERIMENT = "compare"
BUDGET: BudgetName = "full"
AXIS = "method"
BASELINE = "FL-GAN"
JSON_FILE, PICTURE_FILE, SAMPLES_FILE = "compare.json", "chart-1.png", "samples.png"
COSTS = ("multiply_adds", "bytes")
WHERE = {"node": "a node", "hub": "the hub", "total": "in all"}
REMEDY = "the picture needs matplotlib and jinja2: pip install 'mdgan-edge[report]'"


def compare(
    assignments: Mapping[str, object], seeds: tuple[int, ...] | None, out: Path, jobs: int, told: Told
) -> tuple[dict[str, Any], Outcome]:
    """compare.json, and what was played. Raises OperatorErrors; a cell that failed is told of by the outcome."""
    try:
        from sim.report.sweep import write_sweep
    except ModuleNotFoundError as error:
        raise ConfigurationError(REMEDY) from error
    asked = read_experiment(find_experiment(EXPERIMENT), BUDGET, seeds, assignments)
    for axis in asked.axes:
        if axis != AXIS:
            raise ConfigurationError(f"--set {axis}: compare has room for one value; several: mdgan-sim sweep compare")
    outcome = sweep(EXPERIMENT, BUDGET, seeds, assignments, out, Means(jobs), told)
    if not outcome.rows:
        outcome.refuse_if_failed()
    found = table(outcome)
    write_json(out / JSON_FILE, found)
    write_sweep(out)
    return found, outcome


def table(outcome: Outcome) -> dict[str, Any]:
    """By method, and each method's costs as parts of FL-GAN's."""
    experiment = outcome.experiment
    by_method = {
        one["cell"][AXIS]: {key: value for key, value in one.items() if key != "cell"}
        for one in groups(experiment.axes, experiment.scores, outcome.rows)
    }
    base = by_method.get(BASELINE)
    return {
        "data": experiment.cells[0].assignments.get("swarm.data", "digits"),
        "seeds": list(experiment.seeds),
        "methods": by_method,
        "of_flgan": {} if base is None else {name: _parts(one, base) for name, one in by_method.items()},
    }


def _parts(one: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float | None]:
    """Medians over FL-GAN's; None where there is none, or where FL-GAN's is 0."""
    pairs = {f"{what}_{part}": (one[what][part], base[what][part]) for what in COSTS for part in ("node", "total")}
    pairs["cpu_s"] = (one["cpu_s"], base["cpu_s"])
    return {name: _ratio(own, other) for name, (own, other) in pairs.items()}


def _ratio(own: Mapping[str, float] | None, base: Mapping[str, float] | None) -> float | None:
    return None if own is None or base is None or not base["median"] else own["median"] / base["median"]


def summary_lines(found: Mapping[str, Any], folder: Path) -> list[str]:
    """For a terminal."""
    methods, seeds = found["methods"], len(found["seeds"])
    scores = list(next(iter(methods.values()))["scores"])
    rows: list[tuple[str, list[str]]] = [("", list(methods))]
    rows.append(("generator that is scored", [one["scored"] or "none" for one in methods.values()]))
    rows += [(score, [said_of(one, score) for one in methods.values()]) for score in scores]
    rows.append(("generator updates", [words(one["updates"], ",.0f") for one in methods.values()]))
    for what in COSTS:
        for part in WHERE:
            name = f"{what.replace('_', '-')}, {WHERE[part]}"
            rows.append((name, [words(one[what][part], ".3g") for one in methods.values()]))
    rows.append(("CPU s of the run", [words(one["cpu_s"], ".0f") for one in methods.values()]))
    for name in ("multiply_adds_node", "bytes_node", "bytes_total"):
        parts = [found["of_flgan"].get(method, {}).get(name) for method in methods]
        rows.append((f"{name.replace('_', ' ')} / FL-GAN", ["" if p is None else f"{p:.2f}" for p in parts]))
    width = 2 + max(26, *(len(text) for _, texts in rows for text in texts))
    lines = [f"{found['data']}, {seeds} seed{'' if seeds == 1 else 's'}: medians (interval)"]
    lines += [f"{name:28}" + "".join(f"{text:>{width}}" for text in texts) for name, texts in rows]
    files = {"picture": PICTURE_FILE, "samples": SAMPLES_FILE, "page": "report.html", "figures": JSON_FILE}
    return [*lines, *(f"{name + ':':11}{folder / file}" for name, file in files.items())]
