"""Formats: what is written in a layout comes back, image for image and label for label, whole and in blocks."""

from __future__ import annotations

import gzip
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdgan_edge.data.celeba import CelebA
from mdgan_edge.data.formats import BLOCK_BYTES, block_length
from mdgan_edge.data.idx import Idx
from mdgan_edge.data.images import Images
from mdgan_edge.data.shards import class_counts, parse_shard, shard_text, take
from mdgan_edge.data.sources import load
from mdgan_edge.errors import ConfigurationError, DataError
from tests.layouts import (
    celeba_values,
    labelled,
    noise,
    shared,
    write_batch,
    write_celeba,
    write_cifar,
    write_folder,
    write_idx,
)

FASHION = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it


def pairs(images: Images) -> set[tuple[bytes, int | None]]:
    return labelled(images.x, images.y)


def by_files(source: str, nodes: int) -> list[Images]:
    images = load(source, "train", 0)
    return [take(images, parse_shard(shard_text("by-file", rank, nodes)), 0) for rank in range(nodes)]


# --- IDX


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_files_come_back_with_the_parts_they_had(tmp_path: Path, gz: bool, joint: str) -> None:
    x, y = noise(50, 12, 12), np.arange(50) % 7
    write_idx(tmp_path, "train", x[:40], y[:40], gz, joint)
    write_idx(tmp_path, "t10k", x[40:], y[40:], gz, joint)
    train, test = load(f"idx:{tmp_path}", "train", 0), load(f"idx:{tmp_path}", "test", 0)
    assert pairs(train) == labelled(x[:40, None], y[:40])
    assert pairs(test) == labelled(x[40:, None], y[40:])
    assert (train.shape, train.classes) == ((1, 12, 12), 7)


def test_idx_without_t10k_holds_a_tenth_out_and_without_labels_has_none(tmp_path: Path) -> None:
    x = noise(50, 12, 12)
    write_idx(tmp_path, "train", x, None)
    train, test = load(f"idx:{tmp_path}", "train", 0), load(f"idx:{tmp_path}", "test", 0)
    assert (len(train), len(test), train.y) == (45, 5, None)
    assert pairs(train) | pairs(test) == labelled(x[:, None], None)


def test_idx_pixels_come_in_blocks_that_bound_what_is_in_memory(tmp_path: Path) -> None:
    x = noise(3000, 64, 64)
    write_idx(tmp_path, "train", x, None, gz=False)
    blocks = list(Idx(tmp_path).parts()[0].blocks())
    assert len(blocks) > 1
    assert max(block.nbytes for block in blocks) <= BLOCK_BYTES
    assert np.array_equal(np.concatenate(blocks)[:, 0], x)


@given(st.integers(1, 64), st.integers(8, 64), st.booleans())
def test_a_block_is_never_empty_and_never_too_large(channels: int, side: int, large: bool) -> None:
    shape = (channels, side * (64 if large else 1), side)
    assert block_length(shape) == 1 or block_length(shape) * np.prod(shape) <= BLOCK_BYTES


