"""A scenario as frozen values: what a file may say, with units resolved. See docs/simulation.md for what each key does.

Two forms of one thing: as written, with rates, fractions and churn; and compiled, where every fault has a time `at`, a
duration `lasts`, names in `who` and no rate. Only the second is played; it is a scenario file like any other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from mdgan_edge.settings import Seed
from sim.scenario.distributions import Constant, Distribution, Lognormal
from sim.scenario.quantities import BitRate, ByteCount, Duration, Frequency

NODES_MAX = 100_000
MS = 1_000_000
S = 1_000_000_000

Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
Factor = Annotated[float, msgspec.Meta(gt=0, le=1e6)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=100)]
Fidelity = Literal["tokens", "toy", "full"]
Method = Literal["mdgan", "flgan", "standalone"]
Direction = Literal["up", "down"]  # up: from a node to the hub
Passage = Literal["join", "leave", "crash"]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all tables of a scenario have in common."""


class Burst(_Table, frozen=True, kw_only=True):
    """Loss in bursts (Gilbert 1960, Elliott 1963), in continuous time: a link is good or bad for a while, in turn."""

    loss: Chance = 1.0  # while bad
    every: Duration  # how long it is good, on average
    lasts: Duration  # how long it is bad, on average


class LinkTerms(_Table, frozen=True):
    """One direction of a link. What is None is as the next wider table says: up and down inherit from default."""

    latency: Distribution | None = None  # one way
    rate: BitRate | None = None  # None: no limit
    loss: Chance | None = None  # of each message on its own
    burst: Burst | None = None
    duplicate: Chance | None = None
    reorder: Chance | None = None  # a message that others may overtake
    queue: ByteCount | None = None  # what may wait for the rate; what is more is dropped


class HubPort(_Table, frozen=True):
    """The hub's own line, which all links share."""

    up: BitRate | None = None  # from the hub to everybody
    down: BitRate | None = None  # to the hub


class Links(_Table, frozen=True):
    """All links."""

    default: LinkTerms = LinkTerms()
    up: LinkTerms = LinkTerms()
    down: LinkTerms = LinkTerms()
    hub: HubPort = HubPort()
    relayed: Chance = 0.0  # of all nodes: those behind NAT, which other nodes cannot call


class Device(_Table, frozen=True):
    """What every node runs on."""

    task: Distribution = Lognormal(Duration(100 * MS), 0.3)  # one task at speed 1
    prepare: Distribution = Constant(Duration(20 * MS))
    save: Distribution = Constant(Duration(10 * MS))
    speed_sigma: NotNegative = 0.0  # spread between nodes: lognormal, median 1


class Server(_Table, frozen=True):
    """What the hub runs on."""

    batch: Distribution = Constant(Duration(1 * MS))  # each batch of a version
    step: Distribution = Constant(Duration(5 * MS))
    evaluate: Distribution = Constant(Duration(100 * MS))
    checkpoint: Distribution = Constant(Duration(20 * MS))


class Churn(_Table, frozen=True):
    """Nodes that come and go by themselves until the heal."""

    arrivals: Frequency | None = None  # Poisson: new nodes
    sessions: Distribution | None = None  # how long a node stays
    gaps: Distribution | None = None  # how long it stays away; None: for ever
    ends: Literal["leave", "crash", "both"] = "both"
    trace: tuple[
        tuple[Duration, Passage, str], ...
    ] = ()  # ["12.5s", "join", "x1"], ...; a file may say {file = "a.csv"}


class _Fault(_Table, frozen=True, tag_field="kind"):
    """A fault. It comes at a time or with a rate and lasts at least `stability`, so that it matters."""

    at: Duration | None = None
    rate: Frequency | None = None  # Poisson occurrences from `at` (or the start) on, one node of `who` each
    lasts: Distribution | None = msgspec.field(default=None, name="for")  # None: to the heal, or the end
    stability: Duration = Duration(0)  # the least it lasts
    who: str | tuple[str, ...] = "all"  # all, one, fraction:0.3, count:3, or names


class LinkChange(_Fault, frozen=True, tag="link"):
    """Another link for a while; what is not given stays."""

    direction: Literal["up", "down", "both"] = "both"
    latency: Distribution | None = None
    rate_limit: BitRate | None = None  # `rate` says how often the fault comes
    loss: Chance | None = None
    burst: Burst | None = None
    duplicate: Chance | None = None
    reorder: Chance | None = None


class Clog(_Fault, frozen=True, tag="clog"):
    """Messages wait in the link and all come when it ends, as TCP does it."""

    direction: Literal["up", "down", "both"] = "both"


class Partition(_Fault, frozen=True, tag="partition"):
    """Messages are lost. one_way true: in one direction, the seed says which."""

    one_way: bool | Direction = False


