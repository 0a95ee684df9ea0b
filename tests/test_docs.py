"""The documents: every command, option, setting and message is in them, and every link leads somewhere."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from msgspec.structs import fields

from mdgan_edge import config, messages
from scripts import write_docs
from sim.invariants.names import INVARIANTS, SOMETIMES
from sim.scenario import values
from sim.scenario.distributions import KINDS
from sim.scenario.reading import shipped

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?: \"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]


def wire_name(kind: type) -> str:
    """ByeAck is BYE_ACK on the wire."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


def anchors(path: Path) -> set[str]:
    """What `#...` may name in a document: its headings, as the usual renderers spell them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[str]:
    for match in LINK.finditer(FENCE.sub("", path.read_text(encoding="utf-8"))):
        target = match[1] or match[2]
        if not re.match(r"[a-z]+:", target):
            yield target


def options(command: click.Command) -> set[str]:
    visible = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return {max(option.opts, key=len) for option in visible}


@pytest.mark.parametrize(("program", "module"), write_docs.COMMANDS.items())
def test_every_command_and_option_is_documented(program: str, module: str) -> None:
    text = read("docs/commands.md")
    main = importlib.import_module(module).main
    for name, command in write_docs.walk(program, main):
        section = re.search(rf"^## {re.escape(name)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section or f"`{name}" in read("README.md"), f"{name} is in neither docs/commands.md nor README.md"
        told = (section[1] if section else "") + read("README.md")
        assert {option for option in options(command) if option not in told} == set(), name


def test_every_setting_is_documented_with_its_default() -> None:
    text = read("docs/configuration.md")
    section = ""
    told = set()
    for line in text.splitlines():
        if heading := re.fullmatch(r"## (?:\[(\w+)\]|Top level)", line):
            section = f"{heading[1]}." if heading[1] else ""
        if row := re.match(r"\| `(\w+)` \| (.*?) \|", line):
            told.add((section + row[1], row[2]))
    wanted = {(key, write_docs.default_text(known.default)) for key, known in config.KEYS.items()}
    assert wanted - told == set()


def test_the_meaning_of_a_setting_is_its_comment_in_the_source() -> None:
    meanings = dict(write_docs.comments())
    assert meanings.keys() == config.KEYS.keys()
    assert meanings["training.quorum"].startswith("K:")
    assert "pixels" in meanings["model.image_size"]


def test_every_message_is_documented() -> None:
    text = read("docs/protocol.md")
    names = [wire_name(kind) for kind in get_args(messages.Message)]
    assert len(names) > 5
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_every_verdict_and_error_code_is_documented() -> None:
    text = read("docs/protocol.md")
    assert [one.value for one in [*messages.Verdict, *messages.ErrorCode] if one.value not in text] == []


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for path in documents():
        for target in links(path):
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


@pytest.mark.parametrize("name", ["commands.md", "configuration.md"])
def test_what_is_generated_is_up_to_date(name: str) -> None:
    path = DOCS / name
    told = path.read_text(encoding="utf-8") if path.exists() else ""
    assert told == write_docs.generated(path), "run: python -m scripts.write_docs"


def test_every_fault_key_invariant_counter_and_scenario_is_in_docs_simulation() -> None:
    text = read("docs/simulation.md")
    assert [name for name, says in INVARIANTS.items() if f"| `{name}` | {says} |" not in text] == []
    words = [*SOMETIMES, *shipped(), *get_args(values.Behaviour)]
    for table in (values.LinkTerms, values.Device, values.Server, values.Churn, values.Expect, values.Heal):
        words += [field.encode_name for field in fields(table)]
    for kind in get_args(values.Fault):
        words += [str(kind.__struct_config__.tag), *(field.encode_name for field in fields(kind))]
    for kind in KINDS:
        words += [kind.dist, *(field.name for field in dataclasses.fields(kind))]
    assert [word for word in words if f"`{word}`" not in text and f"`{word} =" not in text] == []
