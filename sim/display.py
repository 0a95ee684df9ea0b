"""What a person sees of a swarm: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mdgan_edge.actors import Note
from mdgan_edge.command import TOLD, note_line
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.table import score_lines, status_line, status_table

LIVE_EVERY_S = 0.5
LINE_EVERY_S = 10.0
NEWS_SHOWN = 6  # lines of news under the live table


class Display:
    """Draws on `stream`; a context manager around the run."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._news: deque[str] = deque(maxlen=NEWS_SHOWN)
        live = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False) if live else None  # no thread: the parent forks
        self.every_s = LIVE_EVERY_S if live else LINE_EVERY_S

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line for people."""
        self._console.print(Text(text), soft_wrap=True)

    def show(self, status: Mapping[str, Any], news: list[Note]) -> None:
        """The state of the run, and what is new."""
        lines = [note_line(note) for note in news if note.level == "warning" or note.what in TOLD]
        if self._live is None:
            for line in [*lines, *([status_line(status)] if status else [])]:
                self.say(line)
            return
        self._news.extend(lines)
        below = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._news]
        self._live.update(Group(*([status_table(status)] if status else []), *below), refresh=True)

    def conclude(self, report: Mapping[str, Any], run: RunDirectory) -> None:
        """How it ended and where everything lies."""
        train_s = report.get("train_s")
        took = f" after {train_s:.0f} s of training" if train_s else ""
        self.say(f"{report['outcome']} at version {report['version']}{took}")
        for line in score_lines(report["scores"]):
            self.say(f"  {line}")
        if report.get("scores_missing"):
            self.say(f"  no scores: {report['scores_missing']}")
        self.say(f"samples:   {run.samples / 'final.png'}")
        self.say(f"generator: {run.generator}")
        self.say(f"record:    {run.run_json}")
