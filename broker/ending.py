"""How a run ends: its last jobs, the wait for what is decided and for its scores, the farewell, and the outcome. Pure.

An end's life: begun (completed, stopped or failed) → the last jobs are done → who was told COMMIT has it INSTALLED →
the last scores are there → BYE is said and answered → over. Each wait has its limit.
"""

from __future__ import annotations

from typing import Literal

from broker.checkpoints import Checkpoints
from broker.evaluations import Evaluations
from broker.farewell import Farewell
from broker.jobs import HubJob
from broker.membership import Membership
from broker.swaps import Swaps
from mdgan_edge.actors import Effect, Finish, Nanos, Note, Run, Send, nanos
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Bye, Version

INSTALLED_WAIT_S = 5.0  # how long the farewell waits for nodes that were told COMMIT

Outcome = Literal["completed", "stopped", "failed"]


class Ending:
    """Of one run."""

    def __init__(self, members: Membership, swaps: Swaps, evaluations: Evaluations, checkpoints: Checkpoints) -> None:
        self.outcome: Outcome = "failed"
        self.ended_at: Nanos | None = None  # when nothing was under way any more
        self.over = False
        self._members, self._swaps = members, swaps
        self._evaluations, self._checkpoints = evaluations, checkpoints
        self._farewell = Farewell()
        self._hurried = False
        self._why_failed = ""

    @property
    def farewell_by(self) -> Nanos | None:
        """When the hub waits no longer for BYE_ACK; None: BYE is not said yet."""
        return self._farewell.by

    def diverged(self, version: Version, what: str) -> Note:
        """The generator is not worth another look."""
        diverged = f"the generator diverged at version {version} ({what} is not finite)"
        self.outcome, self._why_failed = "failed", f"{diverged}: try a lower training.lr_generator"
        self._evaluations.none_at_the_end()
        return Note("diverged", self._why_failed, level="warning")

    def hurry(self) -> None:
        """The operator wants the end."""
        self._hurried = True
        self._evaluations.wait_no_longer()

    def go_on(self, version: Version, norms: tuple[float, ...], now: Nanos) -> list[Effect]:
        """What is to be done now that no job is under way but scores; FINISH is the last of it."""
        if self.ended_at is None:
            self.ended_at = now
        if last := self._last_jobs(version, norms):
            return list(map(Run, last))
        if self._awaits_installed(now) or self._evaluations.awaited(now, stopped=self.outcome == "stopped"):
            return []
        late: list[Effect] = [*self._evaluations.given_up()]
        if farewells := self._farewell.say(self._members, now):
            return [*late, *(Send(member.peer, Bye(self.outcome), member.header) for member in farewells)]
        if self._farewell.awaits(self._members, now):
            return late
        self.over = True
        if self.outcome == "failed":
            return [*late, Finish(ExitCode.UNEXPECTED, "failed", self._why_failed)]
        return [*late, Finish(ExitCode.OK, self.outcome, f"{self.outcome} at version {version}")]

    def _last_jobs(self, version: Version, norms: tuple[float, ...]) -> list[HubJob]:
        kept = self._checkpoints.final(version, norms) if self.outcome != "failed" else None
        return [job for job in (kept, self._evaluations.final(version)) if job]

    def _awaits_installed(self, now: Nanos) -> bool:
        """A node that leaves before it has heard COMMIT would leave with what another owns."""
        assert self.ended_at is not None
        in_time = not self._hurried and now < self.ended_at + nanos(INSTALLED_WAIT_S)
        return in_time and self._farewell.by is None and self._swaps.is_unsettled
