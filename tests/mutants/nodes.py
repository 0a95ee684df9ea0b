"""Broken versions of the node, one defect each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from msgspec.structs import replace

from broker import schedule
from mdgan_edge.actors import Send
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Ping, Pong, Task
from nodes.contact import Contact
from nodes.core import NodeCore
from tests.mutants.planting import always, broken, caught_by


@caught_by("live_are_members")
def a_node_greets_only_once() -> Any:
    return broken(Contact, "greet_soon", lambda _: lambda self, _now: setattr(self, "_hello_at", 1 << 60))


@caught_by("live_are_members")
def a_node_is_patient_beyond_measure() -> Any:
    return broken(NodeCore, "_greet_again", always([]))


@caught_by("live_are_members")
def no_heartbeats() -> Any:
    def mute(true: Any) -> Any:
        def keep_in_touch(self: NodeCore, now: Any) -> Any:
            effects = true(self, now)
            return [one for one in effects if not (isinstance(one, Send) and isinstance(one.message, Ping))]

        return keep_in_touch

    return broken(NodeCore, "_keep_in_touch", mute)


@caught_by("no_busy_wait")
def a_node_wakes_in_vain() -> Any:
    return broken(NodeCore, "_keep_in_touch", always([]))


@caught_by("queues_bounded")
def a_node_takes_what_it_cannot_hold() -> Any:
    def greedy(_: Any) -> Any:
        def task(self: NodeCore, task: Task) -> Any:
            self.work.add(task)
            return []

        return task

    def flooding(_: Any) -> Any:
        return lambda member, *_args: len(member.in_flight) < 4

    @contextmanager
    def both() -> Iterator[None]:
        with broken(NodeCore, "_task", greedy), broken(schedule, "may_have_task", flooding):
            yield

    return both()


@caught_by("no_crash")
def a_node_hangs_up_on_pong() -> Any:
    def touchy(true: Any) -> Any:
        def received(self: NodeCore, header: Any, message: Any, now: Any) -> Any:
            assert not isinstance(message, Pong), "a pong"
            return true(self, header, message, now)

        return received

    return broken(NodeCore, "_received", touchy)


def a_node_answers_with_its_samples() -> Any:
    """Only to be seen where there are samples: at fidelity `full`."""
    from nodes.trainer import NodeTrainer  # loads torch, which the others need not

    def frank(true: Any) -> Any:
        def train(self: NodeTrainer, task: Task) -> Any:
            trained = true(self, task)
            mine = self._x[torch.arange(task.x_g.shape[0])].contiguous().numpy().tobytes()
            return replace(trained, feedback=replace(trained.feedback, data=mine))

        return train

    return broken(NodeTrainer, "_train", frank)


@caught_by("one_discriminator_each")
def a_node_makes_something_else_than_it_was_told() -> Any:
    def astray(true: Any) -> Any:
        def prepared(self: NodeCore, result: Any) -> Any:
            return true(self, replace(result, held=replace(result.held, hop=result.held.hop + 1)))

        return prepared

    return broken(NodeCore, "_prepared", astray)


@caught_by("exits_explained")
def a_node_takes_a_pong_for_a_goodbye() -> Any:
    def curt(true: Any) -> Any:
        def received(self: NodeCore, header: Any, message: Any, now: Any) -> Any:
            if isinstance(message, Pong):
                return self._over(ExitCode.OK, "nothing to do")
            return true(self, header, message, now)

        return received

    return broken(NodeCore, "_received", curt)
