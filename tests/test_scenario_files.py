"""Scenario files: ours are sound, and a bad one gets one line that says where, what is wrong and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdgan_edge.errors import ConfigurationError
from mdgan_edge.streams import SEED_MAX
from sim.invariants.names import SOMETIMES
from sim.scenario.checking import TERMS
from sim.scenario.compiling import compile_scenario
from sim.scenario.distributions import Constant
from sim.scenario.drawing import draw
from sim.scenario.quantities import Duration
from sim.scenario.reading import FAULTS, find_scenario, parse_scenario, settings_of, shipped
from sim.scenario.values import MS, S, Straggler
from sim.scenario.writing import dump_scenario

HEAD = 'name = "x"\nduration = "60s"\nnodes = 4\n'
KINDS = ", ".join(sorted(FAULTS))
TIME = 'write a duration as a number and one of ns, us, ms, s, min, h, such as "30ms"'
BITS = 'write a bit rate (per second) as a number and one of bit, kbit, Mbit, Gbit, such as "20Mbit"'
NODES = "but the nodes are n0 to n3, and those that join"
WHO = "write all, one, fraction:0.3, count:3, or names of nodes"
LATENCY = "bad.toml: links.default.latency: "
FILE = '{file = "trace.csv"}'
SPELLING = "small letters, digits and dashes, at most 32, and not 'hub'"
MADE = "is a name that compiling gives to nodes of churn or crowds: give a new node another"


def fault(text: str) -> str:
    return "[[fault]]\n" + text.replace("; ", "\n") + "\n"


def latency(text: str) -> str:
    return f"[links.default]\nlatency = {text}\n"


# What follows HEAD, and all that is said of it.
BAD = [
    ("nods = 3", "bad.toml: unknown key 'nods': did you mean 'nodes'?"),
    ("[trainning]\nquorum = 3", "bad.toml: unknown key 'trainning': did you mean 'training'?"),
    ("[training]\nquorun = 3", "unknown key 'training.quorun' in bad.toml: did you mean 'training.quorum'?"),
    (
        "[training]\nquorum = 0.0",
        'training.quorum = 0.0 (bad.toml) is not allowed: a whole number >= 1, a number > 0 and <= 1 or "all"',
    ),
    ('mode = "snyc"', 'mode = "snyc" (bad.toml) is not allowed: "async" or "sync"'),
    ("training = 3", "bad.toml: 'training' must be a table: write [training] and its keys below it"),
    ("settings = {}", "bad.toml: unknown key 'settings': write [training], [hub] and the like"),
    ("seed = -1", "bad.toml: seed: it must be a whole number >= 0"),
    (f"seed = {2**64}", f"bad.toml: seed: it must be a whole number <= {SEED_MAX}"),
    (
        fault(f'kind = "clog"; at = "1s"; who = "count:{"9" * 5000}"'),
        f"bad.toml: fault 1 (clog): who = 'count:{'9' * 34}...': {WHO}",
    ),
    (
        fault(f'kind = "clog"; at = "1s"; who = "fraction:0.{"1" * 5000}"'),
        f"bad.toml: fault 1 (clog): who = 'fraction:0.{'1' * 29}...': {WHO}",
    ),
    ("seed = 3.5", "bad.toml: seed: it must be a whole number, got 3.5"),
    (
        fault('kind = "flash_crowd"; at = "1s"; count = 2.5'),
        "bad.toml: fault 1 (flash_crowd) count: it must be a whole number, got 2.5",
    ),
    (
        latency('{dist = "lognormall", median = "3ms"}'),
        f"{LATENCY}dist = 'lognormall' is unknown: did you mean 'lognormal'?",
    ),
    ("links = 3", "bad.toml: links: it must be a table, got a whole number"),
    ('fidelity = "ful"', "bad.toml: fidelity: there is no 'ful': did you mean 'full'?"),
    (
        '[links.default]\nlattency = "3ms"',
        "bad.toml: unknown key 'lattency' in links.default: did you mean 'latency'?",
    ),
    (latency('"3"'), f"{LATENCY}'3' is not understood: {TIME}"),
    (latency("3"), f"{LATENCY}3 has no unit: {TIME}"),
    (latency('"-1ms"'), f"{LATENCY}'-1ms': a duration cannot be negative here"),
    (latency('{dist = "lognormal", median = "3ms", sigma = -1}'), f"{LATENCY}lognormal: sigma cannot be negative"),
    (latency('{dist = "pareto", scale = "3ms", shape = 0}'), f"{LATENCY}pareto: shape must be above 0"),
    (latency('{dist = "uniform", low = "3ms", high = "2ms"}'), f"{LATENCY}uniform: high is below low"),
    (latency('{dist = "trace", values = []}'), f"{LATENCY}values must be a list of at least one duration"),
    (
        latency('{dist = "trace", values = ["1ms"], file = "x.txt"}'),
        f"{LATENCY}a trace has either file or values",
    ),
    ('[links.default]\nloss = "5%"', "bad.toml: links.default.loss: it must be a number, got text"),
    ("[links.default]\nburst = 3", "bad.toml: links.default.burst: it must be a table, got a whole number"),
    ("heal = 3", "bad.toml: heal: it must be a table, got a whole number"),
    (
        fault('kind = "partition"; at = "1s"; one_way = 3'),
        "bad.toml: fault 1 (partition) one_way: it must be true, false or text, got a whole number",
    ),
    (
        fault('kind = "partition"; at = "1s"; one_way = "dwn"'),
        "bad.toml: fault 1 (partition) one_way: there is no 'dwn': did you mean 'down'?",
    ),
    (
        fault('kind = "clog"; at = "1s"; who = 3'),
        "bad.toml: fault 1 (clog) who: it must be text or a list, got a whole number",
    ),
    ("[links.default]\nloss = 2.0", "bad.toml: links.default.loss: it must be a number <= 1.0"),
    ('[links.default]\nburst = {every = "3s"}', "bad.toml: links.default.burst: `lasts` is missing"),
    (
        '[links.up]\nburst = {every = "0s", lasts = "1s"}',
        "bad.toml: links.up.burst: every and lasts must be above 0",
    ),
    ('[links.default]\nrate = "20"', f"bad.toml: links.default.rate: '20' is not understood: {BITS}"),
    ("fault = [1]", "bad.toml: fault 1: a fault is a table: write [[fault]] and its keys below it"),
    (
        '[fault]\nkind = "clog"',
        "bad.toml: fault: there may be many, so each is headed by [[fault]], in double brackets",
    ),
    (fault('at = "1s"'), f"bad.toml: fault 1: no kind is given: there are {KINDS}"),
    (fault('kind = "partion"; at = "1s"'), "bad.toml: fault 1: unknown kind 'partion': did you mean 'partition'?"),
    (
        fault('kind = "clog"'),
        'bad.toml: fault 1 (clog): say when it comes: at = "10s", or rate = "0.1/s"',
    ),
    (fault('kind = "clog"; at = "-1s"'), "bad.toml: fault 1 (clog): at = -1s is before the start"),
    (
        fault('kind = "clog"; at = "61s"'),
        "bad.toml: fault 1 (clog): at = 61s is after the end of the run at 1min",
    ),
    (
        fault('kind = "clog"; at = "1s"') + fault('kind = "pause"; at = "30s"') + '[heal]\nat = "30s"',
        "bad.toml: fault 2 (pause): at = 30s is not before the heal at 30s, after which nothing may fail",
    ),
    (
        fault('kind = "clog"; at = "1s"') + fault('kind = "straggler"; at = "1s"; factor = "x"'),
        "bad.toml: fault 2 (straggler) factor: it must be a number, got text",
    ),
    (
        fault('kind = "straggler"; at = "1s"; factr = 2'),
        "bad.toml: unknown key 'factr' in fault 1 (straggler): did you mean 'factor'?",
    ),
    (
        fault('kind = "byzantine"; at = "1s"; how = "noize"'),
        "bad.toml: fault 1 (byzantine) how: there is no 'noize': did you mean 'noise'?",
    ),
    (
        fault('kind = "clog"; at = "1s"; for = "-1s"'),
        "bad.toml: fault 1 (clog) for: '-1s': a duration cannot be negative here",
    ),
    (
        fault('kind = "clog"; at = "1s"; stability = "-1s"'),
        "bad.toml: fault 1 (clog): stability = -1s is negative",
    ),
    (fault('kind = "clog"; rate = "0/s"'), "bad.toml: fault 1 (clog): rate = 0/s never comes: leave the fault out"),
    (
        fault('kind = "reset"; at = "1s"; for = "2s"'),
        "bad.toml: fault 1 (reset): `for` means nothing to it: it happens in a moment",
    ),
    (
        fault('kind = "join"; at = "1s"; who = ["a"]; stability = "2s"'),
        "bad.toml: fault 1 (join): `stability` means nothing to it: it happens in a moment",
    ),
    (
        fault('kind = "reset"; rate = "1/s"; stability = "2s"'),
        "bad.toml: fault 1 (reset): `stability` means nothing to it: it happens in a moment",
    ),
    (
        fault('kind = "flash_crowd"; at = "1s"; count = 2; stability = "2s"'),
        "bad.toml: fault 1 (flash_crowd): `stability` means nothing to it: those who come stay",
    ),
    *[
        (
            fault(f'kind = "{kind}"; at = "1s"; stability = "2s"'),
            f"bad.toml: fault 1 ({kind}): `stability` means nothing to it without `for`: those who go stay away",
        )
        for kind in ("crash", "leave", "mass_exit")
    ],
    (
        fault('kind = "link"; at = "1s"; direction = "up"'),
        f"bad.toml: fault 1 (link): it changes nothing: give it one of {', '.join(TERMS)}",
    ),
    (
        fault('kind = "clock"; at = "1s"; skew = "-1s"'),
        "bad.toml: fault 1 (clock): skew = -1s is negative: a monotonic clock only jumps forward",
    ),
    (
        fault('kind = "clock"; at = "1s"; drift = 0.2'),
        'bad.toml: fault 1 (clock): it changes nothing: give it skew = "2s", or drift = 10_000 (parts per million)',
    ),
    (
        fault('kind = "clog"; at = "1s"; who = "count:5"'),
        "bad.toml: fault 1 (clog): who = 'count:5': there are only 4 nodes then",
    ),
    (
        fault('kind = "clog"; at = "1s"; who = "count:5"') + fault('kind = "join"; at = "2s"; who = ["a"]'),
        "bad.toml: fault 1 (clog): who = 'count:5': there are only 4 nodes then",
    ),
    *[
        (
            fault(f'kind = "join"; at = "1s"; who = ["{name}"]'),
            f"bad.toml: fault 1 (join): '{name}' is no name for a node: {SPELLING}",
        )
        for name in ("hub", "Bad Name!", "")
    ],
    (
        fault('kind = "join"; at = "1s"; who = ["n1-r1"]'),
        "bad.toml: fault 1 (join): n1-r1 is what n1 is called once it is set up anew: give a new node another name",
    ),
    (
        '[churn]\narrivals = "1/s"\n' + fault('kind = "join"; at = "1s"; who = ["c0"]'),
        f"bad.toml: fault 1 (join): c0 {MADE}",
    ),
    (
        fault('kind = "join"; at = "1s"; who = ["f1-1"]') + fault('kind = "flash_crowd"; at = "1s"; count = 2'),
        f"bad.toml: fault 1 (join): f1-1 {MADE}",
    ),
    (
        '[expect]\nsometimes = ["died", "hub_restart"]',
        "bad.toml: expect.sometimes: nothing is counted as 'hub_restart': did you mean 'hub_restarted'?",
    ),
    (
        '[expect]\nsometimes = ["zzz"]',
        f"bad.toml: expect.sometimes: nothing is counted as 'zzz': there are {', '.join(SOMETIMES)}",
    ),
    (
        fault('kind = "clog"; at = "1s"; who = "fraction:1.5"'),
        "bad.toml: fault 1 (clog): who = 'fraction:1.5': a fraction is above 0 and at most 1",
    ),
    (fault('kind = "clog"; at = "1s"; who = "count:0"'), "bad.toml: fault 1 (clog): who = 'count:0': at least one"),
    (
        fault('kind = "clog"; at = "1s"; who = ["n1", "n9"]'),
        f"bad.toml: fault 1 (clog): a fault of kind clog names 'n9', {NODES}",
    ),
    (
        fault('kind = "clog"; at = "1s"; who = "n9"'),
        f"bad.toml: fault 1 (clog): a fault of kind clog names 'n9', {NODES}",
    ),
    (fault('kind = "clog"; at = "1s"; who = []'), "bad.toml: fault 1 (clog): who names nobody"),
    (
        fault('kind = "hub_crash"; at = "1s"; who = "one"'),
        "bad.toml: fault 1 (hub_crash): who = 'one' means nothing to it: it befalls the hub",
    ),
    (
        fault('kind = "join"; at = "1s"; who = ["n1"]'),
        "bad.toml: fault 1 (join): n1 is there from the start: give a new node a new name",
    ),
    (
        fault('kind = "join"; at = "1s"; who = ["a"]') + fault('kind = "join"; at = "2s"; who = ["a"]'),
        "bad.toml: fault 2 (join): a has joined already: give a new node a new name",
    ),
    (
        fault('kind = "flash_crowd"; at = "1s"; count = 0'),
        "bad.toml: fault 1 (flash_crowd) count: it must be a whole number >= 1",
    ),
    (
        '[heal]\nat = "50s"',
        "bad.toml: the heal at 50s leaves less than expect.rejoin_within = 15s before the end at 1min",
    ),
    ('[heal]\nat = "60s"', "bad.toml: heal.at = 1min is not within the run, which ends at 1min"),
    (
        '[churn]\ngaps = "1s"',
        "bad.toml: churn.gaps needs churn.sessions: how long nodes stay away means nothing if they never go",
    ),
    (
        '[churn]\ntrace = [["9s", "join", "a"], ["8s", "leave", "a"]]',
        "bad.toml: churn.trace, line 2: 8s is before the line above it, or the start",
    ),
    ('[churn]\ntrace = [["9s", "crash", "a"]]', "bad.toml: churn.trace, line 1: a has not joined yet"),
    ('[churn]\ntrace = [["9s", "join", "n1"]]', "bad.toml: churn.trace, line 1: n1 is there already"),
    (
        '[churn]\ntrace = [["1s", "leave", "n1"], ["2s", "crash", "n1"]]',
        "bad.toml: churn.trace, line 2: n1 is gone already",
    ),
    (
        '[churn]\ntrace = [["9s", "join", "hub"]]',
        f"bad.toml: churn.trace, line 1: 'hub' is no name for a node: {SPELLING}",
    ),
    (
        '[churn]\ntrace = [["9s", "join", "a"]]\n' + fault('kind = "join"; at = "1s"; who = ["a"]'),
        "bad.toml: churn.trace, line 1: a joins by a fault too",
    ),
    (
        '[churn]\ntrace = [["1s", "join", "a"], ["9s", "jion", "b"]]',
        "bad.toml: churn.trace, line 2: there is no 'jion': did you mean 'join'?",
    ),
    (
        '[churn]\ntrace = {file = "a.csv", header = 1}',
        f'bad.toml: churn.trace: write it as {FILE}, or as a list of events such as ["12.5s", "join", "x1"]',
    ),
    (
        "everything = true\n" + fault('kind = "clog"; at = "1s"'),
        "bad.toml: everything = true draws the faults itself: leave [[fault]] out",
    ),
]


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said[:60] for _, said in BAD])
def test_a_bad_file_is_told_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_scenario(HEAD + text, "bad.toml")
    assert str(raised.value) == said
    assert "\n" not in said


@pytest.mark.parametrize(
    "text",
    [
        fault('kind = "join"; at = "1s"; who = ["c0", "f1-0", "x-r1"]'),  # as in a compiled file: nothing makes these
        fault('kind = "clog"; at = "2s"; who = "count:5"') + fault('kind = "join"; at = "1s"; who = ["a"]'),
        fault('kind = "clog"; at = "1s"; who = "count:5"') + fault('kind = "flash_crowd"; at = "1s"; count = 2'),
        fault('kind = "crash"; at = "1s"; for = "1s"; stability = "2s"'),
        fault('kind = "clock"; at = "1s"; drift = -10_000'),
        fault('kind = "crash"; at = "1s"; for = "0s"') + fault('kind = "hub_crash"; at = "1s"; for = "0s"'),
        fault('kind = "clock"; at = "1s"; for = "0s"; skew = "1s"'),
        fault('kind = "link"; at = "1s"; direction = "up"; rate_limit = "1Mbit"') + '[links.default]\nqueue = "1MB"',
        fault('kind = "reset"; at = "1s"') + '[links.up]\nqueue = "1MB"\n[links.hub]\ndown = "1Mbit"',
        '[churn]\ntrace = [["1s", "leave", "n1"], ["2s", "join", "n1"], ["3s", "crash", "n1"]]',
    ],
)
def test_what_is_much_like_a_mistake_and_is_none_is_taken(text: str) -> None:
    scenario = parse_scenario(HEAD + text, "good.toml")
    assert compile_scenario(scenario, 0).fault


@pytest.mark.parametrize("text", ["nodes = [", HEAD + "nodes = 4", 'name = "x"\n"""', "\x00"])
def test_what_is_not_toml_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^bad\.toml is not valid TOML: [^\n]+$"):
        parse_scenario(text, "bad.toml")


