"""Swaps between real processes over loopback: from node to node, and through the hub where no call comes through."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.journal import read
from mdgan_edge.messages import ModelSettings
from mdgan_edge.settings import HubSettings, Settings, SwarmSettings, TrainingSettings
from sim.processes import warm_up
from sim.running import make_swarm
from sim.swarm import Swarm, node_name

pytestmark = pytest.mark.xdist_group("swarms")

NODES = 3
TOO_MANY_STEPS = 1_000_000
PATIENCE_S = 90.0
NOBODY_LISTENS = "tcp://127.0.0.1:1"  # where the last node says it is
SETTINGS = Settings(
    model=ModelSettings(name="mlp"),
    training=TrainingSettings(steps=TOO_MANY_STEPS, swap=0.05),
    hub=HubSettings(data="none"),
    swarm=SwarmSettings(nodes=NODES),
)


class Spectator:
    """Stops the swarm once it has seen both ways, or after a long while."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm, self._until = swarm, time.monotonic() + PATIENCE_S
        self._stopped = False

    def show(self, _status: object) -> None:
        notes = list(notes_of_nodes(self._swarm.run.path))
        seen = any(map(directly, notes)) and any(map(after_a_call_in_vain, notes))
        if not self._stopped and (seen or time.monotonic() > self._until):
            self._stopped = True
            self._swarm.stop()

    def tell(self, _note: object) -> None:
        pass


def notes_of_nodes(out: Path) -> Iterator[list[dict[str, Any]]]:
    """Of each node, what its journal says of calls and swaps."""
    for file in sorted((out / "state/nodes").glob("*/journal.jsonl")):
        yield [note for note in read(file) if note["what"] in ("peer_silent", "swapped")]


def directly(notes: list[dict[str, Any]]) -> bool:
    return any(note["what"] == "swapped" and note["direct"] for note in notes)


def after_a_call_in_vain(notes: list[dict[str, Any]]) -> bool:
    """A swap with the node that was called in vain went through the hub."""
    for silent, done in pairwise(notes):
        if (silent["what"], done["what"]) == ("peer_silent", "swapped") and silent["node"] == done["from"]:
            return not done["direct"]
    return False


def swapped(out: Path) -> dict[str, Any]:
    """run.json of a swarm in which nobody reaches the last node, though it says where it is."""
    prepared = make_swarm(SETTINGS, frozenset({"hub.data", "model.name"}), out, force=False)
    warm_up()
    swarm = Swarm(prepared.settings, prepared.options)
    try:
        swarm.start_hub()
        for rank in range(NODES):
            shard = take(prepared.options.images, parse_shard(shard_text("iid", rank, NODES)), 0)
            told = NOBODY_LISTENS if rank == NODES - 1 else ""
            swarm.start_node(node_name(rank, NODES), shard, told)
        swarm.watch(Spectator(swarm))  # type: ignore[arg-type]
    finally:
        swarm.end()
    report: dict[str, Any] = json.loads((out / "run.json").read_text())
    return report


def test_nodes_swap_directly_and_through_the_hub_with_one_that_nobody_reaches(tmp_path: Path) -> None:
    report = swapped(tmp_path / "run")
    swaps = report["swaps"]
    assert swaps["direct"] > 0
    assert swaps["relayed"] > 0
    assert swaps["committed"] == swaps["direct"] + swaps["relayed"]
    assert report["malformed_messages"] == {}
    copies = report["bytes"]["swaps"] / (2 * swaps["direct"] + 4 * swaps["relayed"])
    assert copies > 1_000_000, "a copy of these networks with Adam's moments has megabytes"
    notes = list(notes_of_nodes(tmp_path / "run"))
    assert any(map(directly, notes))
    assert any(map(after_a_call_in_vain, notes))
    assert {note["node"] for own in notes for note in own if note["what"] == "peer_silent"} == {"node-2"}
    owned = [node["discriminator"] for node in report["nodes"].values()]
    assert len(set(owned)) == NODES
