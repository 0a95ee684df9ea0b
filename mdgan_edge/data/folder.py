"""Reads a folder of image files: flat (no labels), or one sub-folder for each class.

Sub-folders that are all named by numbers give those numbers as labels; others count from 0 in sorted order. An empty
sub-folder still counts, so that nodes which lack a class can agree on labels by keeping an empty folder for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdgan_edge.data import pictures
from mdgan_edge.data.formats import Part, Parts
from mdgan_edge.data.images import LABEL_MAX
from mdgan_edge.data.pictures import SUFFIXES, check_folder, entries, is_picture
from mdgan_edge.data.pixels import Channels, check_size
from mdgan_edge.errors import DataError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file and the label that its sub-folder gives it."""

    path: Path
    label: int | None


@dataclass(frozen=True, slots=True)
class Folder:
    """All images below `root`, sorted by path: grey if all files are, else RGB.

    `classes`: names of all class folders, where others than those of `root` count too.
    """

    root: Path
    resize: int | None = None
    channels: Channels | None = None
    classes: tuple[str, ...] | None = None

    def files(self) -> list[tuple[str, Path]]:
        """The images under their label and name."""
        return [(f"{file.label}/{file.path.name}", file.path) for file in self.find()]

    def parts(self) -> Parts:
        """All images; a folder sets none apart."""
        files = self.find()
        headers = [pictures.header(file.path) for file in files]
        if self.resize is None:
            _check_sizes(files, [size for size, _ in headers], self.root)
        channels = self.channels or (1 if all(pictures.is_grey(mode) for _, mode in headers) else 3)
        width, height = (self.resize, self.resize) if self.resize else headers[0][0]
        shape, paths = (channels, height, width), [file.path for file in files]
        y = None if files[0].label is None else np.array([file.label for file in files], dtype=np.int64)
        return Part(len(files), shape, y, lambda: pictures.blocks(paths, self.resize, shape)), None

    def find(self) -> list[ImageFile]:
        """The image files of a flat folder or of its class folders; other files and hidden ones are passed over."""
        check_folder(self.root, "folder")
        flat = [ImageFile(path, None) for path in entries(self.root) if is_picture(path)]
        classed = [
            ImageFile(path, label) for label, folder in self._labelled() for path in entries(folder) if is_picture(path)
        ]
        if flat and classed:
            raise DataError(f"{flat[0].path}: lies beside class folders; move it into one of them, or away")
        if not flat and not classed:
            raise DataError(
                f"{self.root}: holds no images ({' '.join(sorted(SUFFIXES))}), nor do folders one level down"
            )
        return flat or classed

    def _labelled(self) -> list[tuple[int, Path]]:
        numbers = labels_of(class_names(self.root) if self.classes is None else self.classes)
        return sorted((numbers[name], self.root / name) for name in class_names(self.root))


def class_names(root: Path) -> tuple[str, ...]:
    """The names of the folders in `root`, sorted."""
    return tuple(path.name for path in entries(root) if path.is_dir())


def labels_of(names: Collection[str]) -> dict[str, int]:
    """The label of every class folder: its number if all are numbers, else its place in sorted order."""
    if all(name.isascii() and name.isdecimal() and int(name) <= LABEL_MAX for name in names):
        return {name: int(name) for name in names}
    if len(names) > LABEL_MAX + 1:
        raise DataError(f"{len(names)} class folders, at most {LABEL_MAX + 1} are allowed; merge some")
    return {name: label for label, name in enumerate(sorted(names))}


def _check_sizes(files: list[ImageFile], sizes: list[tuple[int, int]], root: Path) -> None:
    for file, (width, height) in zip(files, sizes, strict=True):
        if (width, height) != sizes[0]:
            raise DataError(
                f"{root}: mixed sizes: {files[0].path.name} is {sizes[0][0]}x{sizes[0][1]}, "
                f"{file.path.name} is {width}x{height}; use --resize"
            )
    width, height = sizes[0]
    check_size(height, width, str(root))
