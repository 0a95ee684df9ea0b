"""Random walks through the hub's states: what must hold holds after every event, whatever comes in whatever order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from broker.core import Phase
from broker.jobs import Step
from broker.member import MemberState
from mdgan_edge.actors import (
    Drain,
    Effect,
    Finish,
    Garbled,
    Header,
    Heard,
    Nanos,
    Peer,
    RegisterChanged,
    Run,
    Send,
    Tick,
    nanos,
)
from mdgan_edge.messages import Bye, ByeAck, Epoch, NodeId, Ping, Pong, Refuse, Session, Task, Version
from tests.hub_world import FACTS, SYNC, HubWorld, gradient

NODES = tuple(NodeId(f"n{index}") for index in range(5))
HUB = {"evaluate_every": 7, "nodes_min": 2, "lease_s": 2.0, "death_timeout_s": 12.0}
EVENTS_PER_WALK = 250
WALKS = 30
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "sync": SYNC,
    "block": {"staleness_max": 1, "quorum": 1, "step_timeout_s": 0.0, "credit": 3},
    "drop": {"staleness_policy": "drop", "staleness_max": 1, "quorum": 2, "quorum_min": 2, "step_timeout_s": 5.0},
}
NODE_EVENTS = {"answer": 12, "old answer": 2, "bad answer": 1, "ping": 4, "idle": 1, "hello": 2, "rejoin": 1, "bye": 1}
NODE_EVENTS |= {"garbled": 1, "heard": 1, "refuse": 1, "stranger": 1, "odd": 1}
OTHER_EVENTS = {"work": 16, "tick": 6, "wait": 3, "stall": 1, "time": 3, "register": 1}


class Walk:
    """A world, the dice, and what was seen so far."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = Random(f"{name} {seed}")
        self.world = HubWorld(HUB, **SETTINGS[name])
        self.answers: dict[NodeId, list[Any]] = {node: [] for node in NODES}
        self.incarnations = dict.fromkeys(NODES, 1)
        self.merged: Counter[Any] = Counter()
        self.register = RegisterChanged(frozenset(), frozenset())

    def take(self, move: str) -> None:
        if move == "time":
            self.time_passes()
        elif move in NODE_EVENTS:
            self.checked(lambda: self.node_event(self.random.choice(NODES), move))
        else:
            self.checked(lambda: self.other_event(move))

    def checked(self, event: Callable[[], list[Effect]]) -> None:
        live = list(self.world.core.members.live)
        check(self, event(), live)

    def time_passes(self) -> None:
        """Some nodes go on saying PING, the others are silent."""
        pinging = [node for node in NODES if node in self.world.tasks and self.random.random() < 0.7]
        for _ in range(self.random.choice([4, 16, 30])):
            self.checked(lambda: self.other_event("tick"))
            for node in pinging:
                self.checked(partial(self.world.beat, node))

    def node_event(self, node: NodeId, move: str) -> list[Effect]:
        world = self.world
        hands = world.tasks.get(node, [])
        match move:
            case "answer" if hands:
                self.answers[node].append(world.feedback(node, self.random.choice(hands)))
                hands[:] = [task for task in hands if task.task_id != self.answers[node][-1].task_id]
                return world.say(node, self.answers[node][-1])
            case "old answer" if self.answers[node]:
                return world.say(node, self.random.choice(self.answers[node]))
            case "bad answer" if hands:
                wrong = {"hop": 5} if self.random.random() < 0.5 else {"feedback": gradient(norm=math.nan)}
                return world.answer(node, self.random.choice(hands), **wrong)
            case "ping" if node in world.tasks:
                return world.beat(node)
            case "idle":
                hands.clear()
                return world.say(node, Ping(1))
            case "rejoin":
                self.incarnations[node] += 1
                return world.greet(node, incarnation=self.incarnations[node])
            case "bye":
                return world.say(node, Bye("stopped"))
            case "garbled":
                return world.handle(Garbled(Peer(node), "bad magic"))
            case "heard":
                return world.handle(Heard(Peer(node)))
            case "refuse" if hands:
                return world.say(node, Refuse(hands.pop().task_id, "busy"))
            case "stranger":
                header = Header(Epoch(FACTS.epoch - self.random.randrange(2)), Session(self.random.randrange(99)))
                return world.say(node, Pong(1), header)
            case "odd":
                return world.say(node, Pong(1) if self.random.random() < 0.5 else ByeAck())
            case _:
                held = world.held(node) if node in world.welcomes and self.random.random() < 0.8 else None
                return world.greet(node, incarnation=self.incarnations[node], held=held)

    def other_event(self, move: str) -> list[Effect]:
        world = self.world
        match move:
            case "work" if world.jobs:
                return world.work()
            case "wait":
                world.now = Nanos(world.now + nanos(self.random.choice([0.01, 0.3, 2.0])))
                return world.handle(Tick())
            case "stall":
                return world.tick_late(self.random.choice([5.0, 40.0]))
            case "register":
                revoked = self.register.revoked | {n for n in NODES[3:] if self.random.random() < 0.05}
                drained = frozenset(node for node in NODES if self.random.random() < 0.2)
                self.register = RegisterChanged(revoked, drained)
                return world.handle(self.register)
            case _:
                world.now = Nanos(max(world.now, world.core.deadline() or world.now))
                return world.handle(Tick())


