"""Experiments: what a file may say, what is played again and what is kept, and the page that shows it."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from mdgan_edge.costs import node_work, work_ratio
from mdgan_edge.errors import ConfigurationError, DataError, ExitCode
from mdgan_edge.gan.counting import pair_of
from mdgan_edge.messages import ModelSettings
from mdgan_edge.settings import Settings, TrainingSettings
from sim.cli import main
from sim.experiments import playing
from sim.experiments.conditions import conditions_of, holds, key_of, plan_cell
from sim.experiments.executors import in_processes
from sim.experiments.intervals import median_interval
from sim.experiments.playing import Row, play_cell
from sim.experiments.reading import find_experiment, read_experiment, shipped_experiments
from sim.experiments.results import Results
from sim.experiments.running import Shard, seeds_of, seeds_text
from sim.experiments.summary import end_of, groups
from sim.experiments.values import Cell, Experiment
from sim.experiments.work import multiply_adds
from sim.play import Played, play
from sim.report.curves import spread_over
from sim.report.drawing import draw_report
from sim.scenario.values import Method
from sim.world import World

SMALL = """
about = "Small."
scores = ["quality", "sliced_wasserstein"]
seeds = 2
[scenario]
duration = "3s"
nodes = 2
fidelity = "toy"
training.swap = "off"
hub.evaluate_every = 5
[axes]
"training.batch_size" = [10, 20]
[axes.kind]
sync = {mode = "sync"}
async = {mode = "async", training.quorum = 1}
[budget.full]
seeds = 3
[[chart]]
kind = "curve"
score = "quality"
lines = "kind"
panels = "training.batch_size"
[[chart]]
kind = "end"
score = "quality"
along = "training.batch_size"
lines = "kind"
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def experiment(path: Path, seeds: Any = None, budget: Any = "ci", **assignments: str) -> Experiment:
    return read_experiment(path, budget, seeds, {key.replace("__", "."): text for key, text in assignments.items()})


def sweep(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["sweep", str(path), "--out", str(path.parent / "out"), *words])


def rows_of(path: Path) -> list[Row]:
    return Results(path.parent / "out").rows()


def without_time(rows: list[Row]) -> list[Row]:
    return sorted(({**row, "spent": None} for row in rows), key=lambda row: (str(row["cell"]), row["seed"]))


@pytest.mark.parametrize(("n", "ranks", "coverage"), [(10, (2, 9), 0.978), (6, (1, 6), 0.969), (3, (1, 3), 0.75)])
def test_the_interval_of_a_median_lies_between_order_statistics_and_says_what_it_covers(
    n: int, ranks: tuple[int, int], coverage: float
) -> None:
    found = median_interval([float(rank) for rank in range(n, 0, -1)])
    assert (found.low, found.high) == ranks
    assert found.coverage == pytest.approx(coverage, abs=1e-3)
    assert found.median == (n + 1) / 2


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_cells_are_all_combinations_and_the_first_seed_is_complete_first(small: Path) -> None:
    cells = experiment(small).cells
    assert [(*cell.labels.values(), cell.seed) for cell in cells[:4]] == [
        ("10", "sync", 0),
        ("10", "async", 0),
        ("20", "sync", 0),
        ("20", "async", 0),
    ]
    assert len(cells) == 8
    assert cells[3].scenario.settings["training.batch_size"] == 20
    assert cells[3].scenario.settings["training.quorum"] == 1


def test_a_budget_changes_seeds_and_a_flag_goes_before_it(small: Path) -> None:
    assert experiment(small, budget="full").seeds == (0, 1, 2)
    assert experiment(small, seeds=(4, 5), budget="full").seeds == (4, 5)


def test_set_chooses_from_an_axis_makes_one_or_goes_before_the_scenario(small: Path) -> None:
    found = experiment(small, training__batch_size="30", kind="async", nodes="3", training__ema="0.5,0.9")
    assert found.axes == {"training.batch_size": ("30",), "kind": ("async",), "training.ema": ("0.5", "0.9")}
    first = plan_cell(found.cells[0])
    assert (first.scenario.nodes, first.settings.training.batch_size, first.settings.training.ema) == (3, 30, 0.5)


