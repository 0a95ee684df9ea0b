"""Reads CelebA's layout: a flat folder of pictures, beside it a table of attributes, one of which may be the label.

Tables are those of the authors (list_attr_celeba.txt: a count, the names, then `000001.jpg -1 1 ...`) or the .csv that
many copies have. list_eval_partition, in either form, sets the test part apart: 0 and 1 train, 2 test.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdgan_edge.data import pictures
from mdgan_edge.data.formats import IMAGES_MAX, Part, Parts, Shape
from mdgan_edge.data.images import Labels
from mdgan_edge.data.pictures import check_folder, entries, is_picture
from mdgan_edge.data.pixels import Channels
from mdgan_edge.errors import ConfigurationError, DataError

SIZE = 64  # pixels, where nobody asks for others: the pictures are not square
INNER = "img_align_celeba"
ATTRIBUTES, PARTITION = "list_attr_celeba", "list_eval_partition"
TABLE_BYTES_MAX = 512 * 1024 * 1024
TEST = 2  # in PARTITION
Table = dict[str, list[str]]  # by file name


@dataclass(frozen=True, slots=True)
class CelebA:
    """The pictures in `root`, or in img_align_celeba within it, centre-cropped; `attribute` None: no labels."""

    root: Path
    attribute: str | None
    resize: int | None = None
    channels: Channels | None = None

    def files(self) -> list[tuple[str, Path]]:
        """The tables that are used, then the pictures."""
        check_folder(self.root, "celeba")
        tables = [_find(self.root, PARTITION), _find(self.root, ATTRIBUTES) if self.attribute else None]
        return [(path.name, path) for path in [*filter(None, tables), *self._pictures()]]

    def parts(self) -> Parts:
        """What list_eval_partition says, or all for training."""
        paths = self._pictures()
        shape = (self.channels or 3, self.resize or SIZE, self.resize or SIZE)
        y = self._labels(paths)
        is_test = self._is_test(paths)
        if is_test is None or not is_test.any() or is_test.all():
            return _part(paths, y, np.arange(len(paths)), shape), None
        return _part(paths, y, np.flatnonzero(~is_test), shape), _part(paths, y, np.flatnonzero(is_test), shape)

    def _pictures(self) -> list[Path]:
        for folder in (self.root, self.root / INNER, self.root / INNER / INNER):
            found = [path for path in entries(folder) if is_picture(path)] if folder.is_dir() else []
            if found:
                return found
        raise DataError(f"{self.root}: holds no pictures, nor does {INNER} in it; name CelebA's folder")

    def _labels(self, paths: list[Path]) -> Labels | None:
        """1 where the attribute is there, 0 where it is not."""
        if self.attribute is None:
            return None
        file = _find(self.root, ATTRIBUTES)
        if file is None:
            raise DataError(f"{self.root}: holds no {ATTRIBUTES}.txt or .csv; add it, or leave out attribute=")
        names, table = _read(file, wanted=None)
        column = _column(names, self.attribute)
        known = {"1": 1, "-1": 0, "0": 0}
        try:
            return np.array([known[_row(table, path, file)[column]] for path in paths], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"{file}: an attribute is {error}, not 1 or -1; copy it again") from None

    def _is_test(self, paths: list[Path]) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
        file = _find(self.root, PARTITION)
        if file is None:
            return None
        _, table = _read(file, wanted=["partition"])
        return np.array([_row(table, path, file)[0] == str(TEST) for path in paths])


def _part(paths: list[Path], y: Labels | None, rows: np.ndarray[tuple[int], np.dtype[np.intp]], shape: Shape) -> Part:
    chosen = [paths[row] for row in rows]
    return Part(len(chosen), shape, None if y is None else y[rows], lambda: pictures.blocks(chosen, shape[1], shape))


def _find(root: Path, name: str) -> Path | None:
    return next((root / f"{name}{end}" for end in (".txt", ".csv") if (root / f"{name}{end}").is_file()), None)


def _column(names: list[str], attribute: str) -> int:
    if attribute in names:
        return names.index(attribute)
    near = difflib.get_close_matches(attribute, names, n=1) or [f"one of {', '.join(names[:5])}, ..."]
    raise ConfigurationError(f"attribute={attribute}: CelebA's table has no such attribute; did you mean {near[0]}?")


def _row(table: Table, path: Path, file: Path) -> list[str]:
    if path.name not in table:
        raise DataError(
            f"{file}: has no line for {path.name}; take the table of these pictures, or move the picture away"
        )
    return table[path.name]


def _read(file: Path, wanted: list[str] | None) -> tuple[list[str], Table]:
    """The names of the columns and the values by file; `wanted`: names for a .txt that states none."""
    lines = _lines(file)
    names = _header(file, lines, wanted)
    table: Table = {}
    for number, line in lines:
        name, *values = _words(file, line)
        if len(values) != len(names):
            raise DataError(f"{file}: line {number} has {len(values)} values for {len(names)} columns; copy it again")
        table[name] = values
    if len(table) > IMAGES_MAX:
        raise DataError(f"{file}: more than {IMAGES_MAX} lines; at most that many pictures can be read")
    return names, table


def _header(file: Path, lines: Iterator[tuple[int, str]], wanted: list[str] | None) -> list[str]:
    if file.suffix == ".txt" and wanted is not None:
        return wanted
    first = next(lines, (0, ""))[1]
    if file.suffix == ".csv":
        names = _words(file, first)[1:]
    else:
        names = next(lines, (0, ""))[1].split() if first.strip().isdecimal() else []
    if not names:
        raise DataError(f"{file}: does not begin like CelebA's table; copy it again")
    return names


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        if file.stat().st_size > TABLE_BYTES_MAX:
            raise DataError(f"{file}: is larger than {TABLE_BYTES_MAX >> 20} MiB, so it is no table of CelebA")
        text = file.read_text(encoding="utf-8")
    except PermissionError:
        raise DataError(f"{file}: may not be read; check its permissions") from None
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{file}: is not text; copy it again") from None
    return iter([(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()])


def _words(file: Path, line: str) -> list[str]:
    return [word.strip() for word in line.split(",")] if file.suffix == ".csv" else line.split()
