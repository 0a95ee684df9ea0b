"""Knows how a TOML file, MDGAN_* variables and flags become one frozen Settings, and what to say when they cannot.

Precedence: flag > environment > file > mode = "sync" > default. Keys are dotted, as in "training.quorum".
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.settings import EXACT_REDUCTION, Settings

PREFIX = "MDGAN_"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its type, its default, and what is allowed in plain words."""

    type: Any
    default: object
    allowed: str


@dataclass(frozen=True, slots=True)
class Explained:
    """The value a setting has, and where it came from: default, mode = "sync", a file, a variable or a flag."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as somebody wrote it, not yet checked. Text from outside a file may be any TOML value or bare words."""

    value: object
    origin: str
    is_text: bool = False


def load_settings(
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    reserved: Collection[str] = (),
) -> Settings:
    """The settings of this process, or a ConfigurationError that names key, value, origin and what is allowed.

    `overrides` are the flags, by dotted key: a string is read as a TOML value (bare words are strings), anything else
    is taken as it is, None means the flag was not given. `reserved` are MDGAN_* variables that are no settings. A
    variable that is empty counts as not set.
    """
    return _build(explain(file, environ, overrides, reserved))


def explain(
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    reserved: Collection[str] = (),
) -> dict[str, Explained]:
    """Every setting in the order of settings.py, with its value and its origin; the arguments of load_settings."""
    layers = (_from_file(file), _from_environment(environ, reserved), _from_flags(overrides))
    chosen: dict[str, Explained] = {}
    for layer in layers:  # each is checked whole: a broken file is no better for a flag that hides the break
        chosen |= {key: Explained(_checked(key, one), one.origin) for key, one in layer.items()}
    return _completed(chosen)


def settings_from(values: Mapping[str, object], origin: str) -> Settings:
    """The settings that these dotted keys make, over the defaults. A text counts as a flag's would."""
    for key in values:
        _refuse_unknown(key, origin)
    given = {key: _Given(value, origin, is_text=isinstance(value, str)) for key, value in values.items()}
    return _build(_completed({key: Explained(_checked(key, one), one.origin) for key, one in given.items()}))


def flatten(settings: Settings) -> dict[str, object]:
    """Every setting by its dotted key, in the order of settings.py."""
    return dict(_leaves(settings, ""))


def dump_toml(settings: Settings) -> str:
    """The settings as a TOML file that load_settings reads back as the same value; None is left out."""
    lines: list[str] = []
    section = ""
    for key, value in flatten(settings).items():
        table, _, name = key.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        if value is not None:
            lines.append(f"{name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """One value as TOML: a boolean, a number or a string."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            raise AssertionError(value)


# --- what there is to set -------------------------------------------------------------------------------------------


def _keys(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, Key]]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _keys(field.type, f"{prefix}{field.name}.")
        else:
            allowed = _in_words(inspect.type_info(field.type))
            yield prefix + field.name, Key(field.type, field.default, allowed)


def _leaves(struct: msgspec.Struct, prefix: str) -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _in_words(kind: inspect.Type) -> str:
    match kind:
        case inspect.UnionType(types=types):
            words = [_in_words(one) for one in types if not isinstance(one, inspect.NoneType)]
            return _either(words) + (", or left out" if kind.includes_none else "")
        case inspect.LiteralType(values=values):
            return _either([toml_value(value) for value in values])
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.StrType():
            return "text"
        case _:
            raise AssertionError(kind)


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    bounds = ((">=", kind.ge), (">", kind.gt), ("<=", kind.le), ("<", kind.lt))
    said = ((sign, bound if isinstance(bound, int) else f"{bound:g}") for sign, bound in bounds if bound is not None)
    return "".join(f" {sign} {bound}" for sign, bound in said).replace(" <", " and <")


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


KEYS: dict[str, Key] = dict(_keys(Settings, ""))
SECTIONS = frozenset(key.partition(".")[0] for key in KEYS if "." in key)
VARIABLES = {PREFIX + key.replace(".", "_").upper(): key for key in KEYS}


# --- what was given -------------------------------------------------------------------------------------------------


def _from_file(file: Path | None) -> dict[str, _Given]:
    if file is None:
        return {}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{file} is not UTF-8 text (at line {line})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    return {key: _Given(value, str(file)) for key, value in _flat(tables, "", str(file))}


def _flat(tables: Mapping[str, object], prefix: str, origin: str) -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        key = prefix + name
        if isinstance(value, dict) and (key in SECTIONS or (value and key not in KEYS)):
            yield from _flat(value, f"{key}.", origin)
        else:
            _refuse_unknown(key, origin)
            yield key, value


def _from_environment(environ: Mapping[str, str], reserved: Collection[str]) -> dict[str, _Given]:
    given = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in reserved or not text:
            continue
        if name not in VARIABLES:
            raise ConfigurationError(_unknown("variable", name, "the environment", _near_variable(name, reserved)))
        given[VARIABLES[name]] = _Given(text, f"environment {name}", is_text=True)
    return given