def test_set_goes_before_the_scenario_but_not_before_the_values_of_an_axis_that_say_the_key(small: Path) -> None:
    small.write_text(SMALL.replace('sync = {mode = "sync"}', 'calm = {mode = "async"}'))
    first, second = (plan_cell(cell).settings.training for cell in experiment(small, training__quorum="2").cells[:2])
    assert (first.quorum, second.quorum) == (2, 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("about", "abuot"), "unknown key 'abuot': did you mean 'about'?"),
        (('kind = "curve"', 'kind = "curv"'), "chart[0].kind"),
        (('lines = "kind"', 'lines = "kinds"'), "no axis: did you mean 'kind'?"),
        (('along = "training.batch_size"\n', ""), "needs `along`"),
        (("[budget.full]", "[budget.ful]"), "unknown budget 'ful': did you mean 'full'?"),
        (("[budget.full]\nseeds", "[budget.full]\nseed"), "budget.full: unknown key 'seed': did you mean 'seeds'?"),
        (
            ("[budget.full]\nseeds = 3", '[budget.full]\naxes.kind = ["synk"]'),
            "has no value 'synk': did you mean 'sync'?",
        ),
        (
            ("[budget.full]\nseeds = 3", '[budget.full]\naxes.knd = ["sync"]'),
            "unknown axis 'knd': did you mean 'kind'?",
        ),
        (("seeds = 2", "seeds = 0"), "seeds: "),
        (("nodes = 2", "nods = 2"), "unknown key 'nods': did you mean 'nodes'?"),
        (("nodes = 2", 'from = "clam"'), "did you mean 'calm'?"),
        (("training.quorum = 1", "training.quorun = 1"), "did you mean 'training.quorum'?"),
        (("[10, 20]", "[10, 1]"), "training.batch_size = 1"),
        (("[10, 20]", "[]"), "give a list of values of that key"),
        (('scores = ["quality", "sliced_wasserstein"]', "scores = []"), "scores: "),
        (("[axes]", "[axes"), "is not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_before_anything_is_played(
    small: Path, change: tuple[str, str], says: str
) -> None:
    assert change[0] in SMALL
    small.write_text(SMALL.replace(*change))
    done = sweep(small, "--budget", "full")
    assert done.exit_code == ExitCode.CONFIGURATION, done.output
    assert says in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (small.parent / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--set", "mode=sync"), ExitCode.CONFIGURATION, "what the axis kind varies"),
        (("--set", "nods=2"), ExitCode.CONFIGURATION, "did you mean 'nodes'?"),
        (("--set", "kind=synk"), ExitCode.CONFIGURATION, "did you mean 'sync'?"),
        (("--set", "training.stepps=2"), ExitCode.CONFIGURATION, "did you mean 'training.steps'?"),
        (("--seeds", "x"), ExitCode.USAGE, "write how many"),
        (("--seeds", "0"), ExitCode.USAGE, "write how many"),
        (("--shard", "2/2"), ExitCode.USAGE, "write 0/4"),
    ],
)
def test_a_bad_flag_is_refused_in_words(small: Path, words: tuple[str, ...], code: int, says: str) -> None:
    done = sweep(small, *words)
    assert (done.exit_code, says in done.output) == (code, True), done.output


def test_an_experiment_that_is_none_of_ours_names_the_near_miss() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'quality'"):
        find_experiment("qualty")


@pytest.mark.parametrize("name", shipped_experiments())
@pytest.mark.parametrize("budget", ["ci", "full"])
def test_every_cell_of_a_shipped_experiment_can_be_planned_and_says_whether_it_swaps(name: str, budget: Any) -> None:
    found = experiment(find_experiment(name), budget=budget)
    plans = [plan_cell(cell) for cell in found.cells]
    keys = {key_of(conditions_of(plan, cell)) for plan, cell in zip(plans, found.cells, strict=True)}
    assert found.about
    assert all("training.swap" in plan.explicit for plan in plans)
    assert len(keys) == len(plans)


