"""Every message that crosses the wire, frozen and typed; docs/protocol.md says when each is sent.

A message knows nothing of frames or sockets: wire/codec.py turns it into bytes and back. Tensors travel as raw
little-endian C-order bytes beside a descriptor, and stay opaque to the cores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, NewType

import msgspec

from mdgan_edge import bounds
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.streams import SEED_MAX

NodeId = NewType("NodeId", bounds.NodeName)  # [a-z0-9][a-z0-9-]{0,31}, bound to a CURVE key in the hub's register
DiscriminatorId = NewType("DiscriminatorId", bounds.Id)
TaskId = NewType("TaskId", bounds.Count)
Version = NewType("Version", bounds.Count)  # how many steps the generator has taken
Epoch = NewType("Epoch", int)  # how often the hub has started; 0 before the first WELCOME
Session = NewType("Session", int)  # one accepted HELLO; 0 before it
Incarnation = NewType("Incarnation", bounds.Count)  # how often the node has started

HUB_NAME = "hub"  # what the hub is called where messages name nodes: no node may be
NODE_ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
SwapId = NewType("SwapId", bounds.Id)  # made by the node that proposes: unique over all its starts

PROTOCOL_VERSION = 1
PEER_ENDPOINT_MAX = 128  # characters
COPY_BYTES_MAX = 1 << 30  # that anybody can claim to have got


def check_node_id(node: str) -> NodeId:
    """A name that can stand in the register, in file names and on the wire; else a ConfigurationError."""
    if not re.fullmatch(NODE_ID_PATTERN, node):
        raise ConfigurationError(f"node name {node!r}: use 1 to 32 of a-z, 0-9 and -, starting with a letter or digit")
    if node == HUB_NAME:
        raise ConfigurationError(f"node name {node!r}: so the hub is called; choose another name")
    return NodeId(node)


Dtype = Literal["float32", "int64"]
ITEM_BYTES: Mapping[Dtype, int] = {"float32": 4, "int64": 8}


class Tensor(msgspec.Struct, frozen=True, gc=False):
    """A tensor as bytes. `norm` (L2; nan if any element is not finite) is measured here, never sent."""

    dtype: Dtype
    shape: tuple[int, ...]
    data: bytes
    norm: float = 0.0

    @property
    def byte_count(self) -> int:
        """What `data` has, or stands for."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]


class Verdict(StrEnum):
    """What became of a message or a feedback; the values are the keys of run.json's `feedback`."""

    MERGED = "merged"
    STALE = "stale"
    LATE = "late"
    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    FENCED = "fenced"
    QUOTA = "quota"
    EPOCH = "epoch"
    WARM_UP = "warm_up"


class ErrorCode(StrEnum):
    """Codes of an ERROR message."""

    VERSION = "VERSION"
    FORBIDDEN = "FORBIDDEN"
    SUPERSEDED = "SUPERSEDED"
    NO_SESSION = "NO_SESSION"
    EPOCH = "EPOCH"
    PROTOCOL = "PROTOCOL"
    ARCHITECTURE = "ARCHITECTURE"
    BUSY = "BUSY"
    SHUTDOWN = "SHUTDOWN"


PeerAddress = Annotated[str, msgspec.Meta(max_length=PEER_ENDPOINT_MAX)]
SwapOptimizer = Literal["travel", "stay", "reset"]  # what becomes of Adam's moments when a discriminator moves


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which pair of networks, and for which images. Images are (channels, image_size, image_size) in [-1, 1]."""

    name: bounds.Name = "auto"  # auto, mlp, cnn28, cnn32, cnn, paper28, paper32, paper64, package.module:factory
    image_size: Annotated[int, msgspec.Meta(ge=8, le=64)] = 28  # height and width, in pixels
    channels: Literal[1, 3] = 1  # 1: grey, 3: colour
    classes: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 10  # how many labels the model knows; 0: unconditional
    latent_size: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 100  # numbers in z
    spectral_norm: bool = False  # of every layer of the discriminator


class NodeTerms(msgspec.Struct, frozen=True, gc=False):
    """What a node must know to train its discriminator; the hub dictates it in WELCOME.

    `label_aware`: a node that has said which labels its shard holds judges samples of these labels only.
    """

    model: ModelSettings
    seed: Annotated[int, msgspec.Meta(ge=0, le=SEED_MAX)]
    batch_size: bounds.Count
    loss: bounds.Name
    lr: float
    betas: tuple[float, float]
    gradient_penalty: float
    label_aware: bool = False
    swap_epochs: bounds.SwapEpochs = 0.0  # E: local epochs between two swaps; 0: never
    swap_optimizer: SwapOptimizer = "travel"


class HeldDiscriminator(msgspec.Struct, frozen=True, gc=False):
    """The discriminator a node says it holds. `hop`: how often it moved; `tasks`: how many this node has done."""

    discriminator_id: DiscriminatorId
    hop: bounds.Hop
    architecture: bounds.Key
    tasks: bounds.Count

    @property
    def is_trained(self) -> bool:
        """By this node, or by one that had it before it moved; a copy of another's is a new one that has not moved."""
        return self.tasks > 0 or self.hop > 0


