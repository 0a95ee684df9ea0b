"""How many bytes a message has on the wire: those of its tensors, and the framing that the codec puts around them.

The framing, of every part of a large one, is measured with the real codec on the first message of each kind and shape;
numbers that grow by a digit later make it a few bytes more.
"""

from __future__ import annotations

from msgspec import structs

from mdgan_edge.actors import Garbled, Header
from mdgan_edge.messages import Copy, Epoch, Feedback, Message, Session, Task, Tensor
from mdgan_edge.wire.codec import PROTOCOL, Vocabulary
from mdgan_edge.wire.parts import PART_BYTES, size, split

GARBLED_BYTES = 100


class Sizes:
    """Of the messages of one world: what was measured in another one must not show in this."""

    def __init__(self, vocabulary: Vocabulary = PROTOCOL) -> None:
        self._vocabulary = vocabulary
        self._of_kind: dict[type, int] = {}  # where all are of one size
        self._of_shape: dict[tuple[object, ...], int] = {}

    def of(self, message: Message | Garbled) -> int:
        """Bytes of all frames."""
        size = self._of_kind.get(type(message))
        if size is not None:
            return size
        if isinstance(message, Task):
            return self._shaped((message.x_g.shape, message.y_g is None), message)
        if isinstance(message, Feedback):
            return self._shaped(message.feedback.shape, message)
        if isinstance(message, Copy):
            return self._shaped((message.numbers.shape, message.counters is None), message)
        size = self._of_kind[type(message)] = GARBLED_BYTES if isinstance(message, Garbled) else self._measure(message)
        return size

    def _shaped(self, shape: tuple[object, ...], message: Task | Feedback | Copy) -> int:
        size = self._of_shape.get(shape)
        if size is None:
            size = self._of_shape[shape] = self._measure(message)
        return size

    def _measure(self, message: Message) -> int:
        filled = {name: _filled(value) for name, value in structs.asdict(message).items() if isinstance(value, Tensor)}
        frames = self._vocabulary.encode(Header(Epoch(1), Session(1)), 1, structs.replace(message, **filled))
        whole = size(frames)
        return whole if whole <= PART_BYTES else sum(size(part) for part in split(frames, 1))


def _filled(tensor: Tensor) -> Tensor:
    return Tensor(tensor.dtype, tensor.shape, bytes(tensor.byte_count), tensor.norm)
