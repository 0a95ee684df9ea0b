"""Broken hubs whose own tables look right: a checker that believes these would see nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from broker import schedule
from broker.core import HubCore
from broker.greeting import RunFacts
from broker.member import Member
from broker.membership import Membership
from broker.training import Training
from mdgan_edge.settings import Settings
from tests.mutants.hub import suspects_are_never_trusted_again
from tests.mutants.planting import always, broken, caught_by


@caught_by("credit_kept")
def the_oldest_task_is_forgotten_for_a_new_one() -> Any:
    """So that the table never shows more than the credit."""

    def may(_: Any) -> Any:
        def may_have_task(member: Member, buffered: int, _credit: int, quota: int, version: Any) -> bool:
            return all(task.version != version for task in member.in_flight.values()) and buffered < quota

        return may_have_task

    def forgetful(true: Any) -> Any:
        def give(self: Membership, member: Member, *args: Any) -> Any:
            while len(member.in_flight) >= 1:
                self._close(member, next(iter(member.in_flight)), answered=False)
            return true(self, member, *args)

        return give

    @contextmanager
    def both() -> Iterator[None]:
        with broken(schedule, "may_have_task", may), broken(Membership, "give", forgetful):
            yield

    return both()


@caught_by("version_advances")
def after_a_restart_training_never_begins() -> Any:
    def patient(true: Any) -> Any:
        def made(self: Any, settings: Settings, facts: RunFacts, now: Any) -> None:
            true(self, settings, facts, now)
            if facts.epoch > 1:
                self._beginning.is_due = always(False)(None)

        return made

    return broken(HubCore, "__init__", patient)


@caught_by("exits_explained")
def the_run_is_over_before_its_time() -> Any:
    return broken(Training, "complete", lambda _: property(lambda self: self.version >= 3))


@caught_by("version_advances")
def whoever_is_suspected_once_never_counts_again() -> Any:
    """All are live members to the eye, and nobody is to the step rule."""
    return suspects_are_never_trusted_again()
