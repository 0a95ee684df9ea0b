"""The commands below `mdgan-sim data`: what lies in a source of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdgan_edge.command import Command, json_option, print_json
from mdgan_edge.streams import SEED_MAX


@click.group(cls=Command)
def data() -> None:
    """Look at images before training on them."""


@data.command()
@click.argument("source")
@click.option(
    "--shards", help="Deal out the training part: iid, dirichlet=0.3, labels=2 or by-file [iid with --nodes]."
)
@click.option("--nodes", type=click.IntRange(1, 10_000), help="To how many nodes [8 with --shards].")
@click.option("--seed", type=click.IntRange(0, SEED_MAX), default=0, show_default=True, help="Of order and shards.")
@click.option("--resize", type=int, help="Crop and scale every image to this many pixels [as they are].")
@click.option(
    "--channels", type=click.Choice(["1", "3"]), help="1: make images grey, 3: make them colour [as they are]."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a PNG: ten images of each class, or of each node.")
@json_option
def inspect(
    source: str,
    out: Path | None,
    as_json: bool,
    shards: str | None,
    nodes: int | None,
    channels: str | None,
    **asked: Any,
) -> None:
    """Show what SOURCE holds: shapes, images of each class, training and test part, where it is cached, what is odd.

    SOURCE is what --data takes: digits, npz:FILE, idx:DIR, cifar10:DIR, celeba:DIR[,attribute=NAME], folder:DIR or
    files:DIR.
    """
    from sim.inspection import Asked, lines
    from sim.inspection import inspect as look

    strategy = shards if shards or not nodes else "iid"
    wanted = Asked(
        source, strategy, nodes or 8, channels=None if channels is None else 1 if channels == "1" else 3, **asked
    )
    found = look(wanted, out)
    if as_json:
        print_json(found)
        return
    for line in lines(found):
        click.echo(line)
