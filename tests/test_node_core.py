"""What a node does about a welcome, about tasks and results, about errors and about what makes no sense."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import HUB, Finish, Garbled, Header, Heard, JobDone, Note, Run, Send, nanos
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import (
    AssignedDiscriminator,
    ByeAck,
    DiscriminatorId,
    Epoch,
    Error,
    ErrorCode,
    Hello,
    Message,
    ModelSettings,
    Ping,
    Pong,
    Receipt,
    Refuse,
    Session,
    TaskId,
    Verdict,
)
from nodes import greeting
from nodes.core import Phase
from nodes.jobs import Prepared, Train
from tests.node_world import (
    FACTS,
    HEADER,
    HELD,
    IMAGES,
    KEPT,
    MINE,
    NEXT_HEADER,
    PREPARED,
    RUN,
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

FOREIGN = replace(WELCOME, terms=replace(WELCOME.terms, model=ModelSettings(name="lab.models:pair", image_size=8)))

# --- from HELLO to feedback -------------------------------------------------------------------------------------------


def test_a_node_greets_prepares_trains_and_answers() -> None:
    node = Node()
    assert node.wait(0) == [hello()]
    assert node.hear(WELCOME) == [welcomed(kept=False), Run(prepare(fresh=True))]
    assert node.take(PREPARED) == []
    assert node.hear(task(1)) == [Run(Train(task(1)))]
    assert node.take(trained(task(1))) == [send(answer(task(1)))]
    assert node.hear(Receipt(TaskId(1), Verdict.MERGED)) == []
    assert (node.core.receipts, node.core.held) == ({Verdict.MERGED: 1}, replace(HELD, tasks=1))


def test_a_discriminator_from_disk_is_named_in_hello_and_kept_if_it_is_the_assigned_one() -> None:
    node = Node(replace(HELD, tasks=12))
    assert node.wait(0) == [hello(replace(HELD, tasks=12), RUN)]
    assert node.hear(WELCOME) == [welcomed(kept=True), Run(prepare(fresh=False))]


@pytest.mark.parametrize(
    "held",
    [replace(HELD, hop=1), replace(HELD, discriminator_id=DiscriminatorId("d9-ann"))],
    ids=["another hop", "another identity"],
)
def test_a_discriminator_that_is_not_the_assigned_one_gives_way(held) -> None:
    node = Node(held)
    node.wait(0)
    assert node.hear(WELCOME) == [welcomed(kept=False), Run(prepare(fresh=True))]


def test_a_discriminator_of_another_run_gives_way() -> None:
    node = Node(HELD)
    node.wait(0)
    other = replace(WELCOME, run_id="run-2")
    assert node.hear(other) == [welcomed(kept=False, run_id="run-2"), Run(prepare(fresh=True, welcome=other))]
    assert node.core.run_id == "run-2"


def test_a_task_that_comes_before_the_discriminator_is_ready_waits_for_it() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.hear(task(1)) == []
    assert node.take(PREPARED) == [Run(Train(task(1)))]


def test_a_second_welcome_while_preparing_asks_for_no_second_discriminator() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    assert node.hear(WELCOME, NEXT_HEADER) == [welcomed(kept=False, again=True)]
    assert node.take(PREPARED) == []
    assert node.hear(task(1), NEXT_HEADER) == [Run(Train(task(1)))]


def test_a_second_welcome_that_assigns_another_discriminator_is_the_one_that_counts() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    other = replace(WELCOME, discriminator=AssignedDiscriminator(DiscriminatorId("d2-ann"), 0, "init"))
    job = prepare(fresh=True, welcome=other)
    held = replace(HELD, discriminator_id=DiscriminatorId("d2-ann"))
    note = Note(
        "welcomed",
        greeting.welcome_text(again=True, kept=False),
        {"run_id": RUN, "discriminator": "d2-ann", "kept": False},
    )
    assert node.hear(other, NEXT_HEADER) == [note, Run(job)]
    assert node.hear(task(1), NEXT_HEADER) == []
    assert node.take(PREPARED) == []  # the first one, which nobody wants any more
    assert node.take(JobDone(job, Prepared(held))) == [Run(Train(task(1)))]
    assert node.take(trained(task(1))) == [send(answer(task(1), held), NEXT_HEADER)]


def test_a_discriminator_prepared_for_a_run_that_is_over_is_not_held_against_the_next_run() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    other = replace(WELCOME, run_id="run-2", architecture="another")
    job = prepare(fresh=True, welcome=other)
    assert node.hear(other, NEXT_HEADER) == [welcomed(kept=False, run_id="run-2"), Run(job)]
    assert node.take(PREPARED) == []
    assert node.take(JobDone(job, Prepared(replace(HELD, architecture="another")))) == []
    assert node.core.phase is Phase.SERVING


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_the_newest_task_is_trained_first_and_every_task_is_answered() -> None:
    node = serving(credit=4)
    one, two, three, four = task(1, version=0), task(2, version=1), task(3, version=2), task(4, version=2)
    assert node.hear(one) == [Run(Train(one))]
    assert [node.hear(two), node.hear(four), node.hear(three)] == [[], [], []]
    assert node.take(trained(one)) == [send(answer(one)), Run(Train(three))]
    assert node.take(trained(three)) == [send(answer(three)), Run(Train(four))]  # the same version: in order
    assert node.take(trained(four)) == [send(answer(four)), Run(Train(two))]
    assert node.take(trained(two)) == [send(answer(two))]


def test_a_task_beyond_the_credit_is_refused_as_busy_until_an_answer_makes_room() -> None:
    node = serving(credit=2)
    assert node.hear(task(1)) == [Run(Train(task(1)))]
    assert node.hear(task(2)) == []
    assert node.hear(task(3)) == [send(Refuse(TaskId(3), "busy"))]
    assert node.take(trained(task(1))) == [send(answer(task(1))), Run(Train(task(2)))]
    assert node.hear(task(4)) == []


# --- the session ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [ErrorCode.NO_SESSION, ErrorCode.EPOCH])
def test_a_lost_session_is_greeted_anew_and_the_discriminator_kept(code: ErrorCode) -> None:
    node = serving()
    node.hear(task(1))
    node.hear(task(2))
    node.wait(1.0)
    assert node.hear(Error(code, "who?"), Header(HEADER.epoch)) == [
        Note("session_lost", "who?", level="warning"),
        hello(HELD, RUN, Header(HEADER.epoch)),
    ]
    assert node.hear(WELCOME, NEXT_HEADER) == [welcomed(kept=True, again=True), Run(prepare(fresh=False))]
    assert node.take(trained(task(1))) == []  # what the old session asked for; the task that waited is gone too
    assert node.take(KEPT) == []
    assert node.hear(task(3), NEXT_HEADER) == [Run(Train(task(3)))]
    assert node.take(trained(task(3), tasks=2)) == [send(answer(task(3)), NEXT_HEADER)]


def test_a_result_that_comes_while_greeting_is_discarded_but_counted() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header(HEADER.epoch))
    assert node.take(trained(task(1), tasks=1)) == []
    assert node.wait(1.0) == [hello(replace(HELD, tasks=1), RUN, Header(HEADER.epoch))]


def test_a_session_lost_right_after_hello_is_not_greeted_faster_than_the_gap() -> None:
    node = serving()
    lost = [Note("session_lost", "who?", level="warning")]
    assert node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header()) == lost
    assert node.core.deadline() == node.now + nanos(0.5)
    assert node.wait(0.499) == []
    assert node.wait(0.001) == [hello(HELD, RUN, Header(HEADER.epoch))]


def test_a_session_is_lost_only_once_however_many_messages_it_is_refused() -> None:
    node = serving()
    node.wait(1.0)
    node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header())
    assert node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header()) == []


@pytest.mark.parametrize(
    "message",
    [task(1), Ping(5), Receipt(TaskId(1), Verdict.MERGED), ByeAck()],
    ids=lambda message: type(message).__name__,
)
@pytest.mark.parametrize("header", [Header(Epoch(3), Session(6)), Header(Epoch(2), Session(7)), Header()])
def test_what_belongs_to_another_session_is_ignored(message: Message, header: Header) -> None:
    node = serving()
    assert node.hear(message, header) == []
    assert (node.core.phase, node.core.receipts) == (Phase.SERVING, {})


@pytest.mark.parametrize("message", [task(1), Ping(5)], ids=lambda message: type(message).__name__)
def test_before_the_first_welcome_nothing_but_a_welcome_counts(message: Message) -> None:
    node = Node()
    node.wait(0)
    assert node.hear(message, Header()) == []
    assert node.hear(WELCOME) == [welcomed(kept=False), Run(prepare(fresh=True))]
    assert node.take(PREPARED) == []  # no task was taken


def test_tasks_of_a_session_that_is_lost_are_neither_kept_nor_refused() -> None:
    node = serving(credit=1)
    node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header())
    assert [node.hear(task(1)), node.hear(task(2))] == [[], []]


def test_a_ping_is_answered_with_its_echo() -> None:
    assert serving().hear(Ping(41)) == [send(Pong(41))]
    assert serving().hear(Pong(41)) == []


@pytest.mark.parametrize(
    "message",
    [answer(task(1)), Refuse(TaskId(1), "busy"), greeting.hello(FACTS, None, None)],
    ids=lambda message: type(message).__name__,
)
def test_a_message_that_is_not_for_a_node_is_noted(message: Message) -> None:
    note = Note("malformed", f"{type(message).__name__} is not for a node", level="warning")
    assert serving().hear(message) == [note]


def test_bytes_that_are_no_message_are_noted_with_their_reason() -> None:
    note = Note("malformed", "too short", {"from": "hub"}, "warning")
    assert serving().take(Garbled(HUB, "too short")) == [note]


def test_a_part_of_a_large_message_is_a_sign_of_life() -> None:
    node = serving()
    node.wait(6.0)
    assert node.take(Heard(HUB)) == []
    node.wait(6.0)
    assert node.core.phase is Phase.SERVING  # twelve seconds without a message, but never ten without a part


# --- what ends it -----------------------------------------------------------------------------------------------------

ENDS = {
    ErrorCode.VERSION: ExitCode.PROTOCOL_MISMATCH,
    ErrorCode.FORBIDDEN: ExitCode.REFUSED,
    ErrorCode.SUPERSEDED: ExitCode.REFUSED,
    ErrorCode.ARCHITECTURE: ExitCode.CONFIGURATION,
    ErrorCode.SHUTDOWN: ExitCode.TRY_LATER,
}
GREETS_AGAIN = {ErrorCode.NO_SESSION, ErrorCode.EPOCH}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_of_the_hub_ends_the_node_or_does_not(code: ErrorCode) -> None:
    node = serving()
    effects = node.hear(Error(code, "so it is"), Header())
    if code in ENDS:
        assert effects == [Finish(ENDS[code], "failed", "so it is")]
        assert (node.core.phase, node.core.deadline(), node.wait(100.0)) == (Phase.OVER, None, [])
    elif code in GREETS_AGAIN:
        assert effects == [Note("session_lost", "so it is", level="warning")]
    else:
        assert effects == [Note("hub_error", "so it is", {"code": code}, "warning")]
        assert node.hear(task(1)) == [Run(Train(task(1)))]


def test_every_error_ends_a_node_that_greets_as_well() -> None:
    for code, exit_code in ENDS.items():
        node = Node()
        node.wait(0)
        assert node.hear(Error(code, "so it is"), Header()) == [Finish(exit_code, "failed", "so it is")]


@pytest.mark.parametrize("pinned", [None, "mlp", "lab.models:other"])
def test_a_model_of_foreign_code_is_not_run_unless_it_is_pinned(pinned: str | None) -> None:
    node = Node(model=pinned)
    node.wait(0)
    text = "the hub wants this device to run the model code 'lab.models:pair': permit it with --model lab.models:pair"
    assert node.hear(FOREIGN) == [Finish(ExitCode.CONFIGURATION, "failed", text)]


def test_a_model_of_foreign_code_that_is_pinned_is_prepared() -> None:
    node = Node(model="lab.models:pair")
    assert isinstance(node.wait(0)[0], Send)
    assert node.hear(FOREIGN) == [welcomed(kept=False), Run(prepare(fresh=True, welcome=FOREIGN))]


def test_networks_of_the_same_name_that_differ_end_the_node() -> None:
    node = Node()
    node.wait(0)
    node.hear(WELCOME)
    other = Prepared(replace(HELD, architecture="another"))
    text = (
        "this node's 'mlp' is not the hub's: the parameters differ in number or shape. "
        "Install the same version of mdgan-edge (and of the model's module) on both"
    )
    assert node.take(JobDone(prepare(fresh=True), other)) == [Finish(ExitCode.CONFIGURATION, "failed", text)]


def test_hello_says_everything_the_hub_decides_by() -> None:
    assert greeting.hello(FACTS, RUN, HELD) == Hello(
        incarnation=FACTS.incarnation,
        protocol_min=1,
        protocol_max=1,
        software="mdgan-edge test",
        shard_size=100,
        image_shape=(1, 8, 8),
        labels=(0, 1),
        labelled=True,
        model=None,
        run_id=RUN,
        discriminator=HELD,
    )
    assert MINE.discriminator_id == HELD.discriminator_id
    assert IMAGES.shape == (1, 1, 1, 1)


def test_a_label_the_hub_does_not_know_ends_the_node() -> None:
    node = Node(label_max=10)
    node.wait(0)
    why = "the shard has label 10, the hub's model has classes 0 to 9 only"
    assert node.hear(WELCOME) == [Finish(ExitCode.CONFIGURATION, "failed", why)]


@pytest.mark.parametrize(
    ("label_aware", "said", "judged"),
    [(True, (0, 1), (0, 1)), (True, None, None), (False, (0, 1), None)],
    ids=["label-aware", "withheld", "off"],
)
def test_a_node_judges_the_classes_it_has_said_it_holds_or_else_all(
    label_aware: bool, said: tuple[int, ...] | None, judged: tuple[int, ...] | None
) -> None:
    node = Node(labels=said)
    node.wait(0)
    aware = replace(WELCOME, terms=replace(WELCOME.terms, label_aware=label_aware))
    assert node.hear(aware)[-1] == Run(replace(prepare(fresh=True, welcome=aware), labels=judged))
    node.take(JobDone(replace(prepare(fresh=True, welcome=aware), labels=judged), Prepared(HELD)))
    node.hear(task(1))
    job = replace(prepare(fresh=True, welcome=aware), labels=judged)
    assert Run(job) in node.take(trained(task(1), feedback=None))  # a fresh discriminator, the same shard
