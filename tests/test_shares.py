"""Shares: rate-fair weights even them out, and a node that falls behind is named once."""

from __future__ import annotations

import pytest

from broker.membership import Membership
from broker.report import nodes_report
from broker.shares import FAIR_MIN, WEIGHT_MAX, WEIGHT_MIN, Shares
from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId
from tests.hub_world import ALICE, BOB, CAROL, hello, training_world
from tests.test_membership import START, D, Peer

LIVE = [ALICE, BOB, CAROL]


def after(steps: int, even_out: bool, every: dict[NodeId, int]) -> Shares:
    """So many steps, in which each node gives one feedback every so many."""
    shares = Shares(even_out)
    for step in range(1, steps + 1):
        shares.stepped([node for node in LIVE if step % every[node] == 0], LIVE)
    return shares


def test_without_them_everybody_weighs_the_same() -> None:
    shares = after(300, even_out=False, every={ALICE: 1, BOB: 1, CAROL: 10})
    assert [shares.omega(node) for node in LIVE] == [1.0, 1.0, 1.0]


def test_a_node_weighs_in_proportion_to_how_seldom_it_gives() -> None:
    shares = after(500, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 4})
    given = {ALICE: 1, BOB: 1, CAROL: 0.25}
    weighed = [shares.omega(node) * given[node] for node in LIVE]
    assert weighed == pytest.approx([0.75, 0.75, 0.75], rel=0.1)


def test_nobody_weighs_more_or_less_than_the_bounds() -> None:
    shares = after(1000, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 10_000})
    assert shares.omega(CAROL) == WEIGHT_MAX
    crowd = Shares(even_out=True)
    for _ in range(1000):
        crowd.stepped([ALICE] * 40, LIVE)
    assert crowd.omega(ALICE) == pytest.approx(1 / 3, rel=0.01)
    assert crowd.omega(ALICE) >= WEIGHT_MIN


def test_a_newcomer_is_taken_for_one_of_average_pace() -> None:
    shares = after(300, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 4})
    newcomer = NodeId("dave")
    assert shares.omega(newcomer) == 1.0
    shares.stepped([ALICE, BOB, newcomer], [*LIVE, newcomer])
    assert shares.omega(newcomer) == pytest.approx(1.0, rel=0.05)


def test_who_gives_less_than_a_quarter_of_a_fair_share_is_named_once_and_only_when_that_means_something() -> None:
    members = Membership(training_world(*LIVE).settings.hub)
    for node in LIVE:
        members.join(Peer(node), hello(), D, 0, START)
    shares = Shares(even_out=False)
    assert shares.behind(members) == []
    steps = 0
    while steps * 2 / 3 < FAIR_MIN - 1:
        shares.stepped([ALICE, BOB], LIVE)
        for node in (ALICE, BOB):
            members.get(node).tally.merge(0, 0.5)  # type: ignore[union-attr]
        steps += 1
    assert shares.behind(members) == []
    for _ in range(3):
        shares.stepped([ALICE, BOB], LIVE)
    assert [(member.node, part) for member, part in shares.behind(members)] == [(CAROL, 0.0)]
    assert shares.behind(members) == []


def test_the_hub_says_who_falls_behind_and_why_and_its_report_tells_weights_and_refusals() -> None:
    world = training_world(
        ALICE, BOB, staleness_policy="drop", staleness_max=0, quorum=1, warm_up_tasks=0, clip_factor=0.0
    )
    notes: list[Note] = []
    for _ in range(60):
        world.answer(ALICE)
        world.work_all()
        if world.version % 10 == 0 and world.tasks[BOB]:
            world.answer(BOB)
        notes += [one for one in world.pass_time(0.6, pinging=[ALICE, BOB]) if isinstance(one, Note)]
    (behind,) = [note for note in notes if note.what == "low_share"]
    assert (behind.facts["node"], behind.level) == (BOB, "warning")
    assert "bob gives 0% of its fair share" in behind.why
    assert behind.facts["refused"]["stale"] > 0
    bob = nodes_report(world.core)[BOB]
    assert bob["refused"] == {verdict: count for verdict, count in world.verdicts().items() if verdict != "merged"}
    assert bob["share"] == bob["weighted_share"] == 0.0
