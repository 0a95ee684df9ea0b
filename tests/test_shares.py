"""Shares: rate-fair weights even them out, and a node that falls behind is named once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from broker.jobs import Contribution
from broker.membership import Membership
from broker.report import nodes_report
from broker.shares import FAIR_MIN, WEIGHT_MAX, WEIGHT_MIN, Shares
from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId, TaskId, Tensor, Version
from tests.hub_world import ALICE, BOB, CAROL, hello, training_world
from tests.test_membership import START, D, Peer

LIVE = [ALICE, BOB, CAROL]
NEVER_LATE: Mapping[NodeId, int] = {}


def weighed(shares: Shares, node: NodeId, alpha: float = 1.0) -> Contribution:
    """A feedback as it is merged."""
    part = alpha * shares.omega(node)
    return Contribution(TaskId(0), node, Version(0), 0, part, Tensor("float32", (0,), b""), part)


def step(
    shares: Shares, givers: Iterable[NodeId], live: list[NodeId] = LIVE, ages: Mapping[NodeId, int] = NEVER_LATE
) -> dict[NodeId, float]:
    """One step that merges a feedback of each of `givers`; each node's part of it."""
    merged = [weighed(shares, node, 1 / (1 + ages.get(node, 0))) for node in givers]
    shares.stepped(merged, live)
    total = sum(one.part for one in merged)
    return {node: sum(one.part for one in merged if one.node == node) / total for node in live}


def after(steps: int, even_out: bool, every: dict[NodeId, int]) -> Shares:
    """So many steps, in which each node gives one feedback every so many."""
    shares = Shares(even_out)
    for number in range(1, steps + 1):
        step(shares, [node for node in LIVE if number % every[node] == 0])
    return shares


def test_without_them_everybody_weighs_the_same() -> None:
    shares = after(300, even_out=False, every={ALICE: 1, BOB: 1, CAROL: 10})
    assert [shares.omega(node) for node in LIVE] == [1.0, 1.0, 1.0]


def test_a_node_weighs_in_proportion_to_what_the_others_weigh_by_age_and_pace_beside_it() -> None:
    shares = after(500, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 4})
    by_itself = 1 / 4 / 3  # a third of every fourth step
    assert shares.omega(CAROL) == pytest.approx(1 / 3 / by_itself, rel=0.1)
    assert shares.omega(ALICE) == shares.omega(BOB) == pytest.approx(1 / 3 / ((1 - by_itself) / 2), rel=0.1)


@pytest.mark.parametrize("every", [1, 2, 4, 9])
def test_a_node_that_is_slow_and_always_late_has_half_of_its_fair_share_where_it_gives_often_enough(every: int) -> None:
    """A node in a part p of all steps gets Np/(1 + p(N - 1)) of its fair share: at least half from p = 1/N on."""
    nodes = [NodeId(f"n{rank}") for rank in range(9)]
    slow, ages, shares, given = nodes[0], {nodes[0]: 8}, Shares(even_out=True), 0.0
    for number in range(1, 1801):
        givers = [*nodes[1:], *nodes[1:]] + ([slow] if number % every == 0 else [])  # the others twice a step
        part = step(shares, givers, nodes, ages)[slow]
        given += part if number > 900 else 0.0
        assert part < 0.6, "it never decides a step alone"
    expected = len(nodes) / (every + len(nodes) - 1)
    assert given / 900 * len(nodes) == pytest.approx(expected, rel=0.1)
    assert given / 900 * len(nodes) > 0.5


def test_nobody_weighs_more_or_less_than_the_bounds() -> None:
    shares = after(1000, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 10_000})
    assert shares.omega(CAROL) == WEIGHT_MAX
    crowd = Shares(even_out=True)
    for _ in range(1000):
        step(crowd, [ALICE] * 40)
    assert crowd.omega(ALICE) == pytest.approx(1 / 3, rel=0.01)
    assert crowd.omega(ALICE) >= WEIGHT_MIN


def test_a_newcomer_is_taken_for_one_of_average_pace() -> None:
    shares = after(300, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 4})
    newcomer = NodeId("dave")
    assert shares.omega(newcomer) == 1.0
    step(shares, [ALICE, BOB, newcomer], [*LIVE, newcomer])
    assert shares.omega(newcomer) == pytest.approx(1.0, rel=0.1)


def test_after_a_hundred_steps_a_slow_newcomer_weighs_most_of_what_it_should() -> None:
    then, later = (after(steps, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 9}) for steps in (100, 900))
    assert then.omega(CAROL) > 0.6 * later.omega(CAROL)


def test_who_is_slow_is_still_known_after_it_was_not_live_for_a_while() -> None:
    shares = after(300, even_out=True, every={ALICE: 1, BOB: 1, CAROL: 9})
    before = shares.omega(CAROL)
    for _ in range(20):
        step(shares, [ALICE, BOB], [ALICE, BOB])
    assert shares.omega(CAROL) > before


def test_who_gives_less_than_a_quarter_of_a_fair_share_is_named_once_and_only_when_that_means_something() -> None:
    members = Membership(training_world(*LIVE).settings.hub)
    for node in LIVE:
        members.join(Peer(node), hello(), D, 0, START)
    shares = Shares(even_out=False)
    assert shares.behind(members) == []
    steps = 0
    while steps * 2 / 3 < FAIR_MIN - 1:
        step(shares, [ALICE, BOB])
        for node in (ALICE, BOB):
            members.get(node).tally.merge(0, 0.5)  # type: ignore[union-attr]
        steps += 1
    assert shares.behind(members) == []
    for _ in range(3):
        step(shares, [ALICE, BOB])
    assert [(member.node, part) for member, part in shares.behind(members)] == [(CAROL, 0.0)]
    assert shares.behind(members) == []


def test_who_has_recovered_is_named_again_when_it_falls_behind_again() -> None:
    members = Membership(training_world(*LIVE).settings.hub)
    for node in LIVE:
        members.join(Peer(node), hello(), D, 0, START)
    shares, named = Shares(even_out=False), []
    for gives in (False, False, True, True, False):
        for _ in range(round(FAIR_MIN) + 1):
            givers = [ALICE, BOB, CAROL] if gives else [ALICE, BOB, BOB]
            step(shares, givers)
            for node in givers:
                members.known(node).tally.merge(0, 1 / 3)
            named += [member.node for member, _ in shares.behind(members)]
    assert named == [CAROL, CAROL]


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
