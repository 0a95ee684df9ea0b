"""Reads the files that a scenario names: measured durations, and a record of who came and went. One event per line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from sim.scenario.quantities import Duration
from sim.scenario.values import Passage
from sim.scenario.words import near_miss

PASSAGES: tuple[str, ...] = get_args(Passage)


def with_durations(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A distribution's table with the file's durations, one per line, as its values. Raises ValueError."""
    if "values" in given:
        raise ValueError("a trace has either file or values")
    rest = {key: value for key, value in given.items() if key != "file"}
    return {**rest, "values": [line for _, line in _lines(given["file"], folder)]}


def read_churn(given: Mapping[str, Any], folder: Path) -> tuple[list[list[str]], list[str]]:
    """Events as a scenario writes them, from a file of `time, join|leave|crash, name`, and where each of them is.

    Empty lines and what follows a # mean nothing. Raises ValueError that names the file and the line.
    """
    if set(given) != {"file"}:
        raise ValueError('write it as {file = "trace.csv"}, or as a list of events such as ["12.5s", "join", "x1"]')
    events: list[list[str]] = []
    places: list[str] = []
    for number, line in _lines(given["file"], folder):
        event = [part.strip() for part in line.partition("#")[0].split(",")]
        if event == [""]:
            continue
        place = f"{given['file']}, line {number}"
        if trouble := _trouble(event):
            raise ValueError(f"{place}: {trouble}")
        events.append(event)
        places.append(place)
    return events, places


def _trouble(event: list[str]) -> str | None:
    if len(event) != 3:
        return f"write a time, one of {', '.join(PASSAGES)}, and a node's name: 12.5s, join, x1"
    try:
        Duration.parse(event[0])
    except ValueError as error:
        return str(error)
    return None if event[1] in PASSAGES else f"there is no {event[1]!r}: {near_miss(event[1], PASSAGES)}"


def _lines(name: Any, folder: Path) -> Iterator[tuple[int, str]]:
    """Numbered; without those that are empty."""
    if not isinstance(name, str):
        raise ValueError(f"file = {name!r} must be text")
    try:
        lines = (folder / name).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ValueError(f"cannot read the trace {name}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read the trace {name}: it is not UTF-8 text") from error
    yield from ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
