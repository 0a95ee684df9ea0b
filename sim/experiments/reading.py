"""Reads an experiment file: TOML in, cells out, or one line saying what is wrong, where, and what is allowed."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from mdgan_edge.config import KEYS
from mdgan_edge.config import SECTIONS as SETTINGS_SECTIONS
from mdgan_edge.errors import ConfigurationError
from sim.experiments.values import (
    CELLS_MAX,
    SCORES,
    VALUES_MAX,
    Axis,
    Budget,
    BudgetName,
    Cell,
    Chart,
    Experiment,
    ExperimentFile,
    Priced,
)
from sim.scenario.reading import find_scenario_file, scenario_from
from sim.scenario.values import Scenario
from sim.scenario.words import near_miss

SHIPPED = Path(__file__).parent / "shipped"
FROM = "from"  # in [scenario]: begin with this one
SOURCE_KEYS = frozenset({"swarm.data", "hub.data", "node.data"})  # their texts may hold commas
SCENARIO_KEYS = frozenset(one.encode_name for one in msgspec.structs.fields(Scenario)) - {"name", "about", "settings"}
Tables = Mapping[str, Any]


def shipped_experiments() -> list[str]:
    """The names of the experiments that come with us."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def find_experiment(name: str) -> Path:
    """The file of one of ours by its name, or the file of that name."""
    if name in shipped_experiments():
        return SHIPPED / f"{name}.toml"
    if Path(name).is_file():
        return Path(name)
    raise ConfigurationError(f"{name!r} is neither a file nor an experiment: {near_miss(name, shipped_experiments())}")


def read_experiment(
    path: Path, budget: BudgetName, seeds: Sequence[int] | None, assignments: Mapping[str, object]
) -> Experiment:
    """All cells of a file under a budget. `seeds` None: as the file says. Raises ConfigurationError.

    `assignments` are texts as --set gives them: an axis with some of its values, a key that becomes an axis by having
    several (10,100), a key of the scenario, or a setting.
    """
    origin = path.name
    file = _file(path, origin)
    share = file.budget.get(budget, Budget())
    base = merged(_base(file.scenario, origin, path.parent), share.scenario)
    axes = [_axis(name, values, origin) for name, values in file.axes.items()]
    axes = [_narrowed(axis, share.axes[axis.name], origin) if axis.name in share.axes else axis for axis in axes]
    _refuse_unknown(share.axes, [axis.name for axis in axes], f"{origin}: budget.{budget}.axes: unknown axis")
    axes, base, settings = _assigned(axes, base, assignments)
    chosen = tuple(range(share.seeds or file.seeds) if seeds is None else seeds)
    name = file.name or path.stem
    priced = None if file.cost is None else Priced(file.cost.images, share.processes)
    if priced is None and not file.scores:
        raise ConfigurationError(f"{origin}: scores: name at least one, such as fid_classifier")
    cells = tuple(_cells(name, base, axes, chosen, settings, priced, origin, path.parent))
    scores = [*file.scores, *(chart.score for chart in file.chart)]
    _refuse_unknown(scores, SCORES, f"{origin}: unknown score")
    found = Experiment(
        name,
        " ".join(file.about.split()),
        tuple(file.scores),
        {axis.name: tuple(axis.values) for axis in axes},
        chosen,
        cells,
        tuple(file.chart),
    )
    _check_charts(found, origin)
    return found


