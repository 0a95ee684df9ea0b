"""The wheel: it holds what it must, and installed alone in a fresh environment its commands start anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import mdgan_edge

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mdgan_edge", "broker", "nodes", "sim")
COMMANDS = ("mdgan-hub", "mdgan-node", "mdgan-sim")
TIMEOUT_S = 60

# Everything happens beside the checkout: no index, no network, and nothing written into the source tree.
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def output(*command: object, cwd: Path) -> str:
    """What a command prints; what went wrong if it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{command} in {cwd} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "tests").mkdir()
    for name in ("tests/test_packaging.py", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    output(*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "-w", built, source, cwd=built)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of commands of a fresh environment: the wheel is its own, what the wheel needs is borrowed."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / "python"
    output(*PIP, "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=home)
    own = Path(output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return scripts


def test_the_wheel_holds_the_packages_and_the_digits_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name == f"mdgan_edge-{mdgan_edge.__version__}-py3-none-any.whl"
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"mdgan_edge-{mdgan_edge.__version__}.dist-info"}
    assert {"mdgan_edge/data/digits.npz", "mdgan_edge/data/DIGITS.md", "mdgan_edge/py.typed"} <= set(names)
    assert any(name.endswith("/LICENSE") for name in names)


def test_the_metadata_names_what_is_needed_and_warns_of_the_names(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    text = archive.read(name).decode()
    for line in ("Name: mdgan-edge", "Requires-Python: >=3.11", "Requires-Dist: torch>=", "Provides-Extra: dev"):
        assert line in text
    assert "environment of its own" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_starts_in_any_directory(environment: Path, tmp_path: Path, command: str) -> None:
    assert f"Usage: {command}" in output(environment / command, "--help", cwd=tmp_path)


def test_the_installed_code_is_that_of_the_wheel_and_finds_its_digits(environment: Path, tmp_path: Path) -> None:
    ask = (
        "import importlib.resources as r, mdgan_edge, broker, nodes, sim;"
        "print(*(m.__file__ for m in (mdgan_edge, broker, nodes, sim)), sep='\\n');"
        "print(len(r.files('mdgan_edge.data').joinpath('digits.npz').read_bytes()))"
    )
    *places, size = output(environment / "python", "-c", ask, cwd=tmp_path).split()
    assert {Path(place).is_relative_to(environment.parent) for place in places} == {True}
    assert int(size) > 100_000
