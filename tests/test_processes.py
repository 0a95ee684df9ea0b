"""Whole processes over real sockets, used as a person would: swarms, three shells, kills, wrong keys."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdgan_edge.data.sources import load
from mdgan_edge.journal import read
from tests.shells import Shells, ended, interrupt

# Nodes are missed after 2 s: soon enough for a test, late enough for a machine that is busy.
QUICK_SETTINGS = {
    "hub.data": "none",
    "hub.heartbeat_s": "0.5",
    "hub.suspect_after_missed": "4",
    "hub.death_timeout_s": "4",
}
QUICK = tuple(word for key, value in QUICK_SETTINGS.items() for word in ("--set", f"{key}={value}"))


def key_of(said: str) -> str:
    """The public key that `init` printed with --json."""
    key: str = json.loads(said)["public_key"]
    return key


def write_folder(folder: Path, labels: range, per_class: int = 30) -> None:
    """A folder of PNGs, one sub-folder per digit."""
    digits = load("digits", "train", seed=0)
    assert digits.y is not None
    for label in labels:
        (folder / str(label)).mkdir(parents=True)
        for index in np.flatnonzero(digits.y == label)[:per_class]:
            Image.fromarray(digits.x[index, 0]).save(folder / str(label) / f"{index}.png")


def steps_of(run: Path) -> list[dict[str, Any]]:
    """The lines about steps in a run's metrics; none while there are no metrics."""
    metrics = run / "metrics.jsonl"
    return [line for line in read(metrics) if line["what"] == "step"] if metrics.exists() else []


# --- swarms ---------------------------------------------------------------------------------------------------------


def test_a_small_swarm_trains_and_leaves_everything_it_should(shells: Shells) -> None:
    said = shells.run("mdgan-sim", "swarm", "--nodes", "3", "--steps", "12", "--out", "run", *QUICK, "--json")
    report = json.loads(said)
    assert report == json.loads((shells.folder / "run/run.json").read_text())
    assert (report["outcome"], report["version"]) == ("completed", 12)
    assert sorted(report["nodes"]) == ["node-0", "node-1", "node-2"]
    assert report["feedback"]["merged"] == sum(node["merged"] for node in report["nodes"].values())
    assert report["bytes"]["hub_sent"] > report["bytes"]["tasks"] > 0
    left = {path.name for path in (shells.folder / "run").iterdir()}
    assert {"run.json", "config.toml", "journal.jsonl", "metrics.jsonl", "samples", "generator.safetensors"} <= left
    with Image.open(shells.folder / "run/samples/final.png") as grid:
        assert grid.size > (280, 280)


def test_a_run_is_never_overwritten_unasked(shells: Shells) -> None:
    process = shells.start("mdgan-sim", "swarm", "--nodes", "2", "--steps", "2", "--out", "run", *QUICK)
    code, said = ended(process)
    assert code == 0
    assert "completed at version 2" in said
    assert "Error" not in said
    again = shells.run("mdgan-sim", "swarm", "--nodes", "2", "--steps", "2", "--out", "run", *QUICK, code=78)
    assert again.strip().endswith("run holds a run: --force replaces it, --out names another directory")


def test_two_killed_nodes_and_a_newcomer_change_the_divisor_and_are_named(shells: Shells) -> None:
    words = ("--nodes", "8", "--steps", "400", "--mode", "sync", "--out", "run", *QUICK)
    swarm = shells.start("mdgan-sim", "swarm", *words)
    shells.until(lambda: len(steps_of(shells.folder / "run")) > 5, "the first steps")
    for node in ("node-2", "node-5"):
        status_file = f"run/state/nodes/{node}/status.json"
        shells.until(lambda file=status_file: "pid" in shells.json(file), "the node's status")
        os.kill(shells.json(status_file)["pid"], signal.SIGKILL)
    status = shells.json("run/status.json")
    key = key_of(shells.run("mdgan-node", "init", "late", "--state", "late", "--json"))
    shells.run("mdgan-hub", "nodes", "add", "late", key, "--state", "run/state/hub")
    shells.until(lambda: {6.0} <= {step["divisor"] for step in steps_of(shells.folder / "run")}, "steps of six")
    hub_key = next(line for line in read(shells.folder / "run/journal.jsonl") if line["what"] == "listening")
    node = ("--state", "late", "--hub", status["endpoint"], "--hub-key", hub_key["public_key"])
    late = shells.start("mdgan-node", "run", *node, "--data", "digits", "--shard", "iid:0/8")
    code, said = ended(swarm)
    assert code == 0, said
    assert ended(late)[0] == 0
    report = shells.json("run/run.json")
    assert (report["outcome"], report["version"]) == ("completed", 400)
    states = {node: facts["state"] for node, facts in report["nodes"].items()}
    assert {node for node, state in states.items() if state != "left"} == {"node-2", "node-5"}
    assert states["late"] == "left"
    assert report["nodes"]["late"]["merged"] > 0
    steps = steps_of(shells.folder / "run")
    divisors = [step["divisor"] for step in steps]
    assert (divisors[0], min(divisors), divisors[-1]) == (8.0, 6.0, 7.0)
    assert divisors == [step["merged"] for step in steps]
    assert {age for step in steps for age in step["staleness"]} == {0}


