"""Delta debugging: what is left still fails, is in its order, and fails no more if anything else is taken away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.shrink import delta_debug


def test_of_nothing_nothing_is_left_and_nothing_is_tried() -> None:
    def fails(items: list[int]) -> bool:
        raise AssertionError(items)

    assert delta_debug([], fails) == []


def test_what_fails_without_anything_needs_nothing() -> None:
    assert delta_debug([1, 2, 3], lambda _: True) == []


@given(st.integers(1, 40), st.data())
def test_culprits_that_fail_only_together_are_found_in_their_order(length: int, data: st.DataObject) -> None:
    culprits = data.draw(st.sets(st.integers(0, length - 1), min_size=1))
    found = delta_debug(list(range(length)), lambda items: culprits <= set(items))
    assert found == sorted(culprits)


@pytest.mark.parametrize("culprits", [{0}, {15}, {99}, {0, 99}, {49, 50}])
def test_one_culprit_or_a_pair_among_a_hundred_is_found_in_few_tries(culprits: set[int]) -> None:
    tried: list[list[int]] = []

    def fails(items: list[int]) -> bool:
        tried.append(items)
        return culprits <= set(items)

    assert delta_debug(list(range(100)), fails) == sorted(culprits)
    assert len(tried) < 60  # taking each away in turn would be a hundred


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(2, 5))
def test_nothing_more_can_be_taken_away_even_if_less_does_not_always_fail_less(items: list[int], of: int) -> None:
    def fails(some: list[int]) -> bool:
        return sum(some) % of == sum(items) % of

    found = delta_debug(items, fails)
    assert fails(found)
    assert [at for at in range(len(found)) if fails(found[:at] + found[at + 1 :])] == []
    rest = iter(items)
    assert all(one in rest for one in found), "the order is kept"
