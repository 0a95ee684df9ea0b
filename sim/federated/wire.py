"""The messages of FL-GAN as bytes: the codec of the wire with other numbers for other messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdgan_edge.wire.codec import Vocabulary
from sim.federated.messages import Echo, Enter, Leave, LeaveAck, Pulse, Round, Stranger, Taken, Update

TYPES: Mapping[int, type[Any]] = {  # none of these numbers means anything in the protocol
    128: Enter,
    129: Stranger,
    130: Round,
    131: Update,
    132: Taken,
    133: Pulse,
    134: Echo,
    135: Leave,
    136: LeaveAck,
}
FEDERATED = Vocabulary(TYPES)
