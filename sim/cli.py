"""The command mdgan-sim: swarms on this machine, and swarms in virtual time."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mdgan_edge import __version__
from mdgan_edge.cache import cache_folder
from mdgan_edge.command import IMAGE_KEYS, Command, config_options, gather, json_option, parse_assignments, print_json
from mdgan_edge.errors import SelfCheckFailed
from mdgan_edge.streams import SEED_MAX
from sim.data_cli import data as data_commands
from sim.experiments_cli import COMMANDS as EXPERIMENTS

WIDTH = 110  # of texts on a terminal


@click.group(cls=Command, no_args_is_help=True)
@click.version_option(__version__, prog_name="mdgan-sim")
def main() -> None:
    """Run whole swarms on this machine, simulate larger ones, and check what they do."""


for command in (data_commands, *EXPERIMENTS):
    main.add_command(command)


@main.command()
@click.option("--nodes", type=int, help="How many node processes [8].")
@click.option("--steps", type=int, help="Generator steps [2000].")
@click.option("--seed", type=int, help="The seed of everything random [0].")
@click.option("--data", help="The images that are dealt out: digits, idx:DIR, ..., see docs/data.md [digits].")
@click.option("--mode", type=click.Choice(["async", "sync"]), help="sync: the paper's Algorithm 1 [async].")
@click.option("--resize", type=int, help="Crop and scale every image to this many pixels [as they are].")
@click.option("--channels", type=int, help="1: make images grey, 3: make them colour [as they are].")
@click.option("--shards", help="How they are dealt out: iid, dirichlet=0.3, labels=2 or by-file [iid].")
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

    prepared = make_swarm(settings, explicit, out, force, cache_folder(os.environ))
    display = Display(sys.stderr if as_json else sys.stdout)
    report = run_swarm(prepared, display)
    if as_json:
        print_json(report)
    else:
        display.conclude(report, prepared.run)


@main.command()
@click.option("--nodes", type=click.IntRange(1, 64), default=4, show_default=True, help="How many nodes.")
@click.option("--steps", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Generator steps.")
@click.option(
    "--seed", type=click.IntRange(0, SEED_MAX), default=0, show_default=True, help="The seed of everything random."
)
@click.option("--model", "models", multiple=True, help="Which models [mlp and cnn28; cnn28 with swaps too].")
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
    from sim.verify import WORLDS, SwarmSize
    from sim.verify import verify as run_checks

    warm_up()
    size = SwarmSize(nodes, steps, seed)
    checks = run_checks(models, worlds or WORLDS, size, parse_assignments(assignments))
    worst = max(check.max_abs_diff for check in checks)
    if as_json:
        rows = [
            {
                "model": c.model,
                "world": c.world,
                "swaps": c.swaps,
                "generator": c.generator,
                "discriminators": c.discriminators,
            }
            for c in checks
        ]
        print_json({"max_abs_diff": worst, "nodes": nodes, "steps": steps, "seed": seed, "checks": rows})
    else:
        for c in checks:
            click.echo(f"{c.model:8} {c.world:9} {c.swaps:3} swaps, largest difference {c.max_abs_diff}")
    if worst != 0.0:
        raise SelfCheckFailed(f"the swarm differs from the reference by up to {worst}: this build is not to be trusted")


@main.command()
@click.argument("scenario")
@click.option("--world", type=click.Choice(["virtual"]), default="virtual", help="Virtual time, one process [virtual].")
@click.option("--fidelity", type=click.Choice(["tokens", "toy", "full"]), help="What trains [as the scenario says].")
@click.option(
    "--method",
    type=click.Choice(["mdgan", "flgan", "standalone"]),
    help="What is trained: MD-GAN or a baseline [as the scenario says].",
)
@click.option(
    "--mode", type=click.Choice(["async", "sync"]), help="sync: the paper's Algorithm 1 [as the scenario says]."
)
@click.option(
    "--seed", type=click.IntRange(0, SEED_MAX), help="The seed of everything that happens [as the scenario says]."
)
@click.option("--out", type=click.Path(path_type=Path), envvar="MDGAN_OUT", help="Run directory [runs/SCENARIO-SEED].")
@click.option("--force", is_flag=True, help="Replace the run that --out holds.")
@click.option(
    "--look-at", metavar="TIME", help="Draw the messages around this time, such as 12.5s [the first violation]."
)
@click.option(
    "--check-determinism", is_flag=True, help="Only play it twice in fresh processes and compare every event."
)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any key of docs/configuration.md.")
@json_option
def run(
    scenario: str,
    world: str,  # noqa: ARG001  (there is one so far)
    out: Path | None,
    force: bool,
    look_at: str | None,
    check_determinism: bool,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Play SCENARIO, a name of `mdgan-sim scenarios` or a file, in virtual time, and check that all invariants hold.

    TERM or Ctrl-C ends the run early and cleanly.
    """
    from sim import running_world as running

    asked = running.Wanted(scenario, **wanted)
    if check_determinism:
        _refuse_beside("--check-determinism", {"out": "--out", "force": "--force", "look_at": "--look-at"})
        from sim.determinism import check_determinism as check

        digest = check(asked.plan().scenario)
        print_json({"digest": digest, "equal": True}) if as_json else click.echo(f"both runs have digest {digest}")
        return
    found, folder = running.run_scenario(asked, out, force, running.look_time(look_at))
    if as_json:
        print_json(found)
    else:
        for line in running.summary_lines(found, folder):
            click.echo(line)
    running.refuse_if_failed(found)


