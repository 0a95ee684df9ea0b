"""What a node has beside the discriminator it holds: the one that comes in a swap, and the one it gave away last.

On disk before anybody hears of it, so that a swap that was decided can be carried out whatever happens to the process.
"""

from __future__ import annotations

from pathlib import Path

from mdgan_edge.errors import DataError
from mdgan_edge.messages import HeldDiscriminator
from nodes.jobs import SLOTS, Name, name_of
from nodes.saved import SavedDiscriminator, read_discriminator, write_discriminator


class Spares:
    """Two slots. `folder` is where they are kept; None where nothing is to be.

    `troubles`: what could not be read and was set aside. It is a copy of what lies elsewhere, and stops nobody.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.troubles: list[str] = []
        self._slots: dict[str, SavedDiscriminator] = {}
        for slot in SLOTS:
            saved = self._read(folder / f"{slot}.safetensors") if folder is not None else None
            if saved is not None:
                self._slots[slot] = saved

    def _read(self, path: Path) -> SavedDiscriminator | None:
        try:
            return read_discriminator(path)
        except DataError:
            aside = path.with_suffix(".unreadable")
            path.replace(aside)
            self.troubles.append(f"cannot read {path}: set aside as {aside.name}, going on without it")
            return None

    def listed(self, run_id: str | None) -> tuple[HeldDiscriminator, ...]:
        """Those of a run, the shadow first."""
        return tuple(saved.held for saved in self._slots.values() if saved.run_id == run_id)

    def named(self, run_id: str, name: Name) -> SavedDiscriminator | None:
        """The spare of this name."""
        found = (saved for saved in self._slots.values() if saved.run_id == run_id)
        return next((one for one in found if name_of(one.held) == name), None)

    def put(self, slot: str, saved: SavedDiscriminator) -> None:
        """Durable when this returns; what was in the slot is gone."""
        if self._folder is not None:
            write_discriminator(self._folder / f"{slot}.safetensors", saved)
        self._slots[slot] = saved
