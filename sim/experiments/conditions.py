"""Everything that determines what a cell's run comes to, as names and values, and whether an older result still holds.

A result keeps the conditions it was made under. It holds as long as none of them has another value now; a condition
that is new since (a setting that a later version of the program has) must be as it is by default. Where images lie is
no condition: what they are is one, as a digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mdgan_edge.config import flatten
from mdgan_edge.data.sources import parse_source
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.settings import Settings
from sim.experiments.values import Cell
from sim.play import Plan, plan_run
from sim.scenario.quantities import Duration
from sim.scenario.values import S, Scenario
from sim.scenario.writing import whole_table

REVISION = 1  # of what a row says: another one makes all rows old
NOT_ASKED = ("name", "about", "settings")  # of a scenario's table: words, and what `flatten` says better
PLACES = frozenset({"swarm.data", "hub.data"})  # settings that say where images lie; older results hold them
SOURCES_KEPT = 16  # digests that are not computed anew while the files are as they were
PRICES = frozenset(
    {"federated.epochs"}
    | {f"training.{name}" for name in ("batch_size", "batches_per_version", "discriminator_steps", "steps", "swap")}
)  # settings that a price depends on, beside those of the model
PRICED_SECTION = "model."
CHUNK = 1 << 20  # bytes read at a time

Conditions = Mapping[str, Any]
Digest = Callable[[str], str]  # of a source's text
Seen = tuple[tuple[str, int, int], ...]  # of each file: its name within the source, bytes, time of last change (ns)


def plan_cell(cell: Cell) -> Plan:
    """What is to be played or priced. Raises ConfigurationError."""
    plan = plan_run(cell.scenario, cell.seed, None, cell.assignments, cell.text)
    if cell.priced is not None:
        for name in sorted(plan.explicit):
            if name not in PRICES and not name.startswith(PRICED_SECTION):
                raise ConfigurationError(f"{cell.text}: {name} plays no part in what training costs: leave it out")
    return plan


def conditions_of(plan: Plan, cell: Cell, digest: Digest | None = None) -> dict[str, Any]:
    """By dotted name: the compiled scenario, all settings, the content of the data. Raises DataError."""
    digest = digest or digest_of
    whole = {**_flat(_asked(plan.scenario), ""), **flatten(plan.settings)}
    whole = {name: value for name, value in whole.items() if name not in PLACES}
    nothing = {name for name, default in _defaults().items() if default is None}
    found = {"revision": REVISION} | {n: value for n, value in whole.items() if value is not None or n not in nothing}
    if cell.priced is not None:
        found |= {"priced.images": cell.priced.images, "priced.processes": cell.priced.processes}
    elif plan.scenario.fidelity == "full":
        found |= {"images": digest(plan.settings.swarm.data), "real": digest(plan.settings.hub.data)}
    return found


def key_of(conditions: Conditions) -> str:
    """A short name of these conditions: 16 hex digits."""
    text = json.dumps(conditions, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def holds(old: Conditions, now: Conditions) -> bool:
    """Whether what was made under the old conditions would come out the same now."""
    if any(name not in now or now[name] != value for name, value in old.items() if name not in PLACES):
        return False
    default = _defaults()
    return all(name in default and default[name] == now[name] for name in now.keys() - old.keys())


@lru_cache
def _defaults() -> Mapping[str, Any]:
    bare = Scenario(name="", duration=Duration(S), nodes=1)
    return {**_flat(_asked(bare), ""), **flatten(Settings())}


def _asked(scenario: Scenario) -> dict[str, Any]:
    table = {name: value for name, value in whole_table(scenario).items() if name not in NOT_ASKED}
    return table | {"fault": [json.dumps(one, sort_keys=True) for one in table["fault"]]}


def _flat(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, dict) and "dist" not in value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def digest_of(source: str) -> str:
    """Of the images' content as it is now, wherever they lie: `npz:a` and `npz:b` are the same if the files are.

    Files are read again when their size or time of change is another one. Raises DataError or ConfigurationError.
    """
    if source == "none":
        return source
    said = parse_source(source)
    try:
        seen = _seen(said.path)
        if not seen:
            raise ConfigurationError(f"{source}: there is nothing")
        return _content(said.kind if said.attribute is None else f"{said.kind},{said.attribute}", said.path, seen)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error})") from error


def _seen(path: Path) -> Seen:
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    facts = [(file, file.stat()) for file in files]
    return tuple((str(file.relative_to(path)) if file != path else "", f.st_size, f.st_mtime_ns) for file, f in facts)


@lru_cache(SOURCES_KEPT)
def _content(kind: str, path: Path, seen: Seen) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, _, _ in seen:
        digest.update(f"{kind} {name}\n".encode())
        with (path / name if name else path).open("rb") as bytes_of:
            while chunk := bytes_of.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
