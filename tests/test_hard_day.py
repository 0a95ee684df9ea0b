"""A hard day of eight real nodes and their hub: what may be killed is killed, and in the end nothing is missing."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from typing import Any

import pytest

from mdgan_edge.journal import read
from nodes.saved import read_discriminator
from tests.shells import Shells, ended
from tests.test_processes import HandMade, steps_of

NODES = tuple(f"n{rank}" for rank in range(8))
LATE = "late"
BACK_WITHIN_S = 15.0
LAST_MINUTE_S = 60.0
RUN = ("--nodes-min", "8", "--resume", "--set", "training.swap=0.05")
ENDLESS = ("--steps", "100000")


class HardDay(HandMade):
    """Looks at all nodes at once."""

    def __init__(self, shells: Shells) -> None:
        super().__init__(shells)
        self.took_s: list[tuple[str, float]] = []

    def merged(self) -> dict[str, int]:
        nodes = self.shells.json("run/status.json").get("nodes", {})
        return {node: facts["merged"] for node, facts in nodes.items() if facts["state"] == "active"}

    def start_again(self, node: str, rank: int) -> tuple[Any, dict[str, int]]:
        """Until the hub has met the new process; what had been merged of it by then."""
        was = self.node(node)["incarnation"]
        process = self.start(node, rank)
        self.shells.until(lambda: self.node(node).get("incarnation", 0) > was, f"{node} to come back")
        return process, {node: self.node(node)["merged"]}

    def all_take_part_again(self, after: str, nodes: tuple[str, ...], than: dict[str, int], began: float) -> None:
        """Within the promised time from `began` on, each has given something beyond what it had."""
        self.shells.until(
            lambda: all(self.merged().get(node, -1) > than.get(node, 0) for node in nodes), f"{nodes} to take part"
        )
        took = time.monotonic() - began
        self.took_s.append((after, round(took, 1)))
        assert took <= BACK_WITHIN_S

    def owned(self) -> set[str]:
        """The discriminators that somebody owns."""
        return {facts["discriminator"] for facts in self.shells.json("run/status.json")["nodes"].values()}

    def version(self) -> int:
        return int(self.shells.json("run/status.json")["version"])

    def steps_to_go(self, seconds: float, looked_at_s: float = 5.0) -> int:
        """About so many versions are made in this time."""
        before, began = self.version(), time.monotonic()
        self.shells.until(lambda: time.monotonic() - began >= looked_at_s, "time to pass")
        return round((self.version() - before) / looked_at_s * seconds)

    def start(self, node: str, rank: int) -> Any:
        return self.start_node(node, "--data", "digits", "--shard", f"iid:{rank}/9")


@pytest.mark.long
def test_after_kills_of_hub_and_nodes_training_goes_on_and_no_discriminator_is_missing(shells: Shells) -> None:
    day = HardDay(shells)
    hub = day.start_hub(*RUN, *ENDLESS)
    again = ("--bind", shells.json("run/status.json")["endpoint"])
    for node in (*NODES, LATE):
        day.register(node)
    running = {node: day.start(node, rank) for rank, node in enumerate(NODES)}
    shells.until(lambda: set(day.merged()) == set(NODES), "all eight")
    eight = day.owned()
    for victim in ("n1", "n3"):
        shells.until(lambda: len(steps_of(shells.folder / "run")) > 10, "some steps")
        shells.kill(running[victim])
        began = time.monotonic()
        running[victim], before = day.start_again(victim, NODES.index(victim))
        day.all_take_part_again(f"{victim} killed", (victim,), before, began)
        shells.kill(hub)
        (shells.folder / "run/status.json").unlink()
        began = time.monotonic()
        hub = day.start_hub(*RUN, *ENDLESS, *again)
        day.all_take_part_again("hub killed", NODES, {}, began)
    os.kill(running["n7"].pid, signal.SIGSTOP)
    shells.until(lambda: day.node("n7").get("state") in ("suspect", "dead"), "the stopped one to be missed")
    before = {"n7": day.node("n7")["merged"]}
    os.kill(running["n7"].pid, signal.SIGCONT)
    day.all_take_part_again("n7 stopped and continued", ("n7",), before, time.monotonic())
    last = day.version() + day.steps_to_go(LAST_MINUTE_S)
    shells.kill(hub)
    (shells.folder / "run/status.json").unlink()
    began = time.monotonic()
    hub = day.start_hub(*RUN, "--steps", str(last), *again)
    running[LATE] = day.start(LATE, 8)
    day.all_take_part_again("hub killed", NODES, {}, began)
    shells.until(lambda: day.merged().get(LATE, 0) > 3, "the late one to take part")
    assert [ended(process)[0] for process in (hub, *running.values())] == [0] * 10
    assert (shells.json("run/run.json")["outcome"], shells.json("run/run.json")["version"]) == ("completed", last)
    journal = list(read(shells.folder / "run/journal.jsonl"))
    assert sum(line["what"] == "swap_committed" for line in journal) > 0
    assert_versions_grow_but_for_checkpoints(shells, journal)
    assert_the_census_is_complete(shells, eight)
    print(f"s until all were back: {day.took_s}")  # shown by pytest -rP


def assert_versions_grow_but_for_checkpoints(shells: Shells, journal: list[dict[str, Any]]) -> None:
    """A version is made twice only if the hub went back to its checkpoint in between."""
    versions = [step["version"] for step in steps_of(shells.folder / "run")]
    falls = [later for earlier, later in itertools.pairwise(versions) if later != earlier + 1]
    resumed = [line["version"] for line in journal if line["what"] == "resumed"][1:]
    assert len(resumed) == 3
    assert falls == [version for version in resumed if version in falls]
    assert max(versions) == shells.json("run/run.json")["version"] - 1


def assert_the_census_is_complete(shells: Shells, since_the_start: set[str]) -> None:
    """Every node has the one that the hub says it owns, no two the same, and those of the start are all there."""
    nodes = shells.json("run/run.json")["nodes"]
    held = {}
    for node in (*NODES, LATE):
        saved = read_discriminator(shells.folder / node / "discriminator.safetensors")
        assert saved is not None
        held[node] = saved.held.discriminator_id
    assert held == {node: facts["discriminator"] for node, facts in nodes.items()}
    assert Counter(held.values()).most_common(1)[0][1] == 1
    assert len(since_the_start) == len(NODES)
    assert since_the_start <= set(held.values())
