"""How large a number and how long a text may be that crosses the wire; docs/protocol.md lists them.

What is beyond is no message. Every number fits what it may be kept in: SQLite's signed 64 bits, a float of JSON.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

COUNT_MAX = 1 << 48  # of whatever only ever grows: starts, versions, tasks, samples
HOP_MAX = 1 << 32  # how often a discriminator can have moved
PROTOCOL_MAX = 255  # a byte of the fixed header
STEPS_MAX = 1 << 20  # of a discriminator per task
CREDIT_MAX = 1 << 16  # tasks in flight per node
STALENESS_MAX = 1000  # versions
SWAP_EPOCHS_MAX = 1e6  # local epochs between two swaps
SIDE_MAX = 1 << 16  # of an image, in pixels; and how many channels it can have
LABELS_MAX = 4096  # classes that a node can name
SPARES_MAX = 8  # discriminators that a node can have beside its own
VIEW_MAX = 64  # nodes that the hub can name at once
NODE_ID_MAX = 32  # characters, as of all texts below
ID_MAX = 96  # of a discriminator or a swap: a node's name and two counts
NAME_MAX = 256  # of a run, a model, a piece of software
KEY_MAX = 64  # a public key, a digest, the fingerprint of an architecture
TEXT_MAX = 1024  # what is meant to be read by people

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Hop = Annotated[int, msgspec.Meta(ge=0, le=HOP_MAX)]
TravellingHop = Annotated[int, msgspec.Meta(ge=0, le=HOP_MAX - 1)]  # it arrives with one more
Protocol = Annotated[int, msgspec.Meta(ge=0, le=PROTOCOL_MAX)]
Steps = Annotated[int, msgspec.Meta(ge=1, le=STEPS_MAX)]
Credit = Annotated[int, msgspec.Meta(ge=1, le=CREDIT_MAX)]
Staleness = Annotated[int, msgspec.Meta(ge=0, le=STALENESS_MAX)]
SwapEpochs = Annotated[float, msgspec.Meta(ge=0, le=SWAP_EPOCHS_MAX)]  # 0: never
Side = Annotated[int, msgspec.Meta(ge=1, le=SIDE_MAX)]
NodeName = Annotated[str, msgspec.Meta(max_length=NODE_ID_MAX)]
Id = Annotated[str, msgspec.Meta(max_length=ID_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=NAME_MAX)]
Key = Annotated[str, msgspec.Meta(max_length=KEY_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]
