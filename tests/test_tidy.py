"""How our code reads, as tests: lengths, names, dead modules, purity of what decides, and what is never used."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mdgan_edge", "broker", "nodes", "sim")
ENTRY_POINTS = {"broker.cli", "nodes.cli", "sim.cli"}

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
BANNED_WORDS = {"manager", "managers", "helper", "helpers", "util", "utils"}
BANNED_NAMES = {"process_data"}

# What decides, and all it imports from us, takes time and chance as arguments and touches no socket.
CORES = (
    "broker.admission",
    "broker.adoptions",
    "broker.barrier",
    "broker.beginning",
    "broker.buffer",
    "broker.checkpoints",
    "broker.core",
    "broker.directory",
    "broker.entrance",
    "broker.evaluations",
    "broker.ending",
    "broker.farewell",
    "broker.greeting",
    "broker.left_behind",
    "broker.member",
    "broker.membership",
    "broker.pairing",
    "broker.ownership",
    "broker.report",
    "broker.schedule",
    "broker.shares",
    "broker.shelving",
    "broker.steprule",
    "broker.swaps",
    "broker.training",
    "broker.turned_away",
    "broker.whereabouts",
    "nodes.calls",
    "nodes.contact",
    "nodes.divergence",
    "nodes.exchange",
    "nodes.giving",
    "nodes.core",
    "nodes.greeting",
    "nodes.leaving",
    "nodes.saves",
    "nodes.swapping",
    "nodes.worklist",
    "sim.federated.alone",
    "sim.federated.client",
    "sim.federated.jobs",
    "sim.federated.members",
    "sim.federated.messages",
    "sim.federated.rules",
    "sim.federated.server",
)
IMPURE = {"asyncio", "numpy", "random", "socket", "threading", "time", "torch", "zmq"}

# Bytes from elsewhere are never turned into code.
UNSAFE_IMPORTS = {"cloudpickle", "dill", "marshal", "pickle", "shelve", "zmq.asyncio"}
UNSAFE_CALLS = {"torch.load", "os.system", "eval", "exec"}
UNSAFE_IMPORTS_ALLOWED = {  # "package/module.py": why it must
    "mdgan_edge/data/unpickling.py": "CIFAR-10 comes in pickles; it calls nothing that they name",
}

SLEEPS_ALLOWED: dict[str, str] = {}  # "tests/test_x.py": why nothing it could wait for exists

MACHINE_PATHS = re.compile(r"(?<![\w.~-])/(?:work|root)/")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".service", ".sh"}
TEXT_NAMES = {"Makefile", "run", "Dockerfile", "LICENSE"}
NOT_OURS = {".venv", ".git", "build", "dist", "runs", "node_modules"}


def walk_files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_dir() and path.name not in NOT_OURS and not path.name.endswith((".egg-info", "_cache", "__")):
            yield from walk_files(path)
        elif path.is_file():
            yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


FILES = list(walk_files(ROOT))
TEXTS = [path for path in FILES if path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES]
SOURCES = [path for path in FILES if path.suffix == ".py"]
TESTS = [path for path in SOURCES if relative(path).startswith("tests/")]
SHIPPED = [path for path in SOURCES if relative(path).split("/")[0] in PACKAGES]
MODULES = {module_name(path): path for path in SHIPPED}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def nodes_of(path: Path) -> Iterator[ast.AST]:
    return ast.walk(tree_of(path))


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The module `from ... import` reads from, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    package = module_name(path).split(".")
    base = package[: len(package) - node.level + (path.name == "__init__.py")]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports_of(path: Path) -> set[str]:
    """Every name that is imported, at any depth: "a.b" for `import a.b`; "a" and "a.b" for `from a import b`."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(path, node)
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return found


def named_modules_of(path: Path) -> set[str]:
    """Modules of ours that a string names, as "sim.swarm" or "sim.swarm:main" do for a late import."""
    strings = {node.value for node in nodes_of(path) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text.partition(":")[0] for text in strings} & MODULES.keys()


def defined_names(path: Path) -> Iterator[tuple[str, int]]:
    for node in nodes_of(path):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno


