"""Broken swaps, one defect each, on both sides. To be played where nodes swap often."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import broker.swaps
import nodes.jobs
import nodes.swapping
from broker.member import Member
from broker.ownership import Ownership
from broker.swaps import Half, Swaps, pair_of
from mdgan_edge.actors import Nanos, Persist
from mdgan_edge.messages import Commit, Prepared, Version
from nodes.core import NodeCore
from nodes.jobs import Install, Moved
from nodes.swapping import Stage, Swapping
from tests.mutants.planting import always, broken, caught_by


@caught_by("swap_decided_once")
def one_prepared_is_enough() -> Any:
    def hasty(true: Any) -> Any:
        def prepared(self: Swaps, member: Member, said: Prepared, version: Version, now: Nanos) -> Any:
            partner = self._members.get(said.partner)
            owned = self._ownership.owned(member.node), self._ownership.owned(said.partner)
            named = (said.held_id, said.held_hop), (said.received_id, said.received_hop)
            if partner is None or owned != named:
                return true(self, member, said, version, now)
            half = self._halves[pair_of(member.node, said)] = Half(partner.node, crossed(said, member), now)
            return self._commit(half, member, said, version, now)

        return prepared

    return broken(Swaps, "_prepared", hasty)


def crossed(said: Prepared, member: Member) -> Prepared:
    """What the partner would say."""
    mine, theirs = (said.held_id, said.held_hop), (said.received_id, said.received_hop)
    return Prepared(said.swap_id, member.node, *theirs, *mine)


@caught_by("swap_decided_once")
def owners_are_not_on_record() -> Any:
    def careless(true: Any) -> Any:
        def commit(self: Swaps, *args: Any) -> Any:
            return [effect for effect in true(self, *args) if not isinstance(effect, Persist)]

        return commit

    return broken(Swaps, "_commit", careless)


@caught_by("swap_decided_once")
def owners_are_on_record_after_commit() -> Any:
    def late(true: Any) -> Any:
        def commit(self: Swaps, *args: Any) -> Any:
            persist, *others = true(self, *args)
            return [*others, persist]

        return commit

    return broken(Swaps, "_commit", late)


@contextmanager
def impatient() -> Iterator[None]:
    """No defect: a hub that waits for the other half no longer than one sweep, and nodes that ask it all the time."""
    hub_s, node_s = broker.swaps.SWAP_DEADLINE_S, nodes.swapping.ASK_AGAIN_S
    broker.swaps.SWAP_DEADLINE_S, nodes.swapping.ASK_AGAIN_S = 0.01, 0.05
    try:
        yield
    finally:
        broker.swaps.SWAP_DEADLINE_S, nodes.swapping.ASK_AGAIN_S = hub_s, node_s


@caught_by("swap_decided_once")
def what_was_void_is_forgotten() -> Any:
    def forgetful(true: Any) -> Any:
        def abort(self: Swaps, member: Member, pair: Any) -> Any:
            effects = true(self, member, pair)
            self._void.clear()
            return effects

        return abort

    @contextmanager
    def both() -> Iterator[None]:
        with impatient(), broken(Swaps, "_abort", forgetful):
            yield

    return both()


@caught_by("swap_decided_once")
def a_half_outlives_its_abort() -> Any:
    def keeping(true: Any) -> Any:
        def void(self: Swaps, pair: Any, why: str) -> Any:
            half = self._halves.get(pair)
            effects = true(self, pair, why)
            self._void.clear()
            if half is not None:
                self._halves[pair] = half
            return effects

        return void

    @contextmanager
    def both() -> Iterator[None]:
        with impatient(), broken(Swaps, "_void_swap", keeping):
            yield

    return both()


@caught_by("no_swap_in_doubt")
def abort_is_not_said() -> Any:
    return broken(Swaps, "_abort", always([]))


@caught_by("no_swap_in_doubt")
def commit_is_said_once_and_to_one_only() -> Any:
    def to_one(true: Any) -> Any:
        def commit(self: Swaps, *args: Any) -> Any:
            effects = true(self, *args)
            _, second = [effect for effect in effects if is_commit(effect)]
            self._told.clear()
            return [effect for effect in effects if effect is not second]

        return commit

    def deaf(true: Any) -> Any:
        def prepared(self: Swaps, *args: Any) -> Any:
            effects = true(self, *args)
            return [] if len(effects) == 1 and is_commit(effects[0]) else effects

        return prepared

    @contextmanager
    def both() -> Iterator[None]:
        with broken(Swaps, "_commit", to_one), broken(Swaps, "_prepared", deaf):
            yield

    return both()


def is_commit(effect: Any) -> bool:
    return isinstance(getattr(effect, "message", None), Commit)


@caught_by("one_discriminator_each")
def a_node_installs_what_nobody_has_decided() -> Any:
    def rash(true: Any) -> Any:
        def shelved(self: Swapping, *args: Any) -> Any:
            acts = true(self, *args)
            if self.stage is not Stage.PREPARED:
                return acts
            (said,) = acts
            self.stage, self.deadline = Stage.INSTALLING, None
            return [said, Install(said.received_id, said.received_hop + 1)]

        return shelved

    return broken(Swapping, "shelved", rash)


@caught_by("discriminator_not_lost")
def a_node_forgets_its_shadow_when_it_starts() -> Any:
    def forgetful(true: Any) -> Any:
        def made(self: NodeCore, facts: Any, run_id: Any, held: Any, now: Any, spares: Any = ()) -> None:  # noqa: ARG001
            true(self, facts, run_id, held, now)

        return made

    return broken(NodeCore, "__init__", forgetful)


@caught_by("owned_feedback")
def nobody_is_fenced_off() -> Any:
    return broken(Ownership, "owns", always(True))


@caught_by("spares_known")
def a_node_does_not_note_what_comes_into_its_shadow_slot() -> Any:
    def deaf(_true: Any) -> Any:
        return lambda result, held, spares: (result.held if isinstance(result, Moved) else held, spares)

    return broken(nodes.jobs, "holdings", deaf)