# --- what is played ---------------------------------------------------------------------------------------------------


def test_a_sweep_keeps_a_row_for_each_cell_and_plays_none_twice(small: Path) -> None:
    first = sweep(small, "--json")
    assert first.exit_code == 0, first.output
    rows = rows_of(small)
    assert len(rows) == 8
    assert all(row["curve"]["quality"] and row["digest"] and row["failed"] is None for row in rows)
    assert json.loads(first.stdout)["played"] == 8
    again = json.loads(sweep(small, "--json").stdout)
    assert (again["played"], again["missing"], len(rows_of(small))) == (0, 0, 8)


def test_a_changed_experiment_plays_only_what_changed(small: Path) -> None:
    sweep(small)
    small.write_text(SMALL.replace("[10, 20]", "[10, 30]").replace('about = "Small."', 'about = "Other."'))
    assert json.loads(sweep(small, "--json").stdout)["played"] == 4
    assert len(rows_of(small)) == 12


def test_a_torn_last_line_is_dropped_and_its_cell_played_again(small: Path) -> None:
    sweep(small, "--seeds", "1")
    file = small.parent / "out" / "results.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert len(rows_of(small)) == 3
    assert json.loads(sweep(small, "--seeds", "1", "--json").stdout)["played"] == 1
    assert without_time(rows_of(small)) == without_time([json.loads(line) for line in whole.splitlines()])


def test_shards_are_disjoint_and_their_files_one_after_the_other_are_the_whole(small: Path, tmp_path: Path) -> None:
    both = b""
    for index in range(2):
        assert sweep(small, "--shard", f"{index}/2", "--out", str(tmp_path / f"{index}")).exit_code == 0
        both += (tmp_path / f"{index}" / "results.jsonl").read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_bytes(both)
    assert len(rows_of(small)) == 8
    assert json.loads(sweep(small, "--json").stdout)["played"] == 0
    cells = experiment(small).cells
    assert [sum(Shard(index, 3).has(cell) for index in range(3)) for cell in cells] == [1] * len(cells)


def test_processes_give_the_same_rows(small: Path) -> None:
    cells = experiment(small, seeds=(0,)).cells[:2]
    assert without_time(list(in_processes(cells, 2))) == without_time([play_cell(cell) for cell in cells])


def test_nothing_of_a_world_stays_in_memory_when_its_cell_is_played(small: Path) -> None:
    worlds: list[weakref.ref[World]] = []

    def remembered(*args: Any, **kwargs: Any) -> Played:
        played = play(*args, **kwargs)
        worlds.append(weakref.ref(played.world))
        return played

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playing, "play", remembered)
        playing.play_cell(experiment(small).cells[0])
    assert [world() for world in worlds] == [None]


def test_a_cell_that_fails_is_written_down_and_the_rest_goes_on(small: Path) -> None:
    small.write_text(SMALL.replace("\nsync = {mode", '\nsync = {expect.sometimes = ["rejoined"], mode'))
    done = sweep(small, "--seeds", "1", "--json", "--set", "training.batch_size=10")
    assert done.exit_code == ExitCode.UNEXPECTED
    found = json.loads(done.stdout)
    assert (found["played"], found["missing"], len(found["failed"])) == (2, 1, 1)
    assert found["failed"][0]["why"] == "rejoined never happened"
    assert json.loads(sweep(small, "--seeds", "1", "--json", "--set", "training.batch_size=10").stdout)["played"] == 1


def test_a_result_holds_until_a_condition_changes_and_new_ones_must_be_as_by_default(small: Path) -> None:
    cell = experiment(small).cells[0]
    now = conditions_of(plan_cell(cell), cell)
    without = {name: value for name, value in now.items() if name != "training.ema"}
    assert holds(now, now)
    assert not holds({**now, "training.ema": 0.5}, now)
    assert not holds({**now, "training.gone": 1}, now)
    assert holds(without, now)
    assert not holds(without, {**now, "training.ema": 0.5})


