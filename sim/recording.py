"""Notes and measurements of a virtual run as files, with virtual time in place of the wall clock's."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from mdgan_edge.actors import Measure, Note
from mdgan_edge.journal import Journal
from mdgan_edge.messages import NodeId
from mdgan_edge.rundir import RunDirectory


class Recording:
    """Writes journal.jsonl and metrics.jsonl; `who` is the process, `at` counts from the epoch of UNIX."""

    def __init__(self, run: RunDirectory) -> None:
        self._now = 0
        self._journal = Journal(run.journal, 0.0, self._wall)
        self._metrics = Journal(run.metrics, 0.0, self._wall)

    def note(self, now: int, who: NodeId, note: Note) -> None:
        """A line of the journal."""
        self._now = now
        self._journal.note(replace(note, facts={"who": who, **note.facts}), now / 1e9)

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:
        """A line of metrics."""
        self._now = now
        self._metrics.measure(replace(measure, values={"who": who, **measure.values}), now / 1e9)

    def close(self) -> None:
        """The run is over."""
        self._journal.close()
        self._metrics.close()

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._now / 1e9, UTC)
