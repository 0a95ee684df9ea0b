"""What can be asked of an experiment, by flag and in its file, and what is refused before anything is played."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mdgan_edge.errors import ConfigurationError, ExitCode
from mdgan_edge.gan.scores import Scores
from sim.cli import main
from sim.experiments.conditions import plan_cell
from sim.experiments.playing import play_cell
from sim.experiments.reading import find_experiment
from sim.experiments.values import SCORES
from sim.toy.scores import NAMES
from tests.test_experiments import SMALL, experiment, sweep

METHODS = SMALL.replace("[axes.kind]", "[axes.method]").replace('"kind"', '"method"')
METHODS = METHODS.replace('sync = {mode = "sync"}', '"MD-GAN" = {method = "mdgan"}')
METHODS = METHODS.replace('async = {mode = "async", training.quorum = 1}', '"FL-GAN" = {method = "flgan"}')


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def compare(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["compare", "--out", str(folder / "out"), *words])


def refused(done: Result, code: ExitCode, says: str) -> bool:
    """Whether it ended so, with one line."""
    return (done.exit_code, says in done.output, len(done.output.strip().splitlines())) == (code, True, 1)


def test_an_axis_of_named_tables_is_chosen_from_by_name_even_if_it_is_called_after_the_key_they_set(
    small: Path,
) -> None:
    small.write_text(METHODS)
    found = experiment(small, method="FL-GAN")
    assert found.axes["method"] == ("FL-GAN",)
    assert {cell.scenario.method for cell in found.cells} == {"flgan"}
    with pytest.raises(ConfigurationError, match="did you mean 'FL-GAN'"):
        experiment(small, method="FLGAN")


def test_an_axis_of_a_key_that_the_budget_has_narrowed_still_takes_other_values(small: Path) -> None:
    small.write_text(SMALL.replace("[budget.full]", '[budget.full]\naxes."training.batch_size" = [20]'))
    assert experiment(small, budget="full").axes["training.batch_size"] == ("20",)
    assert experiment(small, budget="full", training__batch_size="30").axes["training.batch_size"] == ("30",)


@pytest.mark.parametrize("key", ["swarm.data", "hub.data", "node.data"])
def test_a_source_is_one_value_whatever_commas_it_has(small: Path, key: str) -> None:
    source = "celeba:faces,attribute=Smiling"
    found = experiment(small, fidelity="full", **{key.replace(".", "__"): source})
    assert list(found.axes) == ["training.batch_size", "kind"]
    assert found.cells[0].assignments == {key: source}
    section, name = key.split(".")
    assert getattr(getattr(plan_cell(found.cells[0]).settings, section), name) == source


def test_compare_takes_a_source_with_a_comma(tmp_path: Path) -> None:
    done = compare(tmp_path, "--data", "celeba:no-such-folder,attribute=Smiling")
    assert refused(done, ExitCode.CONFIGURATION, "celeba:no-such-folder,attribute=Smiling: there is nothing")


def test_compare_has_no_room_for_a_second_axis_and_says_who_has(tmp_path: Path) -> None:
    done = compare(tmp_path, "--set", "training.batch_size=10,20")
    assert refused(done, ExitCode.CONFIGURATION, "--set training.batch_size")
    assert "mdgan-sim sweep compare" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "meant"), [('scores = ["quality"', 'scores = ["qualty"'), ('score = "quality"', 'score = "qualty"')]
)
def test_a_score_that_nobody_gives_is_refused_with_the_near_miss(small: Path, given: str, meant: str) -> None:
    small.write_text(SMALL.replace(given, meant))
    assert refused(sweep(small), ExitCode.CONFIGURATION, "'qualty': did you mean 'quality'?")


def test_the_known_scores_are_those_of_images_and_of_points() -> None:
    assert {*SCORES} == {one.name for one in fields(Scores)} - {"reason"} | {*NAMES}


# --- of what training costs -------------------------------------------------------------------------------------------


def priced(**assignments: str) -> dict[str, Any]:
    (cell,) = experiment(find_experiment("costs"), **assignments).cells
    row = play_cell(cell)
    assert row["failed"] is None
    found: dict[str, Any] = row["price"]
    return found


def test_without_swaps_none_is_priced() -> None:
    found = priced(training__swap="off")
    task = sum(found["communication"][way]["formula"] for way in ("task", "feedback"))
    totals = found["totals"]
    assert totals["mdgan_bytes"] == found["nodes"] * found["iterations"] * task
    assert totals["largest_message_mdgan"] == found["communication"]["task"]["formula"]
    assert (found["epochs"], totals["periods"], "swap" in found["communication"]) == (None, 0, False)


def test_batches_per_version_and_epochs_between_rounds_are_priced_as_they_are_set() -> None:
    usual, other = priced(), priced(training__batches_per_version="1", federated__epochs="2.0")
    assert (usual["batches"], other["batches"]) == (2, 1)
    hub, fewer = usual["computation"]["mdgan-hub"], other["computation"]["mdgan-hub"]
    assert hub["measured"] == hub["formula"] == 2 * fewer["formula"] == 2 * fewer["measured"]
    assert other["totals"]["mdgan_bytes"] == usual["totals"]["mdgan_bytes"]
    assert other["totals"]["flgan_bytes"] == usual["totals"]["flgan_bytes"] / 2
    assert other["totals"]["rounds"] == usual["totals"]["rounds"] / 2 == usual["totals"]["periods"] / 2


def test_a_setting_that_changes_no_price_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["sweep", "costs", "--set", "training.ema=0.5", "--out", str(tmp_path / "out")])
    assert refused(done, ExitCode.CONFIGURATION, "training.ema plays no part in what training costs")
    assert not (tmp_path / "out").exists()
