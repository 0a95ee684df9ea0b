"""FL-GAN's client: takes the server's model, trains it on its own data, sends it back. Pure.

A client's life: ENTERING (ENTER until the server knows it) → SERVING (rounds) → LEAVING (LEAVE until acknowledged) →
OVER. A lost session leads back to ENTERING. In a round: adopt → local updates → collect → UPDATE until TAKEN; a newer
round ends an older one at the next update.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from mdgan_edge.actors import (
    HUB,
    Drain,
    Effect,
    Event,
    Finish,
    Header,
    JobDone,
    Nanos,
    Note,
    Received,
    Reconnect,
    Run,
    Send,
    nanos,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Incarnation, NodeId, Tensor
from sim.federated.jobs import Adopt, Adopted, Collect, Collected, LocallyUpdated, LocalUpdate
from sim.federated.messages import Echo, Enter, Leave, LeaveAck, Pulse, Round, Stranger, Taken, Update
from sim.federated.rules import updates_per_round

ENTER_AGAIN_S = 1.0  # until the server answers, doubling ...
ENTER_AGAIN_MAX_S = 8.0  # ... up to this
AGAIN_FACTOR_MAX = 8  # an update is said again after lease_s, doubling up to so many times that
FAREWELL_S = 5.0  # how long a LEAVE may stay unanswered
NO_ROUND = -1


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What a client knows when it starts."""

    node: NodeId
    incarnation: Incarnation
    samples: int  # m_n
    batch_size: int  # b
    epochs: float  # E
    work: float  # of a local update, see LocalUpdate
    heartbeat_s: float
    lease_s: float
    death_timeout_s: float


class Phase(Enum):
    """See above."""

    ENTERING = auto()
    SERVING = auto()
    LEAVING = auto()
    OVER = auto()