def test_a_file_that_an_editor_has_marked_as_utf_8_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "marked.toml").write_text(HEAD, encoding="utf-8-sig")
    assert find_scenario(str(tmp_path / "marked.toml")).nodes == 4


@pytest.mark.parametrize("key", ["name", "duration", "nodes"])
def test_a_key_that_every_file_needs_is_missed_by_name(key: str) -> None:
    text = "".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(key))
    with pytest.raises(ConfigurationError) as raised:
        parse_scenario(text, "bad.toml")
    assert str(raised.value) == f"bad.toml: `{key}` is missing"


def test_settings_are_those_of_the_file_then_of_the_command_line_and_the_seed_is_the_scenarios() -> None:
    scenario = parse_scenario(HEAD + "seed = 5\n[training]\nquorum = 0.25\ncredit = 3\n", "x.toml")
    chosen = settings_of(scenario, {"training.credit": "4"})
    assert (chosen.training.seed, chosen.training.quorum, chosen.training.credit) == (5, 0.25, 4)
    assert settings_of(scenario, {"training.seed": 6}).training.seed == 6


def test_units_are_resolved_and_up_inherits_from_default() -> None:
    scenario = parse_scenario(HEAD + latency('"30ms"') + fault('kind = "straggler"; at = "1.5s"; for = "2s"'), "x.toml")
    assert scenario.links.default.latency == Constant(Duration(30 * MS))
    assert scenario.links.up.latency is None
    assert scenario.fault == (Straggler(at=Duration(3 * S // 2), lasts=Constant(Duration(2 * S))),)


def test_a_node_whose_name_ends_like_one_set_up_anew_is_known() -> None:
    text = fault('kind = "join"; at = "1s"; who = ["x-ray"]') + fault('kind = "crash"; at = "2s"; who = ["x-ray-r1"]')
    assert len(parse_scenario(HEAD + text, "x.toml").fault) == 2


def test_a_scenario_is_found_by_its_name_and_a_near_miss_is_told() -> None:
    assert find_scenario("swizzle").name == "swizzle"
    with pytest.raises(ConfigurationError) as raised:
        find_scenario("swizle")
    assert str(raised.value) == "'swizle' is neither a file nor a scenario: did you mean 'swizzle'?"


def test_all_the_promised_scenarios_ship() -> None:
    promised = "asymmetric-uplink byzantine-20 calm churn clock-skew duplicate-storm everything flash-crowd free-riders"
    promised += " half-partition hub-crash hub-crash-mid-swap hub-isolated lossy-burst mass-exit mobile pareto-tail"
    promised += " pauses slow-disk straggler-10x swap-storm swizzle wan"
    assert shipped() == promised.split()


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_reads_compiles_and_reads_back_equal(name: str) -> None:
    scenario = find_scenario(name)
    explicit = compile_scenario(draw(scenario, 0) if scenario.everything else scenario, 0)
    assert scenario.name == name
    assert parse_scenario(dump_scenario(scenario), name) == scenario
    assert parse_scenario(dump_scenario(explicit), name) == explicit


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_scenario_says_what_to_look_at_and_lasts_long_enough_to_see_it_advance(name: str) -> None:
    scenario = find_scenario(name)
    assert len(scenario.about.split()) >= 40
    assert "Look" in scenario.about
    assert "- " not in " ".join(scenario.about.split()), "no word is broken at the end of a line"
    assert scenario.heal is not None
    settled_at = scenario.heal.at + scenario.expect.rejoin_within
    assert settled_at + scenario.expect.advance_within <= scenario.duration
    assert settings_of(scenario).node.death_timeout_s == 300.0
