"""A virtual run of any method with its scores over virtual time and over generator updates, in memory only."""

from __future__ import annotations

from typing import Any

from mdgan_edge.actors import Measure, Note
from mdgan_edge.messages import NodeId

NOT_SCORES = frozenset({"version", "updates"})


class Curves:
    """A Recorder that keeps every evaluation."""

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []

    def note(self, now: int, who: NodeId, note: Note) -> None: ...

    def measure(self, now: int, who: NodeId, measure: Measure) -> None:  # noqa: ARG002
        """`updates` counts steps of MD-GAN's generator, and generator updates on an average client of FL-GAN."""
        if measure.what != "evaluated":
            return
        values = measure.values
        scores = {name: value for name, value in values.items() if name not in NOT_SCORES}
        self.points.append({"at_s": now / 1e9, "updates": values.get("updates", values["version"]), "scores": scores})
