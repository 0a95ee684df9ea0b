"""The journal: one line per entry, whatever the value, and nothing that stops a run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.actors import Measure, Note
from mdgan_edge.errors import DataError
from mdgan_edge.journal import Journal, plain, read
from mdgan_edge.messages import Tensor, Verdict

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FULL = Path("/dev/full")  # Linux: every write to it fails as on a full disk


def noon() -> datetime:
    return NOON


@dataclass(frozen=True)
class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("I have no name")


def test_a_note_is_one_line_with_stable_columns(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", start_s=10.0, wall=noon)
    journal.note(Note("stepped", "quorum of 5 reached", {"version": 7}), now_s=12.5)
    journal.note(Note("silent", level="warning"), now_s=13.0)
    assert (tmp_path / "journal.jsonl").read_text() == (
        '{"t":2.5,"at":"2026-03-01T12:00:00.000Z","level":"info","what":"stepped","why":"quorum of 5 reached",'
        '"version":7}\n'
        '{"t":3.0,"at":"2026-03-01T12:00:00.000Z","level":"warning","what":"silent","why":""}\n'
    )


def test_a_measure_is_one_line_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl", wall=noon)
    journal.measure(Measure("scores", {"fid": 2.5, "kid": math.nan, "loss": [-math.inf, 1]}), now_s=1.0)
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"t":1.0,"at":"2026-03-01T12:00:00.000Z","what":"scores","fid":2.5,"kid":null,"loss":[null,1]}\n'
    )


def test_an_entry_is_on_disk_before_the_next_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for count in range(1, 4):
        journal.note(Note("n"), 0.0)
        assert len(read(journal.path)) == count


def test_a_fact_called_like_a_column_gets_an_underscore(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", wall=noon)
    journal.note(Note("a", "b", {"what": 1, "t": 2}), 0.0)
    assert read(journal.path)[0] | {"at": ""} == {
        "t": 0.0, "at": "", "level": "info", "what": "a", "why": "b", "what_": 1, "t_": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Verdict.STALE, "stale"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(math.nan), None),
        (np.zeros((2, 3)), "<ndarray (2, 3)>"),
        (Tensor("float32", (2, 2), b"secret"), "<Tensor (2, 2)>"),
        (b"secret", "<6 bytes>"),
        ({3, 1, 2}, [1, 2, 3]),
        ({1: "one"}, {"1": "one"}),
        ((1, (2,)), [1, [2]]),
        (1 << 70, str(1 << 70)),
        (Fraction(10) ** 400, f"Fraction({10**400}, 1)"),
        (Path("a"), f"{Path('a')!r}"),
        (Rude(), "<Rude>"),
        (True, True),
        (None, None),
    ],
)
def test_a_strange_value_is_shown_in_words(value: object, written: object) -> None:
    assert plain(value) == written
    assert type(plain(value)) is type(written)


def test_a_value_that_holds_itself_comes_to_an_end() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert json.dumps(plain(loop)) == json.dumps([[[[[[[["[[...]]"]]]]]]]])


@given(st.recursive(st.none() | st.floats() | st.text() | st.binary() | st.integers(), st.lists))
def test_any_value_is_one_line_that_strict_json_reads(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.dumps(plain(value), allow_nan=False)
    assert "\n" not in line
    json.loads(line, parse_constant=refuse)


def test_text_that_is_no_utf_8_survives(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.note(Note("n", facts={"file": "caf\udce9\u2028"}), 0.0)
    assert read(journal.path)[0]["file"] == "caf\udce9\u2028"


def test_the_reader_passes_over_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"what":"a"}\n{"what":"b"}\n{"wha')
    assert read(path) == [{"what": "a"}, {"what": "b"}]


def test_a_journal_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"what":"a"}\n{"wha')
    journal = Journal(path)
    journal.note(Note("b"), 0.0)
    journal.note(Note("c"), 0.0)
    assert [entry["what"] for entry in read(path)] == ["a", "b", "c"]
    assert path.read_bytes().count(b"\n") == 4


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_reported_once_counted_and_survived(capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(FULL)
    for _ in range(3):
        journal.note(Note("n"), 0.0)
    assert journal.lost == 3
    assert capsys.readouterr().err == (
        "mdgan: /dev/full: No space left on device; the run goes on, its journal has gaps\n"
    )


def test_what_comes_after_closing_is_counted_as_lost(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.close()
    journal.close()
    journal.note(Note("n"), 0.0)
    assert (journal.lost, read(journal.path)) == (1, [])


def test_a_journal_that_cannot_be_opened_or_read_is_a_data_error(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "journal.jsonl"
    with pytest.raises(DataError, match=r"cannot write .*No such file"):
        Journal(missing)
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        read(missing)
