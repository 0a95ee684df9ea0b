"""Durations, rates and sizes as a scenario file writes them: a number with a unit, kept as one plain number.

A Duration is an int of nanoseconds, a Frequency a float per second, a BitRate an int of bits per second, a ByteCount
an int of bytes. Each can say itself again so that reading it back gives the same value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")

TIME_UNITS: Mapping[str, int] = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "min": 60_000_000_000,
    "h": 3_600_000_000_000,
}
FREQUENCY_UNITS: Mapping[str, float] = {"/s": 1.0, "/min": 1 / 60, "/h": 1 / 3600}
BIT_UNITS: Mapping[str, int] = {"bit": 1, "kbit": 1_000, "Mbit": 1_000_000, "Gbit": 1_000_000_000}
BYTE_UNITS: Mapping[str, int] = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}

DURATION_MAX_NS = 10**18  # some thirty years


class Duration(int):
    """Nanoseconds; may be negative, where a clock is wrong."""

    @classmethod
    def parse(cls, given: object) -> Duration:
        """From "30ms" or the like. Raises ValueError in words for the one who wrote it."""
        number, unit = _parts(given, TIME_UNITS, "a duration", "30ms")
        nanos = number * TIME_UNITS[unit]
        if abs(nanos) > DURATION_MAX_NS:
            raise ValueError(f"{given!r} is longer than any run")
        return cls(round(nanos))

    def text(self) -> str:
        """In the largest unit that says it without a fraction."""
        unit = max((unit for unit in TIME_UNITS if self % TIME_UNITS[unit] == 0), key=lambda unit: TIME_UNITS[unit])
        return f"{int(self) // TIME_UNITS[unit]}{unit}" if self else "0s"


class Frequency(float):
    """How often per second, on average."""

    @classmethod
    def parse(cls, given: object) -> Frequency:
        """From "2/s", "0.5/min" or the like."""
        number, unit = _parts(given, FREQUENCY_UNITS, "a rate", "2/s")
        if number < 0:
            raise ValueError(f"{given!r}: a rate cannot be negative")
        return cls(number * FREQUENCY_UNITS[unit])

    def text(self) -> str:
        """Per second."""
        return f"{float(self)!r}/s"


class BitRate(int):
    """Bits per second."""

    @classmethod
    def parse(cls, given: object) -> BitRate:
        """From "20Mbit" or the like (per second is understood)."""
        number, unit = _parts(given, BIT_UNITS, "a bit rate (per second)", "20Mbit")
        if number <= 0:
            raise ValueError(f"{given!r}: a link needs a rate above zero; to stop one, use a fault")
        return cls(max(1, round(number * BIT_UNITS[unit])))

    def text(self) -> str:
        """In bits."""
        return f"{int(self)}bit"


class ByteCount(int):
    """Bytes."""

    @classmethod
    def parse(cls, given: object) -> ByteCount:
        """From "4MB" or the like."""
        number, unit = _parts(given, BYTE_UNITS, "a size", "4MB")
        if number <= 0:
            raise ValueError(f"{given!r}: a size must be above zero")
        return cls(max(1, round(number * BYTE_UNITS[unit])))

    def text(self) -> str:
        """In bytes."""
        return f"{int(self)}B"


Quantity = Duration | Frequency | BitRate | ByteCount


def _parts(given: object, units: Mapping[str, float], what: str, example: str) -> tuple[float, str]:
    allowed = f'write {what} as a number and one of {", ".join(units)}, such as "{example}"'
    if not isinstance(given, str):
        raise ValueError(f"{given!r} has no unit: {allowed}")
    match = _NUMBER.fullmatch(given)
    if match is None or match[2] not in units or not math.isfinite(float(match[1])):
        raise ValueError(f"{given!r} is not understood: {allowed}")
    return float(match[1]), match[2]
