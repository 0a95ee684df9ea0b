"""When a node speaks although nobody asked: HELLOs, heartbeats, a silent hub, giving up, and its farewell."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Drain, Finish, Header, LinkDown, LinkTrouble, Nanos, Note, Reconnect, Run, nanos
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import Bye, ByeAck, Error, ErrorCode, Incarnation, NodeId, Ping, TaskId
from nodes.contact import BACKOFF_FIRST_S, BACKOFF_MAX_S, HELLO_ANSWER_S, Contact
from nodes.core import Phase
from nodes.jobs import Save, Train
from nodes.leaving import FAREWELL_S, LEAVE_MAX_S
from nodes.saves import SAVE_EVERY_S
from tests.node_world import (
    DEATH_S,
    HEADER,
    HELD,
    KEPT,
    LEASE_S,
    NEXT_HEADER,
    PREPARED,
    RUN,
    SAVED,
    WELCOME,
    Node,
    answer,
    hello,
    prepare,
    send,
    serving,
    task,
    trained,
    welcomed,
)

NO_HUB = "no hub answers at tcp://192.0.2.1:5755: is it running, and is the address right?"
NOT_KNOWN = (
    "the hub at tcp://192.0.2.1:5755 does not know this node: on the hub's machine run: "
    "mdgan-hub nodes add ann 'its-key' --state FOLDER"
)
SILENT = Note("hub_silent", "connecting anew", level="warning")

# --- a silent hub -----------------------------------------------------------------------------------------------------


def test_a_hub_silent_for_a_lease_gets_a_new_socket_and_a_hello() -> None:
    node = serving()
    node.wait(LEASE_S - 0.001)
    assert node.core.phase is Phase.SERVING
    assert node.wait(0.001) == [SILENT, Reconnect(), hello(HELD, RUN, Header(HEADER.epoch))]
    assert node.hear(WELCOME, NEXT_HEADER) == [welcomed(kept=True, again=True), Run(prepare(fresh=False))]
    assert node.take(KEPT) == []


def test_a_hub_that_is_silent_while_a_discriminator_is_prepared_is_greeted_anew() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.wait(LEASE_S) == [SILENT, Reconnect(), hello(None, RUN, Header(HEADER.epoch))]
    assert node.take(PREPARED) == []
    assert node.hear(WELCOME, NEXT_HEADER) == [welcomed(kept=True, again=True), Run(prepare(fresh=False))]


def test_a_lease_longer_than_the_death_timeout_does_not_delay_giving_up() -> None:
    node = Node()
    node.wait(0)
    node.hear(replace(WELCOME, lease_s=10 * DEATH_S))
    node.take(PREPARED)
    text = f"{NO_HUB} (gave up after 60 s)"
    assert node.wait(DEATH_S) == [Run(Save()), SILENT, Reconnect(), Finish(ExitCode.HUB_UNREACHABLE, "failed", text)]


def test_a_node_with_nothing_to_say_sends_a_heartbeat_within_its_period_and_never_three_quarters_early() -> None:
    node = serving()
    for number in range(1, 9):
        before = node.now
        assert node.wait_for_deadline() == [send(Ping(number))]
        assert 1.5 <= (node.now - before) / 1e9 <= 2.0
        node.hear(ByeAck())  # of no meaning here but that the hub lives


def test_a_heartbeat_names_the_task_under_work() -> None:
    node = serving()
    node.hear(task(8))
    assert node.wait(2.0) == [send(Ping(1, TaskId(8)))]


def test_a_heartbeat_names_the_task_that_waits_if_none_is_under_work() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    node.hear(task(9))
    assert node.wait(2.0) == [send(Ping(1, TaskId(9)))]


# --- HELLO, again and again -------------------------------------------------------------------------------------------


def hello_gaps(node: str, incarnation: int, count: int) -> list[float]:
    """Seconds between HELLOs that nobody answers."""
    contact = Contact(NodeId(node), Incarnation(incarnation), 1e9, Nanos(0))
    gaps, now = [], Nanos(0)
    for _ in range(count):
        contact.hello_sent(now)
        gaps.append((contact.hello_at - now) / 1e9)
        now = contact.hello_at
    return gaps


def test_the_back_off_doubles_its_range_up_to_the_most_with_full_jitter() -> None:
    many = [hello_gaps(f"node-{number}", 1, 12) for number in range(200)]
    for attempt in range(12):
        most = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**attempt)
        waits = [gaps[attempt] - HELLO_ANSWER_S for gaps in many]
        assert 0 <= min(waits) < 0.1 * most
        assert 0.9 * most < max(waits) <= most


def test_the_back_off_is_the_same_for_one_start_of_a_node_and_differs_from_every_other() -> None:
    assert hello_gaps("ann", 1, 5) == hello_gaps("ann", 1, 5)
    assert len({tuple(hello_gaps(node, start, 5)) for node in ("ann", "bob") for start in (1, 2, 3)}) == 6


def test_a_node_that_nobody_answers_for_days_still_greets() -> None:
    assert all(HELLO_ANSWER_S <= gap <= HELLO_ANSWER_S + BACKOFF_MAX_S for gap in hello_gaps("ann", 1, 2000))


def test_however_long_the_hub_was_away_it_is_greeted_within_ten_seconds() -> None:
    assert max(gap for number in range(100) for gap in hello_gaps(f"node-{number}", 1, 20)) <= 10.0


def test_a_hello_that_stays_unanswered_is_repeated_over_a_new_socket() -> None:
    node = Node()
    assert node.wait(0) == [hello()]
    assert node.wait(HELLO_ANSWER_S - 0.001) == []
    assert node.wait_for_deadline() == [Reconnect(), hello()]


# --- giving up --------------------------------------------------------------------------------------------------------


def until_over(node: Node) -> Finish:
    for _ in range(1000):
        effects = node.wait_for_deadline()
        if node.core.phase is Phase.OVER:
            assert [type(effect) for effect in effects] == [Finish]
            finish = effects[0]
            assert isinstance(finish, Finish)
            return finish
    raise AssertionError("it never gives up")


@pytest.mark.parametrize(
    ("trouble", "exit_code", "text"),
    [
        (None, ExitCode.HUB_UNREACHABLE, NO_HUB),
        ("unreachable", ExitCode.HUB_UNREACHABLE, NO_HUB),
        ("not_registered", ExitCode.REFUSED, NOT_KNOWN),
    ],
)
def test_a_hub_silent_for_the_death_timeout_is_given_up(
    trouble: LinkTrouble | None, exit_code: ExitCode, text: str
) -> None:
    node = Node()
    started = node.now
    node.wait(0)
    if trouble is not None:
        node.take(LinkDown(trouble))
    assert until_over(node) == Finish(exit_code, "failed", f"{text} (gave up after 60 s)")
    assert node.now - started == nanos(DEATH_S)


def test_a_node_that_served_gives_its_hub_up_as_long_after_the_last_sign_of_life() -> None:
    node = serving()
    node.wait(1.0)
    node.hear(ByeAck())
    heard = node.now
    assert until_over_after_silence(node).exit_code is ExitCode.HUB_UNREACHABLE
    assert node.now - heard == nanos(DEATH_S)


def until_over_after_silence(node: Node) -> Finish:
    while node.core.phase is Phase.SERVING:
        node.wait_for_deadline()
    return until_over(node)


def test_a_trouble_is_told_once_and_again_when_it_changes() -> None:
    node = Node()
    node.wait(0)
    not_registered = [Note("not_registered", NOT_KNOWN, level="warning")]
    unreachable = [Note("unreachable", NO_HUB, level="warning")]
    told = [node.take(LinkDown(one)) for one in ("not_registered", "not_registered", "unreachable", "unreachable")]
    assert told == [not_registered, [], unreachable, []]


@pytest.mark.parametrize(
    ("trouble", "exit_code", "text"),
    [
        ("revoked", ExitCode.REFUSED, "the hub at tcp://192.0.2.1:5755 has revoked this node"),
        (
            "key_mismatch",
            ExitCode.CONFIGURATION,
            "the hub at tcp://192.0.2.1:5755 does not own the given key: check --hub-key (mdgan-hub init shows it)",
        ),
    ],
)
def test_a_trouble_that_trying_again_will_not_mend_ends_the_node(
    trouble: LinkTrouble, exit_code: ExitCode, text: str
) -> None:
    node = Node()
    node.wait(0)
    assert node.take(LinkDown(trouble)) == [Finish(exit_code, "failed", text)]


# --- leaving ----------------------------------------------------------------------------------------------------------

LEAVING = [Note("leaving", "TERM received"), Run(Save())]
DRAIN = Drain("TERM received")
STOPPED = Finish(ExitCode.OK, "stopped", "TERM received")


def test_a_node_that_greets_stops_at_once() -> None:
    node = Node()
    node.wait(0)
    assert node.take(DRAIN) == [STOPPED]


def test_a_node_that_serves_saves_says_goodbye_and_ends_when_the_hub_agrees() -> None:
    node = serving()
    assert node.take(DRAIN) == LEAVING
    assert node.take(Drain("again")) == []
    assert node.hear(task(1)) == []  # goodbye gives it back
    assert node.take(SAVED) == [send(Bye("TERM received"))]
    assert node.hear(ByeAck()) == [STOPPED]


def test_a_node_that_trains_answers_saves_and_then_says_goodbye() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(task(2))
    assert node.take(DRAIN) == LEAVING
    assert node.take(trained(task(1))) == [send(answer(task(1)))]  # and the second is not begun
    assert node.take(SAVED) == [send(Bye("TERM received"))]


def test_a_node_that_prepares_says_goodbye_after_it_has_saved() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.take(DRAIN) == LEAVING
    assert node.take(PREPARED) == []
    assert node.take(SAVED) == [send(Bye("TERM received"))]


def test_a_node_that_is_saving_already_says_goodbye_once() -> None:
    node = serving()
    node.hear(task(1))
    for _ in range(7):
        node.wait(5.0)
        node.hear(ByeAck())
    assert node.core.phase is Phase.SERVING  # a save is under way, after the task
    assert node.take(DRAIN) == LEAVING
    assert node.take(trained(task(1))) == [send(answer(task(1)))]
    assert node.take(SAVED) == [send(Bye("TERM received"))]
    farewell = node.now
    node.wait(1.0)
    assert node.take(SAVED) == []
    assert until_over(node) == STOPPED
    assert node.now - farewell == nanos(FAREWELL_S)


def test_a_save_that_is_done_while_a_task_is_under_work_is_not_the_last() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(task(2))
    while node.now - nanos(1000.0) < SAVE_EVERY_S * 1e9:
        node.wait(5.0)
        node.hear(ByeAck())
    node.take(trained(task(1)))  # the trainer has now: save, train
    node.take(DRAIN)
    assert node.take(SAVED) == []
    assert node.take(trained(task(2))) == [send(answer(task(2)))]
    assert node.take(SAVED) == [send(Bye("TERM received"))]


def test_a_discriminator_that_diverges_on_the_way_out_does_not_hold_the_node_up() -> None:
    node = serving()
    node.hear(task(1))
    node.take(DRAIN)
    node.take(trained(task(1), feedback=None))
    assert node.take(SAVED) == [send(Bye("TERM received"))]
    assert node.take(PREPARED) == []
    assert node.hear(ByeAck()) == [STOPPED]


def test_a_node_that_is_drained_says_bye_itself_since_the_hub_may_want_what_it_has() -> None:
    node = serving()
    assert node.hear(Bye("drain")) == [Note("leaving", "drain"), Run(Save())]
    assert node.take(SAVED) == [send(Bye("drain"))]
    assert node.hear(ByeAck()) == [Finish(ExitCode.OK, "stopped", "drain")]


@pytest.mark.parametrize(("reason", "outcome"), [("completed", "completed"), ("stopped", "stopped")])
def test_a_hub_that_says_goodbye_is_answered_after_the_discriminator_is_saved(reason: str, outcome: str) -> None:
    node = serving()
    assert node.hear(Bye(reason)) == [Note("leaving", reason), Run(Save())]
    finish = Finish(ExitCode.OK, outcome, reason)  # type: ignore[arg-type]
    assert node.take(SAVED) == [send(ByeAck()), finish]
    assert node.core.outcome == outcome


def test_a_hub_and_a_node_that_say_goodbye_at_once_both_end() -> None:
    node = serving()
    node.take(DRAIN)
    assert node.hear(Bye("completed")) == []
    assert node.take(SAVED) == [send(ByeAck()), STOPPED]


def test_a_goodbye_that_stays_unanswered_ends_the_node_after_a_while() -> None:
    node = serving()
    node.take(DRAIN)
    node.take(SAVED)
    said = node.now
    assert until_over(node) == STOPPED
    assert node.now - said == nanos(FAREWELL_S)


def test_an_agreement_to_a_goodbye_that_was_never_said_means_nothing() -> None:
    node = serving()
    node.take(DRAIN)
    assert node.hear(ByeAck()) == []
    assert node.core.phase is Phase.LEAVING


def test_a_leaving_node_waits_for_its_trainer_and_not_for_the_hub() -> None:
    node = serving()
    node.take(DRAIN)
    assert node.wait(LEASE_S) == []
    assert node.take(SAVED) == [send(Bye("TERM received"))]


def test_a_leaving_node_does_not_wait_for_its_trainer_for_ever() -> None:
    node = serving()
    node.take(DRAIN)
    assert node.wait(LEAVE_MAX_S) == [Finish(ExitCode.OK, "stopped", "TERM received")]


def test_a_lost_session_does_not_call_a_leaving_node_back() -> None:
    node = serving()
    node.take(DRAIN)
    assert node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header()) == []
    assert node.hear(WELCOME, NEXT_HEADER) == []
    assert node.take(SAVED) == [send(Bye("TERM received"))]


# --- saving -----------------------------------------------------------------------------------------------------------


def test_a_discriminator_is_saved_once_in_a_while_and_not_twice_at_once() -> None:
    node = serving()
    saves = []
    for second in range(1, 100):
        effects = node.wait(1.0)
        node.hear(ByeAck())
        if Run(Save()) in effects:
            saves.append(second)
        if second == 40:
            node.take(SAVED)
    assert saves == [SAVE_EVERY_S, 40 + SAVE_EVERY_S]


def test_training_goes_on_after_a_save() -> None:
    node = serving()
    node.take(SAVED)
    assert node.hear(task(1)) == [Run(Train(task(1)))]
