"""Sources: every layout is understood, and everything wrong is one line that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mdgan_edge.data.images import Images, from_unit, to_unit
from mdgan_edge.data.shards import class_counts
from mdgan_edge.data.sources import load, parse_source, part_for_node
from mdgan_edge.errors import ConfigurationError, DataError
from tests.layouts import SHARED


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Random bytes."""
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def save(path: Path, **arrays: np.ndarray) -> str:
    """Write an npz; returns its source."""
    np.savez(path, allow_pickle=True, **arrays)
    return f"npz:{path}"


def save_image(path: Path, width: int = 16, height: int = 16, mode: str = "RGB", shade: int = 200) -> Path:
    """One image of one shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height), shade).convert(mode).save(path)
    return path


def as_set(images: Images) -> set[bytes]:
    """The images, whatever their order."""
    return {image.tobytes() for image in images.x}


def refusal(source: str, **options: int | None) -> str:
    """The one line of the DataError that loading ends with."""
    with pytest.raises(DataError) as caught:
        load(source, "train", 0, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- digits


def test_the_digits_are_balanced_and_their_parts_are_apart() -> None:
    train, test = load("digits", "train", 0), load("digits", "test", 0)
    assert class_counts(train) == dict.fromkeys(range(10), 400)
    assert class_counts(test) == dict.fromkeys(range(10), 100)
    assert train.shape == test.shape == (1, 28, 28)
    assert train.classes == 10
    assert not as_set(train) & as_set(test)


def test_all_leaves_out_what_the_source_itself_sets_apart() -> None:
    assert as_set(load("digits", "all", 0)) == as_set(load("digits", "train", 0))


def test_the_order_is_drawn_from_the_seed_and_labels_follow_their_images(tmp_path: Path) -> None:
    y = np.repeat(np.arange(10), 10)
    x = np.broadcast_to(y[:, None, None], (100, 8, 8)).astype(np.uint8) * 20
    source = save(tmp_path / "sorted.npz", x=x, y=y)
    first, again, other = load(source, "all", 1), load(source, "all", 1), load(source, "all", 2)
    assert first.y is not None
    assert other.y is not None
    assert np.array_equal(first.x, again.x)
    assert first.y.tolist() != sorted(first.y.tolist())
    assert first.y.tolist() != other.y.tolist()
    assert np.array_equal(first.x[:, 0, 0, 0], first.y * 20)


# --- npz


@pytest.mark.parametrize(
    ("keys", "shape", "expected"),
    [
        (("x", "y"), (20, 28, 28), (1, 28, 28)),
        (("images", "labels"), (20, 32, 32, 3), (3, 32, 32)),
        (("x_train", "y_train"), (20, 3, 32, 32), (3, 32, 32)),
        (("x", "y"), (20, 1, 16, 16), (1, 16, 16)),
        (("x", "y"), (20, 16, 16, 1), (1, 16, 16)),
    ],
)
def test_every_layout_is_understood(
    tmp_path: Path, keys: tuple[str, str], shape: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    x, y = noise(*shape), np.arange(20) % 4
    images = load(save(tmp_path / "a.npz", **{keys[0]: x, keys[1]: y}), "all", 0)
    assert images.shape == expected
    assert images.classes == 4
    plain = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if shape[-1] in (1, 3) else x
    assert images.y is not None
    assert {(image.tobytes(), int(label)) for image, label in zip(images.x, images.y, strict=True)} == {
        (image.tobytes(), int(label)) for image, label in zip(plain, y, strict=True)
    }


def test_floats_and_bytes_of_the_same_images_are_the_same(tmp_path: Path) -> None:
    x = noise(10, 8, 8)
    floats = load(save(tmp_path / "f.npz", x=x.astype(np.float64) / 255), "all", 0)
    ints = load(save(tmp_path / "i.npz", x=x.astype(np.int64)), "all", 0)
    assert np.array_equal(floats.x, load(save(tmp_path / "b.npz", x=x), "all", 0).x)
    assert np.array_equal(floats.x, ints.x)
    assert floats.y is None
    assert floats.labels == ()


def test_column_labels_are_taken(tmp_path: Path) -> None:
    assert load(save(tmp_path / "a.npz", x=noise(4, 8, 8), y=np.array([[0], [1], [2], [2]])), "all", 0).labels == (
        0,
        1,
        2,
    )


def test_a_test_part_in_the_file_is_kept(tmp_path: Path) -> None:
    x, held = noise(20, 8, 8), noise(5, 8, 8, seed=1)
    source = save(tmp_path / "a.npz", x_train=x, y_train=np.zeros(20, int), x_test=held, y_test=np.ones(5, int))
    assert as_set(load(source, "train", 0)) == as_set(load(source, "all", 0)) == {image.tobytes() for image in x}
    assert load(source, "test", 0).labels == (1,)


def test_a_tenth_is_held_out_and_it_is_the_same_for_every_seed(tmp_path: Path) -> None:
    source = save(tmp_path / "a.npz", x=noise(200, 8, 8))
    train, test = load(source, "train", 1), load(source, "test", 2)
    assert (len(train), len(test)) == (180, 20)
    assert not as_set(train) & as_set(test)
    assert as_set(train) | as_set(test) == as_set(load(source, "all", 3))


def test_colour_becomes_grey_as_pillow_does_it_and_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    x = noise(10, 32, 32, 3)
    source = save(tmp_path / "a.npz", x=x)
    grey = load(source, "all", 0, channels=1)
    assert as_set(grey) == {np.asarray(Image.fromarray(image).convert("L")).tobytes() for image in x}
    back = load(save(tmp_path / "g.npz", x=grey.x), "all", 0, channels=3)
    assert back.shape == (3, 32, 32)
    assert np.array_equal(back.x[:, 0], back.x[:, 2])


def test_resize_takes_the_central_square(tmp_path: Path) -> None:
    wide = np.zeros((2, 16, 32), np.uint8)
    wide[:, :, 8:24] = 255
    images = load(save(tmp_path / "a.npz", x=wide), "all", 0, resize=8)
    assert images.shape == (1, 8, 8)
    assert (images.x == 255).all()


def test_unit_range_there_and_back_changes_nothing() -> None:
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    unit = to_unit(x)
    assert unit.dtype == np.float32
    assert (unit.min(), unit.max()) == (-1, 1)
    assert np.array_equal(from_unit(unit), x)


class Pickled:
    """Something that only a pickle could hold."""


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": noise(4, 8, 8), "tags": np.arange(4)}, "pictures, tags; rename"),
        ({}, "its keys are: none"),
        ({"x": np.array([Pickled(), None], dtype=object)}, "pickled objects; store it as a plain array"),
        ({"x": noise(4, 8, 8), "y": np.arange(3)}, "3 labels for 4 images"),
        ({"x": noise(4, 8, 8), "y": np.eye(4, dtype=int)}, "one whole number per image"),
        ({"x": noise(4, 8, 8), "y": np.array([0.0, 1, 2, 3])}, "one whole number per image"),
        ({"x": noise(4, 8, 8), "y": np.array(3)}, "one whole number per image"),
        ({"x": noise(4, 8, 8), "y": np.array([0, 1, -1, 2])}, "number them from 0"),
        ({"x": noise(4, 8, 8), "y": np.array([0, 1, 2, 1000])}, "0 to 999"),
        ({"x": np.full((4, 8, 8), np.nan)}, "4 images hold NaN or infinity; remove"),
        ({"x": np.full((4, 8, 8), -0.5)}, "must lie in 0 to 1"),
        ({"x": noise(4, 8, 8).astype(np.float32)}, "must lie in 0 to 1"),
        ({"x": noise(4, 8, 8).astype(np.int16) + 300}, "must be 0 to 255"),
        ({"x": (noise(4, 8, 8) > 127).astype(np.uint8)}, "multiply them by 255"),
        ({"x": noise(4, 8, 8) > 127}, "store them as uint8"),
        ({"x": np.array(["a", "b"])}, "store "),
        ({"x": noise(4, 64)}, "store (m, H, W)"),
        ({"x": noise(4, 8, 8, 4)}, "1 or 3 channels"),
        ({"x": np.zeros((0, 8, 8), np.uint8)}, "holds no images"),
        ({"x": noise(4, 7, 7)}, "8 to 64 pixels; use --resize"),
        ({"x": noise(4, 65, 65)}, "8 to 64 pixels; use --resize"),
        ({"x": noise(4, 28, 32)}, "not square; use --resize"),
        ({"x": noise(1, 8, 8)}, "add more images"),
        ({"x_train": noise(4, 8, 8), "x_test": noise(4, 9, 9)}, "make them equal"),
        (
            {"x_train": noise(4, 8, 8), "y_train": np.arange(4), "x_test": noise(4, 8, 8)},
            "for one of x_train and x_test",
        ),
    ],
)
def test_an_npz_that_will_not_do_says_so(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    assert words in refusal(save(tmp_path / "bad.npz", **arrays))


def test_a_file_that_is_no_npz_says_so(tmp_path: Path) -> None:
    text, empty, array = tmp_path / "text.npz", tmp_path / "empty.npz", tmp_path / "array.npz"
    text.write_text("x,y\n1,2\n")
    empty.touch()
    with array.open("wb") as file:
        np.save(file, noise(4, 8, 8))
    for path in (text, empty, array):
        assert "is not an npz file; write one with numpy.savez_compressed" in refusal(f"npz:{path}")


def test_a_damaged_npz_says_so(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=noise(50, 8, 8))
    whole = (tmp_path / "a.npz").read_bytes()
    for position in range(0, len(whole) - 30, 97):
        broken = bytearray(whole)
        broken[position : position + 20] = b"\xff" * 20
        (tmp_path / "b.npz").write_bytes(broken)
        assert "b.npz" in refusal(f"npz:{tmp_path / 'b.npz'}")
    (tmp_path / "c.npz").write_bytes(whole[: len(whole) // 2])
    assert "is not an npz file" in refusal(f"npz:{tmp_path / 'c.npz'}")


def test_a_path_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert "no such file" in refusal(f"npz:{tmp_path / 'absent.npz'}")
    assert f"use folder:{tmp_path}" in refusal(f"npz:{tmp_path}")
    assert "no such folder" in refusal(f"folder:{tmp_path / 'absent'}")
    (tmp_path / "file").touch()
    assert "is a file" in refusal(f"folder:{tmp_path / 'file'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    source = save(tmp_path / "a.npz", x=noise(4, 8, 8))
    (tmp_path / "a.npz").chmod(0)
    assert "check its permissions" in refusal(source)
    save_image(tmp_path / "pictures" / "a.png").chmod(0)
    assert "check its permissions" in refusal(f"folder:{tmp_path / 'pictures'}")


# --- folder


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "JPEG", "bmp", "gif", "webp"):
        save_image(tmp_path / f"a.{suffix}")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "._a.png").touch()
    images = load(f"folder:{tmp_path}", "all", 0)
    assert (len(images), images.shape, images.y) == (6, (3, 16, 16), None)


def test_sub_folders_are_classes_in_sorted_order_and_an_empty_one_counts(tmp_path: Path) -> None:
    for index, name in enumerate(["ant", "bee", "dog"]):
        save_image(tmp_path / name / "1.png", shade=50 * index)
    (tmp_path / "cat").mkdir()
    images = load(f"folder:{tmp_path}", "all", 0)
    assert images.y is not None
    assert dict(zip(images.x[:, 0, 0, 0].tolist(), images.y.tolist(), strict=True)) == {0: 0, 50: 1, 100: 3}


def test_sub_folders_named_by_numbers_keep_their_numbers(tmp_path: Path) -> None:
    for name in ("2", "10", "7"):
        save_image(tmp_path / name / "1.png", shade=int(name))
    images = load(f"folder:{tmp_path}", "all", 0)
    assert images.y is not None
    assert images.y.tolist() == images.x[:, 0, 0, 0].tolist()
    assert images.labels == (2, 7, 10)


@pytest.mark.parametrize(("modes", "channels"), [(("L", "1"), 1), (("L", "RGB"), 3), (("P",), 3), (("RGBA",), 3)])
def test_a_folder_is_grey_only_if_every_file_is(tmp_path: Path, modes: tuple[str, ...], channels: int) -> None:
    for mode in modes:
        save_image(tmp_path / f"{mode}.png", mode=mode, shade=255)
    images = load(f"folder:{tmp_path}", "all", 0)
    assert images.shape == (channels, 16, 16)
    assert (images.x == 255).all()
    assert load(f"folder:{tmp_path}", "all", 0, channels=1).shape == (1, 16, 16)
    assert load(f"folder:{tmp_path}", "all", 0, channels=3).shape == (3, 16, 16)


def test_sixteen_bits_and_transparency_are_not_clipped_to_nonsense(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    assert (load(f"folder:{tmp_path}", "all", 0).x == 0x80).all()
    (tmp_path / "deep.png").unlink()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load(f"folder:{tmp_path}", "all", 0).x == 255).all()


def test_resize_brings_images_of_any_size_together(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", 300, 200)
    save_image(tmp_path / "b.jpg", 5, 9)
    images = load(f"folder:{tmp_path}", "all", 0, resize=32)
    assert images.shape == (3, 32, 32)
    assert np.abs(images.x.astype(int) - 200).max() <= 2


def test_mixed_sizes_name_two_files(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", 16, 16)
    save_image(tmp_path / "b.png", 200, 100)
    text = refusal(f"folder:{tmp_path}")
    assert "mixed sizes: a.png is 16x16, b.png is 200x100; use --resize" in text


@pytest.mark.parametrize(
    ("size", "words"), [((20, 16), "20x16, not square; use --resize"), ((100, 100), "8 to 64 pixels; use --resize")]
)
def test_images_of_a_wrong_size_ask_for_resize(tmp_path: Path, size: tuple[int, int], words: str) -> None:
    save_image(tmp_path / "a.png", *size)
    assert words in refusal(f"folder:{tmp_path}")


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "notes.txt").touch()
    assert "holds no images" in refusal(f"folder:{tmp_path}")


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    whole = save_image(tmp_path / "a.png", 60, 60).read_bytes()
    for name, content in {"text.png": b"hello", "empty.png": b"", "half.png": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        assert f"{name}: is not a whole image" in refusal(f"folder:{tmp_path}")
        (tmp_path / name).unlink()


def test_an_image_beside_class_folders_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "cats" / "1.png")
    stray = save_image(tmp_path / "stray.png")
    assert f"{stray}: lies beside class folders" in refusal(f"folder:{tmp_path}")


# --- the source text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("digit", "did you mean 'digits'"),
        ("digits:x", "use digits, npz:FILE"),
        ("np:a.npz", "did you mean 'npz'"),
        ("folders:a", "did you mean 'folder'"),
        ("npz:", "use digits, npz:FILE"),
        ("folder", "use digits, npz:FILE"),
        ("", "use digits, npz:FILE"),
    ],
)
def test_a_source_that_is_none_is_refused(source: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_source(source)


def test_a_bare_path_is_told_its_prefix(tmp_path: Path) -> None:
    def told(kind: str, path: Path) -> None:
        with pytest.raises(ConfigurationError, match=f"did you mean '{kind}:"):
            parse_source(str(path))

    told("folder", tmp_path)
    for kind, name in [
        ("npz", "a.npz"),
        ("idx", "train-images-idx3-ubyte.gz"),
        ("cifar10", "data_batch_1"),
        ("celeba", "list_attr_celeba.csv"),
        ("files", "a.npz"),
    ]:
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).touch()
        told(kind, tmp_path / kind / name if kind == "npz" else tmp_path / kind)


@pytest.mark.parametrize("resize", [7, 65])
def test_a_resize_out_of_range_is_refused(resize: int) -> None:
    with pytest.raises(ConfigurationError, match="8 to 64"):
        load("digits", "train", 0, resize=resize)


def test_a_node_leaves_the_held_out_part_of_shared_data_alone() -> None:
    assert [part_for_node(shard) for shard in ("all", "iid:0/2", "classes=1")] == ["all", "train", "train"]


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [("mnist_70k.npz", (1, 28, 28), (60_000, 10_000)), ("cifar10_10k.npz", (3, 32, 32), (9_000, 1_000))],
)
def test_large_public_files_load(name: str, shape: tuple[int, int, int], counts: tuple[int, int]) -> None:
    if SHARED is None or not (Path(SHARED) / name).exists():
        pytest.skip(f"{name} is not in the folder that MDGAN_TEST_DATA names")
    train, test = (load(f"npz:{Path(SHARED) / name}", part, 0) for part in ("train", "test"))
    assert train.shape == test.shape == shape
    assert (len(train), len(test)) == counts
    assert train.labels == test.labels == tuple(range(10))