def test_the_conditions_of_a_run_hold_what_its_images_are(tmp_path: Path, small: Path) -> None:
    def images(text: bytes) -> Any:
        file = tmp_path / f"{text.decode()}.npz"
        file.write_bytes(text)
        cell: Cell = experiment(small, fidelity="full", swarm__data=f"npz:{file}").cells[0]
        return conditions_of(plan_cell(cell), cell)["images"]

    assert images(b"a") != images(b"b")
    assert images(b"a") == images(b"a")


# --- what is shown ----------------------------------------------------------------------------------------------------


def row(end: list[float], seed: int = 0, at: list[float] | None = None) -> Row:
    curve = {"updates": at or list(range(len(end))), "quality": end}
    figures = {"updates": 9, "virtual_s": 1.0, "nodes": 2, "multiply_adds": None, "spent": {"cpu_s": 1.0}}
    sent = {"hub_sent": 3, "hub_received": 1, "nodes_sent": 2, "nodes_received": 3, "across": 1}
    conditions = {"method": "mdgan", "training.ema": 0.9}
    return {"cell": {"a": "x"}, "conditions": conditions, "seed": seed, "curve": curve, "bytes": sent, **figures}


def test_the_end_is_the_median_of_the_last_three_evaluations() -> None:
    assert end_of(row([9.0, 1.0, 3.0, 2.0]), "quality") == 2.0
    assert end_of(row([]), "quality") is None


def test_a_group_says_the_median_over_its_seeds_and_an_empty_one_says_so() -> None:
    found = groups({"a": ["x", "y"]}, ["quality"], [row([1.0]), row([3.0], 1), row([2.0], 2)])
    assert found[0]["scores"]["quality"]["median"] == 2.0
    assert (found[0]["bytes"]["total"]["median"], found[0]["runs"], found[1]["runs"]) == (6, 3, 0)
    assert found[1]["scores"]["quality"] is None


def test_work_of_a_run_is_that_of_its_tasks_and_a_node_of_flgan_does_a_local_iteration_for_each() -> None:
    settings = replace(Settings(), model=ModelSettings(name="mlp"), training=TrainingSettings(batches_per_version=2))
    tasks = {"nodes": {"n0": {"tasks": 3}, "n1": {"tasks": 3}}, "version": 3, "updates": 3}
    mdgan, flgan, alone = (multiply_adds(settings, method, 2, tasks) for method in get_args(Method))
    pair = pair_of(settings.model)
    assert mdgan["node"] == 3 * 10 * node_work(pair, 1)
    assert flgan["node"] / mdgan["node"] == pytest.approx(work_ratio(pair, 1))
    assert alone == {"node": 0, "hub": flgan["node"], "total": flgan["node"]}
    assert mdgan["total"] == 2 * mdgan["node"] + mdgan["hub"]


def test_the_spread_is_shown_only_where_every_seed_has_a_score() -> None:
    rows = [row([1.0, 2.0, 3.0], at=[1.0, 2.0, 3.0]), row([5.0, 6.0], 1, at=[2.0, 4.0])]
    assert spread_over(rows, "quality", "updates") == [(2.0, [2.0, 5.0]), (3.0, [3.0, 5.0])]


def test_the_page_of_a_sweep_stands_alone_and_names_what_is_missing(small: Path) -> None:
    sweep(small, "--shard", "0/2")
    folder = small.parent / "out"
    assert CliRunner().invoke(main, ["report", str(folder)]).exit_code == 0
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "have no result" in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert (folder / "chart-1.png").read_bytes().startswith(b"\x89PNG")
    sweep(small)
    draw_report(folder)
    assert "have no result" not in (folder / "report.html").read_text()


def test_a_folder_that_is_no_sweep_and_no_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a sweep"):
        draw_report(tmp_path)


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("4-6", (4, 5, 6)), ("0", None), ("6-4", None)])
def test_seeds_are_a_count_or_a_range_and_are_said_again_as_such(text: str, seeds: tuple[int, ...] | None) -> None:
    if seeds is None:
        with pytest.raises(click.UsageError):
            seeds_of(text)
    else:
        assert seeds_of(text) == seeds
        assert seeds_text(seeds) == text
