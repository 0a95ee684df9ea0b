"""One seed, one run: the same to the last event in any process, and a run that is not the same is found out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from mdgan_edge.errors import ExitCode, Failed, SelfCheckFailed
from sim.cli import main
from sim.determinism import check_determinism, first_difference
from sim.play import plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario, shipped
from sim.scenario.values import S, Scenario
from sim.scenario.writing import dump_scenario

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20  # of each scenario: most of what it has to offer has happened by then
SECONDS_ELSE = 5  # where it is only to be seen that another seed is another run
PATIENCE_S = 120

# A world whose chance hangs on the hash of a text, as the order of a set of texts does.
LEAK = "import sim.chance as chance; true = chance.draw; chance.draw = lambda key, n: true(key, n + hash('a') % 1000)"


def first_seconds(name: str, seed: int, seconds: int) -> Scenario:
    """A named scenario as far as it goes in so many seconds."""
    scenario = plan_run(find_scenario(name), seed).scenario
    end = Duration(min(int(scenario.duration), seconds * S))
    kept = tuple(fault for fault in scenario.fault if int(fault.at or 0) < end)
    return replace(scenario, duration=end, heal=None, fault=kept)


def digests(seed: int, seconds: int, names: Sequence[str]) -> dict[str, str]:
    """What the named scenarios come to, played in this order."""
    return {name: play(plan_run(first_seconds(name, seed, seconds))).digest for name in names}


def digests_elsewhere(hash_seed: str, seconds: int, names: Sequence[str]) -> dict[str, str]:
    """The same in a process of its own."""
    code = f"import json; from tests.test_determinism import *; print(json.dumps(digests(0, {seconds}, {names!r})))"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["run", *words])


@pytest.fixture
def leaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python started from now on has the leak."""
    (tmp_path / "sitecustomize.py").write_text(LEAK, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")


def test_every_named_scenario_is_the_same_in_two_processes_with_different_hash_seeds() -> None:
    first = digests_elsewhere("0", SECONDS, shipped())
    assert digests_elsewhere("987654321", SECONDS, shipped()) == first
    assert list(first) == shipped()


def test_another_seed_is_another_run_of_every_named_scenario() -> None:
    one, other = (digests(seed, SECONDS_ELSE, shipped()) for seed in (0, 1))
    assert [name for name in shipped() if one[name] == other[name]] == []


def test_a_run_does_not_hang_on_what_was_played_before_it_in_the_same_process() -> None:
    thin = ["everything", "asymmetric-uplink", "wan", "mobile"]  # their lines are: a byte more or less is seen
    backwards = digests_elsewhere("0", SECONDS_ELSE, thin[::-1])
    assert digests_elsewhere("0", SECONDS_ELSE, thin) == backwards


def test_the_command_says_the_digest_that_both_runs_had() -> None:
    done = run("calm", "--set", "training.steps=10", "--check-determinism")
    digest = play(plan_run(find_scenario("calm"), assignments={"training.steps": "10"})).digest
    assert (done.exit_code, done.output) == (0, f"both runs have digest {digest}\n")


def test_the_command_says_it_in_json_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("calm", "--set", "training.steps=2", "--seed", "3", "--check-determinism", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["equal"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("leaking")
def test_a_world_that_hangs_on_the_hash_seed_is_caught_and_the_first_difference_is_named() -> None:
    done = run("calm", "--set", "training.steps=2", "--check-determinism")
    assert (done.exit_code, done.stdout) == (70, "")
    named = re.fullmatch(r"Error: two runs of one seed differ: line (\d+): '(.*)' or '(.*)'\n", done.stderr)
    assert named is not None, done.stderr
    assert int(named[1]) <= 5, "nodes start at a moment that is drawn, so the first lines differ already"
    assert named[2] != named[3]
    assert all(re.fullmatch(r"\d+ n\d tick", line) for line in named.groups()[1:])


def test_a_run_that_breaks_off_is_said_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no world today')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(SelfCheckFailed, match=r"^a run of the determinism check failed: .*no world today$"):
        check_determinism(first_seconds("calm", 0, 1))


def test_what_the_operator_can_mend_keeps_its_words_and_its_exit_code(tmp_path: Path) -> None:
    scenario = replace(first_seconds("calm", 0, 1), fidelity="toy", settings={"swarm.shards": "labels=99"})
    with pytest.raises(Failed, match=r"^labels=99: the data has only 8 classes") as raised:
        check_determinism(scenario)
    assert raised.value.exit_code == ExitCode.CONFIGURATION
    (tmp_path / "x.toml").write_text(dump_scenario(scenario), encoding="utf-8")
    done = run(str(tmp_path / "x.toml"), "--check-determinism")
    assert (done.exit_code, done.stdout) == (78, "")
    assert done.stderr.startswith("Error: labels=99: the data has only 8 classes")


def test_what_lies_in_the_folder_is_not_taken_for_a_part_of_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "__init__.py").write_text("raise SystemExit('a stranger')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert check_determinism(first_seconds("calm", 0, 1))


@pytest.mark.parametrize("more", [("--out", "x"), ("--force",), ("--look-at", "1s"), ("--force", "--look-at", "1s")])
def test_what_a_comparison_would_ignore_is_refused_in_one_line(more: tuple[str, ...]) -> None:
    done = run("calm", "--check-determinism", *more)
    assert (done.exit_code, done.stdout) == (2, "")
    named = ", ".join(word for word in more if word.startswith("--"))
    said = "--check-determinism only compares two runs and leaves nothing behind: leave out "
    assert done.stderr.splitlines()[-1] == f"Error: {said}{named}"


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("a\nb\nc\n", "a\nx\nc\n", "line 2: 'b' or 'x'"),
        ("a\nb\n", "a\n", "line 2: 'b' or '(the end)'"),
        ("a\n", "a\n", "the traces are equal, their digests are not"),
    ],
)
def test_the_first_line_in_which_two_traces_differ_is_found(tmp_path: Path, one: str, other: str, said: str) -> None:
    (tmp_path / "one").write_text(one, encoding="utf-8")
    (tmp_path / "other").write_text(other, encoding="utf-8")
    assert first_difference(tmp_path / "one", tmp_path / "other") == said
