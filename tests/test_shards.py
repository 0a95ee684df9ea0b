"""Shards: how the text is read, and that what is dealt is disjoint, complete, repeatable and never empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdgan_edge.data.images import Images
from mdgan_edge.data.shards import (
    SHARD_MIN,
    Dirichlet,
    Everything,
    Iid,
    LabelSkew,
    OnlyClasses,
    class_counts,
    describe,
    parse_shard,
    shard_text,
    take,
)
from mdgan_edge.errors import ConfigurationError

SEEDS = st.integers(0, 2**32)


def numbered(y: list[int] | None, count: int = 0) -> Images:
    """Images whose first pixels spell their own index, so that a shard shows which ones it took."""
    count = len(y) if y is not None else count
    x = np.zeros((count, 1, 8, 8), np.uint8)
    x[:, 0, 0, 0], x[:, 0, 0, 1] = np.arange(count) // 256, np.arange(count) % 256
    return Images(x, None if y is None else np.array(y, np.int64), "made-up")


def members(shard: Images) -> list[int]:
    """The indices that `numbered` wrote."""
    indices: list[int] = (shard.x[:, 0, 0, 0].astype(int) * 256 + shard.x[:, 0, 0, 1]).tolist()
    return indices


def dealt(images: Images, strategy: str, nodes: int, seed: int) -> list[list[int]]:
    """The indices of every rank."""
    return [members(take(images, parse_shard(shard_text(strategy, rank, nodes)), seed)) for rank in range(nodes)]


def check_deal(images: Images, strategy: str, nodes: int, seed: int) -> list[list[int]]:
    """Disjoint, complete, repeatable, nobody empty."""
    parts = dealt(images, strategy, nodes, seed)
    assert sorted(index for part in parts for index in part) == list(range(len(images)))
    assert min(len(part) for part in parts) >= 1
    assert dealt(images, strategy, nodes, seed) == parts
    return parts


@given(st.integers(1, 400), st.integers(1, 20), SEEDS)
def test_iid_deals_equal_parts_of_everything(count: int, nodes: int, seed: int) -> None:
    nodes = min(nodes, count)
    sizes = [len(part) for part in check_deal(numbered(None, count), "iid", nodes, seed)]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200), st.integers(1, 20), st.floats(1e-4, 1e6), SEEDS)
def test_dirichlet_deals_everything_and_a_floor_to_each(y: list[int], nodes: int, alpha: float, seed: int) -> None:
    nodes = min(nodes, len(y))
    sizes = [len(part) for part in check_deal(numbered(y), f"dirichlet={alpha}", nodes, seed)]
    assert min(sizes) >= min(SHARD_MIN, len(y) // nodes)


@given(st.integers(1, 10), st.integers(1, 20), st.integers(1, 10), SEEDS)
def test_label_skew_gives_each_node_that_many_classes(classes: int, nodes: int, labels: int, seed: int) -> None:
    labels = min(labels, classes)
    nodes = max(nodes, -(-classes // labels))
    images = numbered([index % classes for index in range(20 * classes)])
    for part in check_deal(images, f"labels={labels}", nodes, seed):
        assert len({index % classes for index in part}) == labels


@pytest.mark.parametrize("strategy", ["iid", "dirichlet=0.3", "labels=2"])
def test_another_seed_deals_otherwise(strategy: str) -> None:
    images = numbered([index % 10 for index in range(200)])
    assert dealt(images, strategy, 8, 0) != dealt(images, strategy, 8, 1)


def test_a_small_alpha_is_less_even_than_a_large_one() -> None:
    images = numbered([index % 10 for index in range(1000)])

    def largest_share(alpha: float) -> float:
        shards = [take(images, Dirichlet(alpha, rank, 8), seed=0) for rank in range(8)]
        return float(np.mean([max(class_counts(shard).values()) / len(shard) for shard in shards]))

    assert largest_share(0.1) > 0.35 > 0.15 > largest_share(1000)


def test_an_alpha_so_small_that_the_shares_vanish_still_deals_everything() -> None:
    check_deal(numbered([index % 3 for index in range(100)]), "dirichlet=1e-300", 8, 0)


def test_a_shard_keeps_the_order_and_the_labels_of_its_images() -> None:
    images = numbered([index % 10 for index in range(100)])
    shard = take(images, Iid(1, 3), seed=0)
    assert members(shard) == sorted(members(shard))
    assert shard.y is not None
    assert shard.y.tolist() == [index % 10 for index in members(shard)]
    assert shard.name == images.name


def test_all_and_classes_take_what_they_say() -> None:
    images = numbered([0, 1, 2, 3, 4, 3, 1])
    assert members(take(images, parse_shard("all"), 0)) == [0, 1, 2, 3, 4, 5, 6]
    assert members(take(images, parse_shard("classes=3,1"), 0)) == [1, 3, 5, 6]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("all", Everything()),
        ("classes=0-4", OnlyClasses((0, 1, 2, 3, 4))),
        ("classes=7,1,3,1", OnlyClasses((1, 3, 7))),
        ("classes=0-2,9", OnlyClasses((0, 1, 2, 9))),
        ("iid:3/8", Iid(3, 8)),
        ("iid:0/1", Iid(0, 1)),
        ("dirichlet=0.3:3/8", Dirichlet(0.3, 3, 8)),
        ("labels=2:3/8", LabelSkew(2, 3, 8)),
    ],
)
def test_a_shard_text_is_read(text: str, spec: object) -> None:
    assert parse_shard(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "use all"),
        ("al", "did you mean 'all'"),
        ("all:1/2", "use all"),
        ("all=3", "use all"),
        ("idd:3/8", "did you mean 'iid'"),
        ("iid", "which part of how many"),
        ("iid=2:3/8", "use all"),
        ("iid:8/8", "count from 0 to 7"),
        ("iid:-1/8", "which part of how many"),
        ("iid:0/0", "use 1 to"),
        ("iid:a/b", "which part of how many"),
        ("iid:3/8/9", "which part of how many"),
        ("iid:\u0663/8", "which part of how many"),
        ("dirichlet:3/8", "use all"),
        ("dirichlet=0:3/8", "above 0"),
        ("dirichlet=-1:3/8", "above 0"),
        ("dirichlet=nan:3/8", "above 0"),
        ("dirichlet=inf:3/8", "above 0"),
        ("dirichlet=much:3/8", "above 0"),
        ("labels=0:3/8", "number of classes"),
        ("labels=1.5:3/8", "number of classes"),
        ("classes", "use all"),
        ("classes=", "is no class"),
        ("classes=4-0", "ascend"),
        ("classes=1000", "at most 999"),
        ("classes=cat", "is no class"),
        ("classes=0-4:1/2", "use all"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_shard(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shard", "y", "words"),
    [
        ("iid:0/4", [0, 1, 2], "use fewer nodes"),
        ("dirichlet=1:0/2", None, "needs labels"),
        ("labels=1:0/2", None, "needs labels"),
        ("classes=0-1", None, "needs labels"),
        ("labels=3:0/2", [0, 1, 0, 1], "has only 2 classes"),
        ("labels=1:0/2", [0, 1, 2, 0], "labels=2 or more nodes"),
        ("labels=2:0/3", [0, 0, 0, 5], "share class 5, which has 1 images; use fewer nodes"),
        ("classes=0-2", [0, 1, 5], "no such class; it has 0,1,5"),
    ],
)
def test_data_that_cannot_be_dealt_that_way_is_refused(shard: str, y: list[int] | None, words: str) -> None:
    images = numbered(y, 3)
    with pytest.raises(ConfigurationError, match=words):
        take(images, parse_shard(shard), seed=0)


def test_a_strategy_makes_the_shard_of_each_node() -> None:
    assert [shard_text("labels=2", rank, 2) for rank in range(2)] == ["labels=2:0/2", "labels=2:1/2"]


@pytest.mark.parametrize("strategy", ["", "all", "idd", "iid:0/2", "classes=0-4", "dirichlet=0", "labels", "iid=1"])
def test_a_strategy_that_is_none_is_refused(strategy: str) -> None:
    with pytest.raises(ConfigurationError, match=r"iid|dirichlet|labels"):
        shard_text(strategy, 0, 2)


def test_a_summary_counts_each_class() -> None:
    assert describe(numbered([0, 5, 5])) == "3 images 1x8x8, classes 0:1 5:2"
    assert describe(numbered(None, 2)) == "2 images 1x8x8, no labels"
