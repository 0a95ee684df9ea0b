"""The protocol in all weathers: seeds of `everything`, and the seeds that once found something."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from sim.invariants.names import SOMETIMES
from sim.play import Played, plan_run, play
from sim.scenario.reading import find_scenario, read_scenario, shipped
from tests.mutants.hub import labels_are_forgotten
from tests.mutants.nodes import a_node_answers_with_its_samples

SEEDS = 200  # of the suite; `make test-long` takes more
SEEDS_LONG = 1000
BATCH = 20

# What the first runs found, compiled: a seed draws something else once the drawing changes, a list of faults stays.
FOUND = sorted((Path(__file__).parent / "found").glob("*.toml"))


def played(seed: int, scenario: str = "everything") -> Played:
    return play(plan_run(find_scenario(scenario), seed))


def assert_nothing_violated(run: Played) -> None:
    scenario = run.plan.scenario
    assert run.checks.violations == [], f"again: mdgan-sim run {scenario.name} --seed {scenario.seed}"


def sweep(first: int, last: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in range(first, last):
        run = played(seed)
        assert_nothing_violated(run)
        seen.update(name for name, count in run.checks.sometimes.items() if count)
    return seen


def test_no_seed_of_everything_violates_an_invariant_and_everything_sometimes_happens() -> None:
    seen = sweep(0, SEEDS)
    assert [name for name in SOMETIMES if not seen[name]] == []


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, SEEDS_LONG, BATCH))
def test_no_further_seed_violates_an_invariant(first: int) -> None:
    sweep(first, first + BATCH)


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_a_run_that_once_found_something_finds_it_no_more(file: Path) -> None:
    assert_nothing_violated(play(plan_run(read_scenario(file)), replay=True))


@pytest.mark.parametrize("name", [name for name in shipped() if name != "everything"])
def test_a_named_scenario_violates_nothing_and_shows_what_it_promises(name: str) -> None:
    run = played(0, name)
    assert_nothing_violated(run)
    assert run.missed == []
    assert run.checks.verdicts()["live_are_members"] is True


def test_calm_runs_to_its_end_with_equal_shares() -> None:
    run = played(0, "calm")
    core = run.world.last_hub_core
    assert core is not None
    assert core.ending.outcome == "completed"
    assert {member.tally.merged for member in core.members} == {run.plan.settings.training.steps}
    assert all(member.tally.staleness_max == 0 for member in core.members)


@pytest.mark.parametrize("seed", range(3))
def test_a_fresh_hub_that_is_given_the_same_events_decides_the_same(seed: int) -> None:
    run = play(plan_run(find_scenario("everything"), seed), replay=True)
    assert_nothing_violated(run)
    assert run.checks.verdicts()["replay_equal"] is True


def test_with_real_images_a_node_that_sends_its_own_is_caught_and_a_true_one_is_seen_to_send_none() -> None:
    settings = {"training.steps": 3, "training.batch_size": 4, "model.name": "mlp", "hub.data": "none"}
    plan = plan_run(replace(find_scenario("calm"), nodes=2), 0, "full", settings)
    true = play(plan)
    assert_nothing_violated(true)
    assert true.checks.verdicts()["samples_stay"] is True
    with a_node_answers_with_its_samples():
        (violation,) = play(plan).checks.violations
    assert (violation.invariant, violation.what) == ("samples_stay", "sample 0 of its feedback is a private one")


def test_with_real_networks_and_disks_discriminators_move_and_none_is_lost_in_bad_weather() -> None:
    settings = {"training.steps": 60, "training.batch_size": 4, "model.name": "mlp", "hub.data": "none"}
    plan = plan_run(replace(find_scenario("churn"), nodes=5), 1, "full", {**settings, "training.swap": 0.05})
    run = play(plan)
    assert_nothing_violated(run)
    assert run.checks.sometimes["swapped"]


SKEWED = {
    "mode": "async",
    "training.steps": 12,
    "training.batch_size": 4,
    "training.label_aware": True,
    "model.name": "mlp",
    "hub.data": "none",
    "swarm.shards": "labels=5",
}


def test_where_each_node_knows_some_classes_only_its_feedback_counts_for_these_in_bad_weather_too() -> None:
    plan = plan_run(replace(find_scenario("churn"), nodes=4), 0, "full", SKEWED)
    true = play(plan)
    assert_nothing_violated(true)
    assert true.checks.verdicts()["judged_as_said"] is True
    with labels_are_forgotten():
        (violation,) = play(plan).checks.violations
    assert violation.invariant == "judged_as_said"
