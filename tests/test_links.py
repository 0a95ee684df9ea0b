"""What becomes of a message on a simulated link."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from mdgan_edge.messages import NodeId
from mdgan_edge.wire.parts import PART_BYTES
from sim.chance import draw, stream
from sim.links import Fate, Lane, Line, Way, overlay
from sim.machine import Machine
from sim.scenario.distributions import Constant, Pareto, Uniform
from sim.scenario.quantities import BitRate, ByteCount, Duration
from sim.scenario.values import Burst, LinkTerms

MS = 1_000_000
S = 1_000_000_000
MANY = 20_000


def way(key: str = "way", port: Line | None = None, **terms: Any) -> Way:
    plain: dict[str, Any] = {"latency": Constant(Duration(10 * MS))}
    return Way(stream(7, key), {-1: LinkTerms(**(plain | terms))}, port or Line(None))


def fates(one: Way, count: int, size: int = 100, every: int = MS) -> list[Fate]:
    return [one.carry(size, at * every) for at in range(count)]


def times(of: list[Fate]) -> list[int]:
    """When all those arrive that must arrive once."""
    arrivals = [fate for fate in of if isinstance(fate, int)]
    assert len(arrivals) == len(of)
    return arrivals


def test_a_plain_link_only_delays() -> None:
    assert fates(way(), 3) == [10 * MS, 11 * MS, 12 * MS]


def test_jitter_does_not_make_messages_overtake_each_other() -> None:
    arrivals = times(fates(way(latency=Uniform(Duration(0), Duration(50 * MS))), 500))
    assert all(earlier <= later for earlier, later in pairwise(arrivals))


def test_reordered_messages_are_overtaken() -> None:
    arrivals = times(fates(way(reorder=0.2), 500))
    assert any(earlier > later for earlier, later in pairwise(arrivals))


def test_loss_takes_its_share_and_independently() -> None:
    lost = [fate == "loss" for fate in fates(way(loss=0.1), MANY)]
    both = sum(one and other for one, other in pairwise(lost))
    assert sum(lost) / MANY == pytest.approx(0.1, rel=0.1)
    assert both / MANY == pytest.approx(0.01, rel=0.3)


def test_loss_in_bursts_comes_in_bursts() -> None:
    burst = Burst(every=Duration(100 * MS), lasts=Duration(5 * MS))
    lost = [fate == "burst" for fate in fates(way(burst=burst), MANY)]
    share = 5 / (100 + 5)  # of the time it is bad
    assert sum(lost) / MANY == pytest.approx(share, rel=0.2)
    after_loss = sum(later for earlier, later in pairwise(lost) if earlier) / sum(lost)
    assert after_loss == pytest.approx(math.exp(-1 / 5), abs=0.05)


def test_a_duplicate_arrives_no_earlier_than_the_first_copy() -> None:
    doubled = sum(isinstance(fate, tuple) for fate in fates(way(duplicate=0.3), MANY))
    assert doubled / MANY == pytest.approx(0.3, rel=0.1)
    always = [fate for fate in fates(way(duplicate=1.0), 100) if isinstance(fate, tuple)]
    assert len(always) == 100
    assert all(first <= second for first, second in always)


def test_a_healed_way_loses_nothing_and_cuts_the_tail_of_its_latency() -> None:
    healed = way(latency=Pareto(Duration(MS), 1.0), loss=0.3)
    healed.heal()
    delays = [at - count * S for count, at in enumerate(times(fates(healed, MANY, every=S)))]
    assert max(delays) == pytest.approx(100 * MS, rel=0.01)
    sick = way(latency=Pareto(Duration(MS), 1.0))
    assert max(at - count * S for count, at in enumerate(times(fates(sick, MANY, every=S)))) > S


def test_a_rate_makes_messages_wait_for_each_other() -> None:
    one = way(rate=BitRate(8_000_000))  # a byte per microsecond
    assert [one.carry(1_000_000, 0), one.carry(1_000_000, 0)] == [S + 10 * MS, 2 * S + 10 * MS]


def test_what_does_not_fit_the_queue_is_dropped() -> None:
    one = way(rate=BitRate(8_000_000), queue=ByteCount(1_500_000))
    assert [one.carry(1_000_000, 0) for _ in range(4)][2:] == ["queue full", "queue full"]


MBIT = BitRate(8_000_000)  # a second for a megabyte


def test_everything_passes_a_copy_and_what_passes_holds_it_up() -> None:
    alone, passed = way(rate=MBIT), way(rate=MBIT)
    assert alone.carry(4_000_000, 0, Lane.BULK) == passed.carry(4_000_000, 0, Lane.BULK) == 4 * S + 10 * MS
    part = PART_BYTES * 1000  # one part of the copy is on the line already, in nanoseconds at 8 Mbit/s
    assert passed.carry(1_000_000, 0, Lane.USUAL) == part + S + 10 * MS
    assert passed.carry(100, 0, Lane.HEARTBEAT) == pytest.approx(part + 10 * MS, abs=MS)
    assert alone.carry(1_000_000, 4 * S, Lane.BULK) == 5 * S + 10 * MS
    assert passed.carry(1_000_000, 4 * S, Lane.BULK) == 6 * S + 10 * MS


def test_a_heartbeat_waits_for_one_part_of_a_large_message_and_no_longer() -> None:
    one = way(rate=MBIT)
    one.carry(4_000_000, 0, Lane.USUAL)
    assert one.carry(100, 0, Lane.HEARTBEAT) == pytest.approx(PART_BYTES * 1000 + 10 * MS, abs=MS)


def test_copies_wait_for_each_other_and_for_what_was_there_before() -> None:
    one = way(rate=MBIT)
    one.carry(1_000_000, 0, Lane.USUAL)
    assert [one.carry(1_000_000, 0, Lane.BULK) for _ in range(2)] == [2 * S + 10 * MS, 3 * S + 10 * MS]


def test_a_copy_does_not_hold_back_what_comes_behind_it_on_a_free_line() -> None:
    one = way(latency=Uniform(Duration(0), Duration(50 * MS)), reorder=0.0, loss=1e-12)
    usual = [one.carry(100, at * MS, Lane.BULK if at % 5 == 0 else Lane.USUAL) for at in range(500)]
    arrivals = [fate for at, fate in enumerate(usual) if at % 5]
    assert all(earlier <= later for earlier, later in pairwise(times(arrivals)))


def test_ways_share_the_hubs_port() -> None:
    port = Line(8_000_000)
    one, other = way("one", port), way("other", port)
    assert (one.carry(1_000_000, 0), other.carry(1_000_000, 0)) == (S + 10 * MS, 2 * S + 10 * MS)


def test_a_clogged_way_lets_everything_through_in_order_when_it_ends() -> None:
    one = way()
    one.held_until = S
    assert [one.carry(1, 0), one.carry(1, MS), one.carry(1, S)] == [S, S, S + 10 * MS]


@pytest.mark.parametrize("terms", [{}, {"duplicate": 1e-12}], ids=["plain", "with more than latency"])
def test_what_comes_on_a_new_connection_waits_for_nothing_that_was_stuck_on_the_old_one(terms: Any) -> None:
    machine = Machine(NodeId("ann"), stream(7, "ann"), up=way(**terms))
    assert machine.up is not None
    machine.up.lay(1, LinkTerms(latency=Constant(Duration(30 * S))))
    assert machine.up.carry(1, 0) == 30 * S
    machine.up.lift(1)
    assert machine.up.carry(1, MS) == 30 * S
    machine.connect()
    assert machine.up.carry(1, 2 * MS) == 12 * MS


def test_a_cut_way_loses_everything_until_every_cut_is_mended() -> None:
    one = way()
    one.cuts = 2
    assert one.carry(1, 0) == "partition"
    one.cuts -= 1
    assert one.carry(1, 0) == "partition"
    one.cuts -= 1
    assert one.carry(1, 0) == 10 * MS


def test_faults_lie_over_each_other_and_each_ends_on_its_own() -> None:
    one = way()
    one.lay(1, LinkTerms(latency=Constant(Duration(100 * MS))))
    one.lay(2, LinkTerms(loss=1.0))
    assert one.carry(1, 0) == "loss"
    one.lift(1)
    assert one.carry(1, 0) == "loss"
    one.lift(2)
    assert one.carry(1, S) == S + 10 * MS


def test_the_fate_of_a_message_hangs_on_its_count_alone() -> None:
    undisturbed, disturbed = way(loss=0.3), way(loss=0.3)
    expected = fates(undisturbed, 200)
    disturbed.cuts = 1
    assert fates(disturbed, 100) == ["partition"] * 100
    disturbed.cuts = 0
    rest = [disturbed.carry(100, at * MS) for at in range(100, 200)]
    assert [fate == "loss" for fate in rest] == [fate == "loss" for fate in expected[100:]]


def test_directions_inherit_what_they_do_not_say() -> None:
    base = LinkTerms(loss=0.1, duplicate=0.2)
    assert overlay(base, LinkTerms(loss=0.3)) == LinkTerms(loss=0.3, duplicate=0.2)


def test_draws_of_a_stream_are_uniform_and_do_not_follow_each_other() -> None:
    numbers = [draw(stream(1, "x"), n) for n in range(MANY)]
    assert all(0 <= number < 1 for number in numbers)
    assert sum(numbers) / MANY == pytest.approx(0.5, abs=0.01)
    together = sum((a - 0.5) * (b - 0.5) for a, b in pairwise(numbers)) / MANY
    assert abs(together) < 0.003
    assert [draw(stream(1, "x"), n) for n in range(5)] != [draw(stream(2, "x"), n) for n in range(5)]


def test_nothing_passes_what_is_on_the_line_already_however_long_that_takes() -> None:
    one = way(latency=Uniform(Duration(5 * MS), Duration(3000 * MS)), duplicate=1e-9)
    arrivals = [one.carry(100, at * MS, lane) for at, lane in enumerate([Lane.USUAL, Lane.HEARTBEAT, Lane.BULK] * 50)]
    assert arrivals == sorted(arrivals, key=int)  # type: ignore[call-overload]
