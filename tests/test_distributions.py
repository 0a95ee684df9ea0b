"""Distributions have the mean and the quantiles that their formulas say, and refuse what they cannot be."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from sim.scenario.distributions import KINDS, Distribution, parse_distribution
from sim.scenario.quantities import DURATION_MAX_NS
from sim.scenario.values import MS, S

DRAWS = 20_000

# Written form, analytic mean, median and 90 % quantile, in nanoseconds.
KNOWN = [
    ("30ms", 30 * MS, 30 * MS, 30 * MS),
    ({"dist": "constant", "value": "30ms"}, 30 * MS, 30 * MS, 30 * MS),
    ({"dist": "uniform", "low": "10ms", "high": "50ms"}, 30 * MS, 30 * MS, 46 * MS),
    ({"dist": "normal", "mean": "100ms", "sigma": "10ms"}, 100 * MS, 100 * MS, 112.8155 * MS),
    (
        {"dist": "lognormal", "median": "30ms", "sigma": 0.5},
        30 * MS * math.exp(0.125),
        30 * MS,
        30 * MS * math.exp(0.5 * 1.281552),
    ),
    ({"dist": "pareto", "scale": "20ms", "shape": 3}, 30 * MS, 20 * MS * 2 ** (1 / 3), 20 * MS * 10 ** (1 / 3)),
    (
        {"dist": "weibull", "shape": 2, "scale": "1s"},
        S * math.gamma(1.5),
        S * math.log(2) ** 0.5,
        S * math.log(10) ** 0.5,
    ),
    ({"dist": "exponential", "mean": "2s"}, 2 * S, 2 * S * math.log(2), 2 * S * math.log(10)),
    ({"dist": "trace", "values": ["3ms", "1ms", "2ms", "10ms"]}, 4 * MS, 3 * MS, 10 * MS),
]

ALL = "constant, uniform, normal, lognormal, pareto, weibull, exponential, trace"
WRONG = [
    ("-1ms", "'-1ms': a duration cannot be negative here"),
    ({"dist": "lognormall", "median": "1ms", "sigma": 1}, "dist = 'lognormall' is unknown: did you mean 'lognormal'?"),
    ({"dist": "zzz"}, f"dist = 'zzz' is unknown: there are {ALL}"),
    ({"dist": "lognormal", "median": "1ms", "sigma": -1}, "lognormal: sigma cannot be negative"),
    (
        {"dist": "lognormal", "median": "1ms", "sigma": "1ms"},
        "lognormal: sigma is a plain number, that of the logarithm",
    ),
    ({"dist": "normal", "mean": "1ms", "sigma": 1}, 'normal: sigma is a duration, such as "5ms"'),
    ({"dist": "pareto", "scale": "1ms", "shape": 0}, "pareto: shape must be above 0"),
    ({"dist": "weibull", "scale": "1ms", "shape": -0.5}, "weibull: shape cannot be negative"),
    ({"dist": "uniform", "low": "2ms", "high": "1ms"}, "uniform: high is below low"),
    ({"dist": "trace", "values": []}, "values must be a list of at least one duration"),
    ({"dist": "pareto", "scale": "1ms", "shap": 1}, "pareto has no 'shap': did you mean 'shape'?"),
    ({"dist": "pareto", "scale": "1ms"}, "pareto needs scale and shape: 'shape' is missing"),
    ({"dist": "pareto", "scale": "1ms", "shape": math.nan}, "shape = nan must be a number"),
]


def named(value: object) -> str:
    return str(value["dist"]) if isinstance(value, dict) else "" if isinstance(value, float) else str(value)


def test_every_distribution_has_a_known_mean() -> None:
    assert {type(parse_distribution(written)) for written, *_ in KNOWN} == set(KINDS)


@pytest.mark.parametrize(("written", "mean", "median", "high"), KNOWN, ids=named)
def test_mean_and_quantiles_are_those_of_the_formula(written: object, mean: float, median: float, high: float) -> None:
    one = parse_distribution(written)
    assert one.at(0.5) == pytest.approx(median, rel=1e-5)
    assert one.at(0.9) == pytest.approx(high, rel=1e-5)
    assert fmean(one.at((index + 0.5) / DRAWS) for index in range(DRAWS)) == pytest.approx(mean, rel=5e-3)


@pytest.mark.parametrize("written", [written for written, *_ in KNOWN], ids=named)
def test_no_draw_is_negative_or_falls_as_the_number_grows(written: object) -> None:
    one = parse_distribution(written)
    drawn = [one.at(u) for u in (0.0, 2.0**-53, 0.001, 0.3, 0.7, 0.999, 1 - 2.0**-53)]
    assert drawn[0] >= 0
    assert drawn == sorted(drawn)


@pytest.mark.parametrize(
    "written",
    [
        {"dist": "normal", "mean": "1h", "sigma": "270000h"},
        {"dist": "lognormal", "median": "1s", "sigma": 1e9},
        {"dist": "lognormal", "median": "1s", "sigma": 1e308},
        {"dist": "pareto", "scale": "1s", "shape": 1e-300},
        {"dist": "pareto", "scale": "1s", "shape": 5e-324},
        {"dist": "pareto", "scale": "1s", "shape": 1e-3},
        {"dist": "weibull", "scale": "1s", "shape": 1e-3},
        {"dist": "weibull", "scale": "1s", "shape": 5e-324},
        {"dist": "exponential", "mean": "270000h"},
    ],
    ids=named,
)
def test_nothing_takes_longer_than_the_longest_duration_however_heavy_the_tail(written: object) -> None:
    one = parse_distribution(written)
    drawn = [one.at(u) for u in (0.0, 0.3, 0.5, 0.9, 1 - 2.0**-53)]
    assert drawn == sorted(drawn)
    assert drawn[0] >= 0
    assert drawn[-1] == DURATION_MAX_NS


@pytest.mark.parametrize("kind", ["pareto", "weibull"])
def test_what_has_no_length_has_none_however_heavy_the_tail(kind: str) -> None:
    assert parse_distribution({"dist": kind, "scale": "0s", "shape": 1e-300}).at(0.9) == 0


def test_a_normal_of_a_wide_spread_is_cut_off_at_zero() -> None:
    assert parse_distribution({"dist": "normal", "mean": "1ms", "sigma": "1s"}).at(0.1) == 0


@pytest.mark.parametrize("written", [written for written, *_ in KNOWN], ids=named)
def test_what_a_distribution_writes_reads_back_equal(written: object) -> None:
    one: Distribution = parse_distribution(written)
    assert parse_distribution(one.table()) == one


@pytest.mark.parametrize(("written", "why"), WRONG, ids=named)
def test_a_distribution_that_cannot_be_says_why(written: object, why: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        parse_distribution(written)
    assert str(raised.value) == why
