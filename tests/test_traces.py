"""Files that a scenario names: measured durations, and a record of who came and went."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdgan_edge.errors import ConfigurationError
from sim.scenario.distributions import Trace
from sim.scenario.quantities import Duration
from sim.scenario.reading import parse_scenario, read_scenario
from sim.scenario.values import MS, S
from sim.scenario.writing import dump_scenario
from tests.test_scenario_files import HEAD, SPELLING, TIME, latency

CHURN = '[churn]\ntrace = {file = "who.csv"}\n'


def test_a_trace_is_read_from_beside_its_scenario(tmp_path: Path) -> None:
    (tmp_path / "measured.txt").write_text("3ms\n1ms\n\n2ms\n", encoding="utf-8")
    file = tmp_path / "x.toml"
    file.write_text(HEAD + latency('{dist = "trace", file = "measured.txt"}'), encoding="utf-8")
    scenario = read_scenario(file)
    assert scenario.links.default.latency == Trace((Duration(MS), Duration(2 * MS), Duration(3 * MS)))
    assert parse_scenario(dump_scenario(scenario), "elsewhere") == scenario


def test_a_trace_that_is_not_there_is_told_by_its_name() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^bad\.toml: links\.default\.latency: cannot read the trace no\.txt: "
    ):
        parse_scenario(HEAD + latency('{dist = "trace", file = "no.txt"}'), "bad.toml")


def test_a_record_of_who_came_and_went_is_read_from_beside_its_scenario(tmp_path: Path) -> None:
    lines = "# time, what, who\n1.5s, join, a\r\n\n 2s,leave,n1  # for lunch\n9s,join,n1\n"
    (tmp_path / "who.csv").write_text(lines, encoding="utf-8")
    scenario = parse_scenario(HEAD + CHURN, "x.toml", tmp_path)
    events = ((Duration(3 * S // 2), "join", "a"), (Duration(2 * S), "leave", "n1"), (Duration(9 * S), "join", "n1"))
    assert scenario.churn.trace == events
    assert "who.csv" not in dump_scenario(scenario)
    assert parse_scenario(dump_scenario(scenario), "elsewhere") == scenario


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("# a\n\n1s, jion, a", "who.csv, line 3: there is no 'jion': did you mean 'join'?"),
        ("1, join, a", f"who.csv, line 1: '1' is not understood: {TIME}"),
        ("1s, join", "who.csv, line 1: write a time, one of join, leave, crash, and a node's name: 12.5s, join, x1"),
        ("2s, join, a\n# b\n1s, join, b", "who.csv, line 3: 1s is before the line above it, or the start"),
        ("# a\n1s, join, n1", "who.csv, line 2: n1 is there already"),
        ("1s, join, Bad Name!", f"who.csv, line 1: 'Bad Name!' is no name for a node: {SPELLING}"),
        ("\xe4", "cannot read the trace who.csv: it is not UTF-8 text"),
    ],
)
def test_a_mistake_in_a_record_of_churn_is_told_with_its_file_and_line(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "who.csv").write_text(lines, encoding="latin-1")
    with pytest.raises(ConfigurationError) as raised:
        parse_scenario(HEAD + CHURN, "bad.toml", tmp_path)
    assert str(raised.value) == f"bad.toml: churn.trace: {said}"


def test_a_record_of_churn_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^bad\.toml: churn\.trace: cannot read the trace who\.csv: No such"):
        parse_scenario(HEAD + CHURN, "bad.toml", tmp_path)
