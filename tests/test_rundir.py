"""The run directory: nothing is overwritten unasked, nothing foreign is removed, no file is ever half written."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from mdgan_edge.errors import ConfigurationError, DataError, ExitCode
from mdgan_edge.rundir import RunDirectory, write_atomic, write_json


def run_in(path: Path) -> RunDirectory:
    """A finished run with a file in every place."""
    run = RunDirectory.create(path, "swarm", 0)
    for file in (run.run_json, run.config, run.journal, run.metrics, run.generator, run.status):
        file.write_text("old")
    (run.samples / "000100.png").write_text("old")
    return run


def content(path: Path) -> list[str]:
    return sorted(str(one.relative_to(path)) for one in path.rglob("*"))


def test_the_default_is_named_after_the_run_and_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.create(None, "churn", 7)
    assert run.path == Path("runs/churn-7")
    assert content(run.path) == ["samples"]


@pytest.mark.parametrize(
    ("name", "kept"), [("../../etc", "etc"), ("a b/c", "a-b-c"), ("..", "run"), ("v1.2_x", "v1.2_x")]
)
def test_a_name_cannot_leave_the_runs_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert RunDirectory.create(None, name, 1).path == Path(f"runs/{kept}-1")


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    assert RunDirectory.create(tmp_path, "swarm", 0).path == tmp_path


def test_a_run_that_ended_before_its_first_file_is_not_in_the_way(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, "swarm", 0)
    assert RunDirectory.create(tmp_path, "swarm", 0).path == tmp_path


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    run_in(tmp_path / "out")
    before = content(tmp_path)
    with pytest.raises(ConfigurationError, match=r"holds a run: --force replaces it, --out names another") as caught:
        RunDirectory.create(tmp_path / "out", "swarm", 0)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    assert content(tmp_path) == before


def test_force_removes_what_a_run_left_and_nothing_else(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    RunDirectory.create(tmp_path, "swarm", 0, force=True)
    assert content(tmp_path) == ["notes.txt", "samples"]
    assert not run.is_run()


def test_force_removes_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.png").write_text("mine")
    run = run_in(tmp_path / "out")
    (run.samples / "000100.png").unlink()
    run.samples.rmdir()
    run.samples.symlink_to(elsewhere)
    RunDirectory.create(run.path, "swarm", 0, force=True)
    assert content(elsewhere) == ["precious.png"]
    assert not run.samples.is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_that_holds_no_run_is_refused_even_with_force(tmp_path: Path, force: bool) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigurationError, match="holds something that is no run: name another directory with --out"):
        RunDirectory.create(tmp_path, "swarm", 0, force)
    assert content(tmp_path) == ["samples", "thesis.tex"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="not a directory"):
        RunDirectory.create(file, "swarm", 0, force=True)
    assert file.read_text() == "mine"


def test_a_parent_that_cannot_hold_a_directory_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="cannot make the run directory") as caught:
        RunDirectory.create(tmp_path / "file" / "out", "swarm", 0)
    assert caught.value.exit_code == ExitCode.DATA


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_parent_is_a_data_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="Permission denied"):
        RunDirectory.create(tmp_path / "out", "swarm", 0)


def test_an_earlier_run_can_be_opened_and_anything_else_not(tmp_path: Path) -> None:
    assert RunDirectory.open(run_in(tmp_path / "out").path).path == tmp_path / "out"
    with pytest.raises(DataError, match="is not a run directory"):
        RunDirectory.open(tmp_path)


def test_json_replaces_the_old_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"version": 1})
    write_json(path, {"version": 2, "scores": {"fid": math.nan}, "where": {3, 1}})
    assert json.loads(path.read_text()) == {"version": 2, "scores": {"fid": None}, "where": [1, 3]}
    assert content(tmp_path) == ["run.json"]


def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    taken = tmp_path / "run.json"
    taken.mkdir()
    with pytest.raises(DataError, match="cannot write"):
        write_atomic(taken, b"{}")
    assert content(tmp_path) == ["run.json"]
    with pytest.raises(DataError, match="No such file"):
        write_atomic(tmp_path / "missing" / "run.json", b"{}")
