"""Where what can be made again is kept between runs, for every process of this user."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.rundir import write_atomic


def cache_folder(environ: Mapping[str, str]) -> Path:
    """$MDGAN_CACHE, or mdgan-edge in $XDG_CACHE_HOME, or in .cache at home. It need not exist."""
    if named := environ.get("MDGAN_CACHE"):
        return Path(named).expanduser()
    if common := environ.get("XDG_CACHE_HOME"):
        return Path(common).expanduser() / "mdgan-edge"
    try:
        return Path.home() / ".cache" / "mdgan-edge"
    except RuntimeError:
        raise ConfigurationError("no home directory to keep a cache in: set MDGAN_CACHE to a folder") from None


def keep(path: Path, data: bytes) -> None:
    """Write a file of the cache whole or not at all, whoever else writes it too; DataError if that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be made ({error.strerror or error}); set MDGAN_CACHE") from None
    write_atomic(path, data)