def merged(base: Tables, over: Tables) -> dict[str, Any]:
    """`over` laid over `base`: tables key by key, anything else, lists and distributions too, as a whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(value, dict) and isinstance(below, dict) and "dist" not in value and "dist" not in below
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def nested(key: str, value: object) -> dict[str, Any]:
    """The tables that say `key = value`: "training.steps" is steps in training."""
    head, _, rest = key.partition(".")
    return {head: nested(rest, value) if rest else value}


# --- the file ---------------------------------------------------------------------------------------------------------


def _file(path: Path, origin: str) -> ExperimentFile:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the experiment {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the experiment {path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin} is not valid TOML: {' '.join(str(error).split())}") from error
    _refuse_unknown(tables, _names(ExperimentFile), f"{origin}: unknown key")
    budgets = tables.get("budget", {})
    if isinstance(budgets, dict):
        _refuse_unknown(budgets, get_args(BudgetName), f"{origin}: unknown budget")
        for name, one in budgets.items():
            if isinstance(one, dict):
                _refuse_unknown(one, _names(Budget), f"{origin}: budget.{name}: unknown key")
    for number, one in enumerate(_list(tables.get("chart")), start=1):
        if isinstance(one, dict):
            _refuse_unknown(one, _names(Chart), f"{origin}: chart {number}: unknown key")
    try:
        return msgspec.convert(tables, ExperimentFile)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        where = place.strip("`").removeprefix("$").removeprefix(".")
        raise ConfigurationError(f"{origin}: {f'{where}: ' if where else ''}{_plainly(what)}") from error


def _plainly(what: str) -> str:
    """msgspec's words as somebody says it who knows TOML."""
    what = re.sub(r"^Object missing required field (`.*?`)$", r"\1 is missing", what)
    return what.replace("`object`", "a table").replace("`array`", "a list").replace("Object", "Table")


