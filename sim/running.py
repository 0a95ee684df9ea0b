"""From the settings of a swarm to its end: what the command `mdgan-sim swarm` does."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from broker.service import fit_to_data
from mdgan_edge.data.shards import parse_shard, shard_text, take
from mdgan_edge.data.sources import load
from mdgan_edge.display import Display
from mdgan_edge.errors import ConfigurationError, ExitCode
from mdgan_edge.gan.models import build_discriminator
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.settings import Settings
from sim.processes import warm_up
from sim.swarm import Swarm, SwarmOptions


@dataclass(frozen=True, slots=True)
class PreparedSwarm:
    """A swarm whose settings and data are known to fit."""

    settings: Settings
    options: SwarmOptions

    @property
    def run(self) -> RunDirectory:
        return self.options.run


def make_swarm(settings: Settings, explicit: frozenset[str], out: Path | None, force: bool) -> PreparedSwarm:
    """Load the data, fit the model, check every shard; the run directory is made last, when all else is well."""
    if "hub.data" not in explicit:
        settings = replace(settings, hub=replace(settings.hub, data=settings.swarm.data))
    settings, real = fit_to_data(settings, explicit)
    images = load(
        settings.swarm.data, "train", settings.training.seed, settings.model.image_size, settings.model.channels
    )
    nodes, batch = settings.swarm.nodes, settings.training.batch_size
    for rank in range(nodes):
        shard = take(images, parse_shard(shard_text(settings.swarm.shards, rank, nodes)), settings.training.seed)
        if len(shard) < batch:
            text = f"{len(images)} images for {nodes} nodes leave one with {len(shard)}, less than a batch of {batch}"
            raise ConfigurationError(f"{text}: take fewer nodes, more data, or a smaller training.batch_size")
    if ":" in settings.model.name:  # the operator's own code: try it here, and permit it to the nodes
        build_discriminator(settings.model, seed=0)
        settings = replace(settings, node=replace(settings.node, model=settings.model.name))
    run = RunDirectory.create(out, "swarm", settings.training.seed, force)
    return PreparedSwarm(settings, SwarmOptions(run, real, images))


def run_swarm(prepared: PreparedSwarm, display: Display) -> dict[str, Any]:
    """Train to the end, showing it; returns run.json. TERM and Ctrl-C finish cleanly, a second one at once."""
    warm_up()
    swarm = Swarm(prepared.settings, prepared.options)
    stops = 0

    def stop(_number: int, _frame: object) -> None:
        nonlocal stops
        stops += 1
        swarm.stop() if stops == 1 else swarm.end()
        if stops > 1:
            raise SystemExit(ExitCode.UNEXPECTED)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    count = prepared.settings.swarm.nodes
    display.say(f"starting a hub and {count} nodes; the run directory is {prepared.run.path}")
    try:
        with display:
            swarm.start()
            return swarm.watch(display)
    finally:
        swarm.end()
