"""A scenario and a seed make one explicit list of faults, the same every time, each fault by itself."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mdgan_edge.errors import ConfigurationError
from sim.scenario.compiling import LEAST_LENGTH_NS, OCCURRENCES_MAX, compile_scenario, kind_of, node_names
from sim.scenario.distributions import Constant
from sim.scenario.drawing import LIARS, draw
from sim.scenario.quantities import Duration
from sim.scenario.reading import FAULTS, find_scenario, parse_scenario, settings_of, shipped
from sim.scenario.values import S, Scenario
from sim.scenario.writing import dump_scenario

HEAD = 'name = "x"\nduration = "60s"\nnodes = 10\n'
HEAL = '[heal]\nat = "30s"\n'
SEEDS = range(200)

LONGER = '{dist = "uniform", low = "1500ms", high = "2s"}'
RATED = '[[fault]]\nkind = "crash"\nrate = "1/s"\nfor = {dist = "exponential", mean = "2s"}\nstability = "500ms"\n'
FAULTS_BY_THEMSELVES = [
    '[[fault]]\nkind = "pause"\nat = "5s"\nfor = {dist = "exponential", mean = "2s"}\nwho = "fraction:0.3"\n',
    RATED,
    '[[fault]]\nkind = "partition"\nat = "9s"\nfor = "4s"\nwho = "one"\none_way = true\n',
    '[[fault]]\nkind = "mass_exit"\nat = "20s"\nfor = "3s"\nwho = "count:4"\n',
    '[[fault]]\nkind = "clog"\nrate = "0.5/s"\nfor = "1s"\n',
]


def compiled(body: str, seed: int = 7) -> Scenario:
    return compile_scenario(parse_scenario(HEAD + body, "x.toml"), seed)


def drawn(seed: int) -> Scenario:
    return draw(find_scenario("everything"), seed)


@pytest.mark.parametrize("name", shipped())
def test_the_compiled_form_is_explicit_and_over_by_the_heal(name: str) -> None:
    scenario = find_scenario(name)
    explicit = compile_scenario(draw(scenario, 3) if scenario.everything else scenario, 3)
    assert explicit.seed == 3
    assert explicit.heal is not None
    for fault in explicit.fault:
        assert fault.rate is None
        assert fault.at is not None
        assert 0 <= fault.at < explicit.heal.at
        assert isinstance(fault.who, tuple)
        assert fault.who == tuple(sorted(fault.who))
        if fault.lasts is not None:
            assert isinstance(fault.lasts, Constant)
            assert fault.at + fault.lasts.value <= explicit.heal.at
    assert [fault.at for fault in explicit.fault] == sorted(fault.at or 0 for fault in explicit.fault)


@pytest.mark.parametrize("name", shipped())
def test_compiling_is_repeatable_and_compiling_twice_changes_nothing(name: str) -> None:
    once = compile_scenario(find_scenario(name), 5)
    assert compile_scenario(find_scenario(name), 5) == once
    assert compile_scenario(once, 5) == once


def test_another_seed_makes_other_events() -> None:
    assert compiled(RATED, 1).fault != compiled(RATED, 2).fault


@pytest.mark.parametrize("gone", range(len(FAULTS_BY_THEMSELVES)))
def test_taking_one_fault_out_of_a_file_leaves_the_others_as_they_were(gone: int) -> None:
    left = [text for index, text in enumerate(FAULTS_BY_THEMSELVES) if index != gone]
    of_all = Counter(map(repr, compiled("".join(FAULTS_BY_THEMSELVES) + HEAL).fault))
    of_gone = Counter(map(repr, compiled(FAULTS_BY_THEMSELVES[gone] + HEAL).fault))
    assert sum(of_gone.values()) > 0
    assert Counter(map(repr, compiled("".join(left) + HEAL).fault)) == of_all - of_gone


def moments(body: str) -> list[tuple[str, int, tuple[str, ...]]]:
    """What happens when to whom."""
    faults = compiled(body + HEAL).fault
    return [(kind_of(one), int(one.at or 0), tuple(one.who)) for one in faults]


PAIRED = [
    ('[[fault]]\nkind = "straggler"\nat = "5s"\nwho = "fraction:0.3"\nfactor = 3\n', "factor = 3", "factor = 10"),
    ('[[fault]]\nkind = "straggler"\nrate = "0.2/s"\nfor = "1s"\nfactor = 3\n', "factor = 3", "factor = 10"),
    ('[[fault]]\nkind = "crash"\nat = "5s"\nfor = "1s"\nwho = "count:4"\n', 'for = "1s"', f"for = {LONGER}"),
    ('[[fault]]\nkind = "crash"\nrate = "0.1/s"\nfor = "1s"\n', 'for = "1s"', f"for = {LONGER}"),
    ('[[fault]]\nkind = "mass_exit"\nat = "5s"\nfor = "1s"\nwho = "count:4"\n', 'for = "1s"', f"for = {LONGER}"),
]


@pytest.mark.parametrize(("text", "part", "other"), PAIRED)
def test_another_strength_or_length_of_a_fault_keeps_whom_it_hits_and_when(text: str, part: str, other: str) -> None:
    changed = text.replace(part, other)
    assert compiled(changed + HEAL).fault != compiled(text + HEAL).fault
    assert moments(changed) == moments(text) != []


def test_whom_a_small_share_hits_a_larger_one_hits_too_and_at_the_same_time() -> None:
    few = '[[fault]]\nkind = "mass_exit"\nat = "5s"\nfor = "1s"\nwho = "fraction:0.3"\nwithin = "2s"\n'
    assert len(moments(few)) == 3
    assert set(moments(few)) < set(moments(few.replace("0.3", "0.6")))


def test_a_larger_crowd_is_the_smaller_one_and_more() -> None:
    crowd = '[[fault]]\nkind = "flash_crowd"\nat = "5s"\ncount = 4\nwithin = "2s"\n'
    assert set(moments(crowd)) < set(moments(crowd.replace("count = 4", "count = 9")))


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ('[churn]\narrivals = "1e9/s"\n', "[churn]"),
        ('[churn]\nsessions = "1ns"\ngaps = "1ns"\n', "[churn]"),
        ('[[fault]]\nkind = "crash"\nrate = "100000/s"\n', "fault 1 (crash)"),
        (RATED + '[[fault]]\nkind = "hub_pause"\nrate = "100000/s"\nfor = "1s"\n', "fault 2 (hub_pause)"),
    ],
)
def test_more_than_can_be_played_is_refused_and_not_cut_off(body: str, where: str) -> None:
    limit = f"{OCCURRENCES_MAX:,} occurrences (OCCURRENCES_MAX)"
    with pytest.raises(ConfigurationError) as raised:
        compiled(body + HEAL)
    assert str(raised.value) == f"{where} makes more than {limit} before 30s: let it come less often"


def test_as_many_as_can_be_played_are_played() -> None:
    resets = compiled(f'[[fault]]\nkind = "reset"\nrate = "{OCCURRENCES_MAX / 61}/s"\n').fault
    assert len(resets) == pytest.approx(OCCURRENCES_MAX * 60 / 61, rel=0.01)


def test_the_same_fault_written_twice_strikes_twice_and_differently() -> None:
    once, twice = compiled(RATED + HEAL).fault, compiled(RATED + RATED + HEAL).fault
    assert Counter(map(repr, once)) <= Counter(map(repr, twice))
    assert len({fault.at for fault in twice}) == len(twice) > len(once)


def test_a_node_is_not_struck_again_before_its_stability_has_passed() -> None:
    free_at: dict[str, int] = {}
    for fault in compiled(RATED + HEAL).fault:
        assert isinstance(fault.lasts, Constant)
        name = fault.who[0]
        assert fault.at is not None
        assert fault.at >= free_at.get(name, 0)
        assert fault.lasts.value >= min(S // 2, 30 * S - fault.at)
        free_at[name] = fault.at + fault.lasts.value + S // 2


def test_occurrences_come_as_often_as_the_rate_says() -> None:
    resets = compiled('[[fault]]\nkind = "reset"\nrate = "20/s"\n').fault
    assert len(resets) == pytest.approx(20 * 60, rel=0.1)


def test_a_fault_without_a_length_lasts_to_the_heal_or_else_to_the_end() -> None:
    straggler = '[[fault]]\nkind = "straggler"\nat = "10s"\n'
    assert compiled(straggler + HEAL).fault[0].lasts == Constant(Duration(20 * S))
    assert compiled(straggler).fault[0].lasts == Constant(Duration(50 * S))


def test_a_length_that_is_drawn_is_never_nothing_at_all() -> None:
    text = '[[fault]]\nkind = "clog"\nrate = "1/s"\nfor = {dist = "trace", values = ["0s", "0s"]}\n'
    made = compiled(text)
    assert {fault.lasts for fault in made.fault} == {Constant(Duration(LEAST_LENGTH_NS))}
    assert parse_scenario(dump_scenario(made), "compiled.toml") == made


def test_a_crash_without_a_length_is_for_ever() -> None:
    assert compiled('[[fault]]\nkind = "crash"\nat = "10s"\n' + HEAL).fault[0].lasts is None


def test_a_one_way_partition_is_given_its_direction_by_the_seed() -> None:
    text = '[[fault]]\nkind = "partition"\nat = "10s"\none_way = true\n'
    assert {getattr(compiled(text, seed).fault[0], "one_way", None) for seed in range(20)} == {"up", "down"}


def test_a_crowd_comes_before_the_heal_and_each_under_a_name_of_its_own() -> None:
    crowd = '[[fault]]\nkind = "flash_crowd"\nat = "29s"\ncount = 8\nwithin = "20s"\n'
    joins = compiled(crowd + crowd + HEAL).fault
    assert [kind_of(fault) for fault in joins] == ["join"] * 16
    assert len({name for fault in joins for name in fault.who}) == 16
    assert all((fault.at or 0) < 30 * S for fault in joins)


def test_churn_becomes_joins_leaves_and_crashes_of_old_and_new_nodes() -> None:
    churn = '[churn]\narrivals = "1/s"\nsessions = {dist = "weibull", shape = 0.8, scale = "10s"}\ngaps = "2s"\n'
    scenario = compiled(churn + HEAL)
    assert {kind_of(fault) for fault in scenario.fault} == {"join", "leave", "crash"}
    gone = {name for fault in scenario.fault if kind_of(fault) != "join" for name in fault.who}
    assert gone & set(node_names(10))
    assert gone - set(node_names(10))
    assert compiled(HEAL).churn == scenario.churn


def test_a_trace_of_churn_is_followed_to_the_letter() -> None:
    trace = 'trace = [["1s", "join", "a"], ["4s", "leave", "a"], ["5s", "crash", "n3"], ["9s", "join", "a"]]\n'
    told = [(kind_of(one), one.at, one.lasts, one.who) for one in compiled("[churn]\n" + trace + HEAL).fault]
    assert told == [
        ("join", S, None, ("a",)),
        ("leave", 4 * S, Constant(Duration(5 * S)), ("a",)),
        ("crash", 5 * S, None, ("n3",)),
    ]


def test_a_name_that_the_seed_did_not_make_is_an_error() -> None:
    text = '[churn]\narrivals = "0.1/s"\n[[fault]]\nkind = "crash"\nat = "9s"\nwho = ["c4000"]\n'
    with pytest.raises(ConfigurationError, match=r"names 'c4000', but the nodes are n0 to n9, and those that join"):
        compiled(text)


def test_a_node_keeps_its_name_whatever_the_count() -> None:
    assert node_names(200)[:3] == node_names(3) == ["n0", "n1", "n2"]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), again=st.integers(0, 2**32))
def test_whatever_is_drawn_compiles_to_a_file_that_reads_back_equal(seed: int, again: int) -> None:
    scenario = drawn(seed)
    explicit = compile_scenario(scenario, again)
    assert parse_scenario(dump_scenario(scenario), "drawn") == scenario
    assert parse_scenario(dump_scenario(explicit), "compiled") == explicit
    assert compile_scenario(explicit, again) == explicit


def test_drawing_is_repeatable() -> None:
    assert drawn(11) == drawn(11)
    assert replace(drawn(11), seed=12) != drawn(12)


def test_two_hundred_seeds_draw_every_kind_of_fault_both_policies_and_runs_that_complete() -> None:
    scenarios = [drawn(seed) for seed in SEEDS]
    kinds = Counter(kind_of(fault) for scenario in scenarios for fault in scenario.fault)
    assert set(kinds) == set(FAULTS) - {"join"}  # nodes that join are drawn as crowds and arrivals
    chosen = [settings_of(scenario) for scenario in scenarios]
    assert {one.training.staleness_policy for one in chosen} == {"block", "drop"}
    assert {one.mode for one in chosen} == {"async", "sync"}
    assert 0 < sum(one.training.steps < 1_000_000 for one in chosen) < len(SEEDS) / 4


def test_a_kind_of_fault_is_absent_in_some_seeds_and_present_in_others() -> None:
    for kind in set(FAULTS) - {"join"}:
        there = sum(any(kind_of(fault) == kind for fault in drawn(seed).fault) for seed in range(60))
        assert 0 < there < 60, kind


def test_no_drawn_fault_makes_liars_of_more_than_a_fifth_of_the_nodes() -> None:
    shares = [
        float(str(fault.who).partition(":")[2])
        for seed in SEEDS
        for fault in drawn(seed).fault
        if kind_of(fault) == "byzantine"
    ]
    assert shares
    assert max(shares) <= LIARS == 0.2
