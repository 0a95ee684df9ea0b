"""The ordinary GAN on one machine with all the data: one iteration after the other, no messages. Pure.

A run's life: TRAINING → FINISHING (the last look) → OVER.
"""

from __future__ import annotations

import math
from collections import Counter
from enum import Enum, auto
from typing import Any, Literal

from broker.checkpoints import Checkpoints
from broker.evaluations import Evaluations
from broker.jobs import Checkpointed, Evaluated
from mdgan_edge.actors import Drain, Effect, Event, Finish, JobDone, Measure, Nanos, Note, Run
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Version
from mdgan_edge.settings import Settings
from sim.federated.jobs import LocallyUpdated, LocalUpdate
from sim.federated.server import ServerFacts


class Phase(Enum):
    """See above."""

    TRAINING = auto()
    FINISHING = auto()
    OVER = auto()


class AloneCore:
    """Decides for the one machine there is."""

    def __init__(self, settings: Settings, facts: ServerFacts, work: float, now: Nanos) -> None:
        self.settings, self.facts = settings, facts
        self.phase = Phase.TRAINING
        self.evaluations = Evaluations(settings.hub.evaluate_every)
        self.checkpoints = Checkpoints(settings.hub.checkpoint_every, facts.run_id, Version(facts.round))
        self.version = Version(facts.round)
        self.verdicts: Counter[str] = Counter()
        self.garbled: Counter[str] = Counter()
        self.outcome: Literal["completed", "stopped", "failed"] = "stopped"
        self.started_at: Nanos | None = now
        self.ended_at: Nanos | None = None
        self._job = LocalUpdate(work)
        self._busy = False
        self._why = ""

    @property
    def updates(self) -> float:
        """Generator updates."""
        return float(self.version)

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event."""
        if self.phase is Phase.OVER:
            return []
        effects: list[Effect] = []
        match event:
            case JobDone(_, result):
                effects = self._done(result, now)
            case Drain(reason):
                effects = [Note("stopping", reason)]
                self._end("stopped", reason, now)
            case _:
                pass
        return effects + self._settle(now)

    def deadline(self) -> Nanos | None:
        """At once, to begin; afterwards one job follows from the other."""
        return self.started_at if self.phase is Phase.TRAINING and not self._busy else None

    def _done(self, result: Any, now: Nanos) -> list[Effect]:
        match result:
            case LocallyUpdated(loss_d, loss_g):
                self._busy, self.version = False, Version(self.version + 1)
                if not (math.isfinite(loss_d) and math.isfinite(loss_g)):
                    self._end("failed", f"the losses are not finite after {self.version} updates", now)
                stepped: Effect = Measure("stepped", {"version": self.version, "loss_d": loss_d, "loss_g": loss_g})
                return [stepped, *self._look_and_keep()]
            case Evaluated(version, scores, _, trouble):
                self.evaluations.done(result)
                lost = [Note("not_saved", trouble, {"version": version}, "warning")] if trouble else []
                return [Measure("evaluated", {"version": version, **scores}), *lost]
            case Checkpointed():
                return self.checkpoints.done(result)
            case _:
                raise AssertionError(result)

    def _look_and_keep(self) -> list[Effect]:
        if self.phase is not Phase.TRAINING or self.version >= self.settings.training.steps:
            return []
        due = (self.evaluations.due(self.version), self.checkpoints.due(self.version))
        return [Run(job) for job in due if job]

    def _end(self, outcome: Literal["completed", "stopped", "failed"], why: str, now: Nanos) -> None:
        if self.phase is not Phase.TRAINING:
            return
        self.phase, self.outcome, self._why, self.ended_at = Phase.FINISHING, outcome, why, now
        if outcome == "failed":
            self.evaluations.none_at_the_end()

    def _settle(self, now: Nanos) -> list[Effect]:
        if self.phase is Phase.TRAINING and self.version >= self.settings.training.steps:
            self._end("completed", "all updates are made", now)
        if self._busy:
            return []
        if self.phase is Phase.TRAINING:
            self._busy = True
            return [Run(self._job)]
        last = self.evaluations.final(self.version)
        if last is not None:
            return [Run(last)]
        if self.evaluations.busy or self.checkpoints.busy:
            return []
        self.phase = Phase.OVER
        code = ExitCode.UNEXPECTED if self.outcome == "failed" else ExitCode.OK
        return [Finish(code, self.outcome, self._why)]
