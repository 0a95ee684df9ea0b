"""compare-modes: the same weather for every mode, times to a target, medians with an honest interval, one picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError, ExitCode
from sim.cli import main
from sim.experiments.playing import Row, play_cell
from sim.modes import MODES, Target, smoothed, summary, wanted
from sim.scenario.distributions import Lognormal
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import MS, Device, S, Scenario
from tests.hub_world import ALICE, BOB

PNG = b"\x89PNG\r\n\x1a\n"


def small(seconds: int = 12) -> Scenario:
    device = Device(task=Lognormal(Duration(400 * MS), 0.8))
    return replace(
        find_scenario("calm"), nodes=3, duration=Duration(seconds * S), heal=None, device=device, settings={}
    )


def asked(**more: Any) -> Any:
    given = {"fidelity": "toy", "seeds": 2, "score": None, "target": 0.1, "assignments": {"hub.evaluate_every": "2"}}
    return wanted(small(), **{**given, **more})


def row(mode: str, seed: int, points: list[tuple[float, float]]) -> Row:
    curve = {"virtual_s": [at for at, _ in points], "quality": [value for _, value in points]}
    curve |= {"modes": [8.0] * len(points), "gone": [0] * len(points)}
    merged, weights = {ALICE: 3, BOB: 1}, {ALICE: 6.0, BOB: 6.0}
    figures = {"versions": 10, "merged": merged, "weights": weights, "spent": {"cpu_s": 0.0}}
    return {"cell": {"mode": mode}, "seed": seed, "curve": curve, **figures}


def test_of_some_scores_more_is_better_and_of_others_less() -> None:
    assert (Target("quality", 0.7).met(0.8), Target("quality", 0.7).met(0.6)) == (True, False)
    assert (Target("fid_classifier", 5.0).met(6.0), Target("fid_classifier", 5.0).met(4.0)) == (False, True)


def test_the_target_is_reached_at_the_first_score_that_meets_it() -> None:
    curve = ((1.0, 0.2), (2.0, 0.7), (3.0, 0.5), (4.0, 0.9))
    assert Target("quality", 0.7).reached(curve) == 2.0
    assert Target("quality", 0.95).reached(curve) is None


def test_every_mode_is_played_in_the_same_weather_and_asynchrony_makes_more_versions() -> None:
    first = {cell.labels["mode"]: play_cell(cell) for cell in asked().experiment().cells[: len(MODES)]}
    assert first.keys() == MODES.keys()
    assert first["async-block"]["versions"] > 1.5 * first["sync"]["versions"]
    assert all(run["curve"]["quality"] and len(run["merged"]) == 3 for run in first.values())


def test_shares_are_told_of_a_run_that_was_over_before_its_time() -> None:
    wish = asked(modes=("async-block",), assignments={"hub.evaluate_every": "2", "training.steps": "5"})
    played = play_cell(wish.experiment().cells[0])
    assert played["versions"] == 5
    assert len(played["merged"]) == 3
    assert sum(played["merged"].values()) >= 5


def test_a_run_that_diverged_has_no_final_score_and_is_counted() -> None:
    fell = row("sync", 1, [(1.0, 0.2), (2.0, 0.9)])
    fell["curve"]["quality"] += [None]
    fell["curve"]["virtual_s"] += [3.0]
    found = summary(asked(modes=("sync",)), [row("sync", 0, [(1.0, 0.2), (2.0, 0.4)]), fell])
    assert (found["modes"]["sync"]["final"]["median"], found["modes"]["sync"]["diverged"]) == (0.4, 1)


def test_times_are_compared_seed_by_seed_and_a_seed_that_never_got_there_is_left_out() -> None:
    times = {"sync": (8.0, 10.0), "async-block": (4.0, 4.0), "async-drop": (2.0, None)}
    runs = [
        row(mode, seed, [(1.0, 0.0)] if at is None else [(1.0, 0.0), (at, 1.0)])
        for mode, pair in times.items()
        for seed, at in enumerate(pair)
    ]
    found = summary(asked(), runs)
    assert found["against_sync"]["async-block"]["time"]["median"] == pytest.approx(0.45)
    assert (found["against_sync"]["async-drop"]["pairs"], found["modes"]["async-drop"]["reached"]) == (1, 1)
    assert found["modes"]["sync"]["least_share"]["median"] == 0.5  # one of four, and two would have been fair
    assert found["modes"]["sync"]["scores"].keys() == {"quality", "modes"}
    assert found["modes"]["sync"]["scores"]["modes"]["median"] == 8.0
    assert found["modes"]["sync"]["least_weighted_share"]["median"] == 1.0


def test_a_smoothed_score_is_the_median_of_several_in_a_row_and_comes_when_the_last_of_them_does() -> None:
    curve = [(1.0, 9.0), (2.0, 1.0), (3.0, 5.0), (4.0, 2.0)]
    assert smoothed(curve, 3) == ((3.0, 5.0), (4.0, 2.0))
    assert smoothed(curve, 1) == tuple(curve)
    assert smoothed(curve, 5) == ()


def test_a_mode_of_ones_own_is_played_asynchronously_with_its_settings_and_held_against_block() -> None:
    own = "rate-fair:training.rate_fair=true,training.staleness_max=4"
    wish = asked(modes=("async-block",), beside=(own,), assignments={"hub.evaluate_every": "2"})
    assert list(wish.modes) == ["async-block", "rate-fair"]
    found = summary(wish, [play_cell(cell) for cell in wish.experiment().cells])
    assert found["settings_of_modes"]["rate-fair"] == {
        "mode": "async",
        "training.rate_fair": "true",
        "training.staleness_max": "4",
    }
    assert found["against_sync"] == {}
    assert found["against_block"]["rate-fair"]["pairs"] == 2


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"beside": ("rate-fair",)}, "write it as NAME:KEY=VALUE"),
        ({"beside": ("sync:training.rate_fair=true",)}, "two modes of one name"),
        ({"assignments": {"mode": "sync"}}, "that is what is compared"),
        ({"score": "coverage", "target": None}, "--target NUMBER"),
        ({"fidelity": "tokens"}, "tokens have no scores"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        asked(**more)


def test_the_command_leaves_figures_and_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    device = 'task = {dist = "lognormal", median = "400ms", sigma = 0.8}'
    file.write_text(f'name = "short"\nabout = "A"\nduration = "12s"\nnodes = 3\n[device]\n{device}\n')
    given = ["compare-modes", str(file), "--seeds", "2", "--set", "hub.evaluate_every=2", "--target", "0.01"]
    done = CliRunner().invoke(main, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "async-block / sync" in done.output
    found = json.loads((tmp_path / "out" / "modes.json").read_text())
    assert len(found["cells"]) == 6
    assert (tmp_path / "out" / "modes.png").read_bytes().startswith(PNG)


def test_a_score_that_no_run_has_is_an_error_of_the_command(tmp_path: Path) -> None:
    given = ["compare-modes", "calm", "--seeds", "1", "--score", "beauty", "--target", "1", "--set", "training.steps=5"]
    done = CliRunner().invoke(main, [*given, "--out", str(tmp_path)])
    assert done.exit_code == ExitCode.CONFIGURATION
    assert "no run has a score 'beauty'" in done.output