@given(st.sampled_from(["images", "labels"]), st.booleans(), st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_idx_files_with_wrong_bytes_in_them_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, gz: bool, place: int, wrong: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"altered-{gz}"
    write_idx(folder, "train", noise(20, 8, 8), np.arange(20) % 7, gz)
    (path,) = folder.glob(f"train-{kind}*")
    whole = path.read_bytes()
    place %= len(whole)
    path.write_bytes(whole[:place] + wrong + whole[place + len(wrong) :])
    with suppress(DataError):
        train, _ = Idx(folder).parts()
        assert sum(map(len, train.blocks())) == train.count


@settings(max_examples=50)
@given(st.integers(0, 200), st.text(min_size=1, max_size=8), st.booleans())
def test_a_table_of_celeba_with_wrong_letters_in_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, wrong: str, csv: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"table-{csv}"
    if not folder.exists():
        write_celeba(folder, 4, csv)
    table = folder / f"list_attr_celeba.{'csv' if csv else 'txt'}"
    whole = table.with_suffix(".whole")
    whole.write_bytes(whole.read_bytes() if whole.exists() else table.read_bytes())
    letters = whole.read_text()
    place %= len(letters)
    table.write_text(letters[:place] + wrong + letters[place + len(wrong) :], encoding="utf-8", errors="replace")
    with suppress(DataError, ConfigurationError):
        y = CelebA(folder, "Smiling").parts()[0].y
        assert y is not None
        assert set(y.tolist()) <= {0, 1}


def test_mnist_written_as_idx_is_mnist(tmp_path: Path) -> None:
    mnist = shared("mnist_70k.npz")
    few = {key: value[::20] for key, value in mnist.items()}
    write_idx(tmp_path, "train", few["x_train"], few["y_train"])
    write_idx(tmp_path, "t10k", few["x_test"], few["y_test"])
    train, test = load(f"idx:{tmp_path}", "train", 0), load(f"idx:{tmp_path}", "test", 0)
    assert pairs(train) == labelled(few["x_train"][:, None], few["y_train"])
    assert (len(train), len(test)) == (3000, 500)
    assert train.labels == test.labels == tuple(range(10))


def test_debians_fashion_mnist_loads_as_it_is() -> None:
    if not FASHION.exists():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    train, test = load(f"idx:{FASHION}", "train", 0), load(f"idx:{FASHION}", "test", 0)
    assert class_counts(train) == dict.fromkeys(range(10), 6000)
    assert class_counts(test) == dict.fromkeys(range(10), 1000)
    with gzip.open(FASHION / "train-labels-idx1-ubyte.gz") as file:
        assert sorted(train.y.tolist() if train.y is not None else []) == sorted(file.read()[8:])


# --- CIFAR-10


@pytest.mark.parametrize("protocol", [None, 0, 2, 3, 4, 5], ids=str)
def test_cifar_batches_come_back_whichever_python_wrote_them(tmp_path: Path, protocol: int | None) -> None:
    x, y = noise(60, 3, 32, 32), np.arange(60) % 10
    write_cifar(tmp_path, x[:50], y[:50], 5, protocol)
    write_batch(tmp_path / "test_batch", x[50:], y[50:], protocol)
    assert pairs(load(f"cifar10:{tmp_path}", "train", 0)) == labelled(x[:50], y[:50])
    assert pairs(load(f"cifar10:{tmp_path}", "test", 0)) == labelled(x[50:], y[50:])


def test_cifar_may_lie_in_the_folder_of_its_archive_and_lack_the_test_batch(tmp_path: Path) -> None:
    x, y = noise(40, 3, 32, 32), np.arange(40) % 10
    write_cifar(tmp_path / "cifar-10-batches-py", x, y, 12, None)
    assert pairs(load(f"cifar10:{tmp_path}", "all", 0)) == labelled(x, y)
    assert len(load(f"cifar10:{tmp_path}", "test", 0)) == 4


def test_real_cifar_written_as_batches_is_the_same(tmp_path: Path) -> None:
    cifar = shared("cifar10_10k.npz")
    x, y = np.ascontiguousarray(cifar["x"][:1000].transpose(0, 3, 1, 2)), cifar["y"][:1000]
    write_cifar(tmp_path, x, y, 5, None)
    images = load(f"cifar10:{tmp_path}", "all", 0)
    assert pairs(images) == labelled(x, y)
    assert images.shape == (3, 32, 32)


# --- CelebA


@pytest.mark.parametrize("csv", [True, False])
@pytest.mark.parametrize("inner", ["", "img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_celeba_is_cropped_to_its_centre_and_labelled_by_an_attribute(tmp_path: Path, csv: bool, inner: str) -> None:
    write_celeba(tmp_path / "c", 20, csv, inner)
    images = load(f"celeba:{tmp_path / 'c'},attribute=Smiling", "all", 0)
    assert images.shape == (3, 64, 64)
    assert images.y is not None
    shades = np.rint(images.x.mean(axis=(1, 2, 3)) / 2).astype(int)
    assert np.ptp(images.x.reshape(20, -1).astype(int), axis=1).max() <= 6  # nothing of the black above and below
    assert sorted(shades) == list(range(20))
    assert images.y.tolist() == [int(celeba_values(20)[shade, 1] == 1) for shade in shades]


def test_celeba_without_an_attribute_has_no_labels_and_needs_no_table(tmp_path: Path) -> None:
    write_celeba(tmp_path / "c", 10)
    (tmp_path / "c" / "list_attr_celeba.txt").unlink()
    images = load(f"celeba:{tmp_path / 'c'}", "train", 0, resize=32, channels=1)
    assert (len(images), images.shape, images.y) == (9, (1, 32, 32), None)


@pytest.mark.parametrize("csv", [True, False])
def test_celebas_own_partition_is_kept(tmp_path: Path, csv: bool) -> None:
    paths = write_celeba(tmp_path / "c", 10, csv)
    joint, head = (",", "image_id,partition\n") if csv else (" ", "")
    lines = [f"{path.name}{joint}{0 if index < 6 else 1 if index < 7 else 2}\n" for index, path in enumerate(paths)]
    (tmp_path / "c" / f"list_eval_partition.{'csv' if csv else 'txt'}").write_text(head + "".join(lines))
    train, test = (load(f"celeba:{tmp_path / 'c'}", part, 0, resize=8) for part in ("train", "test"))
    assert (len(train), len(test)) == (7, 3)
    assert train.x.max() < test.x.min()


def test_an_attribute_that_is_none_names_the_near_one(tmp_path: Path) -> None:
    write_celeba(tmp_path / "c", 2)
    with pytest.raises(ConfigurationError, match="did you mean Smiling"):
        load(f"celeba:{tmp_path / 'c'},attribute=smiling", "all", 0)


# --- a file or folder for each node


def test_every_node_gets_the_npz_file_that_is_its_own(tmp_path: Path) -> None:
    held = [noise(40, 8, 8, seed=node) for node in range(3)]
    for node, x in enumerate(held):
        np.savez(tmp_path / f"{node}.npz", x_train=x, y_train=np.full(40, node), x_test=x[:2], y_test=np.zeros(2, int))
    shards = by_files(f"files:{tmp_path}", 3)
    assert [pairs(shard) for shard in shards] == [
        labelled(x[:, None], np.full(40, node)) for node, x in enumerate(held)
    ]
    assert len(load(f"files:{tmp_path}", "test", 0)) == 6


def test_every_node_gets_its_folder_and_all_mean_the_same_by_a_label(tmp_path: Path) -> None:
    x = noise(60, 8, 8)
    names = ("ant", "bee", "cow")
    for node in range(2):  # the first has ants and bees, the second bees and cows
        write_folder(tmp_path / f"node-{node}", x[node * 30 : node * 30 + 30], np.arange(30) % 2 + node, names)
    shards = by_files(f"files:{tmp_path}", 2)
    assert [shard.labels for shard in shards] == [(0, 1), (1, 2)]
    assert sum(map(len, shards)) == len(load(f"files:{tmp_path}", "train", 0)) == 54
    for node, shard in enumerate(shards):
        assert pairs(shard) < labelled(x[node * 30 : node * 30 + 30, None], np.arange(30) % 2 + node)


def test_files_of_nodes_can_be_mixed_as_well(tmp_path: Path) -> None:
    for node in range(2):
        np.savez(tmp_path / f"{node}.npz", x=noise(40, 8, 8, seed=node), y=np.full(40, node))
    shard = take(load(f"files:{tmp_path}", "train", 0), parse_shard("iid:0/4"), 0)
    assert shard.labels == (0, 1)


def test_by_file_wants_as_many_nodes_as_files_and_a_source_that_has_them(tmp_path: Path) -> None:
    for node in range(2):
        np.savez(tmp_path / f"{node}.npz", x=noise(40, 8, 8, seed=node))
    with pytest.raises(ConfigurationError, match="files of 2 nodes, not 3; use as many nodes"):
        by_files(f"files:{tmp_path}", 3)
    with pytest.raises(ConfigurationError, match="use files:DIR"):
        by_files("digits", 3)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"x": noise(9, 9, 9)}, "1x8x8 and 1x9x9; use --resize"),
        ({"x": noise(9, 8, 8), "y": np.arange(9)}, "only 1 of 2 entries have labels"),
        ({"x_train": noise(9, 8, 8), "x_test": noise(9, 8, 8)}, "only 1 of 2 files have a test part"),
    ],
)
def test_files_that_do_not_go_together_are_refused(tmp_path: Path, second: dict[str, np.ndarray], words: str) -> None:
    np.savez(tmp_path / "a.npz", x=noise(9, 8, 8))
    np.savez(tmp_path / "b.npz", allow_pickle=True, **second)
    with pytest.raises(DataError, match=words):
        load(f"files:{tmp_path}", "train", 0)
