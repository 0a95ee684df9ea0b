"""Methods side by side: which generator of each is scored is said, and no method pays for what all share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mdgan_edge.gan import classifier
from sim.experiments.comparing import summary_lines
from sim.experiments.playing import play_cell
from sim.experiments.reading import find_experiment, read_experiment
from sim.experiments.summary import groups, scored
from tests.mutants.planting import broken
from tests.test_experiments import row

AVERAGE = "moving average, training.ema = 0.9"


@pytest.mark.parametrize(
    ("method", "ema", "says"), [("standalone", 0.9, AVERAGE), ("mdgan", 0, "as it is"), ("flgan", 0.9, "as it is")]
)
def test_a_row_says_which_generator_is_scored(method: str, ema: float, says: str) -> None:
    assert scored({"conditions": {"method": method, "training.ema": ema}}) == says


def test_compare_has_a_line_with_the_generator_that_is_scored() -> None:
    (one, none) = groups({"a": ["x", "y"]}, ["quality"], [row([1.0])])
    found = {"data": "digits", "seeds": [0], "methods": {"MD-GAN": one, "FL-GAN": none}, "of_flgan": {}}
    _, _, line, *_ = summary_lines(found, Path("out"))
    assert line.split(maxsplit=4) == ["generator", "that", "is", "scored", f"{AVERAGE}{'none':>{len(AVERAGE) + 2}}"]


def test_the_classifier_is_trained_before_the_clock_of_a_cell_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    def clock(true: Callable[[], float]) -> Callable[[], float]:
        return lambda: happened.append("clock") or true()

    def training(_: object) -> Callable[..., None]:
        return lambda *_: happened.append("trained")

    monkeypatch.setenv("MDGAN_CACHE", str(tmp_path / "cache"))
    cells = read_experiment(find_experiment("compare"), "ci", None, {"nodes": "2", "training.steps": "1"}).cells
    with broken(classifier, "train", training), broken(time, "process_time", clock):
        assert play_cell(cells[0])["failed"] is None
    assert happened[:2] == ["trained", "clock"]
    assert "trained" not in happened[2:]