def test_a_node_killed_shortly_before_the_end_does_not_spoil_the_run(shells: Shells) -> None:
    quick = ("--set", "hub.data=none", "--set", "training.quorum=1")
    swarm = shells.start("mdgan-sim", "swarm", "--nodes", "2", "--steps", "150", "--out", "run", *quick)
    status_file = "run/state/nodes/node-1/status.json"
    shells.until(lambda: "pid" in shells.json(status_file), "the node's status")
    os.kill(shells.json(status_file)["pid"], signal.SIGKILL)
    code, said = ended(swarm)
    assert code == 0, said
    report = shells.json("run/run.json")
    assert (report["outcome"], report["version"]) == ("completed", 150)
    assert {node: facts["state"] == "left" for node, facts in report["nodes"].items()} == {
        "node-0": True,
        "node-1": False,
    }


def test_a_swarm_without_nodes_ends_and_says_why(shells: Shells) -> None:
    swarm = shells.start("mdgan-sim", "swarm", "--nodes", "2", "--steps", "100000", "--out", "run", *QUICK)
    for node in ("node-0", "node-1"):
        status_file = f"run/state/nodes/{node}/status.json"
        shells.until(lambda file=status_file: "pid" in shells.json(file), "the node's status")
        os.kill(shells.json(status_file)["pid"], signal.SIGKILL)
    code, said = ended(swarm)
    assert code == 1
    assert "Error: no node is left to train with" in said
    assert shells.json("run/run.json")["outcome"] == "stopped"


def test_a_swarm_whose_hub_is_killed_says_so_and_keeps_a_record(shells: Shells) -> None:
    swarm = shells.start("mdgan-sim", "swarm", "--nodes", "2", "--steps", "100000", "--out", "run", *QUICK)
    shells.until(lambda: shells.json("run/status.json").get("version", 0) > 0, "the first step")
    os.kill(shells.json("run/status.json")["pid"], signal.SIGKILL)
    code, said = ended(swarm)
    assert code == 1
    assert "Error: the hub failed: ended by SIGKILL" in said
    report = shells.json("run/run.json")
    assert (report["outcome"], sorted(report["nodes"])) == ("failed", ["node-0", "node-1"])


def test_ctrl_c_ends_a_swarm_cleanly_and_keeps_what_was_learned(shells: Shells) -> None:
    swarm = shells.start("mdgan-sim", "swarm", "--nodes", "2", "--steps", "100000", "--out", "run", *QUICK)
    shells.until(lambda: len(steps_of(shells.folder / "run")) > 3, "the first steps")
    interrupt(swarm)
    code, said = ended(swarm)
    assert code == 0, said
    report = shells.json("run/run.json")
    assert report["outcome"] == "stopped"
    assert report["version"] > 3
    shells.run("mdgan-hub", "generate", "run", "--out", "more.png", "--count", "4")
    assert {node["state"] for node in report["nodes"].values()} == {"left"}


@pytest.mark.parametrize("swap", ["off", "0.02"])
def test_verify_finds_no_difference_over_sockets(shells: Shells, swap: str) -> None:
    words = ("--nodes", "3", "--steps", "4", "--model", "cnn28", "--world", "sockets", "--json")
    report = json.loads(shells.run("mdgan-sim", "verify", *words, "--set", f"training.swap={swap}"))
    assert report["max_abs_diff"] == 0.0
    assert (report["checks"][0]["swaps"] > 0) is (swap != "off")
    assert len(report["checks"][0]["discriminators"]) == 3


# --- three shells ---------------------------------------------------------------------------------------------------


class HandMade:
    """A hub and nodes started by hand, each in a shell of its own."""

    def __init__(self, shells: Shells) -> None:
        self.shells = shells
        self.hub_key = key_of(shells.run("mdgan-hub", "init", "hub", "--json"))

    def start_hub(self, *words: str) -> Any:
        run = ("mdgan-hub", "run", "--state", "hub", "--out", "run", "--bind", "tcp://127.0.0.1:*")
        hub = self.shells.start(*run, *QUICK, *words)
        self.shells.until(lambda: bool(self.shells.json("run/status.json").get("endpoint")), "the hub to listen")
        return hub

    def register(self, node: str) -> None:
        key = key_of(self.shells.run("mdgan-node", "init", node, "--state", node, "--json"))
        self.shells.run("mdgan-hub", "nodes", "add", node, key, "--state", "hub")

    def start_node(self, node: str, *words: str, hub_key: str | None = None) -> Any:
        hub = self.shells.json("run/status.json")["endpoint"]
        key = hub_key or self.hub_key
        return self.shells.start("mdgan-node", "run", "--state", node, "--hub", hub, "--hub-key", key, *words)

    def node(self, node: str) -> dict[str, Any]:
        """What the hub says of a node."""
        facts: dict[str, Any] = self.shells.json("run/status.json").get("nodes", {}).get(node, {})
        return facts


