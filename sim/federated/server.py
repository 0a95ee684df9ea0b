"""FL-GAN's server: sends its model out, waits for enough answers, averages, again. Pure.

A run's life: WAITING (for hub.nodes_min clients) → TRAINING (round after round) → FINISHING (the last look, LEAVE) →
OVER. A round's life: its model is sent to every live client → answers come → it closes (rules.closing) → they are
averaged. A client that enters meanwhile takes part; one that dies is waited for no longer.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

from broker.evaluations import Evaluations
from broker.jobs import Checkpoint, Checkpointed, Evaluated
from mdgan_edge.actors import (
    Drain,
    Effect,
    Event,
    Finish,
    Garbled,
    Header,
    Heard,
    JobDone,
    Measure,
    Nanos,
    Note,
    Peer,
    Received,
    Run,
    Send,
    nanos,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Epoch, NodeId, Session, Tensor, Version
from mdgan_edge.settings import Settings
from sim.federated.jobs import Answer, Average, Averaged, Publish, Published
from sim.federated.members import Client, Members
from sim.federated.messages import Echo, Enter, Leave, LeaveAck, Pulse, Round, Stranger, Taken, Update, Verdict
from sim.federated.rules import ROUNDING, closing, mean_updates, shares, updates_left

FAREWELL_S = 10.0  # how long the server waits for LEAVE_ACK
AGAIN_FACTOR_MAX = 8  # a round is sent again after lease_s, doubling up to so many times that

Outcome = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is settled before the server starts: where its last checkpoint stands."""

    run_id: str
    epoch: Epoch
    round: int = 0
    updates: float = 0.0  # local generator updates that lie behind the model


class Phase(Enum):
    """See above."""

    WAITING = auto()
    TRAINING = auto()
    FINISHING = auto()
    OVER = auto()


