"""Discriminators without an owner, on the hub's disk: as they travelled, one safetensors file each, written whole.

`orphans/<discriminator id>.safetensors` in the run directory; the metadata say of which run, which one, and its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from broker.jobs import Give, Keep
from broker.ownership import number_of
from mdgan_edge.actors import HUB
from mdgan_edge.digest import digest
from mdgan_edge.errors import DataError
from mdgan_edge.gan.state import read_file
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, Tensor
from mdgan_edge.rundir import write_atomic

FORMAT = "mdgan-edge orphan 1"
SUFFIX = ".safetensors"


class Shelf:
    """`folder` is made when the first one comes; None: they are kept in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._in_memory: dict[DiscriminatorId, Copy] = {}

    def put(self, keep: Keep) -> None:
        """Durable when this returns. Raises DataError if its digest is another, or the disk will not have it."""
        copy = keep.copy
        if digest(copy.numbers, copy.counters) != copy.digest:
            raise DataError("its digest is another")
        if self._folder is None:
            self._in_memory[copy.discriminator_id] = copy
            return
        held = HeldDiscriminator(copy.discriminator_id, copy.hop, copy.architecture, 0)
        facts = {"format": FORMAT, "run_id": keep.run_id, "held": msgspec.json.encode(held).decode()}
        rows = {"numbers": to_torch(copy.numbers)}
        if copy.counters is not None:
            rows["counters"] = to_torch(copy.counters)
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make {self._folder}: {error.strerror or error}") from error
        write_atomic(self._file(self._folder, copy.discriminator_id), save(rows, {**facts, "digest": copy.digest}))

    def copy(self, give: Give) -> Copy | None:
        """One of them as it travels to its next owner; None if it is not there, or is not what was written."""
        if self._folder is None:
            kept = self._in_memory.get(give.discriminator_id)
            return None if kept is None else replace(kept, swap_id=give.swap_id, to=give.to, sender=HUB.node)
        try:
            facts, rows = read_file(self._file(self._folder, give.discriminator_id))
            held = msgspec.json.decode(facts["held"], type=HeldDiscriminator)
            numbers, counters = to_wire(rows["numbers"]), _counters(rows)
            if facts["digest"] != digest(numbers, counters):
                return None
        except (OSError, SafetensorError, msgspec.DecodeError, KeyError, DataError):
            return None
        name = (held.discriminator_id, held.hop, held.architecture)
        return Copy(give.swap_id, HUB.node, give.to, *name, facts["digest"], numbers, counters)

    def forget(self, discriminators: tuple[DiscriminatorId, ...]) -> None:
        """They are not there any more."""
        for one in discriminators:
            self._in_memory.pop(one, None)
            if self._folder is not None and number_of(one) is not None:
                self._file(self._folder, one).unlink(missing_ok=True)

    @staticmethod
    def _file(folder: Path, discriminator_id: DiscriminatorId) -> Path:
        if number_of(discriminator_id) is None:
            raise DataError(f"{discriminator_id!r} is no name that the hub gives")
        return folder / f"{discriminator_id}{SUFFIX}"


def listed(folder: Path, run_id: str | None, told: Callable[[str], None]) -> tuple[HeldDiscriminator, ...]:
    """What lies there of a run (None: of any), the oldest first; `told` hears of what cannot be read and stays."""
    found = []
    for path in sorted(folder.glob(f"[!.]*{SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
            if facts["format"] == FORMAT and run_id in (None, facts["run_id"]):
                found.append(msgspec.json.decode(facts["held"], type=HeldDiscriminator))
        except (OSError, SafetensorError, msgspec.DecodeError, KeyError) as error:
            told(f"cannot read {path} ({error}): going on without that discriminator")
    return tuple(found)


def _counters(rows: dict[str, torch.Tensor]) -> Tensor | None:
    return to_wire(rows["counters"]) if "counters" in rows else None
