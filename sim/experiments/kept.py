"""What experiment.json and each line of results.jsonl must hold, and what is said of those that do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mdgan_edge.errors import DataError
from sim.experiments.values import Chart

EXPERIMENT_FILE = "experiment.json"
Hexadecimal = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]  # it holds no word by chance


class KeptCell(msgspec.Struct, frozen=True):
    """A cell, and the conditions under which its row counts, by their short name."""

    cell: dict[str, str]
    seed: int
    key: str


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """experiment.json: all that the page needs beside the rows."""

    name: str
    about: str
    budget: str = ""
    command: str = ""
    scores: list[str]
    axes: dict[str, list[str]]
    seeds: list[int]
    charts: list[Chart]
    priced: bool
    cells: list[KeptCell]


class FailedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that failed, and what every other row has too."""

    cell: dict[str, str]
    seed: int
    failed: str | None = None


class Spent(msgspec.Struct, frozen=True):
    """What differs from one time to the next."""

    cpu_s: float
    load: float
    cores: int | None


class HeldRow(FailedRow, frozen=True, kw_only=True):
    """Of a cell that did not fail."""

    key: str
    conditions: dict[str, Any]
    spent: Spent


class Bytes(msgspec.Struct, frozen=True):
    """Of a whole run, by who sent them."""

    hub_sent: float
    hub_received: float
    nodes_sent: float
    nodes_received: float
    across: float


class Work(msgspec.Struct, frozen=True):
    """Multiply-adds of a whole run."""

    node: float
    hub: float
    total: float


class PlayedRow(HeldRow, frozen=True, kw_only=True):
    """What came of a run."""

    curve: dict[str, list[float | None]]
    updates: float
    versions: int
    virtual_s: float
    merged: dict[str, float]
    weights: dict[str, float | None]
    nodes: int
    multiply_adds: Work | None
    bytes: Bytes
    samples: Hexadecimal | None


class Price(msgspec.Struct, frozen=True):
    """What sim/cost.py gives; later versions give more."""

    model: str
    parameters: dict[str, int]
    nodes: int
    batch: int
    batches: int
    discriminator_steps: int
    samples_per_node: int
    iterations: int
    epochs: float | None
    computation: dict[str, dict[str, int]]
    ratio: dict[str, float | None]
    seconds: dict[str, dict[str, float]]
    memory: dict[str, dict[str, float | None]]
    communication: dict[str, dict[str, float]]
    totals: dict[str, float]


class PricedRow(HeldRow, frozen=True, kw_only=True):
    """What training costs."""

    price: Price


def refuse_spoilt_row(entry: Mapping[str, Any], where: str) -> None:
    """Raises DataError."""
    kind: type[FailedRow] = PricedRow if "price" in entry else PlayedRow
    if entry.get("failed") is not None:
        kind = FailedRow
    try:
        msgspec.convert(entry, kind)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}; cut it out, and it is played again") from error


def read_description(folder: Path) -> Description:
    """The folder's experiment.json. Raises DataError."""
    path = folder / EXPERIMENT_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Description)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{path} is not the description of a sweep: {error}") from error
    named = {name for chart in found.charts for name in (chart.along, chart.lines, chart.panels) if name}
    for name in sorted(named - found.axes.keys()):
        raise DataError(f"{path} is not the description of a sweep: a chart shows {name!r}, which is no axis")
    return found
