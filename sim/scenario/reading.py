"""Reads a scenario file: TOML in, frozen values out, or one line saying what is wrong, where, and what is allowed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from mdgan_edge.config import settings_from
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.settings import Settings
from sim.scenario.checking import contradiction, in_the_file
from sim.scenario.distributions import Distribution, parse_distribution
from sim.scenario.quantities import BitRate, ByteCount, Duration, Frequency
from sim.scenario.traces import read_churn, with_durations
from sim.scenario.values import Fault, Scenario
from sim.scenario.words import near_miss

SHIPPED = Path(__file__).parent / "shipped"
QUANTITIES = (Duration, Frequency, BitRate, ByteCount)
SECTIONS = ("training", "hub", "model", "node", "swarm", "federated")  # of the hub's and the nodes' configuration
FAULTS: Mapping[str, Any] = {str(kind.__struct_config__.tag): kind for kind in get_args(Fault)}


def shipped() -> list[str]:
    """The names of the scenarios that come with us."""
    return sorted(file.stem for file in SHIPPED.glob("*.toml"))


def find_scenario(name: str) -> Scenario:
    """One of ours by its name, or a file."""
    return read_scenario(find_scenario_file(name))


def find_scenario_file(name: str) -> Path:
    """The file of one of ours by its name, or the file of that name."""
    if name in shipped():
        return SHIPPED / f"{name}.toml"
    if Path(name).exists():
        return Path(name)
    advice = near_miss(name, shipped(), "`mdgan-sim scenarios` lists those there are")
    raise ConfigurationError(f"{name!r} is neither a file nor a scenario: {advice}")


def read_scenario(file: Path, origin: str | None = None) -> Scenario:
    """Read a file; `origin` is what errors call it. Raises ConfigurationError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"cannot read the scenario {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"the scenario {file} is not UTF-8 text") from error
    return parse_scenario(text, origin or file.name, file.parent)


def parse_scenario(text: str, origin: str, folder: Path = Path()) -> Scenario:
    """Read a text; `origin` is what errors call it, and files it names are found from `folder`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin} is not valid TOML: {_one_line(error)}") from error
    return scenario_from(tables, origin, folder)


def scenario_from(tables: Mapping[str, Any], origin: str, folder: Path = Path()) -> Scenario:
    """The same of tables that are read already."""
    settings = _settings(tables, origin)
    rest = {key: value for key, value in tables.items() if key not in SECTIONS and key != "mode"}
    if "settings" in rest:
        raise ConfigurationError(f"{origin}: unknown key 'settings': write [training], [hub] and the like")
    for where, trouble in _unknown_keys(rest, Scenario, ""):
        raise ConfigurationError(f"{origin}: {where}{trouble}")
    rest, place = _with_churn(rest, origin, folder)

    def decode(kind: type, given: Any) -> Any:
        return _decode(kind, given, folder)

    try:
        scenario = msgspec.convert(rest | {"settings": settings}, Scenario, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{origin}: {_in_words(error, rest)}") from error
    settings_from(settings, origin)
    if found := contradiction(scenario, place):
        raise ConfigurationError(f"{origin}: {found}")
    return scenario


def settings_of(scenario: Scenario, more: Mapping[str, object] = MappingProxyType({})) -> Settings:
    """The hub's and the nodes' settings, `more` on top; training.seed is the scenario's seed unless set."""
    return settings_from({"training.seed": scenario.seed, **scenario.settings, **more}, f"scenario {scenario.name}")


# --- inside -----------------------------------------------------------------------------------------------------------


def _settings(tables: Mapping[str, Any], origin: str) -> dict[str, Any]:
    found: dict[str, Any] = {"mode": tables["mode"]} if "mode" in tables else {}
    for section in SECTIONS:
        values = tables.get(section, {})
        if not isinstance(values, dict):
            raise ConfigurationError(f"{origin}: '{section}' must be a table: write [{section}] and its keys below it")
        found |= {f"{section}.{name}": value for name, value in values.items()}
    return found


def _decode(kind: Any, given: Any, folder: Path) -> Any:
    if kind in QUANTITIES:
        return kind.parse(given)
    assert kind is Distribution
    if isinstance(given, dict) and given.get("dist") == "trace" and "file" in given:
        given = with_durations(given, folder)
    return parse_distribution(given)


def _with_churn(tables: dict[str, Any], origin: str, folder: Path) -> tuple[dict[str, Any], Callable[[int], str]]:
    """The tables with the events of churn's trace in place of its file, and what errors call each event."""
    churn = tables.get("churn")
    if not isinstance(churn, dict) or not isinstance(churn.get("trace"), dict):
        return tables, in_the_file
    try:
        events, places = read_churn(churn["trace"], folder)
    except ValueError as error:
        raise ConfigurationError(f"{origin}: churn.trace: {_one_line(error)}") from error
    return {**tables, "churn": {**churn, "trace": events}}, lambda index: f"churn.trace: {places[index]}"