@pytest.fixture
def by_hand(shells: Shells) -> HandMade:
    return HandMade(shells)


def test_a_node_leaves_with_ctrl_c_and_comes_back_as_itself(by_hand: HandMade) -> None:
    shells = by_hand.shells
    write_folder(shells.folder / "images/low", range(5))
    write_folder(shells.folder / "images/high", range(5, 10))
    hub = by_hand.start_hub("--nodes-min", "2", "--steps", "100000", "--set", "training.swap=off")
    for node in ("low", "high"):
        by_hand.register(node)
    low, high = (by_hand.start_node(node, "--data", f"folder:images/{node}") for node in ("low", "high"))
    shells.until(lambda: by_hand.node("low").get("merged", 0) > 5, "the node's first feedback")
    interrupt(low)
    assert ended(low)[0] == 0
    shells.until(lambda: by_hand.node("low").get("state") == "left", "the hub to know")
    before, tasks_before = by_hand.node("low"), shells.json("low/status.json")["tasks"]
    low = by_hand.start_node("low", "--data", "folder:images/low")
    shells.until(lambda: by_hand.node("low").get("merged", 0) > before["merged"], "feedback after the return")
    after = by_hand.node("low")
    assert (after["rejoined"], after["incarnation"]) == (1, before["incarnation"] + 1)
    assert after["discriminator"] == before["discriminator"]
    shells.until(lambda: shells.json("low/status.json")["tasks"] > tasks_before, "the node to go on counting")
    welcomed = [line for line in read(shells.folder / "low/journal.jsonl") if line["what"] == "welcomed"]
    assert [line["kept"] for line in welcomed] == [False, True]
    interrupt(hub)
    assert [ended(process)[0] for process in (hub, low, high)] == [0, 0, 0]


def test_a_node_is_let_in_as_soon_as_it_is_registered(by_hand: HandMade) -> None:
    shells = by_hand.shells
    hub = by_hand.start_hub("--steps", "3")
    key = key_of(shells.run("mdgan-node", "init", "shy", "--state", "shy", "--json"))
    node = by_hand.start_node("shy", "--data", "digits")
    journal = shells.folder / "run/journal.jsonl"
    shells.until(lambda: any(line["what"] == "not_admitted" for line in read(journal)), "the hub to turn it away")
    shells.run("mdgan-hub", "nodes", "add", "shy", key, "--state", "hub")
    assert ended(hub)[0] == 0
    assert ended(node)[0] == 0
    report = shells.json("run/run.json")
    assert report["outcome"] == "completed"
    assert report["refused_connections"]["unknown key"] >= 1


def test_a_revoked_node_is_shut_out_at_once(by_hand: HandMade) -> None:
    shells = by_hand.shells
    by_hand.start_hub("--steps", "100000")
    by_hand.register("rogue")
    node = by_hand.start_node("rogue", "--data", "digits")
    shells.until(lambda: by_hand.node("rogue").get("merged", 0) > 0, "the node to take part")
    shells.run("mdgan-hub", "nodes", "revoke", "rogue", "--state", "hub")
    code, said = ended(node)
    assert (code, said.strip().splitlines()[-1]) == (77, "Error: revoked at the hub")
    again = by_hand.start_node("rogue", "--data", "digits")
    code, said = ended(again)
    assert code == 77
    assert "has revoked this node" in said


def test_a_wrong_hub_key_is_explained(by_hand: HandMade) -> None:
    by_hand.start_hub("--steps", "100000")
    by_hand.register("lost")
    other = key_of(by_hand.shells.run("mdgan-hub", "init", "other", "--json"))
    code, said = ended(by_hand.start_node("lost", "--data", "digits", hub_key=other))
    assert code == 78
    assert "does not own the given key: check --hub-key" in said


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--data", "digits", "--resize", "32"), "start the node with --resize 28 --channels 1"),
        (("--data", "digits", "--model", "mlp"), "this node is set to 'mlp': start it with --model cnn28"),
        (("--data", "digits", "--shard", "iid:0/500"), "a shard of 8 images is smaller than the batch of 10"),
    ],
)
def test_a_node_that_does_not_fit_is_told_what_to_do(by_hand: HandMade, words: tuple[str, ...], wanted: str) -> None:
    by_hand.start_hub("--steps", "100000")
    by_hand.register("misfit")
    code, said = ended(by_hand.start_node("misfit", *words))
    assert code == 78
    assert wanted in said
    assert "Traceback" not in said


