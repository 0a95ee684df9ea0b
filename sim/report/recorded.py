"""What the files of a virtual run hold, as far as the report reads them; what is something else is refused."""

from __future__ import annotations

from typing import Literal

import msgspec


class _Read(msgspec.Struct, frozen=True):
    """What else a file holds is not looked at."""


class Violated(_Read, frozen=True):
    """One of `violations` in run.json."""

    invariant: str
    at_s: float
    who: str
    what: str


class NodeRow(_Read, frozen=True):
    """One of `nodes` in run.json: what the hub says of it since its own last start."""

    state: str
    merged: int
    share: float
    staleness_mean: float | None
    staleness_max: int | None
    tasks: int = 0
    rejoined: int = 0
    weighted_share: float | None = None  # of all weights in the steps
    refused: dict[str, int] = {}  # feedback, by reason


class Undelivered(_Read, frozen=True):
    """Bytes that never arrived, by reason."""

    down: dict[str, int] = {}
    up: dict[str, int] = {}


class RunFile(_Read, frozen=True):
    """run.json."""

    scenario: str
    outcome: str
    version: int
    seed: int
    mode: str
    fidelity: str
    digest: str
    virtual_s: float
    events: int
    epoch: int
    nodes: dict[str, NodeRow]
    feedback: dict[str, int]
    scores: dict[str, float | None]
    scores_missing: str | None
    bytes: dict[str, int]
    undelivered_bytes: Undelivered
    invariants: dict[str, bool | None]
    sometimes: dict[str, int]
    missed: list[str]
    violations: list[Violated]
    replay: str
    method: Literal["mdgan", "flgan", "standalone"] = "mdgan"
    interrupted_at_s: float | None = None  # before its time was over, by somebody


class FaultRow(_Read, frozen=True):
    """A fault of a compiled scenario."""

    kind: str
    at: str
    who: tuple[str, ...]
    lasts: str | None = msgspec.field(name="for", default=None)


class HealRow(_Read, frozen=True):
    """When all faults are over."""

    at: str


class ScenarioFile(_Read, frozen=True):
    """scenario.toml, as far as it is drawn; it was checked before it was played."""

    name: str
    about: str = ""
    fault: tuple[FaultRow, ...] = ()
    heal: HealRow | None = None


class TrainingPart(_Read, frozen=True):
    """[training] of config.toml."""

    staleness_max: int


class HubPart(_Read, frozen=True):
    """[hub] of config.toml."""

    checkpoint_every: int | None = None  # versions


class ConfigFile(_Read, frozen=True):
    """config.toml: the settings that the run had."""

    mode: str
    training: TrainingPart
    hub: HubPart = HubPart()


class MetricLine(_Read, frozen=True):
    """A line of metrics.jsonl."""

    t: float
    what: str
    version: int = 0
    live: int = 0
    staleness: list[int] = []


class JournalLine(_Read, frozen=True):
    """A line of journal.jsonl."""

    t: float
    what: str
    who: str = ""
    node: str = ""
    state: str = ""


class Kept(_Read, frozen=True):
    """A line of journal.jsonl: the hub has written a checkpoint."""

    version: int


class LowShare(_Read, frozen=True):
    """A line of journal.jsonl: a node gives no more than `part` of its fair share."""

    t: float
    node: str
    part: float
    refused: dict[str, int] = {}


class Happened(_Read, frozen=True):
    """An event that a process handled."""

    t: float
    who: str
    what: str


class Carried(_Read, frozen=True):
    """A message, or one copy of it. Not arrived: `fate` says why."""

    sent_s: float
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    what: str
    fate: str
    arrived_s: float | None = None


class Window(_Read, frozen=True):
    """window.json: what was filmed. `invariant`: which one was violated at `at_s`, if any."""

    from_s: float
    to_s: float
    at_s: float
    invariant: str | None
    events: list[Happened]
    messages: list[Carried]