def _names(struct: type[msgspec.Struct]) -> list[str]:
    return [one.encode_name for one in msgspec.structs.fields(struct)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _refuse_unknown(given: Iterable[str], known: Sequence[str], head: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigurationError(f"{head} {name!r}: {near_miss(name, known)}")


def _base(tables: Tables, origin: str, folder: Path) -> dict[str, Any]:
    """The scenario's tables, over those of the one it begins with."""
    if FROM not in tables:
        return dict(tables)
    name = tables[FROM]
    if not isinstance(name, str):
        raise ConfigurationError(f"{origin}: scenario.from must be text: the name of a scenario, or a file")
    beside = folder / name
    file = beside if beside.is_file() else find_scenario_file(name)
    first = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    return merged(first, {key: value for key, value in tables.items() if key != FROM})


# --- axes -------------------------------------------------------------------------------------------------------------


def _axis(name: str, values: object, origin: str) -> Axis:
    """A list of values of the key that the axis is called after, or named tables."""
    match values:
        case list() if values:
            axis = Axis(name, {_label(one): nested(name, one) for one in values}, by_key=True)
        case dict() if values and all(isinstance(one, dict) for one in values.values()):
            axis = Axis(name, dict(values), by_key=False)
        case _:
            raise ConfigurationError(
                f"{origin}: axes.{name}: give a list of values of that key, or a table of named tables of scenario keys"
            )
    if len(axis.values) > VALUES_MAX:
        raise ConfigurationError(f"{origin}: axes.{name} has {len(axis.values)} values; {VALUES_MAX} are allowed")
    return axis


def _label(value: object) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _narrowed(axis: Axis, wanted: Sequence[object], origin: str) -> Axis:
    """Only these of its values, in the order asked for."""
    labels = [_label(one) for one in wanted]
    if not labels:
        raise ConfigurationError(f"{origin}: axis {axis.name}: no value is left")
    _refuse_unknown(labels, list(axis.values), f"{origin}: axis {axis.name} has no value")
    return replace(axis, values={label: axis.values[label] for label in labels})


def _assigned(
    axes: list[Axis], base: dict[str, Any], assignments: Mapping[str, object]
) -> tuple[list[Axis], dict[str, Any], dict[str, object]]:
    """What --set makes of the axes and the base, and the settings that go before everything."""
    settings: dict[str, object] = {}
    for key, text in assignments.items():
        values = [text] if key in SOURCE_KEYS else _values(str(text))
        place = next((index for index, axis in enumerate(axes) if axis.name == key), None)
        if place is not None:
            axes = [*axes]
            axes[place] = _reset(axes[place], values)
        elif (varied := next((axis.name for axis in axes if all(_sayings(axis, key))), None)) is not None:
            raise ConfigurationError(f"--set {key}: that is what the axis {varied} varies; choose from it instead")
        elif len(values) == 1 and any(any(_sayings(axis, key)) for axis in axes):
            base = merged(base, nested(key, values[0]))  # for those values of the axis that do not say it
        elif len(values) > 1:
            axes = [*axes, _axis(key, values, "--set")]
        elif key in KEYS or key.partition(".")[0] in SETTINGS_SECTIONS:
            settings[key] = text
        elif key.partition(".")[0] in SCENARIO_KEYS:
            base = merged(base, nested(key, values[0]))
        else:
            known = [*(axis.name for axis in axes), *SCENARIO_KEYS, *KEYS]
            raise ConfigurationError(
                f"--set {key}: unknown key: {near_miss(key, known, 'docs/experiments.md says more')}"
            )
    return axes, base, settings


def _reset(axis: Axis, values: list[Any]) -> Axis:
    """Some of the axis's values; of an axis that is called after a key, any others too."""
    return _axis(axis.name, values, "--set") if axis.by_key else _narrowed(axis, values, "--set")


def _sayings(axis: Axis, key: str) -> list[bool]:
    """Of each value of the axis whether it sets this key."""
    said = []
    for tables in axis.values.values():
        found: Any = tables
        for name in key.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        said.append(found is not None)
    return said


def _values(text: str) -> list[Any]:
    """The values in "10,100" or "digits": TOML where it is, else words."""
    for attempt in (f"values = [{text}]", f"values = [{_quoted(text)}]"):
        try:
            found: list[Any] = tomllib.loads(attempt)["values"]
        except tomllib.TOMLDecodeError:
            continue
        return found
    return [text]


def _quoted(text: str) -> str:
    """Every piece between commas that is no TOML value as a text."""
    pieces = []
    for piece in text.split(","):
        try:
            tomllib.loads(f"value = {piece}")
            pieces.append(piece)
        except tomllib.TOMLDecodeError:
            pieces.append(msgspec.json.encode(piece.strip()).decode())
    return ", ".join(pieces)


# --- cells ------------------------------------------------------------------------------------------------------------


def _cells(
    name: str,
    base: Tables,
    axes: Sequence[Axis],
    seeds: Sequence[int],
    settings: Mapping[str, object],
    priced: Priced | None,
    origin: str,
    folder: Path,
) -> Iterator[Cell]:
    """Seed by seed, so that a sweep that is cut short has all methods on some seeds rather than some on all."""
    count = len(seeds)
    for axis in axes:
        count *= len(axis.values)
    if count > CELLS_MAX:
        raise ConfigurationError(f"{origin}: these are {count} cells; {CELLS_MAX} are allowed")
    scenarios = []
    for labels in itertools.product(*(axis.values for axis in axes)):
        tables = dict(base)
        for axis, label in zip(axes, labels, strict=True):
            tables = merged(tables, axis.values[label])
        named = dict(zip((axis.name for axis in axes), labels, strict=True))
        said = ", ".join(f"{axis} {label}" for axis, label in named.items())
        scenario = scenario_from({**tables, "name": name}, f"{origin} ({said})", folder)
        scenarios.append((named, scenario))
    for seed in seeds:
        for named, scenario in scenarios:
            yield Cell(named, seed, scenario, settings, priced)


def _check_charts(experiment: Experiment, origin: str) -> None:
    for number, chart in enumerate(experiment.charts, start=1):
        for key in ("along", "lines", "panels"):
            name = getattr(chart, key)
            if name and name not in experiment.axes:
                advice = near_miss(name, list(experiment.axes))
                raise ConfigurationError(f"{origin}: chart {number}: {key} = {name!r} is no axis: {advice}")
        if chart.kind == "end" and not chart.along:
            raise ConfigurationError(f"{origin}: chart {number}: an end needs `along`, the axis to draw it along")
