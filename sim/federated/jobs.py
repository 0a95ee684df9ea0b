"""What the cores of the baselines ask of their trainers, and what comes back. Pure."""

from __future__ import annotations

import msgspec

from mdgan_edge.messages import NodeId, Tensor


class Publish(msgspec.Struct, frozen=True, gc=False):
    """The server's model as it goes to clients."""

    round: int


class Published(msgspec.Struct, frozen=True, gc=False):
    """All of its parameters and float buffers, float32 (n,)."""

    round: int
    numbers: Tensor


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One client's update as it counts: `share` is m_n / Σm over those that are averaged."""

    node: NodeId
    share: float
    numbers: Tensor


class Average(msgspec.Struct, frozen=True, gc=False):
    """Replace the server's model by Σ share·numbers, over clients in the order of their names.

    `updates`: how many local generator updates lie behind the new model.
    """

    round: int
    answers: tuple[Answer, ...]
    updates: float


class Averaged(msgspec.Struct, frozen=True, gc=False):
    """The server's model of the next round."""

    round: int
    numbers: Tensor


class Adopt(msgspec.Struct, frozen=True, gc=False):
    """Go on from these parameters and buffers; Adam's moments stay as they are."""

    round: int
    numbers: Tensor


class Adopted(msgspec.Struct, frozen=True, gc=False):
    """Done."""

    round: int


class LocalUpdate(msgspec.Struct, frozen=True, gc=False):
    """One iteration of the ordinary GAN: L discriminator steps, one generator step.

    `work`: how many times the multiply-adds of a node's task in MD-GAN; as many times as long it takes.
    """

    work: float


class LocallyUpdated(msgspec.Struct, frozen=True, gc=False):
    """The losses of the iteration."""

    loss_d: float
    loss_g: float


class Collect(msgspec.Struct, frozen=True, gc=False):
    """Save what is to survive this process, and give the parameters and buffers as they travel."""

    round: int


class Collected(msgspec.Struct, frozen=True, gc=False):
    """They are, float32 (n,)."""

    round: int
    numbers: Tensor
