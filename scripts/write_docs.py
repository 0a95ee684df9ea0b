"""Writes the generated parts of docs/: every command from its click help, every setting from settings.py.

Run `python -m scripts.write_docs` after a change of a command or a setting; tests/test_docs.py fails until you do.
"""

from __future__ import annotations

import ast
import importlib
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mdgan_edge import config

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"mdgan-sim": "sim.cli", "mdgan-hub": "broker.cli", "mdgan-node": "nodes.cli"}
SETTINGS_SOURCES = ("mdgan_edge/settings.py", "mdgan_edge/messages.py")
WIDTH = 100  # columns of the help text

COMMANDS_INTRO = "# Commands\n\nEvery command and option, as `--help` prints them.\n\n"
CONFIGURATION_INTRO = (
    "# Configuration\n\n"
    "Every setting may stand in a TOML file (`--config FILE`), in the environment (`training.quorum` is\n"
    "`MDGAN_TRAINING_QUORUM`) or in a flag. A flag wins over the environment, the environment over the file, the file\n"
    "over the default.\n\n"
)


def main() -> None:
    """Write every generated part and say which file changed."""
    for path in PARTS:
        text = generated(path)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if text != old:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


def generated(path: Path) -> str:
    """A file with a generated part as it ought to be. What is written by hand around the part stays."""
    part = PARTS[path]
    begin, end = f"<!-- generated: {part.name} by scripts/write_docs.py -->", f"<!-- end of generated: {part.name} -->"
    text = f"{begin}\n\n{part.write()}\n{end}"
    old = path.read_text(encoding="utf-8") if path.exists() else part.intro
    if begin in old and end in old:
        return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: text, old, flags=re.DOTALL)
    return f"{old.rstrip()}\n\n{text}\n"


def commands_text() -> str:
    """One section per command: its help."""
    sections = []
    for path, command in commands():
        context = click.Context(command, info_name=path, max_content_width=WIDTH, terminal_width=WIDTH)
        sections.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(sections)


def settings_text() -> str:
    """One table per section of the configuration file."""
    meanings = dict(comments())
    lines: list[str] = []
    section = None
    for key, known in config.KEYS.items():
        table, _, name = key.rpartition(".")
        if table != section:
            lines += ["", f"## [{table}]" if table else "## Top level", "", "| key | default | allowed | meaning |"]
            lines.append("|---|---|---|---|")
            section = table
        lines.append(
            f"| `{name}` | {default_text(known.default)} | {_cell(known.allowed)} | {_cell(meanings.get(key, ''))} |"
        )
    return "\n".join(lines).strip() + "\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that is not hidden, with its whole name: "mdgan-hub token create"."""
    for name, module in COMMANDS.items():
        main_command = importlib.import_module(module).main
        yield from walk(name, main_command)


def comments() -> Iterator[tuple[str, str]]:
    """The comment that trails each setting in its class, by dotted key."""
    by_class = {name: found for source in SETTINGS_SOURCES for name, found in _class_comments(ROOT / source).items()}
    sections = _sections()
    for key in config.KEYS:
        section, _, name = key.rpartition(".")
        if comment := by_class[sections[section]].get(name):
            yield key, comment


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and those beneath it, each with its whole name."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            if child is not None and not child.hidden:
                yield from walk(f"{name} {child_name}", child)


def _sections() -> dict[str, str]:
    """The class of each section: {"": "Settings", "training": "TrainingSettings", ...}."""
    tree = ast.parse((ROOT / SETTINGS_SOURCES[0]).read_text(encoding="utf-8"))
    whole = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    fields = [node for node in whole.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {"": "Settings"} | {
        field.target.id: ast.unparse(field.annotation) for field in fields if isinstance(field.target, ast.Name)
    }


def _class_comments(path: Path) -> dict[str, dict[str, str]]:
    """Per class: the comment on the last line of each annotated field."""
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    by_line = {token.start[0]: token.string.lstrip("# ") for token in tokens}
    classes = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return {
        node.name: {
            field.target.id: by_line[field.end_lineno or 0]
            for field in node.body
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.end_lineno in by_line
        }
        for node in classes
    }


def default_text(value: object) -> str:
    """A default as the table shows it."""
    return "left out" if value is None else f"`{config.toml_value(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True, slots=True)
class Part:
    """A generated part: its name, what writes it, and the text above it in a file that does not exist yet."""

    name: str
    write: Callable[[], str]
    intro: str


PARTS = {
    ROOT / "docs" / "configuration.md": Part("settings", settings_text, CONFIGURATION_INTRO),
    ROOT / "docs" / "commands.md": Part("commands", commands_text, COMMANDS_INTRO),
}


if __name__ == "__main__":
    main()
