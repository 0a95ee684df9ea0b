"""The commands of `mdgan-sim` that hold methods, modes and settings against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdgan_edge.command import json_option, parse_assignments, print_json


@click.command()
@click.option("--model", default="mlp", show_default=True, help="mlp, cnn28, cnn32, cnn or auto.")
@click.option("--image-size", type=click.IntRange(8, 64), default=28, show_default=True, help="Height and width.")
@click.option("--channels", type=click.Choice(["1", "3"]), default="1", show_default=True, help="1: grey, 3: colour.")
@click.option("--classes", type=click.IntRange(0, 1000), default=10, show_default=True, help="0: unconditional.")
@click.option("--nodes", type=click.IntRange(1, 64), default=10, show_default=True, help="N.")
@click.option("--batch", type=click.IntRange(2, 512), default=10, show_default=True, help="b: images per batch.")
@click.option("--samples", type=click.IntRange(1), default=6000, show_default=True, help="m: images of a node.")
@click.option("--iterations", type=click.IntRange(1), default=50_000, show_default=True, help="I: generator updates.")
@click.option("--discriminator-steps", type=click.IntRange(1, 100), default=1, show_default=True, help="L.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="E.")
@click.option("--no-processes", is_flag=True, help="Measure no seconds and no memory, which takes fresh processes.")
@json_option
def cost(as_json: bool, no_processes: bool, **asked: Any) -> None:
    """What MD-GAN, FL-GAN and standalone cost a node and the hub: work, memory, bytes, by formula and measured."""
    from sim.cost import as_said, lines, price

    found = price(as_said(memory=not no_processes, **asked), lambda line: click.echo(line, err=True))
    if as_json:
        print_json(found)
        return
    for line in lines(found):
        click.echo(line)


@click.command(name="compare-modes")
@click.argument("scenario")
@click.option("--fidelity", type=click.Choice(["toy", "full"]), help="What trains [as the scenario says; not tokens].")
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Runs of each mode.")
@click.option("--score", help="What is compared [toy: quality, full: fid_classifier].")
@click.option("--target", type=float, help="Which value of it is good enough [quality 0.7, fid_classifier 10].")
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice(["sync", "async-block", "async-drop"]),
    help="Which are played; may be given more than once [all three].",
)
@click.option(
    "--beside", multiple=True, metavar="NAME:KEY=VALUE,...", help="One more: asynchronous, with these settings."
)
@click.option(
    "--smooth",
    type=click.IntRange(1, 99),
    default=1,
    show_default=True,
    help="Score by the median of so many in a row.",
)
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs side by side.")
@click.option("--out", type=click.Path(path_type=Path), help="Where the picture goes [runs/modes-SCENARIO].")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set any key of docs/configuration.md.")
@json_option
def compare_modes(scenario: str, jobs: int, out: Path | None, as_json: bool, **asked: Any) -> None:
    """Play SCENARIO synchronously, with `block` and with `drop`, and draw how fast each learns: modes.png, modes.json.

    With --beside more modes are played, such as rate-fair:training.rate_fair=true. All modes get the same seeds, so the
    same links, devices and faults.
    """
    from sim.running_modes import compare_modes as compare
    from sim.running_modes import summary_lines

    found, folder = compare(scenario, jobs, out, lambda line: click.echo(line, err=True), **asked)
    if as_json:
        print_json(found)
        return
    for line in summary_lines(found, folder):
        click.echo(line)


@click.command()
@click.argument("experiment")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key of the scenario or of any setting; a,b: an axis.",
)
@click.option("--seeds", metavar="N|A-B", help="How many seeds, or which [as the experiment says].")
@click.option(
    "--budget", type=click.Choice(["ci", "full"]), default="ci", show_default=True, help="How much is played."
)
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs side by side.")
@click.option("--shard", default="0/1", show_default=True, metavar="I/N", help="Play only part I (from 0) of N.")
@click.option("--dask", metavar="ADDRESS", help="Play on the workers of this Dask scheduler.")
@click.option("--out", type=click.Path(path_type=Path), help="Where results go [runs/EXPERIMENT-BUDGET].")
@json_option
def sweep(
    experiment: str,
    assignments: tuple[str, ...],
    seeds: str | None,
    budget: Any,
    jobs: int,
    shard: str,
    dask: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Play every cell of EXPERIMENT, one of ours or a file, and keep each result in results.jsonl.

    What is there already and still holds is not played again, so the same command goes on after a crash.
    """
    from sim.experiments import running

    means = running.Means(jobs, running.Shard.parse(shard), dask)
    pairs, chosen = parse_assignments(assignments), running.seeds_of(seeds)
    found = running.sweep(experiment, budget, chosen, pairs, out, means, lambda line: click.echo(line, err=True))
    if as_json:
        print_json(running.found_json(found))
    else:
        for line in running.summary_lines(found):
            click.echo(line)
    found.refuse_if_failed()


@click.command()
@click.option("--data", default="digits", show_default=True, help="The images: digits, npz:FILE and the like.")
@click.option("--seeds", metavar="N|A-B", help="How many seeds, or which [3].")
@click.option("--jobs", type=click.IntRange(1, 256), default=2, show_default=True, help="Runs side by side.")
@click.option("--out", type=click.Path(path_type=Path), help="Where table, picture and page go [runs/compare].")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="As for `mdgan-sim sweep`.")
@json_option
def compare(
    data: str, seeds: str | None, jobs: int, out: Path | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """MD-GAN, FL-GAN and standalone on the same data and budget: what each learns, and what it costs whom."""
    from sim.experiments import comparing
    from sim.experiments.running import seeds_of

    folder, pairs = out or Path("runs") / "compare", {"swarm.data": data, **parse_assignments(assignments)}
    found, outcome = comparing.compare(pairs, seeds_of(seeds), folder, jobs, lambda line: click.echo(line, err=True))
    if as_json:
        print_json(found)
    else:
        for line in comparing.summary_lines(found, folder):
            click.echo(line)
    outcome.refuse_if_failed()


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def report(folder: Path, as_json: bool) -> None:
    """Draw report.html of DIR, a virtual run or a sweep: one file that opens from disk."""
    from sim.report.drawing import draw_report

    found = draw_report(folder)
    if as_json:
        print_json(found)
        return
    for name in ("report", "shown"):
        if name in found:
            click.echo(f"{name + ':':11} {found[name]}")


COMMANDS = (cost, compare_modes, sweep, compare, report)
