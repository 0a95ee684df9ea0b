"""What a node must not forget: its name, its key, how often it has started, and its discriminator. A folder, 0700.

node.secret  node.json  incarnation  discriminator.safetensors  status.json  lock
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.folder_lock import FolderLock
from mdgan_edge.messages import HeldDiscriminator, Incarnation, NodeId, check_node_id
from mdgan_edge.rundir import write_atomic, write_json
from mdgan_edge.wire.keys import KeyPair, create, load

KEY_NAME = "node"
FORMAT = "mdgan-edge discriminator 1"


class _Identity(msgspec.Struct, frozen=True):
    node_id: str


@dataclass(frozen=True, slots=True)
class SavedDiscriminator:
    """A discriminator as it lies on disk: which one, of which run, and its tensors by name."""

    run_id: str
    held: HeldDiscriminator
    tensors: dict[str, torch.Tensor]


class NodeStore:
    """One node's state folder. Held by one process at a time, see `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._identity = folder / "node.json"
        self._incarnation = folder / "incarnation"
        self._discriminator = folder / "discriminator.safetensors"
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
        """Keep every other process out of this folder until this one ends; TryLater if one is in."""
        self._lock.take("mdgan-node")

    def running(self) -> bool:
        """Whether a process holds this folder."""
        return self._lock.taken("mdgan-node")

    def next_incarnation(self) -> Incarnation:
        """One more than ever before; durable before it is returned."""
        try:
            last = int(self._incarnation.read_text()) if self._incarnation.exists() else 0
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self._incarnation}: {error}; it must hold a number") from error
        write_atomic(self._incarnation, f"{last + 1}\n".encode())
        return Incarnation(last + 1)

    def save_discriminator(self, run_id: str, held: HeldDiscriminator, tensors: dict[str, torch.Tensor]) -> None:
        """Replace what is on disk as a whole."""
        facts = {"format": FORMAT, "run_id": run_id, "held": msgspec.json.encode(held).decode()}
        write_atomic(self._discriminator, save(tensors, facts))

    def discriminator(self) -> SavedDiscriminator | None:
        """What is on disk; None if there is nothing, DataError if it cannot be read."""
        if not self._discriminator.exists():
            return None
        mend = f"move {self._discriminator} away to start with a fresh discriminator"
        try:
            with safe_open(self._discriminator, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            if facts.get("format") != FORMAT:
                raise DataError(f"not a discriminator of mdgan-edge: {mend}")
            held = msgspec.json.decode(facts["held"], type=HeldDiscriminator)
            return SavedDiscriminator(facts["run_id"], held, tensors)
        except (OSError, SafetensorError, msgspec.DecodeError, KeyError) as error:
            raise DataError(f"cannot read the discriminator ({error}): {mend}") from error
