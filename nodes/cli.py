"""The command mdgan-node: one edge device's side of a swarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mdgan_edge import __version__
from mdgan_edge.command import Command, config_options, gather, json_option, print_json, tell
from mdgan_edge.errors import DataError, ExitCode, Failed
from mdgan_edge.messages import PROTOCOL_VERSION

STATE_DEFAULT = Path("mdgan-node")

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=STATE_DEFAULT,
    show_default=True,
    envvar="MDGAN_STATE",
    help="The node's own folder: its key, its name, its discriminator.",
)


@click.group(cls=Command, no_args_is_help=True)
@click.version_option(__version__, prog_name="mdgan-node")
def main() -> None:
    """Run a node: a private shard and a discriminator. Images never leave it, only gradients do."""


@main.command()
@click.argument("name")
@state_option
@json_option
def init(name: str, state: Path, as_json: bool) -> None:
    """Make the node's folder and key pair. NAME is what the hub will call it: a-z, 0-9 and -."""
    from nodes.store import NodeStore

    keys = NodeStore.create(state, name).keys()
    if as_json:
        print_json({"node": name, "state": str(state), "public_key": keys.public})
        return
    click.echo(f"Made node {name} in {state}. On the hub's machine, let it in with (FOLDER is the hub's):")
    click.echo(f"  mdgan-hub nodes add {name} '{keys.public}' --state FOLDER")


@main.command()
@state_option
@click.option("--hub", help="Where the hub listens, such as tcp://192.0.2.1:5755.")
@click.option(
    "--hub-key", required=True, envvar="MDGAN_HUB_KEY", help="The hub's public key, as mdgan-hub init shows it."
)
@click.option("--data", help="The shard: digits, idx:DIR, ..., see docs/data.md.")
@click.option(
    "--shard", help="Which part of it: all, classes=0-4, iid:3/8, dirichlet=0.3:3/8, labels=2:3/8, by-file:3/8."
)
@click.option("--resize", type=int, help="Crop and scale every image to this many pixels.")
@click.option("--channels", type=int, help="1: grey, 3: colour.")
@click.option("--model", help="Take part only if the hub trains this model; permits a package.module:factory.")
@click.option("--death-timeout", type=float, help="Seconds without any hub before giving up (exit code 69).")
@config_options
@json_option
def run(
    state: Path, hub_key: str, as_json: bool, file: Path | None, assignments: tuple[str, ...], **flags: Any
) -> None:
    """Take part in a swarm until the hub says goodbye. TERM or Ctrl-C leaves cleanly."""
    flags["death_timeout_s"] = flags.pop("death_timeout")
    settings, _ = gather(file, assignments, {f"node.{key}": value for key, value in flags.items()})
    from nodes.service import NodeOptions, load_shard, run_node

    shard = load_shard(settings.node)
    finish = run_node(settings.node, NodeOptions(state, hub_key), shard, tell)
    if as_json:
        print_json({"outcome": finish.outcome, "exit_code": int(finish.exit_code), "text": finish.text})
    elif finish.exit_code is ExitCode.OK:
        click.echo(f"{finish.outcome}: {finish.text}")
    if finish.exit_code is not ExitCode.OK:
        raise Failed(finish.exit_code, finish.text)


@main.command()
@state_option
@json_option
def status(state: Path, as_json: bool) -> None:
    """Show what the node in this folder does, or did last."""
    from nodes.store import NodeStore

    store = NodeStore(state)
    report: dict[str, Any] = {"node": store.node_id(), "public_key": store.keys().public, "running": store.running()}
    try:
        report |= json.loads(store.status.read_text())
    except FileNotFoundError:
        report["phase"] = "never ran"
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {store.status}: {error}") from error
    if as_json:
        print_json(report)
        return
    for key, value in report.items():
        click.echo(f"{key:14} {value}")


@main.command()
@json_option
def version(as_json: bool) -> None:
    """Show the versions of this program and of the protocol it speaks."""
    if as_json:
        print_json({"software": __version__, "protocol": PROTOCOL_VERSION})
    else:
        click.echo(f"mdgan-node {__version__}, protocol {PROTOCOL_VERSION}")