class AssignedDiscriminator(msgspec.Struct, frozen=True, gc=False):
    """What the hub says the node owns: `keep` it, `install` the spare of that name, or `init` a fresh one."""

    discriminator_id: DiscriminatorId
    hop: bounds.Hop
    action: Literal["keep", "install", "init"]


Spares = Annotated[tuple[HeldDiscriminator, ...], msgspec.Meta(max_length=bounds.SPARES_MAX)]


class Hello(msgspec.Struct, frozen=True, gc=False):
    """N>H: I am here (again).

    `labelled`: whether the shard has labels; `labels`: which, None if withheld; `model`: a pinned model name.
    """

    incarnation: Incarnation
    protocol_min: bounds.Protocol
    protocol_max: bounds.Protocol
    software: bounds.Name
    shard_size: bounds.Count
    image_shape: tuple[bounds.Side, bounds.Side, bounds.Side]  # (channels, height, width)
    labels: Annotated[tuple[bounds.Count, ...], msgspec.Meta(max_length=bounds.LABELS_MAX)] | None
    labelled: bool
    model: bounds.Name | None = None
    run_id: bounds.Name | None = None
    discriminator: HeldDiscriminator | None = None
    spares: Spares = ()  # what else it has: in its shadow slot, under the name it would get; backup
    peer_endpoint: PeerAddress | None = None  # where other nodes reach it; None: they do not


class Welcome(msgspec.Struct, frozen=True, gc=False):
    """H>N: you are in. The header carries the session and the epoch to use from now on."""

    run_id: bounds.Name
    node_id: NodeId
    heartbeat_s: float
    lease_s: float
    credit: bounds.Credit
    staleness_max: bounds.Staleness
    discriminator: AssignedDiscriminator
    architecture: bounds.Key  # fingerprint of the hub's discriminator, see gan.models.architecture
    terms: NodeTerms


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Any: a sign of life that wants a PONG. `echo` comes back as it is; `training`: the task under work."""

    echo: bounds.Count
    training: TaskId | None = None


class Pong(msgspec.Struct, frozen=True, gc=False):
    """Any: the answer to PING."""

    echo: bounds.Count


class Task(msgspec.Struct, frozen=True, gc=False):
    """H>N: take `steps` discriminator steps against x_d, then answer with the feedback on x_g."""

    task_id: TaskId
    version: Version
    deadline_s: float
    steps: bounds.Steps
    x_d: Tensor  # float32 (B, C, H, W)
    x_g: Tensor  # float32 (B, C, H, W)
    y_d: Tensor | None = None  # int64 (B,)
    y_g: Tensor | None = None  # int64 (B,)


class Feedback(msgspec.Struct, frozen=True, gc=False):
    """N>H: the gradient of the generator loss with respect to x_g, by the updated discriminator."""

    task_id: TaskId
    version: Version
    discriminator_id: DiscriminatorId
    hop: bounds.Hop
    loss_d: float
    loss_g: float
    seconds: float  # what the task took
    feedback: Tensor  # float32 (B, C, H, W)


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """H>N: what became of a feedback."""

    task_id: TaskId
    verdict: Verdict


class Refuse(msgspec.Struct, frozen=True, gc=False):
    """N>H: I will not answer this task."""

    task_id: TaskId
    reason: Literal["busy", "bad", "diverged"]


# --- swap: between two nodes, from one to the other or by way of the hub ----------------------------------------------


class Seek(msgspec.Struct, frozen=True, gc=False):
    """N>H: I am due for a swap; whom could I ask?"""


class Neighbour(msgspec.Struct, frozen=True, gc=False):
    """Another node, and where it can be reached by those that know its key; None: by way of the hub only."""

    node: NodeId
    public_key: bounds.Key = ""
    endpoint: PeerAddress | None = None


class Peers(msgspec.Struct, frozen=True, gc=False):
    """H>N: some live nodes, drawn at random; never the one that asked."""

    nodes: Annotated[tuple[Neighbour, ...], msgspec.Meta(max_length=bounds.VIEW_MAX)]


class Expect(msgspec.Struct, frozen=True, gc=False):
    """H>N: this node, whose key this is, may connect to you for a while."""

    node: NodeId
    public_key: bounds.Key


class Propose(msgspec.Struct, frozen=True, gc=False):
    """P>P: my discriminator for yours?"""

    swap_id: SwapId
    sender: NodeId
    to: NodeId
    discriminator_id: DiscriminatorId
    hop: bounds.TravellingHop
    architecture: bounds.Key


class Accept(msgspec.Struct, frozen=True, gc=False):
    """P>P: yes, for this one; the copy follows."""

    swap_id: SwapId
    sender: NodeId
    to: NodeId
    discriminator_id: DiscriminatorId
    hop: bounds.TravellingHop


class Decline(msgspec.Struct, frozen=True, gc=False):
    """P>P: no. `gone`: said by the hub of a node that is not there."""

    swap_id: SwapId
    sender: NodeId
    to: NodeId
    reason: Literal["busy", "gone", "bad"]


class Copy(msgspec.Struct, frozen=True, gc=False):
    """P>P: a copy of the sender's discriminator, as it is now."""

    swap_id: SwapId
    sender: NodeId
    to: NodeId
    discriminator_id: DiscriminatorId
    hop: bounds.TravellingHop
    architecture: bounds.Key
    digest: bounds.Key  # of all tensors below, see gan.state.digest
    numbers: Tensor  # float32 (n,): parameters, buffers, and Adam's moments if the optimiser travels
    counters: Tensor | None = None  # int64 (m,)

    @property
    def byte_count(self) -> int:
        """Of its tensors."""
        return self.numbers.byte_count + (0 if self.counters is None else self.counters.byte_count)


