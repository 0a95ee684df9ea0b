"""Feedback that is far too large before anything is known of its size, and what is left of it at the end."""

from __future__ import annotations

from msgspec.structs import replace

from sim.play import plan_run, play
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Byzantine, S, Scenario
from tests.test_toy import scenario


def with_a_liar(one: Scenario) -> Scenario:
    """One of ten makes its feedback a million times as large for the first three seconds."""
    lies = Byzantine(at=Duration(0), lasts=Constant(Duration(3 * S)), who=("n3",), how="scale", factor=1e6)
    return replace(one, fault=(lies,))


def test_a_node_that_shouts_from_the_start_does_not_spoil_the_generator() -> None:
    true = scenario(60, hub__evaluate_every=100)
    quality = []
    for one in (true, with_a_liar(true)):
        played = play(plan_run(one, 0))
        assert played.checks.violations == []
        assert (one is true) or played.checks.sometimes["clipped"] > 0
        quality.append(played.scores["quality"])
    print(quality)
