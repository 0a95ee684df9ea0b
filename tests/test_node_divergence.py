"""What a node does when its discriminator diverges: a fresh one takes its place, under the name that the hub knows."""

from __future__ import annotations

from msgspec.structs import replace

from mdgan_edge.actors import Finish, Header, JobDone, Note, Run
from mdgan_edge.errors import ExitCode
from mdgan_edge.messages import AssignedDiscriminator, DiscriminatorId, Error, ErrorCode, Refuse, TaskId
from nodes import greeting
from nodes.core import Phase
from nodes.divergence import DIVERGED_MAX
from nodes.jobs import Prepared, Train
from tests.node_world import HEADER, HELD, NEXT_HEADER, PREPARED, WELCOME, answer, prepare, send, serving, task, trained


def test_a_discriminator_that_diverged_is_replaced_before_the_next_task() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(task(2))
    why = "a loss or gradient is not finite; going on with a fresh discriminator (is the learning rate too high?)"
    assert node.take(trained(task(1), feedback=None)) == [
        Note("diverged", why, level="warning"),
        Run(prepare(fresh=True)),
        send(Refuse(TaskId(1), "diverged")),
    ]
    assert node.take(PREPARED) == [Run(Train(task(2)))]
    assert node.take(trained(task(2))) == [send(answer(task(2)))]


def test_a_discriminator_that_diverged_after_the_session_was_lost_is_replaced_without_an_answer() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header(HEADER.epoch))
    effects = node.take(trained(task(1), feedback=None))
    assert [type(effect) for effect in effects] == [Note, Run]
    assert effects[1] == Run(prepare(fresh=True))


def test_if_it_diverged_while_another_takes_its_place_that_other_one_does() -> None:
    node = serving()
    node.hear(task(1))
    node.hear(Error(ErrorCode.NO_SESSION, "who?"), Header(HEADER.epoch))
    node.wait(1.0)
    another = replace(WELCOME, discriminator=AssignedDiscriminator(DiscriminatorId("d9-ann"), 1, "init"))
    job = prepare(fresh=True, welcome=another)
    assert node.hear(another, NEXT_HEADER)[-1] == Run(job)
    (note,) = node.take(trained(task(1), feedback=None))
    assert isinstance(note, Note)
    assert note.what == "diverged"
    held = replace(HELD, discriminator_id=DiscriminatorId("d9-ann"), hop=1)
    assert node.take(JobDone(job, Prepared(held))) == []
    assert (node.core.phase, node.core.held) == (Phase.SERVING, held)


def test_a_node_whose_discriminator_diverges_again_and_again_gives_up() -> None:
    node = serving()
    for number in range(1, DIVERGED_MAX):
        node.hear(task(number))
        assert node.take(trained(task(number), feedback=None))[-1] == send(Refuse(TaskId(number), "diverged"))
        node.take(PREPARED)
    node.hear(task(DIVERGED_MAX))
    why = greeting.diverged_text(DIVERGED_MAX)
    assert node.take(trained(task(DIVERGED_MAX), feedback=None)) == [Finish(ExitCode.CONFIGURATION, "failed", why)]