def _refuse_beside(flag: str, others: Mapping[str, str]) -> None:
    """Refuse options that mean nothing beside a flag, if somebody wrote them."""
    context = click.get_current_context()
    written = [
        said for name, said in others.items() if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if written:
        raise click.UsageError(
            f"{flag} only compares two runs and leaves nothing behind: leave out {', '.join(written)}"
        )


@main.command()
@json_option
def scenarios(as_json: bool) -> None:
    """Show the named scenarios and what each is for."""
    from sim.scenario.reading import find_scenario, shipped

    found = [find_scenario(name) for name in shipped()]
    if as_json:
        print_json({one.name: one.about.strip() for one in found})
        return
    for one in found:
        click.echo(
            f"{one.name}\n{textwrap.indent(textwrap.fill(one.about.strip(), WIDTH, break_on_hyphens=False), '    ')}"
        )


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def shrink(folder: Path, as_json: bool) -> None:
    """Make a failing RUN small: fewer faults, nodes and seconds that fail the same way, as repro.toml beside it.

    TERM or Ctrl-C ends the search; the smallest found by then is written.
    """
    from sim.running_shrink import shrink_run

    found = shrink_run(folder, (lambda _: None) if as_json else click.echo)
    invariant, at_s, faults = found.failure.invariant, found.failure.at / 1e9, len(found.scenario.fault)
    if as_json:
        said = {"repro": str(found.repro), "invariant": invariant, "at_s": at_s, "faults": faults, "runs": found.runs}
        print_json(said | {"ended_early": found.early, "replay": found.again})
        return
    if found.early is not None:
        click.echo(found.early)
    click.echo(f"{invariant} is violated at {at_s:.6f} s with {faults} fault(s), {found.scenario.nodes} node(s)")
    click.echo(f"again: {found.again}")


@main.group(cls=Command)
def bench() -> None:
    """Measure how fast things are here."""


@bench.command(name="world")
@click.option(
    "--nodes", "sizes", type=click.IntRange(1, 100_000), multiple=True, help="How many nodes [100 1000 10000]."
)
@click.option("--events", type=click.IntRange(1000), default=300_000, show_default=True, help="Events per run.")
@click.option("--repeat", type=click.IntRange(1, 99), default=3, show_default=True, help="Runs per size, in turn.")
@json_option
def bench_world(sizes: tuple[int, ...], events: int, repeat: int, as_json: bool) -> None:
    """Events per CPU second and memory of the virtual world, plain and with all invariants looked at."""
    from sim.bench import bench_world as measure

    rows = measure(sizes or (100, 1000, 10_000), events, repeat, lambda line: click.echo(line, err=True))
    if as_json:
        print_json({"rows": rows})
        return
    for row in rows:
        kind = "checked" if row["checked"] else "plain"
        rate, low, high = row["events_per_cpu_s"], row["lowest"], row["highest"]
        spread = f"{low:,.0f} to {high:,.0f} in {row['runs']} runs"
        click.echo(f"{row['nodes']:>7} nodes  {kind:7}  {rate:>9,.0f} events/CPU s ({spread})  {row['peak_mb']:.0f} MB")
