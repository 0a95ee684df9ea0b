"""The service does a job beside while another is under work, and begins none before it is done."""

from __future__ import annotations

import threading

import pytest

from mdgan_edge.actors import Drain, Effect, Event, JobDone, Run, Tick
from mdgan_edge.errors import DataError
from tests.test_service import DONE, PATIENCE_S, World

ENDLESS = 10_000


def test_a_job_beside_is_done_while_another_is_under_work_and_before_what_is_asked_for_later() -> None:
    begun, let_go = threading.Event(), threading.Event()
    order: list[str] = []

    def long() -> str:
        begun.set()
        assert let_go.wait(PATIENCE_S)
        order.append("long")
        return "long"

    def beside() -> str:
        order.append("beside")
        return "beside"

    def later() -> str:
        order.append("later")
        return "later"

    def slow_beside() -> str:
        let_go.set()
        threading.Event().wait(0.2)  # the long one is through meanwhile
        order.append("slow beside")
        return "slow beside"

    def decide(event: Event) -> list[Effect]:
        match event:
            case Drain():
                return [Run(long)]
            case Tick():
                assert begun.wait(PATIENCE_S)
                return [Run(beside, beside=True), Run(slow_beside, beside=True), Run(later)]
            case JobDone(_, "later"):
                return [DONE]
            case _:
                return []

    assert World(decide, ticks=1).service.run() == DONE
    assert order == ["beside", "long", "slow beside", "later"]


def test_those_that_are_asked_for_later_keep_nothing_from_its_turn() -> None:
    asked: list[str] = []

    def decide(event: Event) -> list[Effect]:
        match event:
            case Drain():
                return [Run(lambda: "beside", beside=True), Run(lambda: "main")]
            case JobDone(_, "beside") if len(asked) < ENDLESS:
                asked.append("one more")  # before this one counts as done
                return [Run(lambda: "beside", beside=True)]
            case JobDone(_, "main"):
                return [DONE]
            case _:
                return []

    assert World(decide).service.run() == DONE
    assert len(asked) < ENDLESS


def test_what_a_job_beside_raises_ends_the_process_as_well() -> None:
    def broken() -> None:
        raise DataError("no room on the disk")

    with pytest.raises(DataError, match="no room"):
        World(lambda event: [Run(broken, beside=True)] if event == Drain("begin") else []).service.run()
