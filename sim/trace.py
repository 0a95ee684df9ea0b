"""The digest of a whole run, and, where asked for, the lines it was made of.

Every event a core handles and every message that is lost goes in, in order. Two runs with one digest did the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from broker.jobs import BatchesMade, Evaluated, Stepped
from mdgan_edge.actors import Drain, Event, Garbled, JobDone, Received, Tick
from mdgan_edge.messages import (
    Abort,
    Accept,
    Adopt,
    Bye,
    ByeAck,
    Commit,
    Copy,
    Decline,
    Error,
    Expect,
    Feedback,
    Fetch,
    GivenUp,
    Hello,
    Installed,
    NodeId,
    Peers,
    Ping,
    Pong,
    Prepared,
    Propose,
    Receipt,
    Refuse,
    Seek,
    Task,
    Welcome,
)
from nodes.jobs import Trained
from sim.federated.jobs import Averaged, Collected, LocallyUpdated, Published
from sim.federated.messages import WORDS

DIGEST_BYTES = 16
FLUSH_LINES = 4096


class Trace:
    """A rolling blake2b. `listen` gets every line before it is folded in."""

    def __init__(self, listen: Callable[[Sequence[str]], None] | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._lines: list[str] = []
        self._listen = listen

    def add(self, now: int, who: str, what: str) -> None:
        """Something happened."""
        self._lines.append(f"{now} {who} {what}")

    def event(self, now: int, who: NodeId, event: Event) -> None:
        """A core is about to handle an event."""
        what = _WORDS[type(event.message)](event.message) if type(event) is Received else label(event)
        lines = self._lines
        lines.append(f"{now} {who} {what}")
        if len(lines) >= FLUSH_LINES:
            self._flush()

    def lost(self, why: str) -> None:
        """The message sent just now never arrives. Of one that does, its arrival tells."""
        self._lines.append(why)

    def digest(self) -> str:
        """Of all that was added so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        if self._listen is not None:
            self._listen(self._lines)
        self._hash.update("\n".join(self._lines).encode())
        self._hash.update(b"\n")
        self._lines.clear()


def label(event: Event) -> str:
    """An event in a few words: enough to tell two runs apart, and to read."""
    if type(event) is Tick:
        return "tick"
    if type(event) is Received:
        return _WORDS[type(event.message)](event.message)
    if type(event) is JobDone:
        figures = _FIGURES.get(type(event.result))
        return f"done {type(event.job).__name__}{figures(event.result) if figures is not None else ''}"
    match event:
        case Garbled(_, check):
            return f"garbled {check}"
        case Drain(reason):
            return f"drain {reason}"
        case _:
            return type(event).__name__


def _pair(word: str) -> Callable[[Any], str]:
    return lambda one: f"{word} {one.swap_id} {one.sender}>{one.to}"


_FIGURES: dict[type, Callable[[Any], str]] = {  # what a job computed, as far as numbers tell it
    **dict.fromkeys((Trained, LocallyUpdated), lambda one: f" {one.loss_d!r} {one.loss_g!r}"),
    **dict.fromkeys((Published, Averaged, Collected), lambda one: f" {one.numbers.norm!r}"),
    Stepped: lambda one: f" {one.gradient_norm!r}",
    BatchesMade: lambda one: "".join(f" {batch.images.norm!r}" for batch in one.batches),
    Evaluated: lambda one: "".join(f" {name} {value!r}" for name, value in sorted(one.scores.items())),
}

_WORDS: dict[type, Callable[[Any], str]] = {  # by type: one look instead of many
    Task: lambda one: f"TASK {one.task_id} v{one.version}",
    Feedback: lambda one: f"FEEDBACK {one.task_id} v{one.version} {one.feedback.norm!r}",
    Receipt: lambda one: f"RECEIPT {one.task_id} {one.verdict}",
    Ping: lambda one: f"PING {one.echo}",
    Pong: lambda one: f"PONG {one.echo}",
    Refuse: lambda one: f"REFUSE {one.task_id} {one.reason}",
    Error: lambda one: f"ERROR {one.code}",
    Hello: lambda one: f"HELLO {one.incarnation}",
    Welcome: lambda _: "WELCOME",
    Bye: lambda _: "BYE",
    ByeAck: lambda _: "BYEACK",
    Seek: lambda _: "SEEK",
    Peers: lambda one: f"PEERS {' '.join(peer.node for peer in one.nodes)}",
    Expect: lambda one: f"EXPECT {one.node}",
    Propose: _pair("PROPOSE"),
    Accept: _pair("ACCEPT"),
    Adopt: lambda one: f"ADOPT {one.swap_id} {one.giver.node} {one.discriminator_id}.{one.hop}",
    Fetch: _pair("FETCH"),
    Decline: lambda one: f"DECLINE {one.swap_id} {one.sender}>{one.to} {one.reason}",
    Copy: lambda one: f"COPY {one.swap_id} {one.sender}>{one.to} {one.discriminator_id}.{one.hop} {one.numbers.norm!r}",
    Prepared: lambda one: f"PREPARED {one.swap_id}",
    Commit: lambda one: f"COMMIT {one.swap_id} {one.discriminator_id}.{one.hop}",
    Abort: lambda one: f"ABORT {one.swap_id}",
    Installed: lambda one: f"INSTALLED {one.swap_id}",
    GivenUp: lambda _: "GIVEN_UP",
    **WORDS,
}
