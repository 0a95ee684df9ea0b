"""The hub as a process: its folder, its generator, its core and trainer, put together and carried to the end."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from msgspec.structs import replace

from broker import shelf
from broker.checkpoint_files import SavedCheckpoint, newest_checkpoint, write_checkpoint
from broker.core import HubCore
from broker.greeting import START, RunFacts
from broker.report import run_report, status_report
from broker.scoring import HubScoring, NoScores, Real, scored
from broker.store import HubStore
from broker.swaps import SwapCounts
from broker.trainer import HubTrainer
from mdgan_edge.actors import Finish, Note, RegisterChanged
from mdgan_edge.config import dump_toml
from mdgan_edge.data.sources import load
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.models import architecture, build_discriminator, resolve
from mdgan_edge.journal import Journal
from mdgan_edge.messages import NodeId
from mdgan_edge.rundir import RunDirectory, write_atomic, write_json
from mdgan_edge.service import FileRecorder, Service, Status, clock, signals_drain
from mdgan_edge.settings import Settings
from mdgan_edge.wire.endpoint import Counts
from mdgan_edge.wire.transport import HubEndpoint

PARTS: tuple[Literal["train"], Literal["test"]] = ("train", "test")


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What the command line says beside the settings."""

    state: Path
    make_run: Callable[[], RunDirectory]  # called when all that can be wrong before is right
    name: str
    resume: bool = False  # go on from the run's last checkpoint, if it has one
    cache: Path | None = None  # what may be kept from one run to the next, such as the classifier


def fit_to_data(settings: Settings, explicit: frozenset[str]) -> tuple[Settings, Real | None]:
    """The hub's real images, if it has any, and the settings with a model that fits them.

    Image size, channels and classes that the operator did not set are taken from the images; those that were set are
    what the images are brought to.
    """
    if settings.hub.data == "none":
        return replace(settings, model=resolve(settings.model)), None
    size = settings.model.image_size if "model.image_size" in explicit else None
    channels = settings.model.channels if "model.channels" in explicit else None
    seed = settings.training.seed
    train, test = (load(settings.hub.data, part, seed, size, channels) for part in PARTS)
    found = {"image_size": train.shape[1], "channels": train.shape[0], "classes": train.classes}
    changes = {key: value for key, value in found.items() if f"model.{key}" not in explicit}
    return replace(settings, model=resolve(replace(settings.model, **changes))), (train, test)


def run_hub(
    settings: Settings,
    options: HubOptions,
    real: Real | None,
    tell: Callable[[Note], None],
    show: Callable[[Status], None] = lambda _: None,
) -> tuple[Finish, dict[str, Any], RunDirectory]:
    """Until all steps are taken or the operator stops it. Returns how it ended, what run.json says, and where it is."""
    torch.set_num_threads(1)
    with scored(settings, real, options.cache) as scoring:  # before there is a lock, thread or socket to share with it
        return _run(settings, options, scoring, tell, show)


def _run(
    settings: Settings,
    options: HubOptions,
    scoring: HubScoring,
    tell: Callable[[Note], None],
    show: Callable[[Status], None],
) -> tuple[Finish, dict[str, Any], RunDirectory]:
    started = time.monotonic()
    store = HubStore(options.state)
    keys = store.keys()
    store.lock()
    HubEndpoint(settings.hub.bind, keys, store.lookup).close()  # a port in use is to be known before anything is made
    run = options.make_run()
    lock = run.lock()
    now = clock()
    journal, metrics = (Journal(path, now / 1e9) for path in (run.journal, run.metrics))
    recorder = FileRecorder(journal, metrics, tell)
    saved = _resumed(settings, run, recorder) if options.resume else None
    write_atomic(run.config, dump_toml(settings).encode())
    if isinstance(scoring, NoScores):
        recorder.note(Note("no_scores", scoring.reason, level=scoring.level), clock() / 1e9)
    endpoint = HubEndpoint(settings.hub.bind, keys, store.lookup)
    facts = _facts(settings, options, store, saved, run, recorder)
    core = HubCore(settings, facts, clock())
    trainer = HubTrainer(settings, run, scoring, saved, run.checkpoints, run.orphans)
    status = partial(_status, core, endpoint)
    persist = partial(store.remember, facts.run_id)
    service = Service(core, trainer, endpoint, recorder, status, persist=persist)
    watch = _RegisterWatch(store, service)
    why = f"at {endpoint.endpoint}; nodes want --hub-key '{keys.public}'"
    listening = Note("listening", why, {"endpoint": endpoint.endpoint, "public_key": keys.public})
    recorder.note(listening, clock() / 1e9)

    def meanwhile(status: Status) -> None:
        watch.look()
        write_json(run.status, status)
        show(status)

    try:
        if saved is None:  # the run has its name on disk before any node hears it
            write_checkpoint(run.checkpoints, trainer.state, facts.run_id)
        with signals_drain(service):
            finish = service.run(meanwhile)
    finally:
        report = {
            **run_report(core),
            "run_id": facts.run_id,
            "wall_s": time.monotonic() - started,
            "bytes": byte_report(endpoint.counts, core.swaps.counts),
            "undelivered": undelivered_report(endpoint.counts),
            "noise_fid": scoring.facts.noise_fid,
            "classifier_accuracy": scoring.facts.accuracy,
        }
        write_json(run.run_json, report)
        journal.close()
        metrics.close()
        lock.release()
    return finish, report, run


