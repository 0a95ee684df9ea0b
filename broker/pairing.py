"""Whom a node that is due for a swap may ask. Pure; docs/algorithm.md 6.

Live nodes at random, but for two kinds. Who has swapped a moment ago rests, unless nobody else is left: each swap costs
a node some training and the feedback that it has under work, and a slow one, asked by many that are faster, would lose
most of what it does. And where nodes judge only their own classes, a discriminator is worth little to who has others.
"""

from __future__ import annotations

import math

from broker.member import Member
from broker.membership import Membership
from mdgan_edge.messages import Epoch, NodeId
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed

VIEW_SIZE = 8  # c: how many peers a node is told of
RESTING_MAX = 64  # so many that rest are looked at for one that does not
REST = 0.5  # of a node's swap period: for so many of its tasks after a swap it is not named
COMMON_LABELS = 0.25  # of all classes that two nodes judge: so many they have in common if they are to swap


class Pairing:
    """Draws peers; the count of its draws keys them."""

    def __init__(self, settings: Settings, members: Membership, epoch: Epoch) -> None:
        training = settings.training
        self._members, self._epoch = members, epoch
        self._label_aware = training.label_aware and settings.model.classes > 0
        self._epochs = 0.0 if training.swap == "off" or training.swap_barrier else training.swap
        self._batch = training.batch_size
        self._views = 0
        self._alone: set[NodeId] = set()  # of whom it was said

    def view(self, member: Member) -> list[Member]:
        """At most VIEW_SIZE live nodes without this one: a draw without replacement, counted."""
        others = [one for one in self._members.live if one != member.node]
        if self._label_aware and member.classes:
            others = [one for one in others if _have_much_in_common(member, self._members.known(one))]
        self._views += 1
        view: list[Member] = []
        resting: list[Member] = []
        for place in range(len(others)):
            other = place + stream_seed(self._epoch, "view", member.node, self._views, place) % (len(others) - place)
            others[place], others[other] = others[other], others[place]
            drawn = self._members.known(others[place])
            (resting if self._rests(drawn) else view).append(drawn)
            if len(view) == VIEW_SIZE or len(resting) == RESTING_MAX:
                break
        return view or resting[:VIEW_SIZE]

    def found_alone(self, member: Member) -> bool:
        """Whether only its classes keep it from swapping; said once of each."""
        others = len(self._members.live) - member.live
        alone = self._label_aware and bool(member.classes) and others > 0 and member.node not in self._alone
        self._alone |= {member.node} if alone else set()
        return alone

    def swapped(self, member: Member) -> None:
        """A swap of it is on record."""
        member.swapped_at = member.tally.tasks

    def _rests(self, member: Member) -> bool:
        """Nobody does at a barrier, where all have done as many tasks."""
        if member.swapped_at is None:
            return False
        period = math.ceil(member.shard_size * self._epochs / self._batch)
        return member.tally.tasks - member.swapped_at < math.floor(REST * period)


def _have_much_in_common(one: Member, other: Member) -> bool:
    """A node that keeps its classes to itself has much in common with everybody."""
    if not one.classes or not other.classes:
        return True
    both = len(one.classes & other.classes)
    return both >= COMMON_LABELS * (len(one.classes) + len(other.classes) - both)
