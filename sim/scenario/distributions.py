"""How long things take: distributions of durations, each drawn from one uniform number by its inverse.

One number per draw keeps chance countable: the n-th message of a link has the same fate whatever befell the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import Any, ClassVar

from sim.scenario.quantities import DURATION_MAX_NS, Duration
from sim.scenario.words import near_miss

_STANDARD = NormalDist()
_EDGE = 2.0**-40  # the inverse of a normal knows no 0 and no 1
_LOG_MAX = math.log(DURATION_MAX_NS)  # a nanosecond times e to this is as long as anything may take


def normal_quantile(u: float) -> float:
    """Of the standard normal, for u in [0, 1)."""
    return _STANDARD.inv_cdf(max(u, _EDGE))


def bounded_exp(exponent: float) -> float:
    """No larger than what makes of a nanosecond the longest duration."""
    return math.exp(min(exponent, _LOG_MAX))


class Distribution:
    """A distribution of durations. `at(u)` for u in [0, 1): nanoseconds, from 0 to DURATION_MAX_NS."""

    dist: ClassVar[str]

    def at(self, u: float) -> int:
        """The quantile u."""
        raise NotImplementedError

    def table(self) -> Any:
        """As a scenario file writes it."""
        if isinstance(self, Constant):
            return self.value.text()
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"dist": self.dist, **{name: _text(value) for name, value in values.items()}}


def _bounded(nanos: float) -> int:
    return min(DURATION_MAX_NS, round(nanos))


def _power(base: float, exponent: float) -> float:
    try:
        return min(math.pow(base, exponent), float(DURATION_MAX_NS))
    except OverflowError:
        return float(DURATION_MAX_NS)


def _text(value: Any) -> Any:
    if isinstance(value, tuple):
        return [one.text() for one in value]
    return value.text() if isinstance(value, Duration) else value


@dataclass(frozen=True, slots=True)
class Constant(Distribution):
    """Always the same."""

    dist: ClassVar[str] = "constant"
    value: Duration

    def at(self, u: float) -> int:  # noqa: ARG002
        return self.value


@dataclass(frozen=True, slots=True)
class Uniform(Distribution):
    """Anything between two durations."""

    dist: ClassVar[str] = "uniform"
    low: Duration
    high: Duration

    def at(self, u: float) -> int:
        return round(self.low + u * (self.high - self.low))


@dataclass(frozen=True, slots=True)
class Normal(Distribution):
    """Normal, cut off at zero."""

    dist: ClassVar[str] = "normal"
    mean: Duration
    sigma: Duration

    def at(self, u: float) -> int:
        return _bounded(max(0.0, self.mean + self.sigma * normal_quantile(u)))


@dataclass(frozen=True, slots=True)
class Lognormal(Distribution):
    """Lognormal by its median; `sigma` is that of the logarithm."""

    dist: ClassVar[str] = "lognormal"
    median: Duration
    sigma: float

    def at(self, u: float) -> int:
        return _bounded(self.median * bounded_exp(self.sigma * normal_quantile(u)))


@dataclass(frozen=True, slots=True)
class Pareto(Distribution):
    """Pareto from its least value; a shape of at most 1 has no mean."""

    dist: ClassVar[str] = "pareto"
    scale: Duration
    shape: float

    def at(self, u: float) -> int:
        return _bounded(self.scale / max(math.pow(1.0 - u, 1.0 / self.shape), 1 / DURATION_MAX_NS))


@dataclass(frozen=True, slots=True)
class Weibull(Distribution):
    """Weibull; a shape below 1 means that what has lasted long will last."""

    dist: ClassVar[str] = "weibull"
    shape: float
    scale: Duration

    def at(self, u: float) -> int:
        return _bounded(self.scale * _power(-math.log1p(-u), 1.0 / self.shape))


@dataclass(frozen=True, slots=True)
class Exponential(Distribution):
    """Exponential by its mean."""

    dist: ClassVar[str] = "exponential"
    mean: Duration

    def at(self, u: float) -> int:
        return _bounded(-self.mean * math.log1p(-u))


@dataclass(frozen=True, slots=True)
class Trace(Distribution):
    """Measured durations, ascending, drawn with equal chance."""

    dist: ClassVar[str] = "trace"
    values: tuple[Duration, ...]

    def at(self, u: float) -> int:
        return self.values[int(u * len(self.values))]


def parse_distribution(given: object) -> Distribution:
    """From "30ms" (always that long) or a table such as {dist = "lognormal", median = "30ms", sigma = 0.5}.

    Raises ValueError in words for the one who wrote it.
    """
    if not isinstance(given, dict):
        value = Duration.parse(given)
        _refuse(value < 0, f"{given!r}: a duration cannot be negative here")
        return Constant(value)
    name = given.get("dist")
    kind = next((one for one in KINDS if one.dist == name), None)
    if kind is None:
        raise ValueError(f"dist = {name!r} is unknown: {near_miss(str(name), [one.dist for one in KINDS])}")
    wanted = [field.name for field in fields(kind)]
    for key in given:
        advice = near_miss(key, wanted, f"it has {' and '.join(wanted)}")
        _refuse(key != "dist" and key not in wanted, f"{name} has no '{key}': {advice}")
    for key in wanted:
        _refuse(key not in given, f"{name} needs {' and '.join(wanted)}: '{key}' is missing")
    return _checked(kind(**{key: _parameter(key, given[key]) for key in wanted}))


KINDS: tuple[Any, ...] = (Constant, Uniform, Normal, Lognormal, Pareto, Weibull, Exponential, Trace)
DURATIONS = frozenset({"value", "low", "high", "mean", "median", "scale"})


def _parameter(key: str, given: Any) -> Any:
    if key in DURATIONS or (key == "sigma" and isinstance(given, str)):
        return Duration.parse(given)
    if key == "values":
        _refuse(not isinstance(given, list) or not given, "values must be a list of at least one duration")
        return tuple(sorted(Duration.parse(one) for one in given))
    wrong = isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given)
    _refuse(wrong, f"{key} = {given!r} must be a number")
    return float(given)


def _checked(one: Distribution) -> Distribution:
    for field in fields(one):  # type: ignore[arg-type]
        value = getattr(one, field.name)
        least = value[0] if isinstance(value, tuple) else value
        _refuse(least < 0, f"{one.dist}: {field.name} cannot be negative")
        _refuse(field.name == "shape" and value == 0, f"{one.dist}: shape must be above 0")
    if isinstance(one, Normal):
        _refuse(not isinstance(one.sigma, Duration), 'normal: sigma is a duration, such as "5ms"')
    if isinstance(one, Lognormal):
        _refuse(isinstance(one.sigma, Duration), "lognormal: sigma is a plain number, that of the logarithm")
    if isinstance(one, Uniform):
        _refuse(one.high < one.low, "uniform: high is below low")
    return one


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise ValueError(why)
