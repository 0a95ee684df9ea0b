"""The virtual world: time, chance, connections and what a crash leaves."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from mdgan_edge.actors import Note
from mdgan_edge.messages import NodeId
from nodes.jobs import Save
from sim.bodies import Tokens
from sim.camera import FILMED_MAX, Camera
from sim.determinism import check_determinism, first_difference
from sim.machine import LEAST_NS, Clock, Machine
from sim.play import Plan, bodies_of, plan_run
from sim.scenario.distributions import Constant
from sim.scenario.quantities import DURATION_MAX_NS, Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import (
    MS,
    Crash,
    Device,
    Fault,
    HubCrash,
    Join,
    Leave,
    Links,
    LinkTerms,
    Partition,
    Pause,
    Reset,
    S,
    Scenario,
    Server,
    Straggler,
)
from sim.trace import Trace
from sim.watch import Silent
from sim.world import World

TOO_MANY_STEPS = 1_000_000


def scenario(*faults: Fault, nodes: int = 4, seconds: float = 20, seed: int = 0, **settings: Any) -> Scenario:
    given = {"training.steps": TOO_MANY_STEPS, **{name.replace("__", "."): value for name, value in settings.items()}}
    duration = Duration(round(seconds * S))
    return Scenario(name="test", duration=duration, nodes=nodes, seed=seed, settings=given, fault=faults)


def world_of(plan: Plan, **extra: Any) -> World:
    bodies, settings = bodies_of(plan)
    world = World(plan.scenario, settings, bodies, Silent(), **extra)
    world.run()
    return world


def played(one: Scenario, **extra: Any) -> World:
    return world_of(plan_run(one), **extra)


def seconds(value: float) -> Duration:
    return Duration(round(value * S))


def lasting(value: float) -> Constant:
    return Constant(seconds(value))


class Notes:
    def __init__(self) -> None:
        self.told: list[tuple[float, NodeId, str, str]] = []

    def note(self, now: int, who: NodeId, note: Note) -> None:
        self.told.append((now / 1e9, who, note.what, note.why))

    def measure(self, *_: object) -> None:
        pass

    def of(self, what: str) -> Sequence[tuple[float, NodeId, str, str]]:
        return [one for one in self.told if one[2] == what]


def version(world: World) -> int:
    assert world.last_hub_core is not None
    return world.last_hub_core.training.version


def test_one_seed_gives_one_digest_and_another_seed_another() -> None:
    digests = [played(scenario(seed=seed)).trace.digest() for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_two_processes_with_different_hash_seeds_agree_on_every_event() -> None:
    plan = plan_run(find_scenario("everything"), 5)
    digest = check_determinism(plan.scenario)
    assert digest == world_of(plan).trace.digest()


def test_the_first_difference_of_two_traces_is_named(tmp_path: Any) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1 hub tick\n2 n0 PING 1\n")
    other.write_text("1 hub tick\n2 n0 PING 2\n")
    assert first_difference(one, other) == "line 2: '2 n0 PING 1' or '2 n0 PING 2'"


def test_without_faults_the_generator_advances_and_bytes_add_up() -> None:
    world = played(scenario())
    flying = world.post.in_flight()
    assert version(world) > 50
    assert world.post.up.sent == world.post.up.received + flying[0] + sum(world.post.up.dropped.values())
    assert world.post.down.sent == world.post.down.received + flying[1] + sum(world.post.down.dropped.values())


def test_a_straggler_of_ten_answers_a_tenth() -> None:
    world = played(scenario(Straggler(at=Duration(0), who=("n0",)), seconds=60, training__staleness_max=1000))
    assert world.last_hub_core is not None
    tasks = {member.node: member.tally.tasks for member in world.last_hub_core.members}
    assert 5 <= tasks[NodeId("n1")] / tasks[NodeId("n0")] <= 20


def test_a_crashed_node_comes_back_as_itself_with_its_next_incarnation() -> None:
    notes = Notes()
    world = played(scenario(Crash(at=seconds(5), who=("n1",), lasts=lasting(3))), recorder=notes)
    machine = world.machines[NodeId("n1")]
    assert machine.process is not None
    assert machine.incarnation == 2
    joined = [(round(at), who) for at, _, _, why in notes.of("joined") for who in [why]]
    assert (8, "came back") in joined


def test_a_node_that_has_lost_its_disk_is_set_up_under_a_new_name() -> None:
    world = played(scenario(Crash(at=seconds(5), who=("n1",), lasts=lasting(3), keep_disk=False)))
    assert world.machines[NodeId("n1")].gone
    assert world.machines[NodeId("n1-r1")].process is not None


NOTHING_MOVES = {"training__swap": "off", "training__newcomer": "fresh"}  # what moves is saved at once


def test_a_crash_that_loses_writes_takes_back_what_was_saved_within_five_seconds_and_no_more() -> None:
    early = Crash(at=seconds(33), who=("n1",), lasts=lasting(1), lost_writes=True)
    late = Crash(at=seconds(36), who=("n2",), lasts=lasting(1), lost_writes=True)
    true = Crash(at=seconds(33), who=("n3",), lasts=lasting(1))
    world = played(scenario(early, late, true, seconds=40, **NOTHING_MOVES))
    disks = {name: world.machines[NodeId(name)] for name in ("n0", "n1", "n2", "n3")}
    assert [name for name, machine in disks.items() if machine.disk.held is None] == ["n1"]
    assert [machine.lost_writes for machine in disks.values()] == [0, 1, 0, 0]


def test_a_crash_that_loses_writes_takes_back_one_save_of_two() -> None:
    lost = Crash(at=seconds(62), who=("n1",), lasts=lasting(1), lost_writes=True)
    world = played(scenario(lost, seconds=65, **NOTHING_MOVES))
    tasks = {name: world.machines[NodeId(name)].disk.held.tasks for name in ("n0", "n1")}
    assert 0 < tasks["n1"] < 0.7 * tasks["n0"]


def test_a_crash_for_ever_is_noticed_and_the_others_go_on() -> None:
    notes = Notes()
    world = played(scenario(Crash(at=seconds(5), who=("n1",)), seconds=60), recorder=notes)
    assert [why for _, _, _, why in notes.of("member") if "silent" in why] != []
    assert world.machines[NodeId("n1")].process is None
    assert version(world) > 200


def test_a_hub_that_crashes_starts_a_new_epoch_and_everybody_returns() -> None:
    world = played(scenario(HubCrash(at=seconds(5), lasts=lasting(2), who=("hub",)), seconds=40))
    assert world.epoch == 2
    assert world.hub_core is not None
    assert len(world.hub_core.members.live) == 4


def test_a_hub_that_crashes_again_while_it_is_down_comes_back_when_the_last_crash_is_over() -> None:
    first = HubCrash(at=seconds(5), lasts=lasting(3), who=("hub",))
    longer, shorter = replace(first, at=seconds(6), lasts=lasting(8)), replace(first, at=seconds(7), lasts=lasting(1))
    notes = Notes()
    world = played(scenario(first, longer, shorter, seconds=30), recorder=notes)
    assert world.epoch == 2
    returns = [at for at, who, what, _ in notes.told if who == "hub" and at > 5 and what == "joined"]
    assert 14 <= min(returns) < 20
    assert len(returns) == 4


def test_a_hub_that_is_down_to_the_very_end_of_the_run_holds_up_no_end() -> None:
    world = played(scenario(HubCrash(at=seconds(5), lasts=lasting(5), who=("hub",)), seconds=10))
    assert (world.now, world.epoch) == (10 * S, 1)


def test_a_paused_node_is_suspected_and_trusted_again_as_the_same_incarnation() -> None:
    notes = Notes()
    world = played(scenario(Pause(at=seconds(5), who=("n2",), lasts=lasting(12)), seconds=40), recorder=notes)
    states = [why for _, _, _, why in notes.of("member")]
    assert states[0].startswith("silent")
    assert states[-1] == "heard from again"
    assert world.machines[NodeId("n2")].incarnation == 1


def test_a_reset_loses_what_is_on_its_way() -> None:
    far = scenario(Reset(at=seconds(5), who=("n0", "n1", "n2", "n3")))
    assert played(far).post.down.dropped.keys() == {"connection gone"} or played(far).post.up.dropped.keys() == {
        "connection gone"
    }


def test_a_one_way_partition_cuts_one_way() -> None:
    cut = Partition(at=seconds(5), who=("n0",), lasts=lasting(5), one_way="up")
    world = played(scenario(cut))
    assert "partition" in world.post.up.dropped
    assert "partition" not in world.post.down.dropped


def test_a_node_that_leaves_says_goodbye_and_returns_when_it_is_to() -> None:
    notes = Notes()
    played(scenario(Leave(at=seconds(5), who=("n3",), lasts=lasting(4))), recorder=notes)
    assert Counter(why for _, _, _, why in notes.of("joined"))["came back"] == 1


@pytest.mark.parametrize("pace", [500_000, 999_999, 1_000_000, 1_050_001, 2_000_000])
def test_a_clock_rings_no_earlier_than_asked(pace: int) -> None:
    clock = Clock()
    clock.set(3 * S, 7 * MS, pace)
    for wanted in range(4 * S, 4 * S + 1000, 37):
        at = clock.when(wanted)
        assert clock.read(at) >= wanted
        assert clock.read(at - 2) < wanted


def test_a_job_takes_the_machines_time_and_not_the_computers() -> None:
    world = played(scenario(seconds=3600, nodes=1, training__quorum=1))
    assert version(world) > 10_000


def test_a_world_in_which_nothing_takes_time_comes_to_its_end_all_the_same() -> None:
    never = Constant(Duration(0))
    server = Server(batch=never, step=never, evaluate=never, checkpoint=never)
    at_once = replace(scenario(nodes=1, seconds=0.2), links=Links(default=LinkTerms(latency=never)), server=server)
    world = played(replace(at_once, device=Device(task=never, prepare=never, save=never)))
    assert world.now == 200 * MS
    assert 0 < version(world) < 200 * MS / LEAST_NS


def test_no_job_takes_longer_than_the_longest_duration_however_slow_the_machine() -> None:
    machine = Machine(NodeId("n0"), 0, disk_slow=1e300)
    assert machine.duration(Save(), Device(), Server()) == DURATION_MAX_NS


def test_the_camera_films_messages_with_their_fate() -> None:
    camera = Camera(6 * S)
    played(scenario(Partition(at=seconds(5), who=("n0",), lasts=lasting(5))), camera=camera)
    film = camera.film(None)
    assert {message["fate"] for message in film["messages"]} == {"arrived", "partition"}
    assert (film["from_s"], film["at_s"], film["to_s"]) == (3, 6, 6.5)
    assert all(3 <= event["t"] <= 6.5 for event in film["events"])


def test_of_too_much_the_camera_keeps_what_is_nearest_to_the_moment() -> None:
    camera = Camera(2 * S)
    for now in range(0, 4 * S, 4 * S // (10 * FILMED_MAX)):
        camera.event(now, "hub", "tick")
    film = camera.film(None)
    times = [event["t"] for event in film["events"]]
    assert len(times) == 2 * FILMED_MAX
    assert (times[0], times[-1]) == (film["from_s"], film["to_s"])
    assert film["from_s"] == pytest.approx(1.6, abs=0.001)
    assert film["to_s"] == pytest.approx(2.4, abs=0.001)


def test_every_line_of_the_trace_can_be_listened_to() -> None:
    lines: list[str] = []
    plan = plan_run(scenario(seconds=2))
    bodies, settings = bodies_of(plan)
    world = World(plan.scenario, settings, bodies, Silent())
    world.trace = Trace(lines.extend)
    world.run()
    world.trace.digest()
    assert any(line.endswith("n0 WELCOME") for line in lines)


def test_the_world_of_tokens_needs_no_torch() -> None:
    code = "import sys, sim.play, sim.scenario.drawing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tokens_are_as_large_as_the_model_says() -> None:
    plan = plan_run(scenario())
    assert isinstance(bodies_of(plan)[0], Tokens)
    assert bodies_of(plan)[0].image_shape == (1, 28, 28)


def test_a_device_that_loses_its_disk_comes_back_under_a_new_name_each_time() -> None:
    crash = Crash(at=seconds(2), who=("x-ray",), lasts=lasting(1), keep_disk=False)
    again = replace(crash, at=seconds(8))
    world = played(scenario(Join(at=seconds(1), who=("x-ray",)), crash, again, seconds=14, training__quorum=1))
    running = [name for name, machine in world.machines.items() if machine.process is not None]
    assert [name for name in running if name.startswith("x-ray")] == ["x-ray-r2"]
    assert world.machines[NodeId("x-ray")].up is world.machines[NodeId("x-ray-r2")].up


def test_a_hub_that_comes_back_only_when_all_is_over_holds_up_nobody() -> None:
    crash = HubCrash(at=seconds(2), lasts=lasting(3))
    world = played(scenario(crash, seconds=5))
    assert (world.hub.process, world.now) == (None, 5 * S)
