"""A whole swarm on this machine: one hub and many nodes, each a process, over real sockets on loopback.

The parent only starts, watches and ends them; it talks to the hub through the files of the run directory.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from broker.scoring import Real
from broker.service import HubOptions, run_hub
from broker.store import HubStore
from mdgan_edge.actors import Note
from mdgan_edge.command import tell
from mdgan_edge.data.images import Images
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.display import Display
from mdgan_edge.errors import ExitCode, Failed
from mdgan_edge.messages import NodeId
from mdgan_edge.rundir import RunDirectory, write_json
from mdgan_edge.settings import Settings
from nodes.service import NodeOptions, run_node
from nodes.store import NodeStore
from sim.processes import Child

LOOPBACK = "tcp://127.0.0.1:*"
HUB_START_MAX_S = 120.0
NODES_END_MAX_S = 15.0  # after the hub has ended
LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class SwarmOptions:
    """What a swarm is made of, beside the settings."""

    run: RunDirectory
    real: Real | None  # what the hub scores against
    images: Images  # what is dealt out to the nodes
    cache: Path | None = None  # see HubOptions


class Swarm:
    """Hub and nodes as child processes. `start`, then `watch` until it returns; `end` in any case."""

    def __init__(self, settings: Settings, options: SwarmOptions) -> None:
        hub = replace(settings.hub, bind=LOOPBACK, nodes_min=settings.swarm.nodes)
        node = replace(settings.node, model=settings.model.name)  # the operator's own code is permitted to the nodes
        training = settings.training
        if (training.swap != "off" or training.newcomer == "copy") and not node.peer_bind:
            node = replace(node, peer_bind=LOOPBACK)
        self.settings = replace(settings, hub=hub, node=node)
        self.run = options.run
        self.nodes: dict[NodeId, Child] = {}
        self.hub: Child | None = None
        self.endpoint = ""
        self._options = options
        for folder in (self.run.logs, self.run.state, self.run.state / "nodes"):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._hub_store, self._hub_keys = HubStore.create(self.state / "hub")
        self._forlorn: Failed | None = None  # no node was left
        self._journal_read = 0

    @property
    def state(self) -> Path:
        """Where hub and nodes keep their keys and discriminators."""
        return self.run.state

    def start(self) -> None:
        """Start the hub, wait until it listens, start the nodes."""
        self.start_hub()
        count = self.settings.swarm.nodes
        for rank in range(count):
            spec = parse_shard(shard_text(self.settings.swarm.shards, rank, count))
            self.start_node(node_name(rank, count), take(self._options.images, spec, self.settings.training.seed))

    def start_hub(self) -> None:
        """Start the hub and wait until it listens."""
        reading, writing = os.pipe()
        options = HubOptions(self.state / "hub", lambda: self.run, "swarm", cache=self._options.cache)

        def announce(note: Note) -> None:
            tell(note)
            if note.what == "listening":
                os.write(writing, str(note.facts["endpoint"]).encode() + b"\n")
                os.close(writing)

        work = lambda: _report(run_hub(self.settings, options, self._options.real, announce)[0])  # noqa: E731
        self.hub = Child("hub", work, self.run.logs / "hub.log")
        os.close(writing)
        try:
            ready, _, _ = select.select([reading], [], [], HUB_START_MAX_S)
            self.endpoint = os.read(reading, 256).decode().strip() if ready else ""
        finally:
            os.close(reading)
        if not self.endpoint:
            raise self._hub_failed("the hub did not start")

    def start_node(self, node: NodeId, shard: Images, peer_endpoint: str = "") -> Child:
        """Start a node of this name, new or come back. `peer_endpoint`: where others are told to reach it."""
        store = NodeStore(self.state / "nodes" / node)
        if not store.exists:
            store = NodeStore.create(store.folder, node)
        self._hub_store.add(node, store.keys().public)
        settings = replace(self.settings.node, hub=self.endpoint)
        if peer_endpoint:
            settings = replace(settings, peer_endpoint=peer_endpoint)
        options = NodeOptions(store.folder, self._hub_keys.public)
        self.nodes[node] = Child(
            node, lambda: _report(run_node(settings, options, shard, tell)), self.run.logs / f"{node}.log"
        )
        return self.nodes[node]

    def watch(self, display: Display | None) -> dict[str, Any]:
        """Until the hub has ended; shows its status and what is new in its journal. Returns run.json.

        Raises Failed if the hub ended badly or no node is left to train with.
        """
        assert self.hub is not None
        while self.hub.exit_code is None:
            self._check_nodes()
            self._show(display)
            time.sleep(LOOK_EVERY_S)
        if self.hub.exit_code == 0:
            self._wait_for_nodes()
        self._show(display)
        if self._forlorn is not None:
            raise self._forlorn
        return self._result()

    def stop(self) -> None:
        """Ask the hub to finish; the nodes go with it."""
        if self.hub is not None:
            self.hub.signal(signal.SIGTERM)

    def end(self) -> None:
        """End every process that still runs."""
        for child in [*self.nodes.values(), *([self.hub] if self.hub else [])]:
            child.signal(signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """The hub's last status; empty while there is none."""
        try:
            status: dict[str, Any] = json.loads(self.run.status.read_text())
        except (OSError, ValueError):
            return {}
        return status

    def news(self) -> list[Note]:
        """The notes in the hub's journal since the last call."""
        try:
            with self.run.journal.open("rb") as file:
                file.seek(self._journal_read)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return []
        self._journal_read += len(whole) + 1 if whole else 0
        return [_note(json.loads(line)) for line in whole.splitlines()]

    def _show(self, display: Display | None) -> None:
        if display is not None:
            for note in self.news():
                display.tell(note)
            display.show(self.status())

    # --- inside ---------------------------------------------------------------------------------------------------

    def _check_nodes(self) -> None:
        """If every node has ended and the hub still waits for nodes, it waits in vain: it is to finish."""
        ended = all(child.exit_code is not None for child in self.nodes.values())
        if not ended or self._forlorn is not None or not self._hub_waits_for_nodes():
            return
        children = sorted(self.nodes.values(), key=lambda child: child.exit_code == 0)  # one that failed says more
        code = children[0].exit_code if children[0].exit_code in set(ExitCode) else ExitCode.UNEXPECTED
        said = f"{children[0].name} said last: {children[0].last_words()} ({children[0].log})"
        text = f"no node is left to train with; {said}"
        self._forlorn = Failed(ExitCode(code or ExitCode.UNEXPECTED), text)
        self.stop()

    def _hub_waits_for_nodes(self) -> bool:
        status = self.status()
        active = any(node["state"] == "active" for node in status.get("nodes", {}).values())
        return status.get("phase") in ("waiting", "training") and not active

    def _wait_for_nodes(self) -> None:
        until = time.monotonic() + NODES_END_MAX_S
        while any(child.exit_code is None for child in self.nodes.values()) and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S / 4)

    def _result(self) -> dict[str, Any]:
        assert self.hub is not None
        if self.hub.exit_code != 0:
            if not self.run.run_json.exists():  # it died without a word: its last status has to speak for it
                write_json(self.run.run_json, {**self.status(), "outcome": "failed"})
            raise self._hub_failed("the hub failed")
        report: dict[str, Any] = json.loads(self.run.run_json.read_text())
        return report

    def _hub_failed(self, what: str) -> Failed:
        assert self.hub is not None
        code = self.hub.exit_code
        known = code if code in set(ExitCode) and code else ExitCode.UNEXPECTED
        why = self.hub.last_words() if code is None or code >= 0 else f"ended by {signal.Signals(-code).name}"
        return Failed(ExitCode(known), f"{what}: {why} ({self.hub.log})")


def node_name(rank: int, count: int) -> NodeId:
    """node-0 .. node-7, with as many digits as keep name order equal to rank order."""
    return NodeId(f"node-{rank:0{len(str(count - 1))}d}")


def _report(finish: Any) -> int:
    if finish.exit_code is not ExitCode.OK:
        print(f"Error: {finish.text}", flush=True)
    return int(finish.exit_code)


def _note(line: Mapping[str, Any]) -> Note:
    facts = {key: value for key, value in line.items() if key not in ("t", "at", "level", "what", "why")}
    return Note(line["what"], line["why"], facts, line["level"])