class Adopt(msgspec.Struct, frozen=True, gc=False):
    """H>N: instead of the fresh discriminator you were given, fetch one and be PREPARED to own it under this name."""

    swap_id: SwapId
    giver: Neighbour  # or the hub itself
    wanted: DiscriminatorId | None  # that has lost its owner; None: whatever the giver holds
    discriminator_id: DiscriminatorId
    hop: bounds.Hop


class Fetch(msgspec.Struct, frozen=True, gc=False):
    """P>P, H>N: give me a copy of this one; None: of what you hold."""

    swap_id: SwapId
    sender: NodeId
    to: NodeId
    wanted: DiscriminatorId | None = None


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """N>H: what I hold and what lies, checked and durable, in my shadow slot. Said again until the hub has decided."""

    swap_id: SwapId
    partner: NodeId
    held_id: DiscriminatorId
    held_hop: bounds.TravellingHop
    received_id: DiscriminatorId
    received_hop: bounds.TravellingHop
    direct: bool = False  # both copies went from node to node, not through the hub ...
    direct_bytes: Annotated[int, msgspec.Meta(ge=0, le=COPY_BYTES_MAX)] = 0  # ... in which the other one came


class Commit(msgspec.Struct, frozen=True, gc=False):
    """H>N: the swap is on record: you own this one now. Said again until INSTALLED."""

    swap_id: SwapId
    discriminator_id: DiscriminatorId
    hop: bounds.Hop


class Abort(msgspec.Struct, frozen=True, gc=False):
    """H>N: the swap is void, for ever."""

    swap_id: SwapId


class Installed(msgspec.Struct, frozen=True, gc=False):
    """N>H: I hold what COMMIT said."""

    swap_id: SwapId


class GivenUp(msgspec.Struct, frozen=True, gc=False):
    """N>H: nothing came of the turn that SEEK began; I train on with what I hold."""


DRAIN = "drain"  # the reason of a BYE that asks one node to leave, while the run goes on


class Bye(msgspec.Struct, frozen=True, gc=False):
    """N>H: I leave. H>N: please leave (`reason`: completed, stopped, failed or drain)."""

    reason: bounds.Text


class ByeAck(msgspec.Struct, frozen=True, gc=False):
    """Any: the answer to BYE."""


class Error(msgspec.Struct, frozen=True, gc=False):
    """Any: why a message was not taken. `fatal`: trying again will not help."""

    code: ErrorCode
    text: bounds.Text
    fatal: bool = False


PeerMessage = Propose | Accept | Decline | Copy | Fetch  # what nodes say to each other; the hub hands it on
SwapReport = Seek | Prepared | Installed | GivenUp  # what a node tells the hub about its swap
SwapOrder = PeerMessage | Peers | Adopt | Commit | Abort  # what a node is told about swaps
SwapMessage = SwapReport | SwapOrder | Expect
Message = Hello | Welcome | Ping | Pong | Task | Feedback | Receipt | Refuse | Bye | ByeAck | Error | SwapMessage
