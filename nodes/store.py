"""What a node must not forget: its name, its key and how often it has started. A folder, 0700.

node.secret  node.json  incarnation  discriminator.safetensors  status.json  lock
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from mdgan_edge.bounds import COUNT_MAX
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.folder_lock import FolderLock
from mdgan_edge.messages import Incarnation, NodeId, check_node_id
from mdgan_edge.rundir import sweep, write_atomic, write_json
from mdgan_edge.wire.keys import KeyPair, create, load

KEY_NAME = "node"


class _Identity(msgspec.Struct, frozen=True):
    node_id: str


class NodeStore:
    """One node's state folder. Held by one process at a time, see `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._identity = folder / "node.json"
        self._incarnation = folder / "incarnation"
        self.discriminator = folder / "discriminator.safetensors"  # see nodes/saved.py
        self.status = folder / "status.json"
        self._lock = FolderLock(folder)

    @classmethod
    def create(cls, folder: Path, node: str) -> NodeStore:
        """A new node with a fresh key pair; the folder must not hold one already."""
        store = cls(folder)
        check_node_id(node)
        if store._identity.exists():
            raise ConfigurationError(f"{folder} is a node already: use it, or name another folder")
        try:
            create(folder, KEY_NAME)
        except OSError as error:
            raise DataError(f"cannot make the node's folder {folder}: {error.strerror or error}") from error
        write_json(store._identity, {"node_id": node})
        return store

    @property
    def exists(self) -> bool:
        return self._identity.exists()

    def node_id(self) -> NodeId:
        """The node's name."""
        try:
            return check_node_id(msgspec.json.decode(self._identity.read_bytes(), type=_Identity).node_id)
        except FileNotFoundError:
            raise ConfigurationError(
                f"{self.folder} is no node: make one with `mdgan-node init NAME --state {self.folder}`"
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise DataError(f"cannot read {self._identity}: {error}") from error

    def keys(self) -> KeyPair:
        """The node's key pair."""
        return load(self.folder, KEY_NAME, make_with=f"mdgan-node init NAME --state {self.folder}")

    def lock(self) -> None:
        """Keep every other process out of this folder until this one ends; TryLater if one is in.

        What a process that was killed has left half written is removed.
        """
        self._lock.take("mdgan-node")
        sweep(self.folder)

    def running(self) -> bool:
        """Whether a process holds this folder."""
        return self._lock.taken("mdgan-node")

    def next_incarnation(self) -> Incarnation:
        """One more than ever before; durable before it is returned."""
        try:
            last = int(self._incarnation.read_text()) if self._incarnation.exists() else 0
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self._incarnation}: {error}; it must hold a number") from error
        if not 0 <= last < COUNT_MAX:
            raise DataError(f"{self._incarnation} says {last}: it must hold a number of 0 to {COUNT_MAX - 1}")
        write_atomic(self._incarnation, f"{last + 1}\n".encode())
        return Incarnation(last + 1)
