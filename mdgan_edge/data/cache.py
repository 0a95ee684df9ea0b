"""Decoded images in files that every process maps: written once, named by what they were decoded from, checked by hash.

An entry is one file: MAGIC, the BLAKE2b of all that follows, the length of a JSON header, the header padded to a page;
then the pixels of each part, then labels and origins. It is written beside its place and renamed, by one process at a
time. Another source has another name, and one that changed while it was read has no entry, so none is ever stale; one
that was torn fails its hash and is written again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from mdgan_edge.data.formats import Part, Parts, Shape
from mdgan_edge.data.images import Indices, Labels, Pixels
from mdgan_edge.errors import DataError

MAGIC = b"MDGIMG01"  # another one when what is decoded, or how it is stored, changes
DIGEST_BYTES = 32
START = len(MAGIC) + DIGEST_BYTES  # of what the digest covers
PAGE = 4096
HEADER_BYTES_MAX = PAGE - START - 4
ENTRY_BYTES_MAX = 64 * 1024**3
TOTAL_BYTES_MAX = 128 * 1024**3  # of all entries: the ones used longest ago go first
READ_BYTES = 1024 * 1024
SUFFIX, UNFINISHED = ".images", ".part"
NUMBER = np.dtype("<i8")  # of labels and origins


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A part of an entry: pixels (m, C, H, W), mapped and read-only; labels and origins (m,) or None."""

    pixels: Pixels
    y: Labels | None
    origin: Indices | None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """An entry whose hash was right. `digest` is the hash in hex."""

    path: Path
    digest: str
    train: Stored
    test: Stored | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What the header says of one part."""

    count: int
    shape: Shape
    labels: bool
    origins: bool

    @property
    def pixel_bytes(self) -> int:
        """Of all its images."""
        return self.count * int(np.prod(self.shape))

    @property
    def number_bytes(self) -> int:
        """Of its labels and origins."""
        return self.count * NUMBER.itemsize * (self.labels + self.origins)


@dataclass(frozen=True, slots=True)
class Header:
    """The entry's own name, and its parts in order."""

    key: str
    parts: list[Layout]


def content_key(facts: str, files: Sequence[tuple[str, Path]]) -> str:
    """A name from how the files are decoded, what they are called, and every byte in them; reads them all.

    Nothing else opens a file of a source before: what is no regular file, and might never end, is refused here.
    """
    whole = hashlib.blake2b(repr((MAGIC, facts, len(files))).encode(), digest_size=16)
    for name, path in files:
        one = hashlib.blake2b(repr(name).encode())
        try:
            with _regular(path) as file:
                while block := file.read(READ_BYTES):
                    one.update(block)
        except PermissionError:
            raise DataError(f"{path}: may not be read; check its permissions") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        whole.update(one.digest())
    return whole.hexdigest()


