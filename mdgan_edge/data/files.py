"""Reads a folder with one entry for each node: npz files, or folders of images; the images in a row, with their origin.

Class folders need not be the same in every node's folder: labels are given by the names of all of them together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdgan_edge.data.folder import Folder, class_names
from mdgan_edge.data.formats import Format, Part, Parts, fitted
from mdgan_edge.data.images import Pixels
from mdgan_edge.data.npz import Npz
from mdgan_edge.data.pictures import check_folder, entries
from mdgan_edge.data.pixels import Channels
from mdgan_edge.errors import DataError

ENTRIES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Files:
    """The entries of `root`, by name; the test parts of npz files, if all have one, together are the test part."""

    root: Path
    resize: int | None = None
    channels: Channels | None = None

    def files(self) -> list[tuple[str, Path]]:
        """Those of every entry, in turn."""
        return [(f"{index}/{name}", path) for index, one in enumerate(self._entries()) for name, path in one.files()]

    def parts(self) -> Parts:
        """All training parts in a row, all test parts in a row."""
        found = [one.parts() for one in self._entries()]
        trains, tests = [train for train, _ in found], [test for _, test in found if test is not None]
        if tests and len(tests) < len(trains):
            raise DataError(
                f"{self.root}: only {len(tests)} of {len(trains)} files have a test part; give it to all or none"
            )
        return self._joined(trains), self._joined(tests) if tests else None

    def _entries(self) -> list[Format]:
        check_folder(self.root, "files")
        paths = entries(self.root)
        files, folders = [p for p in paths if p.suffix == ".npz" and p.is_file()], [p for p in paths if p.is_dir()]
        if files and folders:
            raise DataError(f"{self.root}: holds npz files and folders; give each node one of the same kind")
        if not files and not folders:
            raise DataError(f"{self.root}: holds neither npz files nor folders; give each node one")
        if len(files or folders) > ENTRIES_MAX:
            raise DataError(f"{self.root}: holds more than {ENTRIES_MAX} entries; use fewer nodes")
        if files:
            return [Npz(path) for path in files]
        classes = tuple(sorted({name for folder in folders for name in class_names(folder)}))
        return [Folder(path, self.resize, self.channels, classes) for path in folders]

    def _joined(self, parts: list[Part]) -> Part:
        fit = [fitted(part, self.resize, self.channels, str(self.root)) for part in parts]
        if len({part.shape for part in fit}) > 1:
            shapes = " and ".join(sorted({"x".join(map(str, part.shape)) for part in fit})[:2])
            raise DataError(f"{self.root}: holds images of {shapes}; use --resize and --channels to make them equal")
        labels = [part.y for part in fit if part.y is not None]
        if labels and len(labels) < len(fit):
            raise DataError(
                f"{self.root}: only {len(labels)} of {len(fit)} entries have labels; give them to all or none"
            )

        def blocks() -> Iterator[Pixels]:
            for part in fit:
                yield from part.blocks()

        counts = [part.count for part in fit]
        y = np.concatenate(labels) if labels else None
        return dataclasses.replace(
            fit[0], count=sum(counts), y=y, blocks=blocks, origin=np.repeat(np.arange(len(fit)), counts)
        )
