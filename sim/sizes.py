"""How many bytes a message has on the wire: those of its tensors, and the framing that the codec puts around them.

The framing is measured with the real codec on the first message of each kind and shape; numbers that grow by a digit
later make it a few bytes more.
"""

from __future__ import annotations

import math

from msgspec import structs

from mdgan_edge.actors import Garbled, Header
from mdgan_edge.messages import Epoch, Feedback, Message, Session, Task, Tensor
from mdgan_edge.wire.codec import ITEM_BYTES, encode

GARBLED_BYTES = 100


class Sizes:
    """Of the messages of one world: what was measured in another one must not show in this."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def of(self, message: Message | Garbled) -> int:
        """Bytes of all frames."""
        key = _key(message)
        size = self._known.get(key)
        if size is None:
            size = self._known[key] = GARBLED_BYTES if isinstance(message, Garbled) else _measure(message)
        return size


def _key(message: Message | Garbled) -> object:
    kind = type(message)
    if isinstance(message, Task):
        return kind, message.x_g.shape, message.y_g is None
    return (kind, message.feedback.shape) if isinstance(message, Feedback) else kind


def _measure(message: Message) -> int:
    filled = {name: _filled(value) for name, value in structs.asdict(message).items() if isinstance(value, Tensor)}
    frames = encode(Header(Epoch(1), Session(1)), 1, structs.replace(message, **filled))
    return sum(len(frame) for frame in frames)


def _filled(tensor: Tensor) -> Tensor:
    return Tensor(tensor.dtype, tensor.shape, bytes(_tensor_bytes(tensor)), tensor.norm)


def _tensor_bytes(tensor: Tensor) -> int:
    return ITEM_BYTES[tensor.dtype] * math.prod(tensor.shape)
