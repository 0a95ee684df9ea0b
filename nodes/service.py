"""One node as a process: its folder, its shard, its core and trainer, put together and carried to the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mdgan_edge import __version__
from mdgan_edge.actors import Finish, Nanos, Note
from mdgan_edge.data.images import Images
from mdgan_edge.data.shards import describe, parse_shard, take
from mdgan_edge.data.sources import load, part_for_node
from mdgan_edge.journal import Journal
from mdgan_edge.rundir import write_json
from mdgan_edge.service import FileRecorder, Service, clock, signals_drain
from mdgan_edge.settings import NodeSettings
from mdgan_edge.wire.keys import KeyPair
from mdgan_edge.wire.peers import endpoint_to_tell
from mdgan_edge.wire.transport import NodeEndpoint
from nodes.core import NodeCore
from nodes.greeting import NodeFacts
from nodes.store import NodeStore
from nodes.trainer import NodeTrainer


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the command line says beside the settings."""

    state: Path
    hub_key: str


def load_shard(settings: NodeSettings) -> Images:
    """The node's private images."""
    spec = parse_shard(settings.shard)
    images = load(settings.data, part_for_node(settings.shard), settings.shard_seed, settings.resize, settings.channels)
    return take(images, spec, settings.shard_seed)


def run_node(settings: NodeSettings, options: NodeOptions, shard: Images, tell: Callable[[Note], None]) -> Finish:
    """Until the hub says goodbye, the operator stops it, or the hub is given up."""
    torch.set_num_threads(1)
    store = NodeStore(options.state)
    node = store.node_id()
    store.lock()
    keys = store.keys()
    trainer = NodeTrainer(node, shard, store.discriminator)
    incarnation = store.next_incarnation()
    endpoint, peer_endpoint = _connect(settings, options, keys)
    facts = NodeFacts(
        node=node,
        incarnation=incarnation,
        software=f"mdgan-edge {__version__}",
        hub=settings.hub,
        public_key=keys.public,
        shard_size=len(shard),
        image_shape=shard.shape,
        labels=None if settings.withhold_labels else (shard.labels or None),
        label_max=None if shard.y is None else shard.classes - 1,
        model=settings.model,
        death_timeout_s=settings.death_timeout_s,
        peer_endpoint=peer_endpoint,
    )
    saved = trainer.saved
    now = clock()
    core = NodeCore(facts, saved.run_id if saved else None, saved.held if saved else None, now, trainer.spares)
    journal = Journal(options.state / "journal.jsonl", now / 1e9)
    recorder = FileRecorder(journal, None, tell)
    recorder.note(Note("shard", describe(shard)), now / 1e9)
    for trouble in trainer.troubles:
        recorder.note(Note("spare_lost", trouble, level="warning"), now / 1e9)
    service = Service(core, trainer, endpoint, recorder, lambda now: status_report(core, now))
    with signals_drain(service):
        finish = service.run(lambda status: write_json(store.status, status))
    journal.close()
    return finish


def _connect(settings: NodeSettings, options: NodeOptions, keys: KeyPair) -> tuple[NodeEndpoint, str | None]:
    """The sockets, and where other nodes are told to come."""
    endpoint = NodeEndpoint(settings.hub, keys, options.hub_key, peer_bind=settings.peer_bind)
    try:
        return endpoint, endpoint_to_tell(settings.peer_endpoint, endpoint.peers.endpoint)
    except BaseException:
        endpoint.close()
        raise


def status_report(core: NodeCore, _now: Nanos) -> dict[str, Any]:
    """What `mdgan-node status` shows."""
    welcome = core.welcome
    return {
        "node": core.facts.node,
        "pid": os.getpid(),
        "phase": core.phase.name.lower(),
        "hub": core.facts.hub,
        "run_id": core.run_id,
        "incarnation": core.facts.incarnation,
        "shard_size": core.facts.shard_size,
        "model": welcome.terms.model.name if welcome else None,
        "discriminator": core.held.discriminator_id if core.held else None,
        "tasks": core.held.tasks if core.held else 0,
        "swaps": dict(sorted(core.swapping.done.items())),
        "verdicts": {verdict.value: count for verdict, count in sorted(core.receipts.items())},
    }