class Reset(_Fault, frozen=True, tag="reset"):
    """Connections break at once: what was on its way is lost, and both ends connect anew."""


class Straggler(_Fault, frozen=True, tag="straggler"):
    """Jobs take `factor` times as long."""

    factor: Factor = 10.0


class Pause(_Fault, frozen=True, tag="pause"):
    """The process stands still (SIGSTOP): nothing is handled, timers ring late, messages wait."""


class Crash(_Fault, frozen=True, tag="crash"):
    """The process is gone (SIGKILL). With `for` it starts again as itself, or set up anew if its disk is gone."""

    keep_disk: bool = True
    lost_writes: bool = False  # what was saved within the last five seconds had not reached the disk


class SlowDisk(_Fault, frozen=True, tag="slow_disk"):
    """Saving and preparing take `factor` times as long."""

    factor: Factor = 20.0


class ClockError(_Fault, frozen=True, tag="clock"):
    """The node's clock jumps by `skew` and runs faster by `drift` parts per million; monotonic, so only forward."""

    skew: Duration = Duration(0)
    drift: Annotated[float, msgspec.Meta(ge=-500_000, le=1_000_000)] = 0.0


FeedbackLie = Literal[
    "noise", "sign_flip", "scale", "nan", "replay", "collude", "free_ride", "misshapen", "garble", "wrong_task", "flood"
]
SwapLie = Literal[
    "bad_steps", "bad_moments", "bad_digest", "huge_hop", "false_prepared", "propose_again", "give_nothing"
]
GreetingLie = Literal["false_spares"]  # not drawn by `everything`
Behaviour = Literal[FeedbackLie, SwapLie, GreetingLie]


class Byzantine(_Fault, frozen=True, tag="byzantine", kw_only=True):
    """Nodes that lie. `chance`: of each feedback, of each message in a swap, or of each HELLO."""

    how: Behaviour
    factor: Factor = 100.0  # of noise and scale
    chance: Chance = 1.0


class Join(_Fault, frozen=True, tag="join"):
    """New nodes start."""


class Leave(_Fault, frozen=True, tag="leave"):
    """Nodes are asked to leave (SIGTERM). With `for` they start again after that time."""


class FlashCrowd(_Fault, frozen=True, tag="flash_crowd", kw_only=True):
    """Many new nodes within a short time."""

    count: Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]
    within: Duration = Duration(1 * S)


class MassExit(_Fault, frozen=True, tag="mass_exit"):
    """Many nodes go within a short time."""

    how: Literal["leave", "crash"] = "crash"
    within: Duration = Duration(1 * S)


class HubCrash(_Fault, frozen=True, tag="hub_crash"):
    """The hub is gone and starts again after `for`."""


class HubIsolated(_Fault, frozen=True, tag="hub_isolated"):
    """The hub's line is down: every message to and from it is lost."""


class HubPause(_Fault, frozen=True, tag="hub_pause"):
    """The hub's process stands still."""


class HubSlow(_Fault, frozen=True, tag="hub_slow"):
    """The hub's jobs take `factor` times as long."""

    factor: Factor = 20.0


Fault = (
    LinkChange
    | Clog
    | Partition
    | Reset
    | Straggler
    | Pause
    | Crash
    | SlowDisk
    | ClockError
    | Byzantine
    | Join
    | Leave
    | FlashCrowd
    | MassExit
    | HubCrash
    | HubIsolated
    | HubPause
    | HubSlow
)


class Heal(_Table, frozen=True, kw_only=True):
    """From here every fault and all churn is over: safety *and* liveness must hold."""

    at: Duration


class Expect(_Table, frozen=True):
    """What the run is to show."""

    sometimes: tuple[str, ...] = ()  # counters that must not be zero
    rejoin_within: Duration = Duration(15 * S)  # after the heal every live node is a member again
    advance_within: Duration = Duration(45 * S)  # after that, the version grows at least so often
    starve_within: Duration = Duration(60 * S)  # after that, every live node's feedback is merged at least so often


class Scenario(_Table, frozen=True, kw_only=True):
    """One file."""

    name: str
    about: str = ""
    duration: Duration
    nodes: Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]
    seed: Seed = 0
    fidelity: Fidelity = "tokens"
    method: Method = "mdgan"  # what is trained: MD-GAN, or a baseline in its place
    everything: bool = False  # the seed draws settings, links, devices, churn and faults too
    settings: dict[str, Any] = {}  # dotted keys of docs/configuration.md: mode, training.*, hub.*, ...
    links: Links = Links()
    device: Device = Device()
    server: Server = Server()
    churn: Churn = Churn()
    fault: tuple[Fault, ...] = ()
    heal: Heal | None = None
    expect: Expect = Expect()
