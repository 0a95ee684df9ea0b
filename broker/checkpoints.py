"""When what the hub has learned is written down, and how far back a sudden death would throw it. Pure."""

from __future__ import annotations

from broker.jobs import Checkpoint, Checkpointed
from mdgan_edge.actors import Effect, Note
from mdgan_edge.messages import Version


class Checkpoints:
    """One every so many versions, and a last one when the run ends. `kept`: the version on disk."""

    def __init__(self, every: int, run_id: str, kept: Version) -> None:
        self.kept = kept
        self._every, self._run_id = every, run_id
        self._under_way = 0
        self._asked = kept

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    def due(self, version: Version, norms: tuple[float, ...] = ()) -> Checkpoint | None:
        """The job, if one is due at this version."""
        return None if version % self._every else self._ask(version, norms)

    def final(self, version: Version, norms: tuple[float, ...]) -> Checkpoint | None:
        """The last job, unless that version is kept or was tried already."""
        return None if version == self._asked else self._ask(version, norms)

    def done(self, result: Checkpointed) -> list[Effect]:
        """It is on disk, or not."""
        self._under_way -= 1
        if result.trouble is not None:
            return [Note("not_saved", result.trouble, {"version": result.version, "kept": self.kept}, "warning")]
        self.kept = result.version
        return [Note("checkpoint", "kept", {"version": result.version})]

    def _ask(self, version: Version, norms: tuple[float, ...]) -> Checkpoint:
        self._asked = version
        self._under_way += 1
        return Checkpoint(version, self._run_id, norms)
