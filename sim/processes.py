"""Child processes forked from a warm parent: torch is loaded once, a child costs 20 MB and a tenth of a second.

The parent must have no thread and no zmq context of its own when it forks. A child dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mdgan_edge.errors import ExitCode, OperatorError

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Child:
    """A forked process that runs `work` and exits with what it returns; its output goes to the file `log`."""

    def __init__(self, name: str, work: Callable[[], int], log: Path) -> None:
        self.name = name
        self.log = log
        self._status: int | None = None
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(work, log, parent)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        if self._status is None:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.exit_code is None:
            os.kill(self.pid, number)

    def last_words(self) -> str:
        """The last line it wrote."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


def warm_up() -> None:
    """Load what every child needs, before the first fork."""
    import torch

    import broker.service  # noqa: F401
    import nodes.service  # noqa: F401

    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # its first use imports a great deal


def _be_child(work: Callable[[], int], log: Path, parent: int) -> None:
    code = int(ExitCode.UNEXPECTED)
    try:
        os.setsid()  # a Ctrl-C at the terminal is the parent's to pass on
        _die_with_parent(parent)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        code = int(work())
    except OperatorError as error:
        print(f"Error: {error}", file=sys.stderr)
        code = int(error.exit_code)
    except BaseException:  # noqa: BLE001  (the child ends here, whatever it was)
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(int(ExitCode.UNEXPECTED))
