"""Knows how what happened, and why, becomes one line of JSON: journal.jsonl and metrics.jsonl, and how to read them.

A line is {"t": seconds since the start, "at": UTC, "level", "what", "why", ...facts}; of a measure, {"t", "at", "what",
...values}. Writing never stops a run: a full disk is reported once and counted, a strange value is shown in words.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from mdgan_edge.actors import Measure, Note
from mdgan_edge.errors import DataError

DEPTH_MAX = 8
TEXT_MAX = 500  # characters of a value that is only shown, not stored


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Journal:
    """One file of JSON lines, appended to. `start_s` is the clock reading that counts as t = 0."""

    def __init__(self, path: Path, start_s: float = 0.0, wall: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self.lost = 0  # entries that could not be written
        self._start_s = start_s
        self._wall = wall
        try:
            self._torn = _ends_torn(path)
            self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror or error}") from error

    def note(self, note: Note, now_s: float) -> None:
        """Write what happened and why; `now_s` is on the clock of `start_s`."""
        self._write(now_s, {"level": note.level, "what": note.what, "why": note.why}, note.facts)

    def measure(self, measure: Measure, now_s: float) -> None:
        """Write one measurement; `now_s` is on the clock of `start_s`."""
        self._write(now_s, {"what": measure.what}, measure.values)

    def close(self) -> None:
        """Close the file; what comes later is counted as lost."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, now_s: float, head: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
        stamp = {"t": round(now_s - self._start_s, 6), "at": _iso(self._wall())}
        free = {_free_name(name, stamp.keys() | head.keys()): value for name, value in rest.items()}
        line = json.dumps(plain({**stamp, **head, **free}), separators=(",", ":")).encode() + b"\n"
        self._append(line)

    def _append(self, line: bytes) -> None:
        if self._file is None:
            self.lost += 1
            return
        whole = b"\n" + line if self._torn else line
        try:
            self._torn = os.write(self._file, whole) < len(whole)
            trouble = "the disk is full" if self._torn else ""
        except OSError as error:
            trouble = error.strerror or str(error)
        if trouble:
            self._lose(trouble)

    def _lose(self, trouble: str) -> None:
        self.lost += 1
        if self.lost == 1:
            print(f"mdgan: {self.path}: {trouble}; the run goes on, its journal has gaps", file=sys.stderr)


def read(path: Path) -> list[dict[str, Any]]:
    """Every whole entry of a journal, in order. A line torn by a crash or a full disk is passed over."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    entries = (_entry(line) for line in lines)
    return [entry for entry in entries if entry is not None]


def plain(value: object, depth: int = 0) -> Any:
    """The value as JSON can hold it: a number that is not finite becomes null, anything strange becomes a few words.

    Bytes and arrays are only described: a journal holds no sample, tensor or secret.
    """
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case Integral():
            return int(value) if abs(int(value)) < 1 << 64 else shown(value)
        case Real():
            return _number(value)
        case Mapping() | list() | tuple() | set() | frozenset() if depth < DEPTH_MAX:
            return _plain_many(value, depth + 1)
        case _ if getattr(value, "shape", None) == () and hasattr(value, "item") and depth < DEPTH_MAX:
            return plain(value.item(), depth + 1)  # an array of one number
        case _:
            return shown(value)


def shown(value: object) -> str:
    """A few words for a value JSON does not know."""
    kind = type(value).__name__
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{kind} {shape!r}>"
    try:
        return repr(value)[:TEXT_MAX]
    except Exception:  # noqa: BLE001  a foreign __repr__ may raise anything, and a journal must not stop a run
        return f"<{kind}>"


def _number(value: Real) -> Any:
    try:
        number = float(value)
    except OverflowError:  # a fraction may be larger than any float
        return shown(value)
    return number if math.isfinite(number) else None


def _plain_many(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else shown(name): plain(one, depth) for name, one in value.items()}
    items = sorted(value, key=shown) if isinstance(value, (set, frozenset)) else value
    return [plain(item, depth) for item in items]


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _free_name(name: object, taken: set[str]) -> str:
    """A fact called like a column of ours gets an underscore."""
    text = name if isinstance(name, str) else shown(name)
    return f"{text}_" if text in taken else text


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _ends_torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line: the process that wrote it was killed."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
