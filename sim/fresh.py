"""Runs one of our modules in a fresh interpreter, which takes nothing from the folder that the command was given in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping

from mdgan_edge.errors import ExitCode, Failed, OperatorError, SelfCheckFailed

MINUTES_MAX = 60


def run_fresh(what: str, module: str, *words: str, more: Mapping[str, str] | None = None) -> str:
    """What it prints. `what` names it for people, `more` goes into its environment.

    Raises OperatorErrors: its own as it said them, SelfCheckFailed with its last words if it broke off.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1", **(more or {})}
    command = [sys.executable, "-m", module, *words]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=MINUTES_MAX * 60
        )
    except subprocess.TimeoutExpired as error:
        raise SelfCheckFailed(f"{what} failed: it took more than {MINUTES_MAX} minutes") from error
    if done.returncode == 0:
        return done.stdout.strip()
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    if done.returncode in set(ExitCode) - {ExitCode.UNEXPECTED, ExitCode.USAGE}:
        raise Failed(ExitCode(done.returncode), said[-1])
    raise SelfCheckFailed(f"{what} failed: {said[-1]}")


def tell_operator(main: Callable[[], None]) -> None:
    """For a module that is run: what the operator can mend ends it with its exit code and one line."""
    try:
        main()
    except OperatorError as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        sys.exit(error.exit_code)
