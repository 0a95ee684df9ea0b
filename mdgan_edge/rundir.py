"""Knows the run directory: what lies in it, that nothing in it is overwritten unasked, and how to write atomically."""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.folder_lock import FolderLock
from mdgan_edge.journal import plain

RUNS = Path("runs")
HALF_WRITTEN = re.compile(r"\..+\.[0-9]+\.tmp")  # see write_atomic
MARKS = ("run.json", "config.toml")  # a directory that has one of these is a run directory
CONTENT = (
    *MARKS,
    "journal.jsonl",
    "metrics.jsonl",
    "samples",
    "generator.safetensors",
    "checkpoints",
    "orphans",
    "status.json",
    "logs",
    "state",
    "lock",
    "scenario.toml",
    "window.json",
    "repro.toml",
    "report.html",
)


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where one run leaves everything. The properties are paths; that a file exists is up to who writes it."""

    path: Path

    @classmethod
    def create(cls, path: Path | None, name: str, seed: int, force: bool = False) -> RunDirectory:
        """A directory for a new run: `path`, or runs/<name>-<seed>. With `force` an earlier run in it is removed.

        Write `config` first: it is what marks the directory as a run's, should the run end early.
        Raises ConfigurationError if something is there already, DataError if the directory cannot be made.
        """
        run = cls(path if path is not None else RUNS / f"{_file_name(name)}-{seed}")
        try:
            run._make_room(force)
            run.samples.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the run directory {run.path}: {error.strerror or error}") from error
        return run

    @classmethod
    def resume(cls, path: Path | None, name: str, seed: int, force: bool = False) -> RunDirectory:
        """The directory of a run to go on with, or a new one as `create` makes it. With `force` always a new one."""
        run = cls(path if path is not None else RUNS / f"{_file_name(name)}-{seed}")
        if force or not run.is_run():
            return cls.create(path, name, seed, force)
        if run.going_on:
            raise ConfigurationError(f"a run goes on in {run.path}: name another directory with --out")
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """The directory of an earlier run. Raises DataError if it is none."""
        run = cls(path)
        if not run.is_run():
            raise DataError(f"{path} is not a run directory: it has neither {' nor '.join(MARKS)}")
        return run

    def lock(self) -> FolderLock:
        """Held by the hub of a run while it goes on. Raises TryLater if another holds it."""
        lock = FolderLock(self.path)
        lock.take("run")
        return lock

    @property
    def going_on(self) -> bool:
        """Whether a hub holds the lock."""
        return FolderLock(self.path).taken("run")

    def is_run(self) -> bool:
        """Whether a run has left its marks here."""
        return any((self.path / mark).exists() for mark in MARKS)

    @property
    def run_json(self) -> Path:
        """The outcome of the run, see docs/commands.md."""
        return self.path / "run.json"

    @property
    def config(self) -> Path:
        """The settings the run had, every one of them."""
        return self.path / "config.toml"

    @property
    def journal(self) -> Path:
        """What happened and why."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """What was measured."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """The directory of image grids."""
        return self.path / "samples"

    @property
    def generator(self) -> Path:
        """The trained generator."""
        return self.path / "generator.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The directory of what a run can be resumed from."""
        return self.path / "checkpoints"

    @property
    def orphans(self) -> Path:
        """The directory of discriminators that the hub has taken over from nodes that left or died."""
        return self.path / "orphans"

    @property
    def status(self) -> Path:
        """The state of a run that is going on."""
        return self.path / "status.json"

    @property
    def logs(self) -> Path:
        """What the processes of a swarm had to say, a file each."""
        return self.path / "logs"

    @property
    def state(self) -> Path:
        """The folders of a swarm's hub and nodes: keys, register, discriminators. For the owner's eyes only."""
        return self.path / "state"

    def _make_room(self, force: bool) -> None:
        if not self.path.exists() and not self.path.is_symlink():
            return
        if not self.path.is_dir():
            raise ConfigurationError(f"{self.path} is not a directory: name another with --out")
        if _holds_no_file(self.path):
            return
        if not self.is_run():
            raise ConfigurationError(f"{self.path} holds something that is no run: name another directory with --out")
        if self.going_on:
            raise ConfigurationError(f"a run goes on in {self.path}: name another directory with --out")
        if not force:
            raise ConfigurationError(f"{self.path} holds a run: --force replaces it, --out names another directory")
        for name in reversed(CONTENT):  # the marks go last: what is interrupted still looks like a run
            _remove(self.path / name)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON so that a reader finds the old file or the new one, never half of one."""
    write_atomic(path, json.dumps(plain(value), indent=2).encode() + b"\n")


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file as a whole and durably. Raises DataError if the disk will not have it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def sweep(folder: Path) -> None:
    """Remove what `write_atomic` leaves there if its process is killed; nobody else may be writing there."""
    for path in folder.iterdir():
        if HALF_WRITTEN.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def _sync_directory(path: Path) -> None:
    """Make the new name durable as well as the bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holds_no_file(path: Path) -> bool:
    """Whether nothing can be lost here: a run that ended before its first file leaves empty directories."""
    return not any(one.is_symlink() or not one.is_dir() for one in path.rglob("*"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """A name that cannot leave the directory it is put in."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "run"
