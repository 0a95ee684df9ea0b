"""FL-GAN's server and client, event by event."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Effect, Header, JobDone, Nanos, Note, Peer, Received, Run, Send, Tick, nanos
from mdgan_edge.messages import Epoch, Incarnation, NodeId, Session, Tensor
from mdgan_edge.settings import FederatedSettings, HubSettings, Settings, TrainingSettings
from mdgan_edge.wire.codec import MalformedMessage, decode
from sim.federated.client import ClientCore, ClientFacts
from sim.federated.jobs import (
    Adopt,
    Adopted,
    Answer,
    Average,
    Averaged,
    Collect,
    Collected,
    LocallyUpdated,
    LocalUpdate,
    Publish,
    Published,
)
from sim.federated.messages import Echo, Enter, Leave, Pulse, Round, Stranger, Taken, Update
from sim.federated.rules import closing, mean_updates, shares, updates_per_round
from sim.federated.server import Phase, ServerCore, ServerFacts
from sim.federated.wire import FEDERATED

ROW = Tensor("float32", (3,), b"\0" * 12, 0.0)
SETTINGS = Settings(
    training=TrainingSettings(steps=100, batch_size=10),
    hub=HubSettings(nodes_min=2, evaluate_every=1000, checkpoint_every=1000),
    federated=FederatedSettings(epochs=0.5, round_timeout_s=60.0),
)


def at(seconds: float) -> Nanos:
    return nanos(seconds)


def peer(node: str) -> Peer:
    return Peer(NodeId(node), node.encode())


def said(effects: list[Effect]) -> list[tuple[str, Any]]:
    """What is sent, and to whom."""
    return [(effect.to.node, effect.message) for effect in effects if isinstance(effect, Send)]


def jobs(effects: list[Effect]) -> list[Any]:
    return [effect.job for effect in effects if isinstance(effect, Run)]


class Server:
    """A server with clients a and b that have just been sent round 0."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.core = ServerCore(settings, ServerFacts("run", Epoch(1)))
        self.sessions: dict[str, int] = {}
        self.sent = [effect for node in "ab" for effect in self.enter(node)]
        self.sent += self.core.handle(JobDone(Publish(0), Published(0, ROW)), at(0))

    def enter(self, node: str, incarnation: int = 1, now: float = 0.0, samples: int = 20) -> list[Effect]:
        effects = self.tell(node, Enter(Incarnation(incarnation), samples), now)
        for effect in effects:
            if isinstance(effect, Send):
                self.sessions[effect.to.node] = effect.header.session
        return effects

    def tell(self, node: str, message: Any, now: float) -> list[Effect]:
        header = Header(Epoch(1), Session(self.sessions.get(node, 0)))
        return self.core.handle(Received(peer(node), header, message), at(now))

    def update(self, node: str, now: float, number: int = 0, samples: int = 20, numbers: Tensor = ROW) -> list[Effect]:
        return self.tell(node, Update(number, 1, samples, 0.1, 0.2, numbers), now)


def test_a_round_goes_to_every_client_and_is_averaged_when_all_have_answered() -> None:
    server = Server()
    assert said(server.sent)[-2:] == [("a", Round(0, 100, ROW)), ("b", Round(0, 100, ROW))]
    assert said(server.update("b", 1)) == [("b", Taken(0, "averaged"))]
    (average,) = jobs(server.update("a", 2))
    assert average == Average(0, (Answer(NodeId("a"), 0.5, ROW), Answer(NodeId("b"), 0.5, ROW)), 1.0)
    after = server.core.handle(JobDone(average, Averaged(1, ROW)), at(3))
    assert said(after) == [("a", Round(1, 99, ROW)), ("b", Round(1, 99, ROW))]
    assert (server.core.round, server.core.updates) == (1, 1.0)


def test_answers_weigh_as_their_clients_have_samples_and_repeated_ones_count_once() -> None:
    server = Server()
    server.enter("c", now=1, samples=60)
    server.update("c", 2, samples=60)
    assert said(server.update("c", 3, samples=60)) == [("c", Taken(0, "duplicate"))]
    server.update("a", 4)
    (average,) = jobs(server.update("b", 5))
    assert [(one.node, one.share) for one in average.answers] == [("a", 0.2), ("b", 0.2), ("c", 0.6)]


def test_a_slow_client_holds_a_round_up_no_longer_than_its_timeout_and_is_late_then() -> None:
    server = Server()
    server.update("a", 1)
    for second in range(2, 60, 10):
        server.tell("b", Pulse(0), second)
    assert server.core.handle(Tick(), at(59.9)) == []
    (average,) = jobs(server.core.handle(Tick(), at(60)))
    assert [one.node for one in average.answers] == ["a"]
    assert said(server.update("b", 61)) == [("b", Taken(0, "late"))]
    after = server.core.handle(JobDone(average, Averaged(1, ROW)), at(62))
    assert ("b", Round(1, 99, ROW)) in said(after)


def test_a_dead_client_is_waited_for_no_longer_and_comes_back_with_a_new_session() -> None:
    server = Server()
    server.update("a", 1)
    server.tell("a", Pulse(0), 29)
    closed = server.core.handle(Tick(), at(31))
    assert [effect.facts["state"] for effect in closed if isinstance(effect, Note) and effect.what == "member"] == [
        "dead"
    ]
    assert [one.node for one in jobs(closed)[0].answers] == ["a"]
    assert said(server.update("b", 32)) == [("b", Stranger())]
    assert said(server.enter("b", now=33))[0] == ("b", Echo(0))


