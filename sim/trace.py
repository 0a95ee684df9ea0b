"""The digest of a whole run, and, where asked for, the lines it was made of.

Every event a core handles and the fate of every message goes in, in order. Two runs with one digest did the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from mdgan_edge.actors import Drain, Event, Garbled, JobDone, Received, Tick
from mdgan_edge.messages import Error, Feedback, Hello, NodeId, Ping, Pong, Receipt, Refuse, Task

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
        if len(self._lines) >= FLUSH_LINES:
            self._flush()

    def event(self, now: int, who: NodeId, event: Event) -> None:
        """A core is about to handle an event."""
        self.add(now, who, label(event))

    def fate(self, fate: tuple[int, ...] | str) -> None:
        """What becomes of the message sent just now."""
        self._lines.append(str(fate))

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
        return message_label(event.message)
    match event:
        case JobDone(job, _):
            return f"done {type(job).__name__}"
        case Garbled(_, check):
            return f"garbled {check}"
        case Drain(reason):
            return f"drain {reason}"
        case _:
            return type(event).__name__


def message_label(message: object) -> str:
    """A message in a few words."""
    match message:
        case Task():
            return f"TASK {message.task_id} v{message.version}"
        case Feedback():
            return f"FEEDBACK {message.task_id} v{message.version} {message.feedback.norm!r}"
        case Receipt():
            return f"RECEIPT {message.task_id} {message.verdict}"
        case Ping():
            return f"PING {message.echo}"
        case Pong():
            return f"PONG {message.echo}"
        case Refuse():
            return f"REFUSE {message.task_id} {message.reason}"
        case Error():
            return f"ERROR {message.code}"
        case Hello():
            return f"HELLO {message.incarnation}"
        case _:
            return type(message).__name__.upper()
