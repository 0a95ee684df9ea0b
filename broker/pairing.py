"""Whom a node that is due for a swap may ask. Pure; docs/algorithm.md 6.

Live nodes at random, but for two kinds. Who has swapped a moment ago rests: each swap costs a node some training and
the feedback that it has under work, and a slow one, asked by many that are faster, would lose most of what it does.
And where a node judges only its own classes, a discriminator is worth little to one that has others.
"""

from __future__ import annotations

import math

from broker.member import Member
from broker.membership import Membership
from mdgan_edge.messages import Epoch
from mdgan_edge.settings import Settings
from mdgan_edge.streams import stream_seed

VIEW_SIZE = 8  # c: how many peers a node is told of
DRAWS_MAX = 64  # nodes that are looked at for that
REST = 0.5  # of a node's swap period: for so many of its tasks after a swap it is not named
COMMON_LABELS = 0.5  # of all classes that two nodes judge: so many they have in common if they are to swap


class Pairing:
    """Draws peers; the count of its draws keys them."""

    def __init__(self, settings: Settings, members: Membership, epoch: Epoch) -> None:
        training = settings.training
        self._members, self._epoch = members, epoch
        self._label_aware = training.label_aware and settings.model.classes > 0
        self._epochs = 0.0 if training.swap == "off" or training.swap_barrier else training.swap
        self._batch = training.batch_size
        self._views = 0

    def view(self, member: Member) -> list[Member]:
        """At most VIEW_SIZE live nodes without this one: a draw without replacement, counted."""
        others = [one for one in self._members.live if one != member.node]
        self._views += 1
        view: list[Member] = []
        for place in range(min(DRAWS_MAX, len(others))):
            other = place + stream_seed(self._epoch, "view", member.node, self._views, place) % (len(others) - place)
            others[place], others[other] = others[other], others[place]
            drawn = self._members.known(others[place])
            if not self._rests(drawn) and self._have_much_in_common(member, drawn):
                view.append(drawn)
            if len(view) == VIEW_SIZE:
                break
        return view

    def swapped(self, member: Member) -> None:
        """A swap of it is on record."""
        member.swapped_at = member.tally.tasks

    def _rests(self, member: Member) -> bool:
        """Nobody does at a barrier, where all have done as many tasks."""
        if member.swapped_at is None:
            return False
        period = math.ceil(member.shard_size * self._epochs / self._batch)
        return member.tally.tasks - member.swapped_at < math.floor(REST * period)

    def _have_much_in_common(self, one: Member, other: Member) -> bool:
        """Of a node that keeps its classes to itself, or judges all, nothing is asked."""
        if not self._label_aware or one.labels is None or other.labels is None:
            return True
        both, either = set(one.labels) & set(other.labels), set(one.labels) | set(other.labels)
        return len(both) >= COMMON_LABELS * len(either)
