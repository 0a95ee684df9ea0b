"""What the three commands share: errors as one line and an exit code, common options, notes as lines for people."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from mdgan_edge.actors import Note
from mdgan_edge.config import explain, load_settings
from mdgan_edge.errors import ExitCode, OperatorError
from mdgan_edge.settings import Settings

# Variables that are no settings: of options, of the folder for what is kept between runs, of the tests.
RESERVED = ("MDGAN_CONFIG", "MDGAN_OUT", "MDGAN_STATE", "MDGAN_HUB_KEY", "MDGAN_CACHE", "MDGAN_TEST_DATA")

IMAGE_KEYS = {"resize": "model.image_size", "channels": "model.channels"}  # options that say what images to train on

TOLD = frozenset(
    {"listening", "started", "joined", "member", "welcomed", "leaving", "stopping", "no_scores", "shard"}
)  # notes for people, beside warnings

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Group):
    """A group whose operator errors become one line on stderr and their exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run; see click. A broken pipe downstream is nobody's error."""
        try:
            return super().main(*args, **extra)
        except OperatorError as error:
            click.echo(f"Error: {one_line(str(error))}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(ExitCode.OK)


def config_options(command: F) -> F:
    """--config and --set."""
    command = click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any key of docs/configuration.md."
    )(command)
    return click.option(
        "--config", "file", type=click.Path(path_type=Path), envvar="MDGAN_CONFIG", help="Settings as a TOML file."
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout and nothing else.")


def gather(
    file: Path | None, assignments: Sequence[str], flags: Mapping[str, object]
) -> tuple[Settings, frozenset[str]]:
    """The settings of this call, and the keys somebody has set; flags that are None were not given."""
    overrides = {**parse_assignments(assignments), **{key: value for key, value in flags.items() if value is not None}}
    settings = load_settings(file, os.environ, overrides, RESERVED)
    explained = explain(file, os.environ, overrides, RESERVED)
    return settings, frozenset(key for key, one in explained.items() if one.origin != "default")


def parse_assignments(assignments: Sequence[str]) -> dict[str, object]:
    """KEY=VALUE texts as a mapping."""
    pairs: dict[str, object] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--set {text!r}: write it as KEY=VALUE, such as --set training.quorum=0.25")
        pairs[key.strip()] = value.strip()
    return pairs


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON value on stdout."""
    click.echo(json.dumps(value, indent=2))


def tell(note: Note) -> None:
    """A note as a line on stderr, unless it is one of the many that only the journal wants."""
    if is_told(note):
        click.echo(note_line(note), err=True)


def is_told(note: Note) -> bool:
    """Whether a person wants to see this note."""
    return note.level == "warning" or note.what in TOLD


def note_line(note: Note) -> str:
    """`node: what (state): why`, with a mark if it is a warning."""
    what = str(note.facts["state"]) if note.what == "member" else note.what.replace("_", " ")
    who = f"{note.facts['node']} " if "node" in note.facts else ""
    why = f": {one_line(note.why)}" if note.why else ""
    return f"{'! ' if note.level == 'warning' else ''}{who}{what}{why}"


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
