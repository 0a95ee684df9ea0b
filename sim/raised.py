"""What a core raised, in few words, and as what names the mistake whatever it was about."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception that came out of a core. `cause`: type and innermost frame; `text`: and what it says."""

    cause: str
    text: str
    traceback: tuple[str, ...]


def what_was_raised(error: Exception) -> Raised:
    """For an exception that has been caught."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = Path(frame.filename)
    place = file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(*file.parts[-2:])
    cause = f"{type(error).__name__} at {place.as_posix()}:{frame.lineno} in {frame.name}"
    said = " ".join(str(error).split())
    return Raised(
        cause, f"{cause}: {said}" if said else cause, tuple("".join(traceback.format_exception(error)).splitlines())
    )