def _from_flags(overrides: Mapping[str, object]) -> dict[str, _Given]:
    given = {}
    for key, value in overrides.items():
        _refuse_unknown(key, "a flag")
        if value is not None:
            given[key] = _Given(value, "flag", is_text=isinstance(value, str))
    return given


def _checked(key: str, given: _Given) -> object:
    """The value in the type of its key. Text is tried as a TOML value first, then as it stands."""
    tries = [_parsed(str(given.value)), given.value] if given.is_text else [given.value]
    for value in tries:
        try:
            checked: object = msgspec.convert(value, KEYS[key].type)
        except msgspec.ValidationError:
            continue
        if not isinstance(checked, float) or math.isfinite(checked):
            return checked
    raise ConfigurationError(f"{key} = {_shown(given.value)} ({given.origin}) is not allowed: {KEYS[key].allowed}")


def _parsed(text: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _shown(value: object) -> str:
    match value:
        case bool() | int() | float() | str():
            return toml_value(value)
        case dict():
            return "a table"
        case _:
            return repr(value)


def _completed(chosen: dict[str, Explained]) -> dict[str, Explained]:
    """Every setting: what was chosen, what the mode means, and defaults."""
    chosen = _exact_reduction(chosen) | chosen
    explained = {key: chosen.get(key, Explained(known.default, DEFAULT)) for key, known in KEYS.items()}
    _refuse_contradictions(explained)
    return explained


# --- what does not fit together ---------------------------------------------------------------------------------------


def _exact_reduction(chosen: Mapping[str, Explained]) -> dict[str, Explained]:
    """What mode = "sync" lays beneath the chosen values; an explicit value that differs from it is an error."""
    mode = chosen.get("mode")
    if mode is None or mode.value != "sync":
        return {}
    preset = {f"training.{name}": Explained(value, 'mode = "sync"') for name, value in EXACT_REDUCTION.items()}
    for key, wanted in preset.items():
        found = chosen.get(key)
        if found is not None and found.value != wanted.value:
            raise ConfigurationError(
                f'{key} = {_shown(found.value)} ({found.origin}) contradicts mode = "sync" ({mode.origin}), '
                f'which means {_shown(wanted.value)}: leave it out, or set mode = "async"'
            )
    return preset


def _refuse_contradictions(explained: Mapping[str, Explained]) -> None:
    def named(key: str) -> str:
        return f"{key} = {_shown(explained[key].value)} ({explained[key].origin})"

    settings = _build(explained)
    training, hub = settings.training, settings.hub
    if isinstance(training.quorum, int) and training.quorum_min > training.quorum:
        raise ConfigurationError(
            f"{named('training.quorum_min')} exceeds {named('training.quorum')}: a step that has waited too long "
            "may need fewer feedbacks than an ordinary one, never more"
        )
    if hub.heartbeat_s >= hub.lease_s:
        raise ConfigurationError(
            f"{named('hub.lease_s')} must exceed {named('hub.heartbeat_s')}: an idle hub and node hear of each other "
            "no more often than that"
        )
    if hub.heartbeat_s * hub.suspect_after_missed >= hub.death_timeout_s:
        raise ConfigurationError(
            f"{named('hub.death_timeout_s')} must exceed {named('hub.heartbeat_s')} times "
            f"{named('hub.suspect_after_missed')}: a node is suspected before it is given up"
        )


def _build(explained: Mapping[str, Explained]) -> Settings:
    nested: dict[str, Any] = {section: {} for section in SECTIONS}
    for key, one in explained.items():
        section, _, name = key.rpartition(".")
        (nested[section] if section else nested)[name] = one.value
    return msgspec.convert(nested, Settings)


# --- near misses ----------------------------------------------------------------------------------------------------


def _refuse_unknown(key: str, origin: str) -> None:
    if key in SECTIONS:
        raise ConfigurationError(f"{key} in {origin} is a section, not a value: set one of its keys, {key}.<name>")
    if key not in KEYS:
        raise ConfigurationError(_unknown("key", key, origin, _near(key)))


def _unknown(what: str, name: str, origin: str, near: str | None) -> str:
    advice = f"did you mean '{near}'?" if near else "docs/configuration.md lists them all"
    return f"unknown {what} '{name}' in {origin}: {advice}"


def _near(key: str) -> str | None:
    """The key most like this one, judged by what follows the section: a shared section makes nothing alike."""
    section, _, rest = key.partition(".") if "." in key else ("", "", key)
    name = rest.replace(".", "_")  # staleness.max is meant to be staleness_max
    inside = {known.rpartition(".")[2]: known for known in KEYS if known.rpartition(".")[0] == section}
    anywhere = {known.rpartition(".")[2]: known for known in KEYS}
    for names in (inside, anywhere):
        if found := difflib.get_close_matches(name, names, n=1):
            return names[found[0]]
    found = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.75)
    return found[0] if found and section not in SECTIONS else None


def _near_variable(name: str, reserved: Collection[str]) -> str | None:
    if found := difflib.get_close_matches(name, [*VARIABLES, *reserved], n=1, cutoff=0.8):
        return found[0]
    near = _near(name.removeprefix(PREFIX).lower())
    return PREFIX + near.replace(".", "_").upper() if near else None
