"""What training costs: the formulas say what the real steps do, operation for operation and byte for byte."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from mdgan_edge.costs import (
    Network,
    Pair,
    Run,
    client_memory,
    flgan_total,
    local_work,
    mdgan_total,
    node_memory,
    node_work,
    perceptron,
    work_ratio,
)
from mdgan_edge.gan.counting import measured_multiply_adds, pair_of
from mdgan_edge.messages import ModelSettings
from sim.cli import main
from sim.cost import multiply_adds
from sim.fresh import run_fresh
from sim.roles import ROLES, settings_for, step_of

PAPER = Pair(perceptron((100, 512, 512, 784)), perceptron((784, 512, 512, 11)))
MODELS = {
    "mlp": ModelSettings(name="mlp"),
    "cnn28": ModelSettings(name="cnn28"),
    "cnn of 40 pixels in colour": ModelSettings(name="cnn", image_size=40, channels=3, classes=0),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("role", ROLES)
def test_every_step_does_exactly_the_multiply_adds_of_its_formula(model: ModelSettings, role: str) -> None:
    settings = settings_for(model, nodes=5, batch=3, steps=2)
    step = step_of(role, settings)
    assert measured_multiply_adds(step) == multiply_adds(pair_of(model), role, batch=3, steps=2, batches=2)


def test_the_papers_perceptrons_are_what_the_model_mlp_builds() -> None:
    pair = pair_of(ModelSettings(name="mlp"))
    assert (pair.generator.layers, pair.discriminator.layers) == (PAPER.generator.layers, PAPER.discriminator.layers)
    assert (pair.generator.parameters, pair.discriminator.parameters) == (716_560, 670_219)  # T6


def test_a_local_iteration_of_the_papers_perceptrons_is_1_6_tasks_and_more_of_them_never_2() -> None:
    g, d = PAPER.generator.forward, PAPER.discriminator.forward
    assert node_work(PAPER, 1) == 8 * d - 2 * 784 * 512
    assert local_work(PAPER, 1) == node_work(PAPER, 1) + 4 * g - 100 * 512
    assert work_ratio(PAPER, 1) == pytest.approx(1.617, abs=5e-4)
    assert [work_ratio(PAPER, steps) for steps in (1, 2, 5)] == sorted(
        (work_ratio(PAPER, steps) for steps in (1, 2, 5)), reverse=True
    )


def test_in_total_md_gan_moves_more_bytes_and_more_so_where_images_are_large() -> None:
    """The paper's settings, with the parameter counts that it gives: N = 10, b = 10, I = 50,000."""
    cifar = Pair(Network((1,), 628_110), Network((1,), 100_203))
    mnist_run, cifar_run = Run(50_000, 10, 10, 6_000), Run(50_000, 10, 10, 5_000)
    ratios = [
        mdgan_total(pair, run, image, labelled=False) / flgan_total(pair, run)
        for pair, run, image in ((PAPER, mnist_run, 28 * 28), (cifar, cifar_run, 3 * 32 * 32))
    ]
    assert ratios == pytest.approx([5.33, 31.7], rel=2e-3)


def test_a_node_of_md_gan_needs_less_memory_than_a_client_of_fl_gan() -> None:
    for model in MODELS.values():
        pair, image = pair_of(model), model.channels * model.image_size**2
        assert node_memory(pair, 10, image) < client_memory(pair, 10, image)


def test_the_command_says_what_messages_weigh_on_the_wire() -> None:
    words = ["cost", "--model", "cnn28", "--nodes", "2", "--batch", "4", "--no-processes", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    rows, d = found["communication"], 784
    assert rows["task"]["formula"] == 2 * 4 * (4 * d + 8)
    assert rows["feedback"]["formula"] == 4 * 4 * d
    assert rows["swap"]["formula"] == 4 * found["parameters"]["discriminator"]
    assert rows["round"]["formula"] == rows["update"]["formula"] > 4 * sum(found["parameters"].values())
    for name, row in rows.items():
        assert row["messages"] >= 4, name
        assert 0 < row["framing"] < 0.02 * row["formula"] + 200, name
    assert found["ratio"]["measured"] == found["ratio"]["formula"] > 1.8
    assert found["memory"]["mdgan-node"]["measured"] is None
    assert found["totals"]["mdgan_to_flgan"] > 1


@pytest.mark.long
def test_seconds_and_memory_are_measured_in_a_process_of_its_own() -> None:
    settings = settings_for(MODELS["cnn28"], nodes=2, batch=4, steps=1)
    found = json.loads(run_fresh("a node", "sim.roles", "mdgan-node", msgspec.json.encode(settings).decode()))
    assert 0 < found["fastest_cpu_s"] <= found["cpu_s"] <= found["slowest_cpu_s"]
    assert 50e6 < found["bare_bytes"] <= found["peak_bytes"] < 4e9


def test_an_unknown_model_is_refused_before_anything_is_measured() -> None:
    result = CliRunner().invoke(main, ["cost", "--model", "cnn29"])
    assert (result.exit_code, result.stdout) == (78, "")
    assert "cnn28" in result.stderr
