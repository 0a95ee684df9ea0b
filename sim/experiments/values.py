"""An experiment as frozen values: what a file may say, and what a cell is. See docs/experiments.md for each key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from sim.scenario.values import Scenario

SEEDS_MAX = 1000
CELLS_MAX = 10_000
VALUES_MAX = 100  # of one axis

LOWER_IS_BETTER = frozenset({"sliced_wasserstein", "fid_classifier", "kid", "label_total_variation"})
HIGHER_IS_BETTER = frozenset({"quality", "classifier_score", "coverage", "modes", "precision", "recall", "density"})
SCORES = tuple(sorted(LOWER_IS_BETTER | HIGHER_IS_BETTER))  # of images and of toy's points

Count = Annotated[int, msgspec.Meta(ge=1, le=SEEDS_MAX)]
Abscissa = Literal["updates", "virtual_s", "gone"]
BudgetName = Literal["ci", "full"]


class Chart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure of the page. `lines` and `panels` name an axis: one line or one panel for each of its values."""

    kind: Literal["curve", "end"]  # a score while it trains; or at the end, along an axis
    score: str
    over: Abscissa = "updates"  # of a curve: generator updates, virtual seconds, or how many nodes are gone
    along: str = ""  # of an end: the axis whose values lie side by side
    lines: str = ""
    panels: str = ""
    title: str = ""
    log: bool = False  # a logarithmic scale of the score


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an experiment that asks what training costs, as `mdgan-sim cost` does."""

    images: Annotated[int, msgspec.Meta(ge=1)]  # that all nodes together hold


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is different when there is little time, or much."""

    seeds: Count | None = None
    scenario: dict[str, Any] = {}
    axes: dict[str, list[Any]] = {}  # only these values of an axis
    processes: bool = True  # of a cost: measure seconds and memory too, in fresh processes


class ExperimentFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file, as it is written."""

    name: str = ""  # without it, the name of the file
    about: str = ""
    scores: list[str] = []  # those in the tables; the first is the one that counts
    seeds: Count = 3
    cost: Cost | None = None  # cells are priced, not played
    scenario: dict[str, Any]  # a scenario's tables; `from` names one to begin with
    axes: Annotated[dict[str, Any], msgspec.Meta(min_length=1)]
    budget: dict[BudgetName, Budget] = {}
    chart: list[Chart] = []


@dataclass(frozen=True, slots=True)
class Axis:
    """What is varied: per value a label and the scenario tables that it lays over the others, in the file's order."""

    name: str
    values: Mapping[str, Mapping[str, Any]]
    by_key: bool  # a list of values of the key it is called after, and not named tables


@dataclass(frozen=True, slots=True)
class Priced:
    """How a cell is priced: images that all nodes together hold, and whether fresh processes are measured too."""

    images: int
    processes: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a value of each axis, and a seed. `assignments` are settings that go before those of the scenario."""

    labels: Mapping[str, str]  # axis -> label of its value
    seed: int
    scenario: Scenario
    assignments: Mapping[str, object] = field(default_factory=dict)
    priced: Priced | None = None  # not played, but priced

    @property
    def text(self) -> str:
        """For people, and the same wherever it is computed."""
        return ", ".join([*(f"{axis} {label}" for axis, label in self.labels.items()), f"seed {self.seed}"])


@dataclass(frozen=True, slots=True)
class Experiment:
    """All cells of one call, and how they are shown."""

    name: str
    about: str
    scores: tuple[str, ...]
    axes: Mapping[str, tuple[str, ...]]  # axis -> labels
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    charts: tuple[Chart, ...] = ()

    @property
    def priced(self) -> bool:
        """Whether its cells are priced, and not played."""
        return any(cell.priced is not None for cell in self.cells)