def _unknown_keys(value: Any, kind: Any, where: str) -> Iterator[tuple[str, str]]:
    """Keys that no table of this kind has, before msgspec words it less well."""
    if isinstance(value, list):
        for number, one in enumerate(value, start=1):
            inner = _fault_kind(one) if where == "fault" else None
            if isinstance(one, dict) and where == "fault":
                yield from _fault_trouble(one, number, inner)
            elif where == "fault":
                yield f"fault {number}: ", "a fault is a table: write [[fault]] and its keys below it"
        return
    if where == "fault":
        yield "fault: ", "there may be many, so each is headed by [[fault]], in double brackets"
    struct = _struct_in(kind)
    if not isinstance(value, dict) or struct is None:
        return
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    names = [name for name in fields if name != "settings"] + ([*SECTIONS, "mode"] if struct is Scenario else [])
    for name, inner in value.items():
        if name not in fields:
            place = f" in {where}" if where else ""
            yield "", f"unknown key '{name}'{place}: {near_miss(name, sorted(names))}"
        else:
            yield from _unknown_keys(inner, fields[name], f"{where}.{name}" if where else name)


def _fault_kind(table: Any) -> Any:
    return FAULTS.get(str(table.get("kind"))) if isinstance(table, dict) else None


def _fault_trouble(table: dict[str, Any], number: int, struct: Any) -> Iterator[tuple[str, str]]:
    if "kind" not in table:
        yield f"fault {number}: ", f"no kind is given: there are {', '.join(sorted(FAULTS))}"
    elif struct is None:
        yield f"fault {number}: ", f"unknown kind {table['kind']!r}: {near_miss(str(table['kind']), sorted(FAULTS))}"
    else:
        rest = {name: value for name, value in table.items() if name != "kind"}
        yield from _unknown_keys(rest, struct, f"fault {number} ({table['kind']})")


def _struct_in(kind: Any) -> Any:
    """The struct that a field's type is, or holds beside None."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) in (Union, type(int | None)):
        return next((found for one in get_args(kind) if (found := _struct_in(one)) is not None), None)
    return None


_PLACE = re.compile(r"^(.*?) - at `\$\.?(.*?)`$", re.DOTALL)
_FAULT = re.compile(r"^fault\[(\d+)\]\.?")
_NO_WHOLE_NUMBER = re.compile(r"Expected `int.*`, got `float`")
_EVENT = re.compile(r"^churn\.trace\[(\d+)\]")


def _in_words(error: Exception, tables: Mapping[str, Any]) -> str:
    match = _PLACE.match(str(error))
    if match is None:
        return _one_line(_plainly(str(error)))
    what, place = match[1], match[2]
    fault = _FAULT.match(place)
    if fault is not None:
        index = int(fault[1])
        kind = tables["fault"][index].get("kind")
        place = f"fault {index + 1} ({kind}) {place[fault.end() :]}".strip()
    elif event := _EVENT.match(place):
        place = in_the_file(int(event[1]))
    if _NO_WHOLE_NUMBER.fullmatch(what):
        what = what.replace("`float`", str(_value_at(match[2], tables)))
    what = _plainly(what) + _allowed(what, _type_at(match[2], tables))
    return _one_line(f"{place}: {what[:1].lower()}{what[1:]}" if place else what)


WORDS = {
    "float": "a number",
    "int": "a whole number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "date": "a date",
    "time": "a time of day",
    "datetime": "a date",
}
_TYPES = re.compile(rf"`((?:{'|'.join([*WORDS, 'null'])})(?: \| (?:{'|'.join([*WORDS, 'null'])}))*)`")


def _plainly(what: str) -> str:
    """As somebody says it who knows TOML and not JSON."""
    what = re.sub(r"^Object missing required field (`.*?`)", r"\1 is missing", what)
    what = what.replace("Invalid enum value", "there is no")
    what = _TYPES.sub(lambda found: _either(found[1].split(" | ")), what)
    return re.sub(r"^Expected (.*?)(, got .*)?$", r"it must be \1\2", what)


def _either(types: list[str]) -> str:
    words = " or ".join(WORDS[one] for one in types if one != "null")  # what may be nothing can be left out
    return words.replace("true or false or", "true, false or")


def _allowed(what: str, kind: Any) -> str:
    """For a word that is none of those allowed: which are, and the one most like it."""
    if not what.startswith("Invalid enum value"):
        return ""
    _, word, _ = what.split("'")
    return f": {near_miss(word, _words_of(kind))}"


def _words_of(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if kind is bool:
        return ["true", "false"]
    return [word for one in get_args(kind) for word in _words_of(one)]


def _type_at(place: str, tables: Mapping[str, Any]) -> Any:
    """The type of the field that a place such as fault[2].how names."""
    fault = _FAULT.match(place)
    kind = Scenario if fault is None else _fault_kind(tables["fault"][int(fault[1])])
    for name in re.sub(r"\[\d+\]", "", place[fault.end() :] if fault else place).split("."):
        struct = _struct_in(kind)
        fields = {} if struct is None else {one.encode_name: one.type for one in msgspec.structs.fields(struct)}
        kind = fields.get(name)
    return kind


def _value_at(place: str, tables: Any) -> Any:
    """What stands at a place such as fault[2].count."""
    for part in re.findall(r"[^.\[\]]+", place):
        tables = tables[int(part) if isinstance(tables, list) else part]
    return tables


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
