"""The node's decisions: greeting the hub, which task next, what to answer, when to give up.

A node's life: GREETING (HELLO until WELCOME) → PREPARING (its discriminator) → SERVING → LEAVING (save, BYE) →
OVER. Losing the session leads back to GREETING; the discriminator stays.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Literal, assert_never

from msgspec.structs import replace

from mdgan_edge.actors import (
    HUB,
    Admit,
    Drain,
    Effect,
    Event,
    Finish,
    Garbled,
    Header,
    Heard,
    JobDone,
    LinkDown,
    LinkTrouble,
    Nanos,
    NotAdmitted,
    Note,
    Peer,
    Received,
    Reconnect,
    RegisterChanged,
    Run,
    Send,
    Tick,
)
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    DRAIN,
    Bye,
    ByeAck,
    Error,
    ErrorCode,
    Expect,
    Fetch,
    HeldDiscriminator,
    Message,
    Ping,
    Pong,
    Receipt,
    Refuse,
    SwapOrder,
    Task,
    Verdict,
    Welcome,
)
from nodes import calls, greeting, jobs
from nodes.contact import Contact
from nodes.divergence import DIVERGED_MAX, Divergence
from nodes.exchange import Exchange, Holdings
from nodes.greeting import NodeFacts
from nodes.jobs import Prepare, Prepared, Save, Saved, Train, Trained
from nodes.leaving import Leaving
from nodes.saves import Saves
from nodes.swapping import Act, Stage
from nodes.worklist import Worklist


class Phase(Enum):
    """Where the node stands."""

    GREETING = auto()
    PREPARING = auto()
    SERVING = auto()
    LEAVING = auto()
    OVER = auto()


class NodeCore:
    """Decides for one node."""

    def __init__(
        self,
        facts: NodeFacts,
        run_id: str | None,
        held: HeldDiscriminator | None,
        now: Nanos,
        spares: tuple[HeldDiscriminator, ...] = (),
    ) -> None:
        self.facts, self.run_id = facts, run_id
        self.held, self.spares = held, spares
        self.phase = Phase.GREETING
        self.welcome: Welcome | None = None
        self.receipts: dict[Verdict, int] = {}
        self.outcome: Literal["completed", "stopped", "failed"] = "stopped"
        self._header = Header()
        self.work = Worklist()
        self._exchange = Exchange(facts)
        self.swapping = self._exchange.swapping
        self._preparing: Prepare | None = None  # the last one asked for; those before it do not count
        self._divergence = Divergence()
        self._leaving = Leaving(now)
        self._contact = Contact(facts.node, facts.incarnation, facts.death_timeout_s, now)
        self._saves = Saves(now)
        self._trouble: LinkTrouble | None = None

    # --- the two calls --------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: Nanos) -> list[Effect]:
        """Take one event; return what is to be done about it."""
        if self.phase is Phase.OVER:
            return []
        return self._take(event, now) + self._settle(now)

    def _take(self, event: Event, now: Nanos) -> list[Effect]:
        match event:
            case Received():
                if event.sender.node != HUB.node:
                    return self._from_peer(event, now)
                self._contact.heard(now)
                self._trouble = None
                return self._received(event.header, event.message, now)
            case JobDone():
                return self._job_done(event.job, event.result, now)
            case Tick():
                return []
            case Heard(sender):
                if sender.node == HUB.node:
                    self._contact.heard(now)
                return []
            case Garbled():
                return calls.garbled(event)
            case Drain(reason):
                return self._leave(reason, "stopped", now)
            case LinkDown(trouble):
                return self._link_down(trouble)
            case RegisterChanged() | NotAdmitted():
                raise AssertionError("a node keeps no register")
            case _:
                assert_never(event)

    def deadline(self) -> Nanos | None:
        """When the next heartbeat, HELLO, or giving-up is due."""
        match self.phase:
            case Phase.SERVING | Phase.PREPARING:
                swap_at, quiet_until = self.swapping.deadline, self._contact.quiet_until
                return quiet_until if swap_at is None or self._at_rest is None else min(quiet_until, swap_at)
            case Phase.GREETING:
                return min(self._contact.gives_up_at, self._contact.hello_at)
            case Phase.LEAVING:
                return self._leaving.until
            case Phase.OVER:
                return None
            case _:
                assert_never(self.phase)

    # --- messages -------------------------------------------------------------------------------------------------

    def _received(self, header: Header, message: Message, now: Nanos) -> list[Effect]:
        match message:
            case Welcome():
                return self._welcomed(header, message)
            case Error():
                return self._error(message.code, message.text, now)
            case _ if header != self._header or self.phase is Phase.GREETING:
                return []  # of a session that is gone
            case Pong():
                return []
            case Task():
                return self._task(message)
            case Receipt():
                self.receipts[message.verdict] = self.receipts.get(message.verdict, 0) + 1
                return []
            case Expect(node, public_key):
                return [Admit(node, public_key)]
            case _ if isinstance(message, SwapOrder):
                return self._exchanged(message, HUB, now)
            case Ping(echo):
                return [self._send(Pong(echo), now)]
            case Bye(reason):
                self._leaving.asked = reason != DRAIN  # the run goes on: the hub may want what this node has
                return self._leave(reason, "completed" if reason == "completed" else "stopped", now)
            case ByeAck():
                return self._over(ExitCode.OK, self._leaving.why) if self._leaving.said else []
            case _:
                return [Note("malformed", f"{type(message).__name__} is not for a node", level="warning")]

    def _welcomed(self, header: Header, welcome: Welcome) -> list[Effect]:
        old = welcome.run_id == self.run_id and greeting.is_old(header, self._header)
        if self.phase in (Phase.LEAVING, Phase.OVER) or old:
            return []
        if misfit := greeting.misfit(self.facts, welcome.terms.model):
            return self._over(ExitCode.CONFIGURATION, misfit, "failed")
        again = self.welcome is not None and welcome.run_id == self.run_id
        self._header, self.welcome = header, welcome
        self.work.void()
        self._contact.welcomed(welcome.heartbeat_s, welcome.lease_s)
        self.swapping.welcomed(welcome.terms)
        mine = self.held is not None and welcome.run_id == self.run_id
        keep = mine and greeting.has(welcome.discriminator, self.held, *self.spares)
        self.run_id, self.spares = welcome.run_id, self.spares if mine else ()
        facts = {"run_id": welcome.run_id, "discriminator": welcome.discriminator.discriminator_id, "kept": keep}
        note = Note("welcomed", greeting.welcome_text(again, keep), facts)
        self.phase = Phase.PREPARING
        job = jobs.prepare(welcome, not keep, self.facts.labels)
        if job == self._preparing:
            return [note]
        self._preparing = job
        return [note, Run(job)]

    def _task(self, task: Task) -> list[Effect]:
        assert self.welcome is not None
        if self.phase is Phase.LEAVING:
            return []  # BYE gives it back
        if len(self.work) >= self.welcome.credit:
            return [Send(HUB, Refuse(task.task_id, "busy"), self._header)]
        self.work.add(task)
        return []

    def _error(self, code: ErrorCode, text: str, now: Nanos) -> list[Effect]:
        if code in greeting.ENDINGS:
            return self._over(greeting.ENDINGS[code], text, "failed")
        if code in (ErrorCode.NO_SESSION, ErrorCode.EPOCH):
            return self._greet_again(text, now)
        return [Note("hub_error", text, {"code": code}, "warning")]

    def _greet_again(self, why: str, now: Nanos) -> list[Effect]:
        if self.phase not in (Phase.PREPARING, Phase.SERVING):
            return []
        self._greet_soon(now)
        return [Note("session_lost", why, level="warning")]

    def _greet_soon(self, now: Nanos) -> None:
        self.phase = Phase.GREETING
        self.work.void()
        self._contact.greet_soon(now)

    def _link_down(self, trouble: LinkTrouble) -> list[Effect]:
        first, self._trouble = trouble != self._trouble, trouble
        text = greeting.trouble_text(self.facts, trouble)
        code = greeting.ending(trouble, met=self.welcome is not None)
        if code is not None:
            return self._over(code, text, "failed")
        return [Note(trouble, text, level="warning")] if first else []

    # --- results --------------------------------------------------------------------------------------------------

    def _job_done(self, job: Any, result: Any, now: Nanos) -> list[Effect]:
        match result:
            case Trained():
                return self._trained(result, now)
            case Prepared():
                return self._prepared(result) if job == self._preparing else []
            case jobs.Offered() | jobs.Shelved() | jobs.Moved() if self.held is not None:
                self.held, self.spares = jobs.holdings(result, self.held, self.spares)
                return self._act(self._exchange.done(result, self.held, now), now)
            case Saved():
                self._saves.done(now)
                return self._say_goodbye(now) if self.phase is Phase.LEAVING and self.work.training is None else []
            case _:
                raise AssertionError(f"not a result of a node's job: {result!r}")

    def _prepared(self, result: Prepared) -> list[Effect]:
        assert self.welcome is not None
        self._preparing, self.held, self.spares = None, result.held, result.spares
        if self.held.architecture != self.welcome.architecture:
            text = greeting.architecture_text(self.welcome.terms.model.name)
            return self._over(ExitCode.CONFIGURATION, text, "failed")
        if self.phase is Phase.PREPARING:
            self.phase = Phase.SERVING
        return []

    def _trained(self, result: Trained, now: Nanos) -> list[Effect]:
        assert self.held is not None
        session = self.work.finish()
        self.held = replace(self.held, tasks=result.tasks)
        self.swapping.trained()
        if self._divergence.count(finite=result.feedback is not None):
            return self._over(ExitCode.CONFIGURATION, greeting.diverged_text(DIVERGED_MAX), "failed")
        effects = self._diverged(self.held, result.trouble) if result.feedback is None else []
        if session != self._header or self.phase is Phase.GREETING:
            return effects  # the session is gone, and the task with it
        if result.feedback is None:
            return [*effects, self._send(Refuse(result.task.task_id, "diverged"), now)]
        due = self._swap_if_due(now)  # SEEK first: a barrier must know before it opens
        return [*due, self._send(jobs.answer(result, self.held), now)]

    def _diverged(self, held: HeldDiscriminator, trouble: str | None) -> list[Effect]:
        assert self.welcome is not None
        note = Note("diverged", trouble or greeting.DIVERGED, level="warning")
        if self.swapping.stage is Stage.INSTALLING or jobs.names_another(self._preparing, held):
            return [note]  # another takes its place
        self._preparing = jobs.anew(self.welcome, held, self.facts.labels)
        return [note, Run(self._preparing)]

    # --- swap -----------------------------------------------------------------------------------------------------

    @property
    def _at_rest(self) -> HeldDiscriminator | None:
        return self.held if self.phase is Phase.SERVING and self._preparing is None else None

    def _from_peer(self, event: Received, now: Nanos) -> list[Effect]:
        """Another node, by its key. It speaks in no session, but under the hub of this one."""
        if event.header != calls.header(self._header) or self.phase is Phase.GREETING:
            return []
        unfit = calls.unfit(event, self.facts.node)
        return unfit or self._exchanged(event.message, event.sender, now, event.wire_bytes)

    def _exchanged(self, message: Message, by: Peer, now: Nanos, wire_bytes: int = 0) -> list[Effect]:
        has = Holdings(self._at_rest, None if self._preparing else self.held, self.spares)
        if by == HUB and isinstance(message, Fetch):
            self._leaving.gives(now)
        return self._act(self._exchange.received(message, by, has, now, wire_bytes), now)

    def _swap_if_due(self, now: Nanos) -> list[Effect]:
        idle = self.work.training is None
        return self._act(self.swapping.act(self._at_rest, now, idle=idle), now) if self._exchange.due(now) else []

    def _act(self, acts: list[Act], now: Nanos) -> list[Effect]:
        return self._exchange.effects(acts, self._header, lambda said: self._send(said, now))

    # --- leaving --------------------------------------------------------------------------------------------------

    def _leave(self, reason: str, outcome: Literal["completed", "stopped"], now: Nanos) -> list[Effect]:
        if self.phase in (Phase.LEAVING, Phase.OVER):
            return []
        if self.phase is Phase.GREETING and self.welcome is None:
            return self._over(ExitCode.OK, reason, outcome)  # nothing was learned since the last start
        self.outcome = outcome
        self.phase = Phase.LEAVING
        self.work.void()
        self._saves.begun()
        self._leaving.begin(reason, now)
        return [Note("leaving", reason), Run(Save())]  # the trainer saves after what it has under work

    def _say_goodbye(self, now: Nanos) -> list[Effect]:
        if self._leaving.said:
            return []  # two saves were under way
        if self._leaving.asked:
            return [self._send(ByeAck(), now), *self._over(ExitCode.OK, self._leaving.why)]
        self._leaving.say(now)
        return [self._send(Bye(self._leaving.why), now)]

    def _over(
        self, exit_code: ExitCode, text: str, outcome: Literal["completed", "stopped", "failed"] | None = None
    ) -> list[Effect]:
        self.phase = Phase.OVER
        self.outcome = outcome or self.outcome
        return [Finish(exit_code, self.outcome, text)]

    # --- what follows from the facts ------------------------------------------------------------------------------

    def _settle(self, now: Nanos) -> list[Effect]:
        match self.phase:
            case Phase.SERVING:
                effects = self._train_next() if self.work.waiting else []
                effects += self._swap_if_due(now)
                if self._saves.due(now):
                    self._saves.begun()
                    effects.append(Run(Save()))
                return effects if now < self._contact.quiet_until else effects + self._keep_in_touch(now)
            case Phase.PREPARING:
                return self._keep_in_touch(now)
            case Phase.GREETING:
                return self._hello(now)
            case Phase.LEAVING:
                return self._over(ExitCode.OK, self._leaving.why) if now >= self._leaving.until else []
            case Phase.OVER:
                return []
            case _:
                assert_never(self.phase)

    def _hello(self, now: Nanos) -> list[Effect]:
        if now >= self._contact.gives_up_at:
            return self._over(*greeting.gave_up(self.facts, self._trouble), "failed")
        if now < self._contact.hello_at:
            return []
        hello = greeting.hello(self.facts, self.run_id, self.held, self.spares)
        send = Send(HUB, hello, Header(epoch=self._header.epoch))
        return [Reconnect(), send] if self._contact.hello_sent(now) else [send]

    def _keep_in_touch(self, now: Nanos) -> list[Effect]:
        if now < self._contact.quiet_until:
            return []
        if now < self._contact.silent_at:
            return [self._send(Ping(self._contact.ping(), self.work.first), now)]
        self._greet_soon(now)
        return [Note("hub_silent", "connecting anew", level="warning"), Reconnect(), *self._hello(now)]

    def _train_next(self) -> list[Effect]:
        if self.work.training is not None or self._preparing is not None:
            return []
        return [Run(Train(self.work.start_newest(self._header)))]

    # --- small things ---------------------------------------------------------------------------------------------

    def _send(self, message: Message, now: Nanos) -> Send:
        self._contact.sent(now)
        return Send(HUB, message, self._header)
