"""When the generator is looked at, and what the last looks said. Pure."""

from __future__ import annotations

from broker.jobs import Evaluate, Evaluated
from mdgan_edge.messages import Version

SCORES_KEPT = 3  # run.json gives the median of so many last evaluations: a single one is noise


class Evaluations:
    """One evaluation every so many versions, and a last one at the end."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._under_way = 0
        self._last_asked = False
        self._kept: list[Evaluated] = []

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    @property
    def last(self) -> Evaluated | None:
        """The latest result."""
        return self._kept[-1] if self._kept else None

    def due(self, version: Version) -> Evaluate | None:
        """The job, if one is due at this version."""
        if version % self._every:
            return None
        self._under_way += 1
        return Evaluate(version, final=False)

    def final(self, version: Version) -> Evaluate | None:
        """The last job; once."""
        if self._last_asked:
            return None
        self._last_asked = True
        self._under_way += 1
        return Evaluate(version, final=True)

    def none_at_the_end(self) -> None:
        """The generator is not worth another look."""
        self._last_asked = True

    def done(self, result: Evaluated) -> None:
        """Keep a result; a second one of the same version replaces the first."""
        self._under_way -= 1
        earlier = [one for one in self._kept if one.version != result.version]
        self._kept = [*earlier, result][-SCORES_KEPT:]

    def medians(self) -> dict[str, float | None]:
        """Each score's median over the last evaluations; None where any of them has none."""
        names = sorted({name for evaluated in self._kept for name in evaluated.scores})
        return {name: _median([evaluated.scores.get(name) for evaluated in self._kept]) for name in names}


def _median(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    if len(known) < len(values):
        return None
    middle = len(known) // 2
    return known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