def test_a_hub_that_cannot_start_leaves_what_is_there_alone(by_hand: HandMade) -> None:
    hub = by_hand.start_hub("--steps", "100000")
    shells = by_hand.shells
    taken = shells.json("run/status.json")["endpoint"]
    shells.run("mdgan-hub", "init", "other")
    (shells.folder / "old").mkdir()
    (shells.folder / "old/run.json").write_text("{}")
    words = ("mdgan-hub", "run", *QUICK, "--force", "--bind")
    in_use = shells.run(*words, taken, "--state", "other", "--out", "old", code=78)
    assert taken in in_use
    assert "Traceback" not in in_use
    assert [path.name for path in (shells.folder / "old").iterdir()] == ["run.json"]
    same_state = shells.run(*words, "tcp://127.0.0.1:*", "--state", "hub", "--out", "old", code=75)
    assert "another mdgan-hub uses hub" in same_state
    same_run = shells.run(*words, "tcp://127.0.0.1:*", "--state", "other", "--out", "run", code=78)
    assert "a run goes on in run" in same_run
    assert (shells.folder / "run/config.toml").exists()
    assert json.loads(shells.run("mdgan-hub", "status", "run", "--json"))["running"] is True
    hub.kill()
    hub.wait()
    assert "The hub is not running" in shells.run("mdgan-hub", "status", "run")


def test_a_hub_killed_before_its_first_checkpoint_goes_on_with_the_same_run(by_hand: HandMade) -> None:
    shells = by_hand.shells
    seldom = ("--steps", "100000", "--resume", "--set", "hub.checkpoint_every=100000")
    hub = by_hand.start_hub(*seldom)
    endpoint = shells.json("run/status.json")["endpoint"]
    by_hand.register("alice")
    alice = by_hand.start_node("alice", "--data", "digits")
    shells.until(lambda: by_hand.node("alice").get("merged", 0) > 3, "some steps")
    shells.kill(hub)
    (shells.folder / "run/status.json").unlink()
    hub = by_hand.start_hub(*seldom, "--bind", endpoint)
    shells.until(lambda: by_hand.node("alice").get("merged", 0) > 3, "it to take part again")
    interrupt(hub)
    assert [ended(process)[0] for process in (hub, alice)] == [0, 0]
    welcomed = [line for line in read(shells.folder / "alice/journal.jsonl") if line["what"] == "welcomed"]
    assert [line["kept"] for line in welcomed] == [False, True]
    assert len({line["run_id"] for line in welcomed}) == 1


def test_a_hub_killed_three_times_goes_on_each_time_with_every_node_and_its_discriminator(by_hand: HandMade) -> None:
    shells = by_hand.shells
    often = ("--steps", "100000", "--nodes-min", "2", "--resume", "--set", "hub.checkpoint_every=5")
    hub = by_hand.start_hub(*often)
    endpoint = shells.json("run/status.json")["endpoint"]
    for node in ("alice", "bob"):
        by_hand.register(node)
    nodes = [by_hand.start_node(node, "--data", "digits", "--shard", "iid:0/8") for node in ("alice", "bob")]
    for _ in range(3):
        seen = len(steps_of(shells.folder / "run"))
        shells.until(lambda seen=seen: len(steps_of(shells.folder / "run")) > seen + 12, "a dozen more steps")
        owned = {by_hand.node(node)["discriminator"] for node in ("alice", "bob")}
        shells.kill(hub)
        version = steps_of(shells.folder / "run")[-1]["version"]
        (shells.folder / "run/status.json").unlink()
        hub = by_hand.start_hub(*often, "--bind", endpoint)
        shells.until(lambda: by_hand.node("bob").get("merged", 0) > 3, "both to take part again")
        resumed = [line for line in read(shells.folder / "run/journal.jsonl") if line["what"] == "resumed"][-1]
        assert version - 10 <= resumed["version"] <= version
        assert {
            by_hand.node(node)["discriminator"] for node in ("alice", "bob")
        } == owned  # whoever has which: they swap
    interrupt(hub)
    assert [ended(process)[0] for process in (hub, *nodes)] == [0, 0, 0]
    assert len(list((shells.folder / "run/checkpoints").iterdir())) <= 3  # while one is written there are four
    welcomed = [line["kept"] for line in read(shells.folder / "alice/journal.jsonl") if line["what"] == "welcomed"]
    assert welcomed == [False, True, True, True]
    newest = shells.json("run/run.json")["version"]
    on = shells.run("mdgan-hub", "run", "--state", "hub", "--out", "run", "--resume", *QUICK, "--steps", "1", "--json")
    assert json.loads(on)["version"] == newest
