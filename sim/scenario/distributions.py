"""How long things take: distributions of durations, each drawn from one uniform number by its inverse.

One number per draw keeps chance countable: the n-th message of a link has the same fate whatever befell the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

from sim.scenario.quantities import Duration

_STANDARD = NormalDist()
_EDGE = 2.0**-40  # the inverse of a normal knows no 0 and no 1


class Distribution:
    """A distribution of durations. `at(u)` for u in [0, 1): nanoseconds, never negative."""

    dist: ClassVar[str]

    def at(self, u: float) -> int:
        """The quantile u."""
        raise NotImplementedError

    def table(self) -> dict[str, Any]:
        """As a scenario file writes it."""
        raise NotImplementedError


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
        return max(0, round(self.mean + self.sigma * _STANDARD.inv_cdf(max(u, _EDGE))))


@dataclass(frozen=True, slots=True)
class Lognormal(Distribution):
    """Lognormal by its median; `sigma` is that of the logarithm."""

    dist: ClassVar[str] = "lognormal"
    median: Duration
    sigma: float

    def at(self, u: float) -> int:
        return round(self.median * math.exp(self.sigma * _STANDARD.inv_cdf(max(u, _EDGE))))


@dataclass(frozen=True, slots=True)
class Pareto(Distribution):
    """Pareto from its least value; a shape of at most 1 has no mean."""

    dist: ClassVar[str] = "pareto"
    scale: Duration
    shape: float

    def at(self, u: float) -> int:
        return round(self.scale / math.pow(1.0 - u, 1.0 / self.shape))


@dataclass(frozen=True, slots=True)
class Weibull(Distribution):
    """Weibull; a shape below 1 means that what has lasted long will last."""

    dist: ClassVar[str] = "weibull"
    shape: float
    scale: Duration

    def at(self, u: float) -> int:
        return round(self.scale * math.pow(-math.log1p(-u), 1.0 / self.shape))


@dataclass(frozen=True, slots=True)
class Exponential(Distribution):
    """Exponential by its mean."""

    dist: ClassVar[str] = "exponential"
    mean: Duration

    def at(self, u: float) -> int:
        return round(-self.mean * math.log1p(-u))


@dataclass(frozen=True, slots=True)
class Trace(Distribution):
    """Measured durations, ascending, drawn with equal chance."""

    dist: ClassVar[str] = "trace"
    values: tuple[Duration, ...]

    def at(self, u: float) -> int:
        return self.values[int(u * len(self.values))]
