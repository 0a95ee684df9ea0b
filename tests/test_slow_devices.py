"""Devices that are slow, or away for a while, with nothing but the defaults: each has its part, and is named if due."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from broker.report import nodes_report
from sim.play import Played, plan_run, play
from sim.scenario.values import Crash, Device, Expect, Fault, Heal, Scenario, Straggler
from tests.test_world import Notes, lasting, seconds

FIVE = Scenario(name="slow", duration=seconds(900), nodes=5, fidelity="tokens", settings={"training.steps": 100_000})


def five(task_s: float, fault: Fault, duration_s: float) -> tuple[Played, Notes]:
    """Five nodes that take so long for a task, of which something befalls n3."""
    device, notes = Device(task=lasting(task_s)), Notes()
    one = replace(FIVE, device=device, fault=(fault,), duration=seconds(duration_s))
    return play(plan_run(one), recorder=notes), notes


def merged(played: Played, node: str = "n3") -> int:
    core = played.world.last_hub_core
    assert core is not None
    return int(nodes_report(core)[node]["merged"])


@pytest.mark.parametrize("seconds_a_task", [28, 35, 50, 70, 150])
def test_a_slow_device_has_a_part_and_is_named(seconds_a_task: int) -> None:
    played, notes = five(1.0, Straggler(at=seconds(0), who=("n3",), factor=float(seconds_a_task)), 900)
    assert merged(played) > 0
    assert [why.split()[0] for _, _, _, why in notes.of("low_share")] == ["n3"]


def test_a_device_that_grows_slow_has_a_part_again() -> None:
    ails = Straggler(at=seconds(60), who=("n3",), factor=50.0)
    before, _ = five(1.0, ails, 60)
    assert merged(five(1.0, ails, 700)[0]) > merged(before) + 2


def test_where_devices_differ_widely_nobody_starves() -> None:
    expect = Expect(starve_within=seconds(30), advance_within=seconds(600))
    mixed = replace(
        FIVE,
        device=Device(task=lasting(2.0), speed_sigma=1.5),
        heal=Heal(at=seconds(1)),
        expect=expect,
        nodes=8,
    )
    checks = play(plan_run(mixed, 3)).checks
    assert checks.violations == []
    assert checks.verdicts()["no_starvation"] is True


def test_a_node_that_was_away_is_not_named_for_it() -> None:
    away = Crash(at=seconds(5), who=("n3",), lasts=lasting(30))
    played, notes = five(0.2, away, 120)
    assert notes.of("low_share") == []
    assert merged(played) > 0.7 * merged(played, "n0")