class ClientCore:
    """Decides for one client."""

    def __init__(self, facts: ClientFacts, now: Nanos) -> None:
        self.facts = facts
        self.phase = Phase.ENTERING
        self.round: Round | None = None  # the one under work, or answered
        self._next: Round | None = None  # a newer one
        self._header = Header()
        self._busy = False
        self._updates = 0  # made in this round
        self._collected = False  # this round is over but for the answer
        self._losses = (0.0, 0.0)
        self._answer: Update | None = None  # until it is TAKEN
        self._heard_at = now
        self._speak_at = now  # ENTER or PULSE
        self._pause_s = ENTER_AGAIN_S
        self._again_at: Nanos | None = None  # UPDATE, or the end of the farewell
        self._again_s = facts.lease_s

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event."""
        if self.phase is Phase.OVER:
            return []
        effects: list[Effect] = []
        match event:
            case Received(_, header, message):
                self._heard_at = now
                effects = self._received(header, message, now)
            case JobDone(_, result):
                self._busy = False
                effects = self._done(result, now)
            case Drain(reason):
                effects = self._leave(reason, now)
            case _:
                pass
        return effects + self._settle(now)

    def deadline(self) -> Nanos | None:
        """When a Tick is wanted."""
        if self.phase is Phase.OVER:
            return None
        times = [self._speak_at, self._give_up_at]
        if self._again_at is not None:
            times.append(self._again_at)
        return min(times)

    @property
    def answering(self) -> bool:
        """Whether its update waits to be taken."""
        return self._answer is not None

    @property
    def _give_up_at(self) -> Nanos:
        return Nanos(self._heard_at + nanos(self.facts.death_timeout_s))

    # --- messages -------------------------------------------------------------------------------------------------

    def _received(self, header: Header, message: Any, now: Nanos) -> list[Effect]:
        match message:
            case Leave(reason):
                return [self._say(LeaveAck()), *self._finish(ExitCode.OK, f"the server says {reason}")]
            case LeaveAck() if self.phase is Phase.LEAVING:
                return self._finish(ExitCode.OK, "left")
            case Stranger() if self.phase is Phase.SERVING:
                return self._lose_session(now)
            case Echo() | Round() | Taken() if self.phase in (Phase.ENTERING, Phase.SERVING):
                return self._from_server(header, message)
            case _:
                return []

    def _from_server(self, header: Header, message: Echo | Round | Taken) -> list[Effect]:
        if (header.epoch, header.session) < (self._header.epoch, self._header.session):
            return []  # of a session that is over
        effects: list[Effect] = []
        if header != self._header or self.phase is Phase.ENTERING:
            self._forget()
            self._header, self.phase = header, Phase.SERVING
            self._pause_s = ENTER_AGAIN_S
            effects = [Note("entered", facts={"epoch": header.epoch, "session": header.session})]
        match message:
            case Round(number) if number > self._newest:
                self._next = message
            case Taken(number) if self._answer is not None and self._answer.round == number:
                self._answer, self._again_at = None, None
            case _:
                pass
        return effects

    @property
    def _newest(self) -> int:
        newest = self._next or self.round
        return NO_ROUND if newest is None else newest.round

    def _lose_session(self, now: Nanos) -> list[Effect]:
        self._forget()
        self.phase, self._speak_at = Phase.ENTERING, now
        return [Note("session_lost", "the server knows it no more"), Reconnect()]

    def _forget(self) -> None:
        self.round = self._next = self._answer = self._again_at = None

    # --- training -------------------------------------------------------------------------------------------------

    def _done(self, result: Any, now: Nanos) -> list[Effect]:
        if self.round is None or self.phase is not Phase.SERVING:
            return []
        match result:
            case LocallyUpdated(loss_d, loss_g):
                self._updates += 1
                self._losses = (loss_d, loss_g)
            case Collected(number, numbers) if number == self.round.round:
                return self._answer_with(numbers, now)
            case _:
                assert isinstance(result, Adopted | Collected)
        return []

    def _answer_with(self, numbers: Tensor, now: Nanos) -> list[Effect]:
        assert self.round is not None
        self._answer = Update(self.round.round, self._updates, self.facts.samples, *self._losses, numbers)
        self._again_s = self.facts.lease_s
        return self._say_answer(now)

    def _say_answer(self, now: Nanos) -> list[Effect]:
        self._again_at = Nanos(now + nanos(self._again_s))
        self._again_s = min(2 * self._again_s, AGAIN_FACTOR_MAX * self.facts.lease_s)
        return [self._say(self._answer)]

    def _work(self) -> list[Effect]:
        """The next job, if there is one and none is under work."""
        if self._busy or self.phase is not Phase.SERVING:
            return []
        if self._next is not None:
            self.round, self._next = self._next, None
            self._updates, self._collected, self._answer, self._again_at = 0, False, None, None
            return self._run(Adopt(self.round.round, self.round.numbers))
        if self.round is None or self._collected:
            return []
        if self._updates < self._wanted:
            return self._run(LocalUpdate(self.facts.work))
        self._collected = True
        return self._run(Collect(self.round.round))

    @property
    def _wanted(self) -> int:
        assert self.round is not None
        own = updates_per_round(self.facts.samples, self.facts.epochs, self.facts.batch_size)
        return min(own, self.round.updates)

    def _run(self, job: Any) -> list[Effect]:
        self._busy = True
        return [Run(job)]

    # --- leaving --------------------------------------------------------------------------------------------------

    def _leave(self, reason: str, now: Nanos) -> list[Effect]:
        if self.phase is Phase.LEAVING:
            return []
        known = self.phase is Phase.SERVING
        self._forget()
        self.phase = Phase.LEAVING
        self._again_at = Nanos(now + (nanos(FAREWELL_S) if known else 1))
        return [self._say(Leave(reason))] if known else []

    def _finish(self, code: ExitCode, text: str) -> list[Effect]:
        self.phase = Phase.OVER
        return [Finish(code, "completed" if code is ExitCode.OK else "failed", text)]

    # --- what follows from the facts ------------------------------------------------------------------------------

    def _settle(self, now: Nanos) -> list[Effect]:
        if self.phase is Phase.OVER:
            return []
        if now >= self._give_up_at:
            return self._finish(ExitCode.HUB_UNREACHABLE, "the server is silent")
        if self._again_at is not None and now >= self._again_at:
            if self.phase is Phase.LEAVING:
                return self._finish(ExitCode.OK, "left without an answer")
            return [*self._say_answer(now), *self._speak(now), *self._work()]
        return [*self._speak(now), *self._work()]

    def _speak(self, now: Nanos) -> list[Effect]:
        if now < self._speak_at:
            return []
        if self.phase is Phase.ENTERING:
            self._speak_at = Nanos(now + nanos(self._pause_s))
            self._pause_s = min(2 * self._pause_s, ENTER_AGAIN_MAX_S)
            return [self._say(Enter(self.facts.incarnation, self.facts.samples))]
        self._speak_at = Nanos(now + nanos(self.facts.heartbeat_s))
        if self.phase is Phase.LEAVING:
            return []
        return [self._say(Pulse(self._newest))]

    def _say(self, message: Any) -> Send:
        return Send(HUB, message, self._header)