def _facts(
    settings: Settings,
    options: HubOptions,
    store: HubStore,
    saved: SavedCheckpoint | None,
    run: RunDirectory,
    recorder: FileRecorder,
) -> RunFacts:
    run_id = saved.run_id if saved else f"{options.name}-{secrets.token_hex(4)}"
    record = store.recall(run_id)

    def told(trouble: str) -> None:
        recorder.note(Note("orphan_lost", trouble, level="warning"), clock() / 1e9)

    return RunFacts(
        run_id=run_id,
        epoch=store.next_epoch(),
        architecture=architecture(build_discriminator(settings.model, seed=0)),
        image_shape=(settings.model.channels, settings.model.image_size, settings.model.image_size),
        version=saved.version if saved else START,
        owners=record.owners,
        issued=record.issued,
        norms=saved.norms if saved else (),
        shelf=shelf.listed(run.orphans, run_id, told),
        keys={line.node: line.public_key for line in store.list()},
    )


def _resumed(settings: Settings, run: RunDirectory, recorder: FileRecorder) -> SavedCheckpoint | None:
    """What to go on from. Raises ConfigurationError if that was trained as something else."""

    def told(trouble: str) -> None:
        recorder.note(Note("checkpoint_lost", trouble, level="warning"), clock() / 1e9)

    saved = newest_checkpoint(run.checkpoints, told)
    if saved is None:
        recorder.note(Note("resumed", "there is no checkpoint: as a new run", {"version": 0}), clock() / 1e9)
        return None
    if saved.model != settings.model:
        text = f"{run.path} trained the model {saved.model}, the settings say {settings.model}"
        raise ConfigurationError(f"{text}: give the settings of {run.config}, or another --out")
    recorder.note(Note("resumed", "from a checkpoint", {"version": saved.version}), clock() / 1e9)
    return saved


def byte_report(counts: Counts, swaps: SwapCounts) -> dict[str, int]:
    """Bytes as given to ZeroMQ, before encryption.

    `swaps`: copies of discriminators, as the hub got and sent those it relayed, and as nodes say they got them from
    each other.
    """
    relayed = counts.bytes_received["Copy"] + counts.bytes_sent["Copy"]
    return {
        "hub_sent": sum(counts.bytes_sent.values()),
        "hub_received": sum(counts.bytes_received.values()),
        "tasks": counts.bytes_sent["Task"],
        "feedback": counts.bytes_received["Feedback"],
        "swaps": relayed + swaps.direct_bytes,
    }


def undelivered_report(counts: Counts) -> dict[str, int]:
    """Messages that never arrived, as far as this end can tell."""
    return {
        "dropped": sum(counts.dropped.values()),
        "unroutable": counts.unroutable,
        "idle_transfers": counts.idle_transfers,
    }


def _status(core: HubCore, endpoint: HubEndpoint, now: Any) -> dict[str, Any]:
    return {
        **status_report(core, now),
        "pid": os.getpid(),
        "endpoint": endpoint.endpoint,
        "bytes": byte_report(endpoint.counts, core.swaps.counts),
    }


class _RegisterWatch:
    """Tells the core when the operator has changed the register.

    A connection outlives the key it was admitted with. So a name whose key is removed or replaced while the hub runs
    stays shut out until the hub starts again: else the old device would still be taken for the new one.
    """

    def __init__(self, store: HubStore, service: Service) -> None:
        self._store, self._service = store, service
        self._last = RegisterChanged()
        self._keys: dict[NodeId, str] = {}  # as first seen

    def look(self) -> None:
        lines = self._store.list()
        keys = {line.node: line.public_key for line in lines}
        self._keys = {**keys, **self._keys}
        outdated = {node for node, key in self._keys.items() if keys.get(node) != key}
        revoked = {line.node for line in lines if line.wish == "revoked"}
        drained = {line.node for line in lines if line.wish == "drain"}
        changed = RegisterChanged(frozenset(revoked | outdated), frozenset(drained), dict(self._keys))
        if changed != self._last:
            self._last = changed
            self._service.post(changed)