def words_of(name: str) -> set[str]:
    return {word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", part)}


def dotted(node: ast.expr) -> str:
    """ "a.b.c" for such an expression, otherwise nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def calls_of(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in nodes_of(path):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def places(paths: list[Path], faults: Callable[[Path], Iterator[str]]) -> list[str]:
    return [f"{relative(path)}:{fault}" for path in paths for fault in faults(path)]


def text_places(pattern: re.Pattern[str]) -> list[str]:
    def faults(path: Path) -> Iterator[str]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if pattern.search(line):
                yield f"{number}: {line.strip()}"

    return places([path for path in TEXTS if path != Path(__file__).resolve()], faults)


def test_the_tests_look_at_the_code() -> None:
    assert {module.split(".")[0] for module in MODULES} == set(PACKAGES)
    assert len(TESTS) > 1


def test_a_module_is_at_most_400_lines() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MODULE_LINES_MAX} == {}


def test_a_function_is_at_most_60_lines() -> None:
    def faults(path: Path) -> Iterator[str]:
        for node in nodes_of(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    yield f"{node.lineno}: {node.name} has {length} lines"

    assert places(SOURCES, faults) == []


def test_names_say_what_a_thing_is() -> None:
    def faults(path: Path) -> Iterator[str]:
        for name, line in [*defined_names(path), (path.stem, 1)]:
            if words_of(name) & BANNED_WORDS or name in BANNED_NAMES:
                yield f"{line}: {name}"

    assert places(SOURCES, faults) == []


def test_every_module_opens_with_a_sentence() -> None:
    def faults(path: Path) -> Iterator[str]:
        first = (ast.get_docstring(tree_of(path)) or "").split("\n\n")[0]
        if not re.search(r"[.:](\s|$)", first):
            yield f"1: {first!r}"

    assert places(SOURCES, faults) == []


def test_every_module_is_imported_or_an_entry_point() -> None:
    used = set(ENTRY_POINTS)
    for module, path in MODULES.items():
        used |= (imports_of(path) | named_modules_of(path)) - {module}
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    mains = {module for module in MODULES if module.endswith(".__main__")}
    assert sorted(MODULES.keys() - used - packages - mains) == []


def test_whatever_architecture_calls_pure_is_looked_at() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[\w/]+\.py\]\(([\w/]+)\.py\).*\(pure\)", text, re.MULTILINE)
    assert {path.replace("/", ".") for path in rows} == set(CORES)
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition('name = "what decides is pure"')[2]
    listed = set(re.findall(r'"((?:broker|nodes|sim)\.[\w.]+)"', contract.partition("forbidden_modules")[0]))
    assert set(CORES) <= listed


@pytest.mark.parametrize("core", CORES)
def test_what_decides_imports_nothing_impure_however_far_away(core: str) -> None:
    trails = {core: core}
    waiting = [core]
    while waiting:
        module = waiting.pop()
        for name in sorted(imports_of(MODULES[module])):
            trail = f"{trails[module]} -> {name}"
            assert name.split(".")[0] not in IMPURE, trail
            if name in MODULES and name not in trails:
                trails[name] = trail
                waiting.append(name)


def test_nothing_that_comes_from_elsewhere_is_unpickled_or_executed() -> None:
    def faults(path: Path) -> Iterator[str]:
        if relative(path) not in UNSAFE_IMPORTS_ALLOWED:
            yield from (f" imports {name}" for name in sorted(imports_of(path) & UNSAFE_IMPORTS))
        for name, call in calls_of(path):
            if name in UNSAFE_CALLS:
                yield f"{call.lineno}: {name}()"
            for keyword in call.keywords:
                if keyword.arg in {"shell", "allow_pickle"} and not is_false(keyword.value):
                    yield f"{call.lineno}: {keyword.arg}="

    assert places(SHIPPED, faults) == []


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_no_test_sleeps() -> None:
    def faults(path: Path) -> Iterator[str]:
        if relative(path) in SLEEPS_ALLOWED:
            return
        for name, call in calls_of(path):
            if name.split(".")[-1] == "sleep":
                yield f"{call.lineno}: {name}()"

    assert places(TESTS, faults) == []


def test_no_test_mocks() -> None:
    def faults(path: Path) -> Iterator[str]:
        yield from (f" imports {name}" for name in sorted(imports_of(path)) if name in {"mock", "unittest.mock"})
        yield from (f"{line}: mocker" for name, line in defined_names(path) if name == "mocker")
        yield from (f"{c.lineno}: {name}()" for name, c in calls_of(path) if name.endswith("monkeypatch.setattr"))

    assert places(TESTS, faults) == []


def test_every_exception_from_these_rules_is_still_needed() -> None:
    for path in UNSAFE_IMPORTS_ALLOWED:
        assert imports_of(ROOT / path) & UNSAFE_IMPORTS, path
    for path in SLEEPS_ALLOWED:
        assert any(name.split(".")[-1] == "sleep" for name, _ in calls_of(ROOT / path)), path


def test_nothing_is_left_to_be_done() -> None:
    assert text_places(UNFINISHED) == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert text_places(MACHINE_PATHS) == []
