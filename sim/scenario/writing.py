"""Writes a scenario as the file that reads back as the same value."""

from __future__ import annotations

from typing import Any

import msgspec
import tomli_w

from sim.scenario.distributions import Distribution
from sim.scenario.quantities import BitRate, ByteCount, Duration, Frequency
from sim.scenario.values import Scenario


def dump_scenario(scenario: Scenario) -> str:
    """TOML; what is as by default is left out."""
    tables = _table(scenario)
    for key, value in tables.pop("settings", {}).items():
        section, _, name = key.rpartition(".")
        (tables.setdefault(section, {}) if section else tables)[name] = value
    return tomli_w.dumps(tables)


def whole_table(scenario: Scenario) -> dict[str, Any]:
    """Every value as a file would say it, those that are as by default too."""
    return _table(scenario, whole=True)


def _table(struct: msgspec.Struct, whole: bool = False) -> dict[str, Any]:
    table: dict[str, Any] = {}
    tag = struct.__struct_config__.tag
    if tag is not None:
        table["kind"] = tag
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        if whole or (value is not None and (field.required or value != _default(field))):
            table[field.encode_name] = _plain(value, whole)
    return table


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def _plain(value: Any, whole: bool = False) -> Any:
    match value:
        case Duration() | Frequency() | BitRate() | ByteCount():
            return value.text()
        case Distribution():
            return value.table()
        case msgspec.Struct():
            return _table(value, whole)
        case tuple() | list():
            return [_plain(one, whole) for one in value]
        case dict():
            return {key: _plain(one, whole) for key, one in value.items()}
        case _:
            return value
