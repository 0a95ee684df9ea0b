"""When the generator is looked at, and what the last looks said. Pure."""

from __future__ import annotations

from broker.jobs import Evaluate, Evaluated
from mdgan_edge.actors import Nanos, Note, nanos
from mdgan_edge.messages import Version

LAST_SCORES_MAX_S = 120.0  # how long the end of a run waits for its scores; the classifier may be trained then
LAST_SCORES_STOPPED_MAX_S = 10.0  # the same when it was stopped: the process is to end within 20 s
LATE = "the last scores were not there in time"
NONE_YET = "nothing was evaluated yet"
SCORES_KEPT = 3  # run.json gives the median of so many last evaluations: a single one is noise


class Evaluations:
    """One evaluation every so many versions, one at a time, and a last one at the end.

    One that would be due while another is under way is left out: a slow scorer holds nobody up.
    """

    def __init__(self, every: int) -> None:
        self.skipped = 0
        self._every = every
        self._under_way = 0
        self._last_asked = False
        self._wait_until: Nanos | None = None
        self._gave_up = False
        self._kept: list[Evaluated] = []

    @property
    def busy(self) -> bool:
        """Whether one is under way."""
        return self._under_way > 0

    @property
    def last(self) -> Evaluated | None:
        """The latest result."""
        return self._kept[-1] if self._kept else None

    @property
    def missing(self) -> str | None:
        """Why scores are missing, if any are."""
        if self._gave_up:
            return LATE
        return self.last.missing if self.last else NONE_YET

    def due(self, version: Version) -> Evaluate | None:
        """The job, if one is due at this version."""
        if version % self._every:
            return None
        if self.busy:
            self.skipped += 1
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

    def awaited(self, now: Nanos, *, stopped: bool) -> bool:
        """Whether the end of the run has to wait; the time it may take runs from the first call."""
        if self._wait_until is None:
            self._wait_until = Nanos(now + nanos(LAST_SCORES_STOPPED_MAX_S if stopped else LAST_SCORES_MAX_S))
        return self.busy and now < self._wait_until

    def wait_no_longer(self) -> None:
        """The operator wants the end."""
        self._wait_until = Nanos(0)

    def given_up(self) -> list[Note]:
        """What to say, once, if the end of the run comes before the last scores."""
        if self._gave_up or not self.busy:
            return []
        self._gave_up = True
        return [Note("scores_late", f"{LATE}: the run ends without them", level="warning")]

    def done(self, result: Evaluated) -> list[Note]:
        """Keep a result; a second one of the same version replaces the first. Says so when scores cease to come."""
        self._under_way -= 1
        ceased = self.last is not None and self.last.missing is None and result.missing is not None
        earlier = [one for one in self._kept if one.version != result.version]
        self._kept = [*earlier, result][-SCORES_KEPT:]
        return [Note("no_scores", result.missing or "", level="warning")] if ceased else []

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
