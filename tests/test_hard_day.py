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
from tests.shells import Shells, ended, interrupt
from tests.test_processes import HandMade, steps_of

NODES = tuple(f"n{rank}" for rank in range(8))
LATE = "late"
BACK_WITHIN_S = 15.0
SWAPS = ("--set", "training.swap=0.05", "--set", "hub.checkpoint_every=5")
RUN = ("--steps", "100000", "--nodes-min", "8", "--resume", *SWAPS)


class HardDay(HandMade):
    """Looks at all nodes at once."""

    def merged(self) -> dict[str, int]:
        nodes = self.shells.json("run/status.json").get("nodes", {})
        return {node: facts["merged"] for node, facts in nodes.items() if facts["state"] == "active"}

    def all_take_part_again(self, nodes: tuple[str, ...], than: dict[str, int]) -> None:
        """Within the promised time, each has given something beyond what it had."""
        began = time.monotonic()
        self.shells.until(
            lambda: all(self.merged().get(node, -1) > than.get(node, 0) for node in nodes), f"{nodes} to take part"
        )
        assert time.monotonic() - began <= BACK_WITHIN_S

    def start(self, node: str, rank: int) -> Any:
        return self.start_node(node, "--data", "digits", "--shard", f"iid:{rank}/9")


@pytest.mark.long
def test_after_kills_of_hub_and_nodes_training_goes_on_and_no_discriminator_is_missing(shells: Shells) -> None:
    day = HardDay(shells)
    hub = day.start_hub(*RUN)
    endpoint = shells.json("run/status.json")["endpoint"]
    for node in (*NODES, LATE):
        day.register(node)
    running = {node: day.start(node, rank) for rank, node in enumerate(NODES)}
    shells.until(lambda: set(day.merged()) == set(NODES), "all eight")
    for victim in ("n1", "n3", "n5"):
        shells.until(lambda: len(steps_of(shells.folder / "run")) > 10, "some steps")
        before = day.merged()
        shells.kill(running[victim])
        running[victim] = day.start(victim, NODES.index(victim))
        day.all_take_part_again((victim,), before)
        shells.kill(hub)
        (shells.folder / "run/status.json").unlink()
        hub = day.start_hub(*RUN, "--bind", endpoint)
        day.all_take_part_again(NODES, {})
    os.kill(running["n7"].pid, signal.SIGSTOP)
    shells.until(lambda: day.node("n7").get("state") in ("suspect", "dead"), "the stopped one to be missed")
    before = day.merged()
    os.kill(running["n7"].pid, signal.SIGCONT)
    day.all_take_part_again(("n7",), before)
    running[LATE] = day.start(LATE, 8)
    shells.until(lambda: day.merged().get(LATE, 0) > 3, "the late one to take part")
    interrupt(hub)
    assert [ended(process)[0] for process in (hub, *running.values())] == [0] * 10
    journal = list(read(shells.folder / "run/journal.jsonl"))
    assert sum(line["what"] == "swap_committed" for line in journal) > 0
    assert_versions_grow_but_for_checkpoints(shells, journal)
    assert_the_census_is_complete(shells)


def assert_versions_grow_but_for_checkpoints(shells: Shells, journal: list[dict[str, Any]]) -> None:
    """A version is made twice only if the hub went back to its checkpoint in between."""
    versions = [step["version"] for step in steps_of(shells.folder / "run")]
    falls = [later for earlier, later in itertools.pairwise(versions) if later != earlier + 1]
    resumed = [line["version"] for line in journal if line["what"] == "resumed"][1:]
    assert len(resumed) == 3
    assert falls == [version for version in resumed if version in falls]
    assert max(versions) == shells.json("run/run.json")["version"] - 1


def assert_the_census_is_complete(shells: Shells) -> None:
    """Every node has the discriminator that the hub says it owns, and no two have the same one."""
    nodes = shells.json("run/run.json")["nodes"]
    held = {}
    for node in (*NODES, LATE):
        saved = read_discriminator(shells.folder / node / "discriminator.safetensors")
        assert saved is not None
        held[node] = saved.held.discriminator_id
    assert held == {node: facts["discriminator"] for node, facts in nodes.items()}
    assert Counter(held.values()).most_common(1)[0][1] == 1