def test_a_round_that_was_lost_on_the_way_is_sent_again_and_not_at_every_pulse() -> None:
    server = Server()
    assert said(server.tell("a", Pulse(-1), 5)) == [("a", Echo(0))]
    assert said(server.tell("a", Pulse(-1), 11)) == [("a", Echo(0)), ("a", Round(0, 100, ROW))]
    assert said(server.tell("a", Pulse(-1), 12)) == [("a", Echo(0))]
    assert said(server.tell("b", Pulse(0), 25)) == [("b", Echo(0))]


def test_numbers_that_are_not_finite_are_not_averaged_and_if_nobody_has_others_the_run_fails() -> None:
    server = Server()
    broken = replace(ROW, norm=math.nan)
    assert said(server.update("a", 1, numbers=broken)) == [("a", Taken(0, "malformed"))]
    server.update("b", 2, numbers=broken)
    assert (server.core.phase, server.core.outcome) == (Phase.FINISHING, "failed")


def test_the_last_round_is_as_long_as_what_is_left_of_the_run() -> None:
    server = Server(replace(SETTINGS, training=replace(SETTINGS.training, steps=1)))
    server.update("a", 1)
    (average,) = jobs(server.update("b", 2))
    ended = server.core.handle(JobDone(average, Averaged(1, ROW)), at(3))
    assert server.core.outcome == "completed"
    assert [type(job).__name__ for job in jobs(ended)] == ["Evaluate"]


# --- the client -------------------------------------------------------------------------------------------------------

FACTS = ClientFacts(NodeId("a"), Incarnation(1), 20, 10, 1.0, 1.6, 2.0, 10.0, 300.0)


class Client:
    """A client in session 1 of epoch 1."""

    def __init__(self) -> None:
        self.core = ClientCore(FACTS, at(0))
        assert said(self.core.handle(Tick(), at(0))) == [("hub", Enter(Incarnation(1), 20))]

    def hear(self, message: Any, now: float, session: int = 1) -> list[Effect]:
        header = Header(Epoch(1), Session(session))
        return self.core.handle(Received(peer("hub"), header, message), at(now))

    def done(self, result: Any, now: float) -> list[Effect]:
        return self.core.handle(JobDone(None, result), at(now))


def test_a_client_adopts_trains_its_epochs_collects_and_answers_until_taken() -> None:
    client = Client()
    assert jobs(client.hear(Round(0, 100, ROW), 1)) == [Adopt(0, ROW)]
    assert jobs(client.done(Adopted(0), 1.1)) == [LocalUpdate(1.6)]
    assert jobs(client.done(LocallyUpdated(1.0, 2.0), 1.2)) == [LocalUpdate(1.6)], "20 samples are two batches of ten"
    assert jobs(client.done(LocallyUpdated(3.0, 4.0), 1.3)) == [Collect(0)]
    update = Update(0, 2, 20, 3.0, 4.0, ROW)
    assert ("hub", update) in said(client.done(Collected(0, ROW), 1.4))
    assert ("hub", update) in said(client.core.handle(Tick(), at(11.5))), "nobody has answered"
    client.hear(Taken(0, "averaged"), 12)
    assert ("hub", update) not in said(client.core.handle(Tick(), at(60)))


def test_a_newer_round_ends_an_older_one_at_the_next_update() -> None:
    client = Client()
    client.hear(Round(0, 100, ROW), 1)
    client.done(Adopted(0), 1.1)
    assert jobs(client.hear(Round(1, 100, ROW), 1.2)) == [], "a job is under work"
    assert jobs(client.done(LocallyUpdated(1.0, 2.0), 1.3)) == [Adopt(1, ROW)]
    assert jobs(client.hear(Round(0, 100, ROW), 1.4)) == [], "an old copy"


def test_a_client_that_the_server_does_not_know_enters_again_and_forgets_its_round() -> None:
    client = Client()
    client.hear(Round(3, 100, ROW), 1)
    assert ("hub", Enter(Incarnation(1), 20)) in said(client.hear(Stranger(), 2))
    client.done(Adopted(3), 2.1)
    assert jobs(client.hear(Round(0, 100, ROW), 3, session=2)) == [Adopt(0, ROW)], "of a server that starts over"


def test_a_client_gives_up_on_a_silent_server_and_leaves_when_it_is_told() -> None:
    client = Client()
    assert "silent" in repr(client.core.handle(Tick(), at(300)))
    client = Client()
    assert "completed" in repr(client.hear(Leave("completed"), 1))
    assert client.core.handle(Tick(), at(400)) == []


# --- rules and messages -----------------------------------------------------------------------------------------------


def test_the_rules_of_a_round() -> None:
    assert [updates_per_round(samples, 1.0, 10) for samples in (5, 20, 21)] == [1, 2, 3]
    assert shares({NodeId("b"): 3, NodeId("a"): 1}) == {"a": 0.25, "b": 0.75}
    assert mean_updates({NodeId("a"): 0.25, NodeId("b"): 0.75}, {NodeId("a"): 4, NodeId("b"): 8}) == 7.0
    half = replace(SETTINGS.federated, participation=0.5, participants_min=2)
    assert closing(half, live=4, heard=1, answered=1, timed_out=True) is None, "fewer than participants_min"
    assert closing(half, live=4, heard=2, answered=2, timed_out=False) is not None


def test_production_takes_none_of_the_baselines_messages() -> None:
    for message in (Enter(Incarnation(1), 20), Round(0, 9, ROW), Update(0, 1, 20, 0.1, 0.2, ROW), Leave("drain")):
        frames = FEDERATED.encode(Header(Epoch(1), Session(2)), 3, message)
        assert FEDERATED.decode(frames)[2] == message
        with pytest.raises(MalformedMessage, match="type"):
            decode(frames)
