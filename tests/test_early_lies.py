"""Feedback that is far too large before anything is known of its size, and what is left of it at the end."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.admission import NORMS_KEPT
from sim.play import plan_run, play
from sim.scenario.distributions import Constant
from sim.scenario.quantities import Duration
from sim.scenario.values import Byzantine, HubCrash, S, Scenario
from sim.toy.mixture import MODES
from tests.mutants import hub
from tests.test_toy import scenario, scores


def with_a_liar(one: Scenario) -> Scenario:
    """One of ten makes its feedback a million times as large for the first three seconds."""
    lies = Byzantine(at=Duration(0), lasts=Constant(Duration(3 * S)), who=("n3",), how="scale", factor=1e6)
    return replace(one, fault=(lies,))


@pytest.mark.long
def test_a_node_that_shouts_from_the_start_does_not_spoil_the_generator() -> None:
    true = scenario(100, hub__evaluate_every=50)
    found = []
    for one in (true, with_a_liar(true)):
        run = play(plan_run(one, 0))
        assert run.checks.violations == []
        found.append(scores(run))
    honest, lied_to = found
    assert lied_to["modes"] == honest["modes"] == MODES
    assert honest["quality"] is not None
    assert lied_to["quality"] is not None
    assert lied_to["quality"] > 0.9 * honest["quality"], found


def test_the_checkers_see_where_it_would() -> None:
    with hub.nothing_is_clipped_before_there_is_a_median():
        checks = play(plan_run(with_a_liar(scenario(10)), 0)).checks
    assert checks.verdicts()["sound_feedback"] is False


def test_a_hub_that_has_started_again_knows_the_norms_of_its_checkpoint() -> None:
    crash = HubCrash(at=Duration(12 * S), lasts=Constant(Duration(1 * S)))
    run = play(plan_run(replace(scenario(20, hub__checkpoint_every=25), fault=(crash,)), 0))
    core = run.world.last_hub_core
    assert core is not None
    assert run.checks.violations == []
    assert core.facts.version > 0
    assert len(core.facts.norms) == NORMS_KEPT