def _regular(path: Path) -> BinaryIO:
    """Opened to read its bytes; DataError if it is a device, a named pipe or the like."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # else a pipe waits here until somebody writes
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise DataError(f"{path}: is no regular file; copy what it holds into one")
    return file


def cached(folder: Path, key: str, look: Callable[[], Parts], check: Callable[[], None] = lambda: None) -> Entry:
    """The entry of this name; if there is none that is whole, it is made from `look`.

    `check` is called when all is decoded, or something went wrong: what it raises is why there is no entry. Its errors
    and those of `look` pass through.
    """
    path = folder / f"{key}{SUFFIX}"
    try:
        found = _read(path)
        if found is None:
            parts = look()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _alone(folder):
                if (found := _read(path)) is None:  # else another process has just made it
                    _write(path, [part for part in parts if part is not None], check)
                    found = _read(path)
    except OSError as error:
        text = f"{folder}: images cannot be cached there ({error.strerror or error}); make room or set MDGAN_CACHE"
        raise DataError(text) from None
    if found is None:
        raise DataError(f"{path}: was written and reads back otherwise; check the disk or set MDGAN_CACHE")
    return found


def _read(path: Path) -> Entry | None:
    """None if it is not there, or not whole: torn, altered, or of another version."""
    try:
        if path.stat().st_size < PAGE:
            return None
        mapped = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        digest = mapped[len(MAGIC) : START].tobytes()
        if (
            mapped[: len(MAGIC)].tobytes() != MAGIC
            or hashlib.blake2b(mapped[START:].data, digest_size=DIGEST_BYTES).digest() != digest
        ):
            return None
    except FileNotFoundError:
        return None
    with suppress(OSError):  # where others may only read
        os.utime(path)  # used just now
    header = _header(mapped)
    if header is None or f"{header.key}{SUFFIX}" != path.name:  # or somebody has renamed it
        return None
    layouts, offset = header.parts, PAGE
    pixels = []
    for one in layouts:
        pixels.append(mapped[offset : offset + one.pixel_bytes].reshape(one.count, *one.shape))
        offset += one.pixel_bytes
    parts = []
    for one, x in zip(layouts, pixels, strict=True):
        y, offset = _numbers(mapped, offset, one.count, one.labels)
        origin, offset = _numbers(mapped, offset, one.count, one.origins)
        parts.append(Stored(x, y, origin))
    return Entry(path, digest.hex(), parts[0], parts[1] if len(parts) > 1 else None)


def _header(mapped: Pixels) -> Header | None:
    """None if it is of another version, though its hash is right."""
    (length,) = struct.unpack("<I", mapped[START : START + 4].tobytes())
    try:
        header = msgspec.json.decode(mapped[START + 4 : START + 4 + length].tobytes(), type=Header)
    except msgspec.MsgspecError:
        return None
    return header if _size(header.parts) == len(mapped) and header.parts else None


def _size(layouts: Sequence[Layout]) -> int:
    return PAGE + sum(one.pixel_bytes + one.number_bytes for one in layouts)


def _numbers(mapped: Pixels, offset: int, count: int, there: bool) -> tuple[Labels | None, int]:
    if not there:
        return None, offset
    end = offset + count * NUMBER.itemsize
    return np.frombuffer(mapped[offset:end].tobytes(), dtype=NUMBER).astype(np.int64), end


def _write(path: Path, parts: list[Part], check: Callable[[], None]) -> None:
    """Decode everything into a file beside `path`, then rename it; what is interrupted leaves nothing behind."""
    layouts = [Layout(one.count, one.shape, one.y is not None, one.origin is not None) for one in parts]
    for left in path.parent.glob(f"*{UNFINISHED}"):  # by a process that was killed: nobody else writes now
        left.unlink(missing_ok=True)
    _make_room(path.parent, _size(layouts))
    beside = path.with_name(f"{path.name}{UNFINISHED}")
    try:
        beside.touch(mode=0o600)  # images may be private
        with beside.open("wb") as file:
            try:
                _fill(file, Header(path.name.removesuffix(SUFFIX), layouts), parts)
            finally:
                check()
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _fill(file: BinaryIO, header: Header, parts: list[Part]) -> None:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def put(raw: Any) -> None:
        file.write(raw)
        digest.update(raw)

    told = msgspec.json.encode(header)
    assert len(told) <= HEADER_BYTES_MAX
    file.write(MAGIC + bytes(DIGEST_BYTES))
    put((struct.pack("<I", len(told)) + told).ljust(PAGE - START))
    for layout, part in zip(header.parts, parts, strict=True):
        count = 0
        for block in part.blocks():
            assert block.shape[1:] == layout.shape
            count += len(block)
            put(np.ascontiguousarray(block).data)
        assert count == layout.count
    for part in parts:
        for numbers in (part.y, part.origin):
            if numbers is not None:
                put(numbers.astype(NUMBER).data)
    file.seek(len(MAGIC))
    file.write(digest.digest())


def _make_room(folder: Path, size: int) -> None:
    """Refuse what is too large; remove the entries used longest ago while all together would be too large."""
    if size > ENTRY_BYTES_MAX:
        raise DataError(f"{size >> 30} GiB of images, at most {ENTRY_BYTES_MAX >> 30} are cached; use --resize")
    if size > shutil.disk_usage(folder).free:
        raise DataError(f"{folder}: no room for {size >> 20} MiB of images; make some or set MDGAN_CACHE")
    entries = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob(f"*{SUFFIX}"))
    total = size + sum(one for _, one, _ in entries)
    for _, one, path in entries:
        if total <= TOTAL_BYTES_MAX:
            return
        path.unlink(missing_ok=True)  # whoever has it mapped keeps it
        total -= one


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time writes here; the others wait. Ends with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
