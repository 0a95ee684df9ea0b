"""The three kinds of wrong: ours (assert), the peer's (a counted Verdict, see messages), the operator's (these errors).

Each operator error ends the command with its own exit code and one line that says what to do.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; the numbers are sysexits where one fits."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    HUB_UNREACHABLE = 69
    SELF_CHECK_FAILED = 70
    DATA = 74
    TRY_LATER = 75
    PROTOCOL_MISMATCH = 76
    REFUSED = 77
    CONFIGURATION = 78


class OperatorError(Exception):
    """Something the operator can mend; the text says how."""

    exit_code: ExitCode = ExitCode.UNEXPECTED


class Failed(OperatorError):
    """A process ended with this exit code for the reason in `text`."""

    def __init__(self, exit_code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class SelfCheckFailed(OperatorError):
    """A check of our own (verify, doctor) came out wrong."""

    exit_code = ExitCode.SELF_CHECK_FAILED


class DataError(OperatorError):
    """Images or state could not be read or written."""

    exit_code = ExitCode.DATA


class TryLater(OperatorError):
    """Right now it cannot be done; later it may."""

    exit_code = ExitCode.TRY_LATER


class ConfigurationError(OperatorError):
    """A setting is unknown, out of range, or contradicts another."""

    exit_code = ExitCode.CONFIGURATION
