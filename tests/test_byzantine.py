"""Nodes that lie: what leaves them in place of what their core decided, and what it costs them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Effect, Event, Received
from mdgan_edge.messages import DiscriminatorId, Feedback, NodeId, TaskId, Tensor, Version
from sim.byzantine import lies
from sim.machine import Machine
from sim.play import bodies_of, plan_run
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Behaviour, Byzantine, Device, S, Scenario
from sim.tokens import TokenNode
from sim.watch import Silent
from sim.world import World
from tests.test_world import scenario, seconds

TRUTH = Feedback(
    TaskId(7), Version(1), DiscriminatorId("d-n0"), 0, 0.5, 0.5, 0.0, Tensor("float32", (4, 2), b"\0\0\0?" * 8, 2.0)
)


class Heard(Silent):
    """What the hub hears of a node's feedback."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.feedback: list[tuple[int, Feedback]] = []

    def after(self, world: World, machine: Machine, event: Event, effects: list[Effect]) -> None:  # noqa: ARG002
        heard = machine is world.hub and isinstance(event, Received) and event.sender.node == self.node
        if heard and isinstance(event.message, Feedback):
            self.feedback.append((world.now, event.message))


def played(one: Scenario, node: str = "n0") -> tuple[World, Heard]:
    plan = plan_run(one)
    bodies, settings = bodies_of(plan)
    heard = Heard(node)
    world = World(plan.scenario, settings, bodies, heard)
    world.run()
    return world, heard


def liar(how: Behaviour, **more: Any) -> Byzantine:
    return Byzantine(at=seconds(2), who=("n0",), how=how, **more)


def said(how: Behaviour, seed: int, name: str = "n0") -> Tensor:
    machine = Machine(NodeId(name), 0)
    machine.ail(0, liar(how))
    (one,) = lies(machine, TRUTH, seed)
    assert isinstance(one, Feedback)
    return one.feedback


def trained(world: World, name: str) -> int:
    process = world.machines[NodeId(name)].process
    assert process is not None
    assert isinstance(process.trainer, TokenNode)
    return process.trainer._tasks


def test_who_replays_says_again_what_it_truly_said_before_that_and_not_always_the_same() -> None:
    _, heard = played(scenario(liar("replay"), seconds=5))
    truths = [one for at, one in heard.feedback if at < 2 * S]
    rest = [one for at, one in heard.feedback if at >= 2 * S]
    said, again = rest[::2], rest[1::2]
    assert len(again) > 10
    assert again == [truths[-1], *said][: len(again)]


def test_a_free_rider_trains_nothing_and_answers_at_once() -> None:
    slow = Device(task=Constant(Duration(S // 2)))
    world, heard = played(replace(scenario(liar("free_ride"), seconds=20), device=slow))
    assert trained(world, "n0") <= 4 < 30 < trained(world, "n1")
    assert len(heard.feedback) > trained(world, "n1"), "its quota allows more than one answer per version"
    shapes = {(one.feedback.dtype, one.feedback.shape, one.feedback.norm) for _, one in heard.feedback}
    assert len(shapes) == 1, "no single message of its looks wrong"


def test_who_rides_free_by_half_trains_by_half() -> None:
    world, heard = played(scenario(liar("free_ride", chance=0.5), seconds=20))
    assert 0.2 < trained(world, "n0") / len(heard.feedback) < 0.8


@pytest.mark.parametrize("how", ["noise", "collude"])
def test_noise_is_the_same_for_one_seed_of_the_world_and_another_for_another(how: Behaviour) -> None:
    assert said(how, seed=1) == said(how, seed=1)
    assert said(how, seed=1).data != said(how, seed=2).data


def test_colluders_say_the_same_and_others_each_their_own() -> None:
    assert said("collude", 1, "n0") == said("collude", 1, "n1")
    assert said("noise", 1, "n0") != said("noise", 1, "n1")
