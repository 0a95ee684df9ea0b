"""Broken adoptions and hand-overs, one defect each. To be played where nodes come and go.

Those without an invariant are rarely seen in `everything`: tests/test_mass_leaving.py."""

from __future__ import annotations

import dataclasses
from typing import Any

from broker.adoptions import Adoptions
from broker.core import HubCore
from broker.greeting import RunFacts
from broker.left_behind import Rescue
from broker.member import Member
from broker.ownership import Ownership
from broker.shelving import Shelving
from broker.swaps import Swaps
from mdgan_edge.actors import Persist, Send
from mdgan_edge.messages import ByeAck, DiscriminatorId, NodeId
from tests.mutants.planting import always, broken, caught_by


@caught_by("handed_over")
def who_leaves_is_let_go_at_once() -> Any:
    def hasty(_: Any) -> Any:
        def bye(self: Shelving, member: Member, training: bool, now: Any) -> Any:  # noqa: ARG001
            return [Send(member.peer, ByeAck(), member.header)]

        return bye

    return broken(Shelving, "bye", hasty)


def what_nodes_once_said_to_have_counts_for_ever() -> Any:
    return broken(Shelving, "_is_safe", always(True))


def nobody_looks_for_what_the_dead_owned() -> Any:
    return broken(Rescue, "sweep", always([]))


def a_backup_excuses_and_goes_with_the_last_that_has_it() -> Any:
    def own_only(_: Any) -> Any:
        def lost_with(self: Shelving, node: NodeId, tried: Any) -> Any:
            mine = self._ownership.owned(node)
            return iter([mine] if mine and mine[0] not in tried and not self._is_safe(mine[0]) else [])

        return lost_with

    return broken(Shelving, "_lost_with", own_only)


def orphans_go_with_the_last_that_has_them() -> Any:
    return broken(Shelving, "_is_orphan", always(False))


@caught_by("one_owner")
def a_copy_has_the_name_of_its_parent() -> Any:
    def nameless(true: Any) -> Any:
        def adopt(self: Ownership, node: NodeId, name: Any, parent: DiscriminatorId | None) -> Any:
            return true(self, node, name if parent is None else (parent, 0), parent)

        return adopt

    return broken(Ownership, "adopt", nameless)


@caught_by("one_owner")
def owners_that_are_there_are_robbed() -> Any:
    return broken(Adoptions, "_is_orphan", always(True))


@caught_by("swap_decided_once")
def adopted_without_a_record() -> Any:
    def careless(true: Any) -> Any:
        def adopted(self: Any, *args: Any) -> Any:
            return [effect for effect in true(self, *args) if not isinstance(effect, Persist)]

        return adopted

    return broken(Swaps, "_adopted", careless)


@caught_by("discriminator_not_lost")
def what_was_trained_gives_way() -> Any:
    """The hub hands out tasks meanwhile, and the node does not look at what it has done."""

    def hungry(true: Any) -> Any:
        def begin(self: Adoptions, member: Member, *args: Any) -> Any:
            effects = true(self, member, *args)
            self._members.take_in(member, args[-1])
            return effects

        return begin

    return broken(Adoptions, "begin", hungry)


def a_hub_that_starts_anew_takes_what_it_keeps_for_its_own() -> Any:
    def grasping(true: Any) -> Any:
        def made(self: HubCore, settings: Any, facts: RunFacts, now: Any) -> None:
            kept = {one.discriminator_id for one in facts.shelf}
            owners = tuple(one for one in facts.owners if one.discriminator_id not in kept)
            true(self, settings, dataclasses.replace(facts, owners=owners), now)

        return made

    return broken(HubCore, "__init__", grasping)
