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

OWN_TO_A_SWARM = frozenset({"hub.bind", "hub.nodes_min", "node.hub", "node.data", "node.shard", "node.model"})


@dataclass(frozen=True, slots=True)
class PreparedSwarm:
    """A swarm whose settings and data are known to fit. `ignored`: what was set and means nothing to a swarm."""

    settings: Settings
    options: SwarmOptions
    ignored: tuple[str, ...]

    @property
    def run(self) -> RunDirectory:
        return self.options.run


def make_swarm(
    settings: Settings, explicit: frozenset[str], out: Path | None, force: bool, cache: Path | None = None
) -> PreparedSwarm:
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
    if ":" in settings.model.name:  # the operator's own code: try it before anything is started
        build_discriminator(settings.model, seed=0)
    run = RunDirectory.create(out, "swarm", settings.training.seed, force)
    return PreparedSwarm(settings, SwarmOptions(run, real, images, cache), tuple(sorted(explicit & OWN_TO_A_SWARM)))


def run_swarm(prepared: PreparedSwarm, display: Display) -> dict[str, Any]:
    """Train to the end, showing it; returns run.json. TERM and Ctrl-C finish cleanly, a second one at once."""
    warm_up()
    swarm = Swarm(prepared.settings, prepared.options)
    stops = 0

    def stop(_number: int, _frame: object) -> None:
        nonlocal stops
        stops += 1
        if stops > 1 or not swarm.endpoint:  # twice, or before anything was learned
            raise SystemExit(ExitCode.UNEXPECTED)
        swarm.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    count = prepared.settings.swarm.nodes
    display.say(f"starting a hub and {count} nodes; the run directory is {prepared.run.path}")
    if prepared.ignored:
        display.say(f"a swarm decides these itself, what was set is not used: {', '.join(prepared.ignored)}")
    try:
        with display:
            swarm.start()
            return swarm.watch(display)
    finally:
        swarm.end()
