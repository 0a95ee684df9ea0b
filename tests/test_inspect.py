"""`mdgan-sim data inspect`: what it counts, what it warns of, what it draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mdgan_edge.data.grid import GAP
from sim.cli import main
from tests.layouts import noise, write_folder, write_idx


def inspect(*words: object) -> str:
    """What the command prints."""
    done = CliRunner().invoke(main, ["data", "inspect", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout


def found(*words: object) -> dict[str, Any]:
    """What it says as JSON."""
    said: dict[str, Any] = json.loads(inspect(*words, "--json"))
    return said


def npz(path: Path, x: np.ndarray, y: np.ndarray | None = None) -> str:
    """A source of these images."""
    np.savez(path / "a.npz", allow_pickle=True, **({"x": x} if y is None else {"x": x, "y": y}))
    return f"npz:{path / 'a.npz'}"


def warnings(path: Path, x: np.ndarray, y: np.ndarray | None) -> list[str]:
    said: list[str] = found(npz(path, x, y))["warnings"]
    return said


def test_the_digits_are_told_in_full() -> None:
    assert found("digits") == {
        "source": "digits",
        "shape": [1, 28, 28],
        "dtype": "uint8",
        "train": {"images": 4000, "classes": {str(label): 400 for label in range(10)}},
        "test": {
            "images": 1000,
            "classes": {str(label): 100 for label in range(10)},
            "set_apart_by_the_source": True,
        },
        "cache": None,
        "shards": {},
        "warnings": [],
        "grid": None,
    }


def test_people_read_the_same_in_lines(tmp_path: Path, cache: Path) -> None:
    write_idx(tmp_path, "train", noise(50, 8, 8), np.arange(50) % 2)
    lines = inspect(f"idx:{tmp_path}", "--nodes", 2).splitlines()
    assert lines[0] == f"idx:{tmp_path}: 1x8x8, uint8"
    assert lines[1].startswith("train      45 images  0:2")
    assert lines[2].endswith("(a tenth, the same for every seed)")
    assert lines[3].startswith(f"cache  {cache}/")
    assert [line.split()[:3] for line in lines[5:]] == [["iid:0/2", "23", "images"], ["iid:1/2", "22", "images"]]


def test_the_cache_is_named_with_its_hash(tmp_path: Path) -> None:
    source = npz(tmp_path, noise(20, 8, 8))
    cache = found(source)["cache"]
    assert Path(cache["path"]).is_file()
    assert len(bytes.fromhex(cache["hash"])) == 32
    assert found(source)["cache"] == cache


@pytest.mark.parametrize("shards", ["iid", "dirichlet=0.3", "labels=2"])
def test_every_node_is_counted_and_nothing_is_lost(shards: str) -> None:
    said = found("digits", "--shards", shards, "--nodes", 7)
    nodes = said["shards"]
    assert list(nodes) == [f"{shards}:{rank}/7" for rank in range(7)]
    assert sum(node["images"] for node in nodes.values()) == 4000
    for node in nodes.values():
        assert sum(node["classes"].values()) == node["images"]


def test_nodes_with_files_of_their_own_are_counted_by_file(tmp_path: Path) -> None:
    for node in range(3):
        write_folder(tmp_path / f"node-{node}", noise(20, 8, 8, seed=node), np.full(20, node))
    nodes = found(f"files:{tmp_path}", "--shards", "by-file", "--nodes", 3)["shards"]
    assert [list(node["classes"]) for node in nodes.values()] == [["0"], ["1"], ["2"]]


def test_the_grid_has_a_row_for_each_class_and_grey_where_images_lack(tmp_path: Path) -> None:
    y = np.array([0] * 30 + [1] * 4)
    x = np.broadcast_to(np.where(y, 255, 0)[:, None, None], (34, 8, 8)).astype(np.uint8)
    assert found(npz(tmp_path, x, y), "--out", tmp_path / "grid.png")["grid"] == str(tmp_path / "grid.png")
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    step = 16 + GAP
    centres = pixels[GAP + 8 :: step, GAP + 8 :: step]
    assert centres.shape == (2, 10)
    assert centres[0].tolist() == [0] * 10
    assert sorted(set(centres[1].tolist())) == [128, 255]


def test_the_grid_has_a_row_for_each_node_when_shards_are_dealt(tmp_path: Path) -> None:
    inspect("digits", "--nodes", 3, "--out", tmp_path / "grid.png")
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (3 * (56 + GAP) + GAP, 10 * (56 + GAP) + GAP)


def test_a_grid_that_cannot_be_written_ends_with_74(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["data", "inspect", "digits", "--out", str(tmp_path / "absent" / "grid.png")])
    assert done.exit_code == 74
    assert len(done.stderr.splitlines()) == 1


def test_one_class_only_is_warned_of(tmp_path: Path) -> None:
    assert warnings(tmp_path, noise(20, 8, 8), np.full(20, 3)) == ["only one class: every label is 3"]


def test_a_source_sorted_by_class_is_warned_of_and_permuted(tmp_path: Path) -> None:
    (text,) = warnings(tmp_path, noise(20, 8, 8), np.repeat([0, 1], 10))
    assert text.startswith("the source is sorted by class; here it is permuted")
    assert warnings(tmp_path, noise(20, 8, 8), np.tile([0, 1], 10)) == []


def test_copies_are_warned_of_and_so_are_test_images_that_are_trained_on(tmp_path: Path) -> None:
    x = noise(20, 8, 8)
    np.savez(tmp_path / "b.npz", x_train=np.concatenate([x, x[:4]]), x_test=x[:3])
    assert found(f"npz:{tmp_path / 'b.npz'}")["warnings"] == [
        "4 of 24 training images are copies of others",
        "3 of 3 test images are training images as well: scores will flatter",
    ]


def test_images_of_one_colour_are_warned_of(tmp_path: Path) -> None:
    x = noise(100, 8, 8, 3)
    x[:50] = np.arange(150, dtype=np.uint8).reshape(50, 1, 1, 3)
    source = npz(tmp_path, x)
    (text,) = found(source)["warnings"]
    constant = int(text.split()[0])
    assert text == f"{constant} of 90 training images have one colour all over"
    assert 40 <= constant <= 50


def test_uneven_classes_are_warned_of(tmp_path: Path) -> None:
    y = np.tile(np.array([0] * 30 + [1]), 4)
    (text,) = warnings(tmp_path, noise(124, 8, 8), y)
    assert text.startswith("classes are uneven: ")


def test_resize_and_channels_are_looked_at_as_they_will_be_trained_on() -> None:
    assert found("digits", "--resize", 16, "--channels", 3)["shape"] == [3, 16, 16]