class ServerCore:
    """Decides for the server."""

    def __init__(self, settings: Settings, facts: ServerFacts) -> None:
        self.settings, self.facts = settings, facts
        self.phase = Phase.WAITING
        self.members = Members(settings.hub)
        self.evaluations = Evaluations(1)
        self.round, self.updates = facts.round, facts.updates
        self.opened_at: Nanos | None = None  # the round; None: there is nothing to send, or it is being averaged
        self.answers: dict[NodeId, Update] = {}
        self.verdicts: Counter[str] = Counter()
        self.garbled: Counter[str] = Counter()
        self.outcome: Outcome = "stopped"
        self.started_at: Nanos | None = None
        self.ended_at: Nanos | None = None
        self._model: Tensor | None = None  # of this round
        self._working = False  # on the model: it is fetched or averaged
        self._updates_after = 0.0  # once the average that is being made is there
        self._looked_at: dict[Version, float] = {}  # updates behind the models that were evaluated
        self._changed = False  # who is there, or who has answered
        self._farewell_by: Nanos | None = None
        self._why = ""

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event."""
        if self.phase is Phase.OVER:
            return []
        effects: list[Effect] = []
        match event:
            case Received(sender, header, message):
                effects = self._received(sender, header, message, now)
            case JobDone(_, result):
                effects = self._done(result, now)
            case Drain(reason):
                effects = [Note("stopping", reason), *self._end("stopped", reason, now)]
            case Garbled(_, check):
                self.garbled[check] += 1
            case Heard(sender):
                self._hear(sender, now)
            case _:
                pass
        return effects + self._settle(now)

    def deadline(self) -> Nanos | None:
        """When a Tick is wanted."""
        if self.phase is Phase.OVER:
            return None
        times = [self.members.sweep_at, self._farewell_by, self._timeout_at]
        return min((at for at in times if at is not None), default=None)

    @property
    def _timeout_at(self) -> Nanos | None:
        """When the open round closes at the latest, if enough have answered."""
        if self.opened_at is None or len(self.answers) < self.settings.federated.participants_min:
            return None
        return Nanos(self.opened_at + nanos(self.settings.federated.round_timeout_s))

    # --- messages -------------------------------------------------------------------------------------------------

    def _received(self, sender: Peer, header: Header, message: Any, now: Nanos) -> list[Effect]:
        if isinstance(message, Enter):
            return self._enter(sender, message, now)
        client = self.members.get(sender.node)
        current = client is not None and header == self._header(client) and client.active
        if client is None or not current:
            return self._to_stranger(sender, message)
        client.peer, client.heard_at = sender, now
        match message:
            case Update():
                return self._update(client, message)
            case Pulse(number):
                return [self._say(client, Echo(self.round)), *self._remind(client, number, now)]
            case Leave(reason):
                return [self._say(client, LeaveAck()), *self._gone(client, "left", reason)]
            case LeaveAck():
                return self._gone(client, "left", "acknowledged")
            case _:
                return []

    def _to_stranger(self, sender: Peer, message: Any) -> list[Effect]:
        header = Header(self.facts.epoch, Session(0))
        match message:
            case Leave():
                return [_say(sender, LeaveAck(), header)]
            case LeaveAck():
                return []
            case Update():
                self.verdicts["epoch"] += 1
        return [_say(sender, Stranger(), header)]

    def _hear(self, sender: Peer, now: Nanos) -> None:
        client = self.members.get(sender.node)
        if client is not None and client.active:
            client.heard_at = now

    def _enter(self, sender: Peer, enter: Enter, now: Nanos) -> list[Effect]:
        if self.phase is Phase.FINISHING:
            return [_say(sender, Leave(self.outcome), Header(self.facts.epoch, Session(0)))]
        known = self.members.get(sender.node)
        if known is not None and enter.incarnation < known.incarnation:
            return []  # late, of a process that is gone
        if known is not None and known.active and enter.incarnation == known.incarnation and known.peer == sender:
            known.heard_at = now
            return [self._say(known, Echo(self.round))]  # its first ENTER is on its way still, or the answer is
        client = self.members.enter(sender, enter, now)
        self._changed = True
        facts = {"node": client.node, "incarnation": client.incarnation, "shard_size": client.samples}
        why = "came back" if client.rejoined else "new here"
        return [Note("joined", why, facts), self._say(client, Echo(self.round))]

    def _update(self, client: Client, update: Update) -> list[Effect]:
        verdict = self._verdict(client, update)
        if verdict == "averaged":
            self.answers[client.node] = update
        else:
            self.verdicts[verdict] += 1
            if verdict != "duplicate":
                client.refused[verdict] += 1
        if verdict in ("averaged", "malformed") and update.round == self.round:
            client.heard_round, self._changed = update.round, True
        told = self._say(client, Taken(update.round, verdict))
        if verdict != "malformed":
            return [told]
        return [told, Note("update_refused", "its numbers are not finite", {"node": client.node}, "warning")]

    def _verdict(self, client: Client, update: Update) -> Verdict:
        if client.heard_round >= update.round:
            return "duplicate"
        if update.round != self.round or self.opened_at is None:
            return "late"
        assert self._model is not None
        sound = math.isfinite(update.numbers.norm) and update.numbers.shape == self._model.shape
        return "averaged" if sound and update.samples == client.samples else "malformed"

    def _remind(self, client: Client, number: int, now: Nanos) -> list[Effect]:
        """What it was sent may have been lost on the way."""
        missed = number < self.round and client.sent_round == self.round and self._awaits(client)
        return [self._send_round(client, now)] if missed and now >= client.again_at else []

    def _gone(self, client: Client, state: Literal["dead", "left"], why: str) -> list[Effect]:
        self.members.end(client, state)
        self._changed = True
        return [Note("member", why, {"node": client.node, "state": state})]

    # --- jobs -----------------------------------------------------------------------------------------------------

    def _done(self, result: Any, now: Nanos) -> list[Effect]:
        match result:
            case Published(number, numbers):
                assert number == self.round
                self._model, self._working, self._changed = numbers, False, True
                done = not updates_left(self.settings.training.steps, self.updates)  # it died just before its end
                return self._end("completed", "all updates are made", now) if done else []
            case Averaged():
                return self._averaged(result, now)
            case Evaluated(version, scores, _, trouble):
                self.evaluations.done(result)
                lost = [Note("not_saved", trouble, {"version": version}, "warning")] if trouble else []
                figures = {"version": version, "updates": self._looked_at.pop(version), **scores}
                return [Measure("evaluated", figures), *lost]
            case Checkpointed(version, trouble):
                facts = {"version": version}
                return [Note("not_saved", trouble, facts, "warning") if trouble else Note("checkpoint", "kept", facts)]
            case _:
                raise AssertionError(result)

    def _averaged(self, result: Averaged, now: Nanos) -> list[Effect]:
        self.round, self._model, self._working, self._changed = result.round, result.numbers, False, True
        training, hub = self.settings.training, self.settings.hub
        before, self.updates = self.updates, self._updates_after
        effects: list[Effect] = [Measure("stepped", {"version": self.round, "updates": self.updates})]
        if self.phase is not Phase.TRAINING:
            return effects
        if not math.isfinite(result.numbers.norm):
            return [*effects, *self._end("failed", "the averaged model is not finite", now)]
        if crossed(before, self.updates, hub.checkpoint_every):
            effects.append(Run(Checkpoint(Version(self.round), self.facts.run_id)))
        if not updates_left(training.steps, self.updates):
            return [*effects, *self._end("completed", "all updates are made", now)]
        if crossed(before, self.updates, hub.evaluate_every) and not self.evaluations.busy:
            effects += self._evaluate(final=False)
        return effects

    def _evaluate(self, *, final: bool) -> list[Effect]:
        self._looked_at[Version(self.round)] = self.updates
        job = (self.evaluations.final if final else self.evaluations.due)(Version(self.round))
        return [] if job is None else [Run(job)]

    # --- what follows from the facts ------------------------------------------------------------------------------

    def _settle(self, now: Nanos) -> list[Effect]:
        effects: list[Effect] = []
        for client in self.members.sweep(now):
            effects.append(Note("member", "silent", {"node": client.node, "state": "dead"}))
            self._changed = True
        if self.phase is Phase.WAITING and self.members.live >= self.settings.hub.nodes_min:
            self.phase, self.started_at, self._changed = Phase.TRAINING, now, True
            effects.append(Note("started", f"{self.members.live} client(s) are there"))
        if self.phase is Phase.TRAINING:
            effects += self._train(now)
        if self.phase is Phase.FINISHING:
            effects += self._finish(now)
        return effects

    def _train(self, now: Nanos) -> list[Effect]:
        if self._working:
            return []
        if self._model is None:
            self._working = True
            return [Run(Publish(self.round))]
        timed_out = self._timeout_at is not None and now >= self._timeout_at
        if not self._changed and not timed_out:
            return []
        self._changed = False
        if self.opened_at is None:
            self.opened_at = now
        heard = sum(client.active and client.heard_round == self.round for client in self.members)
        why = closing(self.settings.federated, self.members.live, heard, len(self.answers), timed_out)
        if why is not None:
            return self._close(why, now)
        unsent = [one for one in self.members if one.active and one.sent_round != self.round and self._awaits(one)]
        return [self._send_round(client, now) for client in unsent]

    def _awaits(self, client: Client) -> bool:
        return self.opened_at is not None and client.heard_round < self.round

    def _close(self, why: str, now: Nanos) -> list[Effect]:
        self.opened_at = None
        if not self.answers:
            return self._end("failed", "no client has finite numbers any more", now)
        answers, self.answers = self.answers, {}
        weights = shares({node: update.samples for node, update in answers.items()})
        made = mean_updates(weights, {node: update.updates for node, update in answers.items()})
        self._updates_after, self._working = self.updates + made, True
        for node in answers:
            client = self.members.get(node)
            assert client is not None
            client.averaged += 1
        self.verdicts["averaged"] += len(answers)
        given = tuple(Answer(node, share, answers[node].numbers) for node, share in weights.items())
        figures = {
            "version": self.round,
            "merged": len(answers),
            "live": self.members.live,
            "staleness": [0] * len(answers),
            "loss_d": sum(share * answers[node].loss_d for node, share in weights.items()),
            "loss_g": sum(share * answers[node].loss_g for node, share in weights.items()),
        }
        note = Note("round", why, {"round": self.round, "answers": len(answers), "live": self.members.live})
        return [note, Measure("step", figures), Run(Average(self.round, given, self._updates_after))]

    def _end(self, outcome: Outcome, why: str, now: Nanos) -> list[Effect]:
        """The last look, then LEAVE to everybody."""
        if self.phase is Phase.FINISHING:
            return []
        self.phase, self.outcome, self._why = Phase.FINISHING, outcome, why
        self.opened_at, self.ended_at = None, now
        if outcome == "failed":
            self.evaluations.none_at_the_end()
            return [Note("diverged", why, level="warning")]
        return self._evaluate(final=True)

    def _finish(self, now: Nanos) -> list[Effect]:
        if self.evaluations.busy or self._working:
            return []
        if self._farewell_by is None:
            self._farewell_by = Nanos(now + nanos(FAREWELL_S))
            return [self._say(client, Leave(self.outcome)) for client in self.members if client.active]
        if self.members.live and now < self._farewell_by:
            return []
        self.phase = Phase.OVER
        code = ExitCode.UNEXPECTED if self.outcome == "failed" else ExitCode.OK
        return [Finish(code, self.outcome, self._why)]

    # --- sending --------------------------------------------------------------------------------------------------

    def _send_round(self, client: Client, now: Nanos) -> Send:
        assert self._model is not None
        lease_s = self.settings.hub.lease_s
        again_s = lease_s if client.sent_round != self.round else min(2 * client.again_s, AGAIN_FACTOR_MAX * lease_s)
        client.rounds += client.sent_round != self.round
        client.sent_round, client.again_s = self.round, again_s
        client.again_at = Nanos(now + nanos(again_s))
        return self._say(
            client, Round(self.round, updates_left(self.settings.training.steps, self.updates), self._model)
        )

    def _header(self, client: Client) -> Header:
        return Header(self.facts.epoch, client.session)

    def _say(self, client: Client, message: Any) -> Send:
        return _say(client.peer, message, self._header(client))


def _say(to: Peer, message: Any, header: Header) -> Send:
    return Send(to, message, header)


def crossed(before: float, after: float, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return math.floor(after / every + ROUNDING) > math.floor(before / every + ROUNDING)
