"""Admitted feedback on its way to the next step, and how it is weighed when the step comes. Pure.

An entry's life: admitted → added → taken by exactly one step, where it is merged or has grown stale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from broker import admission, steprule
from broker.jobs import Contribution, Step
from mdgan_edge.actors import Nanos
from mdgan_edge.messages import NodeId, Version
from mdgan_edge.settings import TrainingSettings


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One admitted feedback: what it would contribute, and the losses its node had, for the metrics."""

    contribution: Contribution
    loss_d: float
    loss_g: float


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What a step takes from the buffer. `step` is None if all of it has grown stale."""

    merged: tuple[Entry, ...]
    stale: tuple[Entry, ...]
    step: Step | None


class FeedbackBuffer:
    """Feedback that waits for the step."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._by_node: dict[NodeId, int] = {}
        self.first_at = Nanos(0)  # when the oldest entry came in

    def __len__(self) -> int:
        return len(self._entries)

    def held_by(self, node: NodeId) -> int:
        """How many entries are of this node."""
        return self._by_node.get(node, 0)

    def add(self, entry: Entry, now: Nanos) -> None:
        if not self._entries:
            self.first_at = now
        self._entries.append(entry)
        node = entry.contribution.node
        self._by_node[node] = self.held_by(node) + 1

    def purge(self, node: NodeId) -> int:
        """Forget what a node gave; how many entries that were."""
        self._entries = [entry for entry in self._entries if entry.contribution.node != node]
        return self._by_node.pop(node, 0)

    def take(
        self,
        training: TrainingSettings,
        version: Version,
        live: int,
        oldest: Version,
        omega: Callable[[NodeId], float],
        clip: Callable[[Sequence[float]], list[float]],
    ) -> Taken:
        """Empty the buffer into one step from `version`.

        `oldest`: the lowest version anybody still works on; `omega`: what a node's feedback weighs beside alpha;
        `clip`: from the norms of all that is merged, what shortens each.
        """
        entries = sorted(self._entries, key=_merge_order)
        self._entries, self._by_node = [], {}
        given = {entry.contribution.version for entry in entries}
        old = {one for one in given if admission.refusal_by_age(one, version, training.staleness_max) is not None}
        merged = tuple(entry for entry in entries if entry.contribution.version not in old)
        stale = tuple(entry for entry in entries if entry.contribution.version in old)
        return Taken(merged, stale, _step(merged, training, version, live, oldest, omega, clip) if merged else None)


def _step(
    merged: tuple[Entry, ...],
    training: TrainingSettings,
    version: Version,
    live: int,
    oldest: Version,
    omega: Callable[[NodeId], float],
    clip: Callable[[Sequence[float]], list[float]],
) -> Step:
    given = [entry.contribution for entry in merged]
    alpha = {one: steprule.staleness_weight(training, version - one) for one in {one.version for one in given}}
    alphas = [alpha[one.version] for one in given]
    parts = [alpha * omega(one.node) for one, alpha in zip(given, alphas, strict=True)]
    clips = clip([one.feedback.norm for one in given])
    weighed = tuple(
        Contribution(one.task_id, one.node, one.version, one.index, part * short, one.feedback, part, one.labels)
        for one, part, short in zip(given, parts, clips, strict=True)
    )
    scale = steprule.lr_scale(training, len(merged), live, alphas)
    kept_from = Version(max(oldest, version + 1 - training.staleness_max))  # what is older could only be stale
    return Step(version, weighed, sum(parts), scale, kept_from)


def _merge_order(entry: Entry) -> tuple[int, int, str, int]:
    given = entry.contribution
    return given.version, given.index, given.node, given.task_id
