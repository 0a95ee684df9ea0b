"""Feedback that is far too large before anything is known of its size, and what is left of it at the end."""

from __future__ import annotations

from msgspec.structs import replace

from sim.play import plan_run, play
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Byzantine, S, Scenario
from sim.toy.mixture import MODES
from tests.test_toy import scenario, scores


def with_a_liar(one: Scenario) -> Scenario:
    """One of ten makes its feedback a million times as large for the first three seconds."""
    lies = Byzantine(at=Duration(0), lasts=Constant(Duration(3 * S)), who=("n3",), how="scale", factor=1e6)
    return replace(one, fault=(lies,))


def test_a_node_that_shouts_from_the_start_does_not_spoil_the_generator() -> None:
    true = scenario(100, hub__evaluate_every=50)
    found = []
    for one in (true, with_a_liar(true)):
        run = play(plan_run(one, 0))
        assert run.checks.violations == []
        found.append(scores(run))
    honest, lied_to = found
    assert lied_to["modes"] == honest["modes"] == MODES
    assert lied_to["quality"] > 0.9 * honest["quality"], found
