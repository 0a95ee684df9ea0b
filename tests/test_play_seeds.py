"""Sweeps over seeds: a line for each, none played twice, and how long the version stood still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mdgan_edge.errors import ConfigurationError
from scripts.play_seeds import lines_of, longest_pause, main, seeds_of


def test_a_pause_lasts_from_one_version_to_the_next_or_to_the_end_of_the_run() -> None:
    assert longest_pause([2.0, 3.0, 7.0], end=8.0) == 4.0
    assert longest_pause([2.0, 3.0, 7.0], end=20.0) == 13.0
    assert longest_pause([], end=20.0) is None


def test_seeds_are_a_first_and_a_last() -> None:
    assert list(seeds_of("3-5")) == [3, 4, 5]
    assert list(seeds_of("7")) == [7]
    for wrong in ("5-3", "a-b", "-4", ""):
        with pytest.raises(ConfigurationError, match="FIRST-LAST"):
            seeds_of(wrong)


def test_a_sweep_keeps_a_line_per_seed_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    file = tmp_path / "seeds.jsonl"
    given = ["calm", "--set", "training.steps=4", "--out", str(file)]
    assert CliRunner().invoke(main, [*given, "--seeds", "0-1"]).exit_code == 0
    first = file.read_text()
    with file.open("a") as torn:
        torn.write('{"seed": 2, "viol')
        torn.write("\n")
    done = CliRunner().invoke(main, [*given, "--seeds", "0-2", "--replay"])
    assert done.exit_code == 0, done.output
    assert "3 seeds, 0 with a violated invariant, 0 without any version" in done.output
    assert file.read_text().startswith(first)
    kept = list(lines_of(file))
    assert [(line["seed"], line["violated"], line["versions"]) for line in kept] == [(seed, [], 4) for seed in range(3)]
    assert ["replay_equal" in line["unknown"] for line in kept] == [True, True, False]
    assert len({line["digest"] for line in kept}) == 3
    assert json.loads(first.splitlines()[0])["longest_pause_s"] > 0
