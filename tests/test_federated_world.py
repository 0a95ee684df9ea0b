"""The baselines under the world's faults: nothing is violated, and what is broken is caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from mdgan_edge.actors import Effect, Nanos, Run, nanos
from mdgan_edge.errors import ConfigurationError, ExitCode
from sim.cli import main
from sim.curves import Curves
from sim.determinism import check_determinism
from sim.federated import toy
from sim.federated.checks import SHOWN_BY
from sim.federated.client import ClientCore
from sim.federated.jobs import (
    Answer,
    Average,
    Averaged,
)
from sim.federated.liveness import NAMES as LIVENESS
from sim.federated.messages import Enter
from sim.federated.server import ServerCore
from sim.invariants.names import INVARIANTS, OF_FLGAN
from sim.play import Played, plan_run, play, report
from sim.scenario.reading import find_scenario, parse_scenario

QUICK: dict[str, object] = {"federated.epochs": 0.1, "federated.round_timeout_s": 20.0, "hub.checkpoint_every": 20}
BRIEF = """
name = "brief"
duration = "80s"
nodes = 6
[links.default]
latency = "20ms"
loss = 0.02
[[fault]]
kind = "crash"
rate = "0.3/s"
for = "2s"
[heal]
at = "20s"
[expect]
rejoin_within = "5s"
advance_within = "5s"
starve_within = "5s"
sometimes = ["blocked"]
"""


def brief(seed: int = 0, method: Any = "flgan", fidelity: Any = "tokens", **more: object) -> Played:
    own = {key.replace("__", "."): value for key, value in more.items()}
    chosen = {**QUICK, "federated.epochs": 0.05, "federated.round_timeout_s": 5.0, **own}
    return play(plan_run(parse_scenario(BRIEF, "brief"), seed, fidelity, chosen, None, method))


@pytest.mark.parametrize(
    "name", ["half-partition", "hub-crash", "churn", "lossy-burst", "swap-storm", "asymmetric-uplink"]
)
def test_nothing_is_violated_in_the_weather_that_md_gan_meets(name: str) -> None:
    played = play(plan_run(find_scenario(name), 0, "tokens", QUICK, None, "flgan"))
    assert played.checks.violations == []
    assert played.world.last_core.round > 0  # type: ignore[union-attr]


def test_what_scenarios_expect_of_md_gan_is_not_expected_of_a_baseline() -> None:
    assert brief().missed == []


def test_every_invariant_that_a_baseline_is_held_to_is_seen_in_some_run() -> None:
    runs = [brief(fidelity="toy"), brief(1, training__steps=30)]
    held = {name for played in runs for name, verdict in played.checks.verdicts().items() if verdict}
    assert {*SHOWN_BY, *LIVENESS} - held == {"no_work_after_leave"}
    assert set(OF_FLGAN) <= held
    assert set(runs[0].checks.verdicts()) == {*INVARIANTS, *OF_FLGAN}


def test_a_baseline_is_deterministic_in_fresh_processes() -> None:
    plan = plan_run(parse_scenario(BRIEF, "brief"), 3, "tokens", QUICK, None, "flgan")
    assert check_determinism(plan.scenario) == play(plan).digest != brief(4).digest


def test_a_curve_has_the_scores_over_time_and_over_updates_for_every_method() -> None:
    scenario = parse_scenario(BRIEF, "brief")
    chosen = {"training.steps": 60, "hub.evaluate_every": 20, "federated.epochs": 0.5}
    for method in ("mdgan", "flgan", "standalone"):
        curves = Curves()
        found = report(play(plan_run(scenario, 0, "toy", chosen, None, method), curves), "")
        assert found["method"] == method
        assert found["violations"] == []
        updates, times = zip(*((one["updates"], one["at_s"]) for one in curves.points), strict=True)
        assert list(updates) == sorted(updates)
        assert list(times) == sorted(times)
        assert updates[-1] == found.get("updates", found["version"]) >= 20
        assert set(curves.points[-1]["scores"]) == {"modes", "quality", "sliced_wasserstein"}


def test_standalone_goes_on_from_its_checkpoint_after_a_crash() -> None:
    text = BRIEF.replace('kind = "crash"\nrate = "0.3/s"', 'kind = "hub_crash"\nat = "5s"')
    scenario = parse_scenario(text, "brief")
    chosen = {"training.steps": 100, "hub.checkpoint_every": 10, "hub.evaluate_every": 100}
    crashed = play(plan_run(scenario, 0, "toy", chosen, None, "standalone"))
    whole = brief(0, "standalone", "toy", **{key.replace(".", "__"): value for key, value in chosen.items()})
    assert crashed.checks.sometimes["resumed"] == 1
    assert crashed.world.last_core.evaluations.medians() == whole.world.last_core.evaluations.medians()  # type: ignore[union-attr]


def test_liars_cannot_be_played_with_a_baseline() -> None:
    with pytest.raises(ConfigurationError, match="byzantine"):
        plan_run(find_scenario("byzantine-20"), 0, None, None, None, "flgan")


def test_the_command_plays_a_method_and_says_how_to_play_it_again(tmp_path: Path) -> None:
    file = tmp_path / "brief.toml"
    file.write_text(BRIEF, encoding="utf-8")
    words = ["run", str(file), "--method", "flgan", "--fidelity", "toy", "--set", "federated.epochs=0.5"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "report.html").exists()
    assert 'method = "flgan"' in (tmp_path / "run" / "scenario.toml").read_text(encoding="utf-8")
    assert "--method flgan" in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")


# --- the checkers are checked -----------------------------------------------------------------------------------------


@contextmanager
def broken(owner: Any, name: str, other: Any) -> Iterator[None]:
    """While inside, `other`, a property or a function of the true one, is in its place."""
    true = getattr(owner, name)
    setattr(owner, name, other if isinstance(other, property) else lambda *given: other(true, *given))
    try:
        yield
    finally:
        setattr(owner, name, true)


def weighing(change: Callable[[tuple[Answer, ...]], tuple[Answer, ...]]) -> Callable[..., list[Effect]]:
    """A server that averages other answers than it ought to."""

    def handle(true: Callable[..., list[Effect]], *given: Any) -> list[Effect]:
        return [
            Run(replace(effect.job, answers=change(effect.job.answers)))
            if isinstance(effect, Run) and isinstance(effect.job, Average)
            else effect
            for effect in true(*given)
        ]

    return handle


def tires(true: Callable[..., list[Effect]], core: ServerCore, event: Any, now: Nanos) -> list[Effect]:
    """A server that averages no more after half a minute."""
    effects = true(core, event, now)
    return [one for one in effects if now < nanos(30) or not (isinstance(one, Run) and isinstance(one.job, Average))]


def one_too_far(true: Callable[..., Any], *given: Any) -> Any:
    result = true(*given)
    return Averaged(result.round + 1, result.numbers) if isinstance(result, Averaged) else result


def knows_nobody_again(true: Callable[..., Any], core: Any, sender: Any, enter: Enter, now: Any) -> list[Effect]:
    return [] if enter.incarnation > 1 else true(core, sender, enter, now)  # type: ignore[no-any-return]


def gives_up_after_ten_seconds(true: Callable[..., Any], core: ClientCore, now: Nanos) -> list[Effect]:
    return core._finish(ExitCode.HUB_UNREACHABLE, "tired") if now > nanos(25) else true(core, now)  # type: ignore[no-any-return]


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "mean_as_accounted": (
        ServerCore,
        "handle",
        weighing(lambda answers: (replace(answers[0], share=1.5 * answers[0].share), *answers[1:])),
    ),
    "applied_once": (ServerCore, "handle", weighing(lambda answers: (*answers, answers[0]))),
    "mean_exact": (toy, "averaged", lambda true, answers: true(answers) * np.float32(1.001)),
    "version_by_one": (toy.ToyServer, "do", one_too_far),
    "round_not_held_up": (ServerCore, "_timeout_at", property(lambda _: None)),
    "live_are_members": (ServerCore, "_enter", knows_nobody_again),
    "version_advances": (ServerCore, "handle", tires),
    "no_starvation": (
        ServerCore,
        "_verdict",
        lambda true, core, client, update: "late" if client.node == "n0" else true(core, client, update),
    ),
    "no_work_after_leave": (ServerCore, "_gone", lambda *_: []),
    "exits_explained": (ClientCore, "_settle", gives_up_after_ten_seconds),
}


@pytest.mark.parametrize("invariant", MUTANTS)
def test_a_mistake_is_caught_by_its_invariant(invariant: str) -> None:
    faults = '[[fault]]\nkind = "leave"\nat = "6s"\nwho = "n1"\n' if invariant == "no_work_after_leave" else ""
    scenario = parse_scenario(BRIEF.replace("[heal]", f"{faults}[heal]"), "brief")
    chosen = {**QUICK, "federated.epochs": 0.05, "federated.round_timeout_s": 5.0}
    with broken(*MUTANTS[invariant]):
        played = play(plan_run(scenario, 0, "toy", chosen, None, "flgan"))
    assert [one.invariant for one in played.checks.violations][:1] == [invariant]
