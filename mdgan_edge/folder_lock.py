"""One process at a time in a state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mdgan_edge.errors import DataError, TryLater

LOCK = "lock"


class FolderLock:
    """Held from `take` until `release` or the end of the process, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def take(self, who: str) -> None:
        """Keep every other process out; TryLater if one is in, DataError if the folder cannot be written."""
        try:
            file = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(f"cannot write in {self._folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            text = f"another {who} uses {self._folder}: stop it, or give this one a folder of its own"
            raise TryLater(text) from None
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def taken(self, who: str) -> bool:
        """Whether some process is in. Leaves no trace where none ever was."""
        if not (self._folder / LOCK).exists():
            return False
        try:
            self.take(who)
        except TryLater:
            return True
        self.release()
        return False
