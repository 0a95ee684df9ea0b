"""The tasks a node has in hand: those that wait, and the one under work. The newest is trained first."""

from __future__ import annotations

from mdgan_edge.actors import Header
from mdgan_edge.messages import Task, TaskId, Version


class Worklist:
    """What was asked of this node and is not answered yet."""

    def __init__(self) -> None:
        self.waiting: dict[TaskId, Task] = {}
        self.training: tuple[Task, Header] | None = None  # with the session that asked for it

    def __len__(self) -> int:
        return len(self.waiting) + (self.training is not None)

    @property
    def first(self) -> TaskId | None:
        """A task in hand, the one under work before others; None if there is none."""
        return self.training[0].task_id if self.training else next(iter(self.waiting), None)

    def add(self, task: Task) -> None:
        """It waits for its turn; the same task again is the same entry."""
        self.waiting[task.task_id] = task

    def void(self) -> None:
        """The session that asked is gone; what is under work goes on, since nothing can stop it."""
        self.waiting.clear()

    def start_newest(self, session: Header) -> Task:
        """Take the newest version's task under work, the first given of these."""
        newest = max(self.waiting.values(), key=_newness)
        del self.waiting[newest.task_id]
        self.training = (newest, session)
        return newest

    def finish(self) -> Header:
        """Nothing is under work any more; returns the session that asked for what was."""
        assert self.training is not None
        session, self.training = self.training[1], None
        return session


def _newness(task: Task) -> tuple[Version, int]:
    return task.version, -task.task_id