def check(walk: Walk, effects: list[Effect], live_before: list[NodeId]) -> None:
    world, core = walk.world, walk.world.core
    live = core.members.live
    training = world.settings.training
    versions: Counter[int] = Counter()
    for member in core.members:
        assert len(member.in_flight) <= training.credit
        assert member.present or not member.in_flight
        able = member.state is MemberState.ACTIVE and not member.draining
        assert member.node not in live or able
        assert member.node in live or not able or world.now < member.quarantined_until + nanos(0.5)
        if member.node in live:
            versions.update(task.version for task in member.in_flight.values())
    assert live == sorted(set(live))
    assert core.members._versions == dict(versions)
    assert core.members.oldest_in_flight(Version(0)) == min(versions, default=None)
    deadline = core.deadline()
    assert (deadline is None) == (core.phase is Phase.OVER)
    assert deadline is None or world.now < deadline
    for effect in effects:
        check_effect(walk, effect, {*live_before, *live})


def check_effect(walk: Walk, effect: Effect, live: set[NodeId]) -> None:
    world = walk.world
    match effect:
        case Send(to, message):
            assert to.node in NODES
            if isinstance(message, Task):
                assert to.node in live
                assert message.version == world.version
                assert message.task_id in world.member(to.node).in_flight
        case Run(Step() as step):
            assert step.version == len(world.steps) - 1 == world.version
            assert step.contributions
            for one in step.contributions:
                assert step.version - one.version <= world.settings.training.staleness_max
                assert one.version >= world.steps[step.version - 1].oldest or step.version == 0
        case _:
            pass


@pytest.mark.parametrize("name", SETTINGS)
def test_whatever_happens_what_must_hold_holds_and_the_run_can_be_ended(name: str) -> None:
    moves, weights = zip(*{**NODE_EVENTS, **OTHER_EVENTS}.items(), strict=True)
    steps, seen = 0, set[str]()
    for seed in range(WALKS):
        walk = Walk(name, seed)
        path = walk.random.choices(moves, weights, k=EVENTS_PER_WALK)
        for place, move in enumerate(path):
            try:
                walk.take(move)
            except AssertionError as error:
                raise AssertionError(f"walk {name} {seed}, event {place}: {move}") from error
        merged = Counter((node, task) for node, task, verdict in walk.world.receipts if verdict == "merged")
        assert set(merged.values()) <= {1}
        steps += len(walk.world.steps)
        seen |= {member.state for member in walk.world.core.members} | walk.world.verdicts().keys()
        end(walk)
    assert steps > 3 * WALKS  # the walks go somewhere, and everywhere
    assert {*MemberState, "merged", "late", "duplicate", "malformed", "fenced", "epoch"} <= seen


def end(walk: Walk) -> None:
    """After a drain the hub comes to an end within its farewell, without anybody's help but the trainer's."""
    world = walk.world
    effects = [*world.handle(Drain("the walk is over")), *world.work_all(), *world.pass_time(11)]
    assert [effect.outcome for effect in effects if isinstance(effect, Finish)] == ["stopped"]
    assert (world.core.phase, world.core.deadline()) == (Phase.OVER, None)
