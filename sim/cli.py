"""The command mdgan-sim: swarms on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mdgan_edge import __version__
from mdgan_edge.command import IMAGE_KEYS, Command, config_options, gather, json_option, parse_assignments, print_json
from mdgan_edge.errors import SelfCheckFailed


@click.group(cls=Command, no_args_is_help=True)
@click.version_option(__version__, prog_name="mdgan-sim")
def main() -> None:
    """Run whole swarms on this machine, and check what they compute."""


@main.command()
@click.option("--nodes", type=int, help="How many node processes [8].")
@click.option("--steps", type=int, help="Generator steps [2000].")
@click.option("--seed", type=int, help="The seed of everything random [0].")
@click.option("--data", help="The images that are dealt out: digits, npz:FILE or folder:DIR [digits].")
@click.option("--mode", type=click.Choice(["async", "sync"]), help="sync: the paper's Algorithm 1 [async].")
@click.option("--resize", type=int, help="Crop and scale every image to this many pixels [as they are].")
@click.option("--channels", type=int, help="1: make images grey, 3: make them colour [as they are].")
@click.option("--shards", help="How they are dealt out: iid, dirichlet=0.3 or labels=2 [iid].")
@click.option("--out", type=click.Path(path_type=Path), envvar="MDGAN_OUT", help="Run directory [runs/swarm-SEED].")
@click.option("--force", is_flag=True, help="Replace the run that --out holds.")
@config_options
@json_option
def swarm(
    out: Path | None, force: bool, as_json: bool, file: Path | None, assignments: tuple[str, ...], **flags: Any
) -> None:
    """Train on this machine: one hub, many nodes, each a process, over real sockets. Ctrl-C ends it cleanly."""
    keys = {"steps": "training.steps", "seed": "training.seed", "mode": "mode"} | IMAGE_KEYS
    keyed = {keys.get(key, f"swarm.{key}"): value for key, value in flags.items()}
    keyed["hub.data"] = flags["data"]
    settings, explicit = gather(file, assignments, keyed)
    from mdgan_edge.display import Display
    from sim.running import make_swarm, run_swarm

    prepared = make_swarm(settings, explicit, out, force)
    display = Display(sys.stderr if as_json else sys.stdout)
    report = run_swarm(prepared, display)
    if as_json:
        print_json(report)
    else:
        display.conclude(report, prepared.run)


@main.command()
@click.option("--nodes", type=click.IntRange(1, 64), default=4, show_default=True, help="How many nodes.")
@click.option("--steps", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Generator steps.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The seed of everything random.")
@click.option("--model", "models", multiple=True, help="Which models [mlp and cnn28].")
@click.option(
    "--world",
    "worlds",
    multiple=True,
    type=click.Choice(["memory", "permuted", "sockets"]),
    help="memory: one process; permuted: feedback arrives in another order; sockets: real processes [all].",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any key, such as training.discriminator_steps=2."
)
@json_option
def verify(
    nodes: int,
    steps: int,
    seed: int,
    models: tuple[str, ...],
    worlds: tuple[str, ...],
    assignments: tuple[str, ...],
    as_json: bool,
) -> None:
    """Hold a synchronous swarm against the paper's Algorithm 1: the weights must be equal to the last bit."""
    from sim.processes import warm_up
    from sim.verify import MODELS, WORLDS, SwarmSize
    from sim.verify import verify as run_checks

    warm_up()
    size = SwarmSize(nodes, steps, seed)
    checks = run_checks(models or MODELS, worlds or WORLDS, size, parse_assignments(assignments))
    worst = max(check.max_abs_diff for check in checks)
    if as_json:
        rows = [
            {"model": c.model, "world": c.world, "generator": c.generator, "discriminators": c.discriminators}
            for c in checks
        ]
        print_json({"max_abs_diff": worst, "nodes": nodes, "steps": steps, "seed": seed, "checks": rows})
    else:
        for check in checks:
            click.echo(f"{check.model:8} {check.world:9} largest difference {check.max_abs_diff}")
    if worst != 0.0:
        raise SelfCheckFailed(f"the swarm differs from the reference by up to {worst}: this build is not to be trusted")
