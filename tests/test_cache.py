"""The cache of decoded images: written once, mapped, whole or made again, and safe with many processes at once."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdgan_edge.data import cache
from mdgan_edge.data.cache import cached, content_key
from mdgan_edge.data.cifar10 import Cifar10
from mdgan_edge.data.formats import Part, Parts
from mdgan_edge.data.images import Pixels
from mdgan_edge.data.sources import load, open_source
from mdgan_edge.errors import DataError
from tests.layouts import noise, write_cifar, write_folder, write_idx
from tests.mutants.planting import broken

X, Y = noise(30, 1, 8, 8), np.arange(30) % 3


class Source:
    """Two parts, and how often their pixels were decoded."""

    def __init__(self) -> None:
        self.decoded = 0

    def look(self) -> Parts:
        def blocks() -> Iterator[Pixels]:
            self.decoded += 1
            yield X[:7]
            yield X[7:20]

        train = Part(20, (1, 8, 8), Y[:20], blocks, np.arange(20) // 10)
        return train, Part(10, (1, 8, 8), None, lambda: iter([X[20:]]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_decoded_is_read_back_and_not_decoded_again(tmp_path: Path) -> None:
    source = Source()
    first, second = cached(tmp_path, "k", source.look), cached(tmp_path, "k", source.look)
    for entry in (first, second):
        assert entry.test is not None
        assert np.array_equal(entry.train.pixels, X[:20])
        assert np.array_equal(entry.test.pixels, X[20:])
        assert entry.train.y is not None
        assert entry.train.y.tolist() == Y[:20].tolist()
        assert entry.train.origin is not None
        assert entry.train.origin.tolist() == [0] * 10 + [1] * 10
        assert (entry.test.y, entry.test.origin) == (None, None)
    assert (source.decoded, first.digest) == (1, second.digest)
    assert names(tmp_path) == ["k.images"]


def test_pixels_are_mapped_from_the_file_and_read_only(tmp_path: Path) -> None:
    pixels = cached(tmp_path, "k", Source().look).train.pixels
    assert isinstance(np.asarray(pixels.base).base, np.memmap) or isinstance(pixels.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=40))
def test_an_entry_with_other_bytes_in_it_is_made_again(
    tmp_path_factory: pytest.TempPathFactory, place: int, wrong: bytes
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    source = Source()
    whole = cached(folder, "k", source.look).path.read_bytes()
    place %= len(whole)
    altered = (whole[:place] + wrong + whole[place + len(wrong) :])[: len(whole)]
    (folder / "k.images").write_bytes(altered)
    assert np.array_equal(cached(folder, "k", source.look).train.pixels, X[:20])
    assert source.decoded == 1 + (altered != whole)
    assert (folder / "k.images").read_bytes() == whole


@pytest.mark.parametrize("length", [0, 1, 39, 40, 4095, 4096, 5000])
def test_an_entry_that_was_cut_off_is_made_again(tmp_path: Path, length: int) -> None:
    whole = cached(tmp_path, "k", Source().look).path.read_bytes()
    (tmp_path / "k.images").write_bytes(whole[:length])
    cached(tmp_path, "k", Source().look)
    assert (tmp_path / "k.images").read_bytes() == whole


@pytest.mark.parametrize(
    "header", [b"[]", b"{}", b'{"key": "k", "parts": []}', b'{"key": "k", "parts": [{"count": 1}]}']
)
def test_an_entry_of_another_version_is_made_again(tmp_path: Path, header: bytes) -> None:
    raw = bytearray(cached(tmp_path, "k", Source().look).path.read_bytes())
    raw[cache.START : cache.PAGE] = (len(header).to_bytes(4, "little") + header).ljust(cache.PAGE - cache.START)
    raw[len(cache.MAGIC) : cache.START] = hashlib.blake2b(raw[cache.START :], digest_size=32).digest()
    (tmp_path / "k.images").write_bytes(raw)
    assert np.array_equal(cached(tmp_path, "k", Source().look).train.pixels, X[:20])


def test_an_entry_under_the_name_of_another_is_made_again(tmp_path: Path) -> None:
    cached(tmp_path, "k", Source().look).path.rename(tmp_path / "other.images")
    source = Source()
    cached(tmp_path, "other", source.look)
    assert source.decoded == 1


def test_what_fails_while_decoding_leaves_nothing(tmp_path: Path) -> None:
    def blocks() -> Iterator[Pixels]:
        yield X[:7]
        raise DataError("the rest is damaged")

    with pytest.raises(DataError, match="the rest is damaged"):
        cached(tmp_path, "k", lambda: (Part(20, (1, 8, 8), None, blocks), None))
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "other.images.part").write_bytes(b"half")
    cached(tmp_path, "k", Source().look)
    assert names(tmp_path) == ["k.images"]


def test_the_name_changes_with_every_byte_name_and_setting_but_not_with_the_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    key = content_key("idx", [("a", one)])
    assert key == content_key("idx", [("a", two)])
    two.write_bytes(b"sane")
    others = [
        content_key("idx", [("a", two)]),
        content_key("idx", [("b", one)]),
        content_key("npz", [("a", one)]),
        content_key("idx", [("a", one), ("b", one)]),
    ]
    assert len({key, *others}) == 5


def test_a_source_that_changes_is_decoded_anew_and_one_that_moves_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDGAN_CACHE", str(tmp_path / "cache"))
    write_folder(tmp_path / "a", noise(6, 8, 8), np.arange(6) % 2)
    (tmp_path / "a").rename(tmp_path / "b")
    write_folder(tmp_path / "a", noise(6, 8, 8), np.arange(6) % 2)
    first, moved = open_source(f"folder:{tmp_path / 'a'}").entry, open_source(f"folder:{tmp_path / 'b'}").entry
    (tmp_path / "a" / "0" / "00000.png").rename(tmp_path / "a" / "1" / "00000.png")
    other = open_source(f"folder:{tmp_path / 'a'}").entry
    assert first is not None
    assert moved is not None
    assert other is not None
    assert first.path == moved.path != other.path
    assert len(names(tmp_path / "cache")) == 2


@pytest.mark.parametrize("count", [30, 20], ids=["as many images", "fewer images"])
def test_a_source_that_changes_while_it_is_decoded_gets_no_entry(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDGAN_CACHE", str(tmp_path / "cache"))
    source, other = tmp_path / "cifar", tmp_path / "other"
    write_cifar(source, noise(30, 3, 32, 32), Y)
    write_cifar(other, noise(count, 3, 32, 32, seed=1), Y[:count])

    def parts(true: Callable[[Cifar10], Parts]) -> Callable[[Cifar10], Parts]:
        def looked(self: Cifar10) -> Parts:
            found = true(self)
            (other / "data_batch_1").replace(source / "data_batch_1")
            return found

        return looked

    said = r"cifar: changed while it was read; load it again"
    with broken(Cifar10, "parts", parts), pytest.raises(DataError, match=said):
        load(f"cifar10:{source}", "all", 0)
    assert names(tmp_path / "cache") == []


def test_the_embedded_digits_are_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDGAN_CACHE", str(tmp_path))
    load("digits", "train", 0)
    assert names(tmp_path) == []


def test_a_subset_copies_no_pixels(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", noise(50, 8, 8), None)
    images = load(f"idx:{tmp_path}", "train", 0)
    few = images.subset(np.arange(5)).subset(np.array([3, 1]))
    assert few.pixels is images.pixels
    assert np.array_equal(few.x, images.x[[3, 1]])
    assert np.array_equal(few.at(np.array([1])), images.x[[1]])


def decode_at_once(folder: Path, barrier: object, said: object) -> None:
    """In a process of its own."""
    source = Source()
    barrier.wait()  # type: ignore[attr-defined]
    entry = cached(folder, "k", source.look)
    said.put((source.decoded, entry.digest))  # type: ignore[attr-defined]


def test_of_many_processes_at_once_one_decodes_and_all_read_the_same(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    barrier, said = fork.Barrier(4), fork.Queue()
    workers = [fork.Process(target=decode_at_once, args=(tmp_path, barrier, said)) for _ in range(4)]
    for worker in workers:
        worker.start()
    answers = [said.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sum(decoded for decoded, _ in answers) == 1
    assert len({digest for _, digest in answers}) == 1
    assert names(tmp_path) == ["k.images"]


SPARE_BYTES = 24 * 1024 * 1024  # what a process may take for itself while it loads
PRIVATE = """
import json, re, resource, sys
from pathlib import Path
from mdgan_edge.data.sources import load
taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + int(sys.argv[2]),) * 2)
images = load(sys.argv[1], "train", 0)
images.pixels.max()
maps = Path("/proc/self/smaps").read_text().split("\\n")
at = next(index for index, line in enumerate(maps) if line.endswith(".images"))
facts = dict(line.split(":", 1) for line in maps[at + 1 : at + 22])
print(json.dumps([int(facts[name].split()[0]) for name in ("Rss", "Private_Dirty", "Anonymous")]))
"""


def test_a_process_decodes_and_holds_more_pixels_than_it_has_memory_of_its_own(tmp_path: Path) -> None:
    x = noise(9_500, 64, 64)
    assert x.nbytes > 1.5 * SPARE_BYTES
    write_idx(tmp_path, "train", x, None, gz=False)
    words = [sys.executable, "-c", PRIVATE, f"idx:{tmp_path}", str(SPARE_BYTES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    resident, dirty, anonymous = json.loads(done.stdout)
    assert resident >= x.nbytes // 1024
    assert (dirty, anonymous) == (0, 0)


def test_a_cache_that_cannot_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"images cannot be cached there.*set MDGAN_CACHE"):
        cached(tmp_path / "file" / "cache", "k", Source().look)


def test_images_without_room_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    def parts(count: int) -> Parts:
        return Part(count, (3, 64, 64), None, lambda: iter(())), None

    with pytest.raises(DataError, match="at most 64 are cached; use --resize"):
        cached(tmp_path, "k", lambda: parts(cache.ENTRY_BYTES_MAX // 3 // 64**2 + 1))
    assert names(tmp_path) == []


def test_the_entries_used_longest_ago_go_when_all_together_are_too_large(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older"]):
        with (tmp_path / f"{name}.images").open("wb") as file:
            file.truncate(cache.TOTAL_BYTES_MAX // 2)  # a hole: it takes no room on the disk
        os.utime(tmp_path / f"{name}.images", (1e9 - age, 1e9 - age))
    cached(tmp_path, "k", Source().look)
    assert names(tmp_path) == ["k.images", "new.images"]
