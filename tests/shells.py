"""Commands as a person would run them in several shells, for the tests of whole processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 120.0  # the slowest takes 45 s on a machine with nothing else to do
LOOK_EVERY_S = 0.1
BIN = Path(sys.executable).parent


@dataclass
class Shells:
    """Starts commands in one folder, waits for what they leave there, ends those that are left over."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command to its end and check its exit code: its output, and its complaints if it was to fail."""
        done = subprocess.run(
            self._words(words),
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{words}: exit code {done.returncode}, not {code}; it said:\n{said}"
        return said if code else done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; its output can be read when it has ended."""
        process = subprocess.Popen(
            self._words(words),
            cwd=self.folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(process)
        return process

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL; nobody minds that it failed."""
        process.kill()
        process.communicate()
        self.running.remove(process)

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        """Wait until it is so; what the commands said if it never is, or if one of them failed meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted():
            failed = [process for process in self.running if process.poll() not in (None, 0)]
            assert not failed, f"waiting for {what}: a command failed: {ended(failed[0])[1]}"
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s for {what}"
            self._wait_a_moment()

    def json(self, path: str) -> dict[str, Any]:
        """A JSON file in the folder; empty while it is not there."""
        try:
            value: dict[str, Any] = json.loads((self.folder / path).read_text())
        except FileNotFoundError:
            return {}
        return value

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return [str(BIN / words[0]), *words[1:]]

    def _wait_a_moment(self) -> None:
        alive = [process for process in self.running if process.poll() is None]
        if alive:
            with suppress(subprocess.TimeoutExpired):
                alive[0].wait(LOOK_EVERY_S)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for the end: exit code and output."""
    said, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)


def clean_environment() -> dict[str, str]:
    """This environment without settings of ours, but with the folder that images are cached in."""
    kept = {"MDGAN_CACHE"}
    return {name: value for name, value in os.environ.items() if name in kept or not name.startswith("MDGAN_")}
