"""The experiments that come with us, each with its small budget: every cell is played and the page drawn.

All of it in one process (`make test`), where the classifier is trained once: some 70 CPU seconds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.cli import main
from sim.experiments.reading import shipped_experiments

pytestmark = pytest.mark.xdist_group("experiments")

TINY = ("nodes=2", "training.steps=3", "hub.evaluate_every=1", "hub.samples=20")


@pytest.mark.parametrize("name", shipped_experiments())
def test_every_cell_of_the_small_budget_is_played_and_the_page_shows_it(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["sweep", name, "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["missing"], found["failed"]) == (0, [])
    assert found["cells"] == len(found["groups"]) + len(found["prices"])
    assert CliRunner().invoke(main, ["report", str(tmp_path)]).exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert "have no result" not in page
    assert ("Samples side by side" in page) == bool(found["groups"])
    assert ("moving average, training.ema = 0.99" in page) == bool(found["groups"])


def test_compare_says_what_each_method_learns_and_costs(tmp_path: Path) -> None:
    words = [word for one in TINY for word in ("--set", one)]
    done = CliRunner().invoke(
        main, ["compare", "--seeds", "1", "--jobs", "1", "--json", "--out", str(tmp_path), *words]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert list(found["methods"]) == ["MD-GAN", "FL-GAN", "standalone"]
    average = "moving average, training.ema = 0.99"
    assert [one["scored"] for one in found["methods"].values()] == [average, "as it is", average]
    mdgan, flgan, standalone = found["methods"].values()
    assert mdgan["scores"]["fid_classifier"]["median"] > 0
    assert mdgan["multiply_adds"]["node"]["median"] < flgan["multiply_adds"]["node"]["median"]
    assert standalone["bytes"]["total"]["median"] == 0
    assert found["of_flgan"]["FL-GAN"]["bytes_total"] == 1.0
    assert json.loads((tmp_path / "compare.json").read_text()) == found
    assert all((tmp_path / file).exists() for file in ("report.html", "chart-1.png", "samples.png"))
