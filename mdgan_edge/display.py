"""What a person sees of a run: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from mdgan_edge.actors import Note
from mdgan_edge.command import is_told, note_line
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.table import score_lines, status_line, status_table

LINE_EVERY_S = 10.0
NEWS_SHOWN = 6  # lines of news under the live table


class Display:
    """Draws on `stream`; a context manager around the run. `tell` may be called from any thread, `show` from one."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._news: deque[str] = deque()
        self._shown: deque[str] = deque(maxlen=NEWS_SHOWN)
        live = self._console.is_terminal
        self._live = Live(console=self._console, auto_refresh=False) if live else None  # no thread: a parent may fork
        self._next_line = 0.0

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """One line for people, now."""
        self._console.print(Text(text), soft_wrap=True)

    def tell(self, note: Note) -> None:
        """A note for the next `show`, unless only the journal wants it."""
        if is_told(note):
            self._news.append(note_line(note))

    def show(self, status: Mapping[str, Any]) -> None:
        """The state of the run, and what was told since the last time."""
        lines = [self._news.popleft() for _ in range(len(self._news))]
        if self._live is None:
            self._show_lines(lines, status)
            return
        self._shown.extend(lines)
        below = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._shown]
        self._live.update(Group(*([status_table(status)] if status else []), *below), refresh=True)

    def _show_lines(self, lines: list[str], status: Mapping[str, Any]) -> None:
        for line in lines:
            self.say(line)
        if status.get("version") and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            self.say(status_line(status))

    def conclude(self, report: Mapping[str, Any], run: RunDirectory) -> None:
        """How it ended and where everything lies."""
        train_s = report.get("train_s")
        took = f" after {train_s:.0f} s of training" if train_s else ""
        self.say(f"{report['outcome']} at version {report['version']}{took}")
        for line in score_lines(report["scores"]):
            self.say(f"  {line}")
        if report.get("scores_missing"):
            self.say(f"  not scored: {report['scores_missing']}")
        self.say(f"samples:   {run.samples / 'final.png'}")
        self.say(f"generator: {run.generator}")
        self.say(f"record:    {run.run_json}")
