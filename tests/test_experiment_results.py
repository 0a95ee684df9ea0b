"""What results of an experiment are worth: which still hold, what a diverged run has, and files that are spoilt."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mdgan_edge.errors import ExitCode
from sim.cli import main
from sim.experiments import playing
from sim.experiments.conditions import conditions_of, digest_of, holds, plan_cell
from sim.experiments.playing import play_cell
from sim.experiments.summary import end_of, groups, said_of
from sim.experiments.values import Cell
from sim.play import Played, play
from sim.report.sweep import read_sweep
from tests.test_asking_experiments import refused
from tests.test_experiments import SMALL, experiment, row, rows_of, sweep

RESULTS = Path(__file__).parent.parent / "docs" / "results"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def images(folder: Path, content: bytes = b"images") -> Path:
    """A file that is no npz, but is hashed as one."""
    folder.mkdir(exist_ok=True)
    file = folder / "images.npz"
    file.write_bytes(content)
    return file


def conditions(small: Path, file: Path) -> Mapping[str, Any]:
    cell = experiment(small, fidelity="full", swarm__data=f"npz:{file}", hub__data=f"npz:{file}").cells[0]
    return conditions_of(plan_cell(cell), cell)


# --- a diverged run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [[3.0, 2.0, 1.0, None], [3.0, None, 1.0, 1.0], [1.0, 1.0, 1.0, None, None, None]])
def test_a_run_that_lost_its_score_at_the_end_has_none(end: list[Any]) -> None:
    assert end_of(row(end), "quality") is None


def test_a_score_that_was_missing_before_the_end_does_not_matter() -> None:
    assert end_of(row([None, 3.0, 2.0, 1.0]), "quality") == 2.0  # type: ignore[list-item]


def test_a_group_says_how_many_of_its_runs_end_without_a_score() -> None:
    rows = [row([1.0]), row([3.0], 1), row([2.0, None], 2)]  # type: ignore[list-item]
    (found,) = groups({"a": ["x"]}, ["quality"], rows)
    assert said_of(found, "quality") == "2 (1 to 3), none in 1 of 3 runs"
    (found,) = groups({"a": ["x"]}, ["quality"], rows[2:])
    assert said_of(found, "quality") == "none"


# --- conditions and data ----------------------------------------------------------------------------------------------


def test_a_result_holds_wherever_its_images_lie(small: Path, tmp_path: Path) -> None:
    here, there = (conditions(small, images(tmp_path / place)) for place in ("here", "there"))
    assert here == there
    assert not any(str(tmp_path) in str(value) for value in here.values())


def test_an_old_result_that_says_where_its_images_lay_still_holds(small: Path, tmp_path: Path) -> None:
    now = conditions(small, images(tmp_path / "here"))
    assert holds({**now, "swarm.data": "npz:elsewhere.npz", "hub.data": "none"}, now)
    assert not holds({**now, "swarm.data": "npz:elsewhere.npz", "images": "0123"}, now)


def test_a_file_that_changes_has_another_digest_at_once(tmp_path: Path) -> None:
    file = images(tmp_path)
    before = digest_of(f"npz:{file}")
    assert digest_of(f"npz:{file}") == before
    file.write_bytes(b"others")
    os.utime(file, ns=(0, 0))  # on a coarse clock both writes may have one time
    assert digest_of(f"npz:{file}") != before


def test_a_cell_whose_images_change_while_it_is_played_has_failed(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "digits.npz"
    file.write_bytes(Path(playing.__file__).parents[2].joinpath("mdgan_edge", "data", "digits.npz").read_bytes())

    def changed(*args: Any, **kwargs: Any) -> Played:
        played = play(*args, **kwargs)
        file.write_bytes(file.read_bytes() + b" ")
        return played

    sizes = {"nodes": "2", "training__steps": "2", "hub__samples": "20", "model__name": "mlp"}
    cell: Cell = experiment(small, fidelity="full", swarm__data=f"npz:{file}", kind="sync", **sizes).cells[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playing, "play", changed)
        failed = play_cell(cell)["failed"]
    assert failed == "its images changed while it was played: nobody can say which it saw"


# --- files that are spoilt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"cell": {"a": [1]}},
        {"cell": None},
        {"seed": "0"},
        {"bytes": None},
        {"spent": {}},
        {"curve": {"quality": ["good"]}},
        {"samples": "iVBORw0KGgo="},
    ],
)
@pytest.mark.parametrize("command", ["report", "sweep"])
def test_a_row_that_is_spoilt_is_refused_in_one_line(small: Path, change: dict[str, Any], command: str) -> None:
    assert sweep(small, "--seeds", "1").exit_code == 0
    folder = small.parent / "out"
    lines = (folder / "results.jsonl").read_text().splitlines()
    spoilt = {key: value for key, value in {**json.loads(lines[1]), **change}.items() if value is not None}
    (folder / "results.jsonl").write_text("\n".join([lines[0], json.dumps(spoilt), *lines[2:], ""]))
    done = sweep(small) if command == "sweep" else CliRunner().invoke(main, ["report", str(folder)])
    assert refused(done, ExitCode.DATA, "results.jsonl: row 2: "), done.output


@pytest.mark.parametrize("text", ['{"cells": []}', "[]", "{", '{"cells": [{"cell": {"a": [1]}, "seed": 0}]}'])
def test_a_description_that_is_spoilt_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment.json").write_text(text)
    assert refused(CliRunner().invoke(main, ["report", str(tmp_path)]), ExitCode.DATA, "is not the description")


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_report_says_how_many_runs_it_shows_and_how_many_rows_are_of_other_conditions(small: Path) -> None:
    sweep(small)
    small.write_text(SMALL.replace("[10, 20]", "[10, 30]"))
    sweep(small, "--seeds", "1", "--shard", "0/2")
    played = len(rows_of(small)) - 8
    done = CliRunner().invoke(main, ["report", str(small.parent / "out")])
    assert f"{2 + played} of 4 runs; 6 rows are of other conditions" in done.output
    page = (small.parent / "out" / "report.html").read_text()
    assert f"{2 + played} of 4 runs" in page
    assert "6 rows are of other conditions" in page


def test_a_folder_without_a_row_for_its_experiment_keeps_its_page_and_pictures(small: Path) -> None:
    sweep(small, "--seeds", "1")
    folder = small.parent / "out"
    CliRunner().invoke(main, ["report", str(folder)])
    found = json.loads((folder / "experiment.json").read_text())
    for cell in found["cells"]:
        cell["key"] = "0" * 16
    (folder / "experiment.json").write_text(json.dumps(found))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert refused(done, ExitCode.DATA, "0 of 4 runs; 4 rows are of other conditions")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("*/experiment.json")), ids=lambda file: file.parent.name)
def test_the_results_that_come_with_us_have_rows_and_their_page_says_how_many(folder: Path) -> None:
    read = read_sweep(folder.parent)
    assert read.rows
    page = folder.parent / "report.html"
    if page.exists():
        said = re.findall(r"(\d+) of (\d+) runs</span>", page.read_text())
        assert said == [(str(len(read.rows)), str(len(read.experiment.cells)))]
