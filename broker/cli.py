"""The command mdgan-hub: the side that owns the generator."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdgan_edge import __version__
from mdgan_edge.cache import cache_folder
from mdgan_edge.command import IMAGE_KEYS, Command, config_options, gather, json_option, print_json
from mdgan_edge.errors import ConfigurationError, DataError, ExitCode, Failed
from mdgan_edge.streams import SEED_MAX

if TYPE_CHECKING:
    from broker.store import HubStore

STATE_DEFAULT = Path("mdgan-hub")

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE_DEFAULT,
    show_default=True,
    envvar="MDGAN_STATE",
    help="The hub's own folder: its key and its register of nodes.",
)


@click.group(cls=Command, no_args_is_help=True)
@click.version_option(__version__, prog_name="mdgan-hub")
def main() -> None:
    """Run a hub: it owns the generator and never sees an image of the nodes."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=STATE_DEFAULT)
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Make a hub's folder (default mdgan-hub), with a key pair and an empty register."""
    from broker.store import HubStore

    _, keys = HubStore.create(folder)
    if as_json:
        print_json({"state": str(folder), "public_key": keys.public})
        return
    click.echo(f"Made a hub in {folder}. Its public key, which every node wants as --hub-key:")
    click.echo(f"  {keys.public}")


@main.command()
@state_option
@click.option("--out", type=click.Path(path_type=Path), envvar="MDGAN_OUT", help="Run directory [runs/hub-SEED].")
@click.option("--force", is_flag=True, help="Replace the run that --out holds.")
@click.option(
    "--resume", is_flag=True, help="Go on with the run that --out holds from its last checkpoint; start it if none is."
)
@click.option("--bind", help="Where to listen, such as tcp://0.0.0.0:5755.")
@click.option("--nodes-min", type=int, help="Start training when so many nodes are there.")
@click.option("--steps", type=int, help="Generator steps until the run is complete.")
@click.option("--seed", type=int, help="The seed of everything random.")
@click.option("--data", help="Held-out images for the scores: digits, idx:DIR, ..., see docs/data.md, or none.")
@click.option("--resize", type=int, help="Train on images of this many pixels; --data is cropped and scaled to it.")
@click.option("--channels", type=int, help="Train on grey (1) or colour (3) images.")
@click.option("--mode", type=click.Choice(["async", "sync"]), help="sync: the paper's Algorithm 1.")
@config_options
@json_option
def run(
    state: Path,
    out: Path | None,
    force: bool,
    resume: bool,
    as_json: bool,
    file: Path | None,
    assignments: tuple[str, ...],
    **flags: Any,
) -> None:
    """Train with whatever nodes come. TERM or Ctrl-C ends the run cleanly and keeps what was learned.

    With --resume the same command line starts a run and, after a crash or a stop, goes on with it: so it can be what a
    supervisor restarts.
    """
    keys = {"steps": "training.steps", "seed": "training.seed", "mode": "mode"} | IMAGE_KEYS
    settings, explicit = gather(file, assignments, {keys.get(key, f"hub.{key}"): value for key, value in flags.items()})
    from broker.service import HubOptions, fit_to_data, run_hub
    from broker.store import HubStore
    from mdgan_edge.display import Display
    from mdgan_edge.rundir import RunDirectory

    HubStore(state).keys()
    settings, real = fit_to_data(settings, explicit)
    make_run = RunDirectory.resume if resume else RunDirectory.create
    new_run = lambda: make_run(out, "hub", settings.training.seed, force)  # noqa: E731
    options = HubOptions(state, new_run, "hub", resume, cache_folder(os.environ))
    display = Display(sys.stderr if as_json else sys.stdout)
    with display:
        finish, report, directory = run_hub(settings, options, real, display.tell, display.show)
    if as_json:
        print_json(report)
    else:
        display.conclude(report, directory)
    if finish.exit_code is not ExitCode.OK:
        raise Failed(finish.exit_code, finish.text)


@main.command()
@click.argument("run_directory", type=click.Path(path_type=Path, file_okay=False))
@json_option
def status(run_directory: Path, as_json: bool) -> None:
    """Show how the run in RUN_DIRECTORY stands: version, pace, nodes, scores."""
    from mdgan_edge.rundir import RunDirectory

    run = RunDirectory.open(run_directory)
    path = run.status
    try:
        report = {**json.loads(path.read_text()), "running": run.going_on}
    except FileNotFoundError:
        raise DataError(f"{run_directory} has no status yet: the hub is still starting, or never came so far") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if as_json:
        print_json(report)
        return
    from mdgan_edge.table import plain_table

    if not report["running"]:
        click.echo("The hub is not running; this is how it stood last.")
    click.echo(plain_table(report))


@main.group()
def nodes() -> None:
    """The register of nodes: who may come in."""


@nodes.command("add", context_settings={"ignore_unknown_options": True})  # a key may begin with a dash
@click.argument("node")
@click.argument("public_key")
@state_option
def nodes_add(node: str, public_key: str, state: Path) -> None:
    """Let NODE in, known by PUBLIC_KEY (mdgan-node init shows it). A running hub takes it at once."""
    _store(state).add(node, public_key)
    click.echo(f"{node} may join.")


@nodes.command("list")
@state_option
@json_option
def nodes_list(state: Path, as_json: bool) -> None:
    """Show the register."""
    lines = _store(state).list()
    if as_json:
        print_json({line.node: {"public_key": line.public_key, "wish": line.wish} for line in lines})
        return
    for line in lines:
        click.echo(f"{line.node:32} {line.wish:8} {line.public_key}  {line.added_at}")


@nodes.command("drain")
@click.argument("node")
@state_option
def nodes_drain(node: str, state: Path) -> None:
    """Ask NODE to finish what it has in hand and leave; `nodes add` takes the wish back."""
    _store(state).wish(node, "drain")
    click.echo(f"{node} is asked to leave.")


@nodes.command("revoke")
@click.argument("node")
@state_option
def nodes_revoke(node: str, state: Path) -> None:
    """Shut NODE out at once; only `nodes add` lets it in again."""
    _store(state).wish(node, "revoked")
    click.echo(f"{node} is shut out.")


@nodes.command("remove")
@click.argument("node")
@state_option
def nodes_remove(node: str, state: Path) -> None:
    """Shut NODE out and forget its key. The name is free again once the hub has been restarted."""
    _store(state).remove(node)
    click.echo(f"{node} is forgotten.")


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many images.")
@click.option("--seed", type=click.IntRange(0, SEED_MAX), default=0, show_default=True, help="Which ones.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="A .png (one grid) or .npz (x, y) to write."
)
@click.option("--label", type=int, help="Only this class, if the generator is conditional.")
@click.option("--model", help="Permit a generator that is your own package.module:factory.")
def generate(source: Path, count: int, seed: int, out: Path, label: int | None, model: str | None) -> None:
    """Draw images from a trained generator. SOURCE: a run directory or its generator.safetensors."""
    if out.suffix not in (".png", ".npz"):
        raise ConfigurationError(f"--out {out}: name a .png or an .npz file")
    from broker.drawing import draw

    draw(source / "generator.safetensors" if source.is_dir() else source, count, seed, label, model, out)
    click.echo(f"{count} images: {out}")


def _store(state: Path) -> HubStore:
    from broker.store import HubStore

    return HubStore(state)
