"""Tasks that nodes have in hand, counted on the wire: given by TASK, gone by an answer or as the journal says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.member import MemberState
from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId, TaskId
from sim.invariants.names import Found

GONE = frozenset({MemberState.DEAD.value, MemberState.LEFT.value, MemberState.REVOKED.value})


class Credit:
    """Of one start of the hub."""

    def __init__(self, credit: int) -> None:
        self._credit = credit
        self._out: dict[NodeId, set[TaskId]] = {}

    def welcomed(self, node: NodeId) -> None:
        """A new session: whatever the node had is void."""
        self._out[node] = set()

    def given(self, node: NodeId, task: TaskId) -> Sequence[Found]:
        """The hub sends a task."""
        out = self._out.setdefault(node, set())
        out.add(task)
        if len(out) <= self._credit:
            return ()
        return [("credit_kept", node, f"{len(out)} tasks in hand ({sorted(out)}), credit is {self._credit}")]

    def answered(self, node: NodeId, task: TaskId) -> None:
        """FEEDBACK or REFUSE has come."""
        self._out.get(node, set()).discard(task)

    def noted(self, note: Note) -> Iterator[Found]:
        """What the hub's journal says of a member: whose tasks are taken back, and of whom none may be left."""
        node = NodeId(note.facts["node"])
        out = self._out.setdefault(node, set())
        if note.what == "quarantined":
            out.clear()
            return
        out -= set(note.facts["tasks"])
        if note.facts["state"] in GONE and out:
            yield "credit_kept", node, f"it is {note.facts['state']}, and has {sorted(out)} still"
