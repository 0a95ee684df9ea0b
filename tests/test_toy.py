"""Fidelity `toy`: against torch, against itself after a restart, and whether it learns what its scores measure."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from msgspec.structs import replace
from torch import nn

from broker.jobs import BatchesMade, Contribution, Evaluate, Evaluated, MakeBatches, Step, Stepped
from mdgan_edge.errors import ConfigurationError
from mdgan_edge.gan.losses import discriminator_loss, generator_loss
from mdgan_edge.gan.tensors import to_torch
from mdgan_edge.messages import DiscriminatorId, ModelSettings, NodeId, NodeTerms, Task, TaskId, Tensor, Version
from mdgan_edge.settings import Settings, SwarmSettings, TrainingSettings
from mdgan_edge.streams import stream_seed
from nodes.jobs import Prepare, Prepared, Save, Train, Trained
from sim.cli import main
from sim.determinism import check_determinism
from sim.play import Played, plan_run, play
from sim.scenario.quantities import Duration
from sim.scenario.reading import find_scenario
from sim.scenario.values import S, Scenario
from sim.toy.bodies import TOY_TRAINING, Toy
from sim.toy.hub import ToyHub, ToyHubDisk
from sim.toy.losses import LOSSES
from sim.toy.mixture import MODES, SIGMA, Points, centres, draw_points
from sim.toy.networks import HIDDEN, Vector, layers_of
from sim.toy.node import SIZES, ToyDiscriminator, ToyDisk, ToyNode
from sim.toy.scores import Scorer
from sim.toy.tensors import to_wire

torch.set_num_threads(1)

BATCH = 6
LATENT = 3
GENERATOR_SIZES = (LATENT, *HIDDEN, 2)
TRAINING = TrainingSettings(seed=3, batch_size=BATCH, lr_generator=0.01, lr_discriminator=0.02)
SETTINGS = Settings(model=ModelSettings(name="toy", classes=0, latent_size=LATENT), training=TRAINING)
BETAS = (TRAINING.beta1, TRAINING.beta2)
TERMS = NodeTerms(SETTINGS.model, TRAINING.seed, BATCH, TRAINING.loss, TRAINING.lr_discriminator, BETAS, 0.0)
NODE = NodeId("n1")
SAMPLES = 1000
LEARNT = 0.09  # a sliced Wasserstein distance; two sets of 1000 true points are 0.03 apart


def points(seed: int, count: int = BATCH) -> Points:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


# --- against torch ----------------------------------------------------------------------------------------------------


class Twin(nn.Module):
    """The same network in torch. It answers as a discriminator does if it has one output."""

    def __init__(self, parameters: Vector, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.ModuleList()
        for weight, bias in layers_of(parameters.copy(), sizes):
            layer = nn.Linear(*weight.shape)
            layer.weight.data, layer.bias.data = torch.from_numpy(weight.T), torch.from_numpy(bias)
            self.linear.append(layer)

    def values(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.linear[:-1]:
            x = torch.tanh(layer(x))
        values: torch.Tensor = self.linear[-1](x)
        return values

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.values(x)[:, 0], None

    def flat(self) -> Vector:
        pieces = [piece for layer in self.linear for piece in (layer.weight.T, layer.bias)]
        return torch.cat([piece.detach().flatten() for piece in pieces]).numpy()


def close(found: Points, expected: torch.Tensor | Points) -> bool:
    return np.allclose(found, np.asarray(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
def test_discriminator_steps_and_feedback_are_those_of_torch(loss: str, steps: int) -> None:
    ours = ToyDiscriminator(replace(TERMS, loss=loss), NODE)
    twin = Twin(ours.parameters, SIZES)
    optimizer = torch.optim.Adam(twin.parameters(), lr=TERMS.lr, betas=TERMS.betas)
    for task in range(3):
        x_r, x_d, x_g = points(10 * task, BATCH - 1), points(10 * task + 1), points(10 * task + 2)
        feedback, loss_d, loss_g = ours.judge(x_r, x_d, x_g, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            real, fake = torch.from_numpy(x_r), torch.from_numpy(x_d)
            expected_d = discriminator_loss(loss, twin, real, None, fake, None, 0.0)
            torch.autograd.backward(expected_d)
            optimizer.step()
        images = torch.from_numpy(x_g).requires_grad_()
        expected_g = generator_loss(loss, twin, images, None)
        (expected,) = torch.autograd.grad(expected_g, images)
        assert close(feedback, expected)
        assert (loss_d, loss_g) == pytest.approx((expected_d.item(), expected_g.item()), rel=1e-5, abs=1e-6)
        assert close(ours.parameters, twin.flat())
    assert ours.tasks == 3


def latent(version: int, index: int) -> torch.Tensor:
    rng = np.random.default_rng(stream_seed(TRAINING.seed, "latent", version, index))
    return torch.from_numpy(rng.standard_normal((BATCH, LATENT), np.float32))


def given(node: str, version: int, index: int, weight: float, seed: int) -> Contribution:
    return Contribution(TaskId(1), NodeId(node), Version(version), index, weight, to_wire(points(seed)))


def hub() -> ToyHub:
    return ToyHub(SETTINGS, Scorer(SETTINGS.hub.samples, 0), ToyHubDisk())


def made(trainer: ToyHub, version: int, count: int = 2) -> list[Tensor]:
    result = trainer.do(MakeBatches(Version(version), count))
    assert isinstance(result, BatchesMade)
    assert all(batch.labels is None for batch in result.batches)
    return [batch.images for batch in result.batches]


def test_a_step_takes_feedback_back_through_the_versions_that_made_the_batches() -> None:
    trainer = hub()
    live = Twin(trainer.parameters, GENERATOR_SIZES)
    mean = trainer.parameters.copy()
    optimizer = torch.optim.Adam(live.parameters(), betas=BETAS)
    snapshots: list[Twin] = []
    jobs = [
        (given("ann", 0, 0, 1.0, 1), given("bob", 0, 0, 1.0, 2), given("cay", 0, 1, 1.0, 3)),
        (given("bob", 0, 1, 0.5, 4), given("ann", 1, 0, 1.0, 5), given("cay", 1, 0, 0.25, 6)),
    ]
    for version, contributions in enumerate(jobs):
        snapshots.append(Twin(live.flat(), GENERATOR_SIZES))
        for index, batch in enumerate(made(trainer, version)):
            expected = torch.tanh(live.values(latent(version, index))).detach()
            assert batch.shape == (BATCH, 2, 1, 1)
            assert close(to_torch(batch).reshape(-1, 2).numpy(), expected)
            assert batch.norm == pytest.approx(float(expected.norm()), rel=1e-5)
        stepped = trainer.do(Step(Version(version), contributions, 3.0, 0.5, Version(0)))
        gradients = [torch.zeros_like(parameter) for parameter in live.parameters()]
        for one in contributions:
            maker = snapshots[one.version]
            images = torch.tanh(maker.values(latent(one.version, one.index)))
            merged = to_torch(one.feedback).reshape(-1, 2) * one.weight / 3
            parts = torch.autograd.grad(images, list(maker.parameters()), merged)
            gradients = [total + part for total, part in zip(gradients, parts, strict=True)]
        for parameter, gradient in zip(live.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.param_groups[0]["lr"] = TRAINING.lr_generator * 0.5
        optimizer.step()
        decay = min(TRAINING.ema, (2 + version) / (11 + version))
        mean = decay * mean + (1 - decay) * live.flat()
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        assert isinstance(stepped, Stepped)
        assert (stepped.version, stepped.gradient_norm) == (version + 1, pytest.approx(norm, rel=1e-5))
        assert close(trainer.parameters, live.flat())
        assert close(trainer.average, mean)


def test_snapshots_older_than_any_batch_in_use_are_forgotten() -> None:
    trainer = hub()
    made(trainer, 0)
    trainer.do(Step(Version(0), (given("ann", 0, 0, 1.0, 1),), 1.0, 1.0, Version(1)))
    made(trainer, 1)
    with pytest.raises(KeyError):
        trainer.do(Step(Version(1), (given("ann", 0, 1, 1.0, 1),), 1.0, 1.0, Version(1)))


# --- what a disk keeps ------------------------------------------------------------------------------------------------


def node(disk: ToyDisk) -> ToyNode:
    return ToyNode(NODE, draw_points(40, 7), disk)


def prepare(trainer: ToyNode, fresh: bool) -> Prepared:
    prepared = trainer.do(Prepare("run", DiscriminatorId("d1"), 0, fresh, TERMS))
    assert isinstance(prepared, Prepared)
    return prepared


def train(trainer: ToyNode, seed: int) -> Trained:
    x_d, x_g = to_wire(points(seed)), to_wire(points(seed + 1))
    trained = trainer.do(Train(Task(TaskId(seed), Version(0), 1.0, 2, x_d, x_g)))
    assert isinstance(trained, Trained)
    return trained


def test_a_node_that_starts_again_goes_on_as_if_nothing_had_happened() -> None:
    disk = ToyDisk()
    trainer = node(disk)
    prepare(trainer, fresh=True)
    for seed in range(3):
        train(trainer, seed)
    trainer.do(Save())
    expected = [train(trainer, seed) for seed in range(3, 6)]
    again = node(disk)
    prepared = prepare(again, fresh=False)
    assert (disk.run_id, disk.held, prepared.held.tasks) == ("run", prepared.held, 3)
    assert [train(again, seed) for seed in range(3, 6)] == expected


def test_a_kept_disk_is_as_it_was_whatever_is_saved_later() -> None:
    disk = ToyDisk()
    trainer = node(disk)
    held = prepare(trainer, fresh=True).held
    trainer.do(Save())
    kept = toy().keep(disk)
    expected = train(trainer, 0)
    trainer.do(Save())
    again = node(kept)
    assert prepare(again, fresh=False).held == held
    assert train(again, 0) == expected


def test_a_fresh_discriminator_is_the_seeds_whatever_the_disk_holds() -> None:
    disk = ToyDisk()
    trainer = node(disk)
    prepare(trainer, fresh=True)
    first = train(trainer, 0)
    trainer.do(Save())
    for one in (trainer, node(disk)):
        assert prepare(one, fresh=True).held.tasks == 0
        assert train(one, 0) == first


def test_a_discriminator_that_diverges_has_no_feedback_to_give() -> None:
    trainer = node(ToyDisk())
    trainer.do(Prepare("run", DiscriminatorId("d1"), 0, True, replace(TERMS, lr=1e38)))
    assert [train(trainer, seed).feedback for seed in range(2)][-1] is None


# --- shards -----------------------------------------------------------------------------------------------------------


def toy(shards: str = "iid", nodes: int = 8) -> Toy:
    return Toy(replace(SETTINGS, swarm=SwarmSettings(shards=shards)), nodes)


def modes_of(secrets: frozenset[bytes]) -> set[int]:
    samples = np.frombuffer(b"".join(sorted(secrets)), np.float32).reshape(-1, 2)
    return set(np.linalg.norm(samples[:, None] - centres(), axis=2).argmin(axis=1).tolist())


def test_a_shard_holds_as_many_modes_as_the_strategy_says_and_all_shards_hold_all() -> None:
    names = [NodeId(f"n{rank}") for rank in range(8)]
    skewed = [modes_of(toy("labels=2").secrets(name)) for name in names]
    assert [len(modes) for modes in skewed] == [2] * 8
    assert set().union(*skewed) == set(range(MODES))
    assert all(len(modes_of(toy().secrets(name))) == MODES for name in names)
    assert sum(toy().shard_size(name) for name in names) == sum(toy("dirichlet=0.3").shard_size(name) for name in names)


def test_a_node_that_joins_later_has_one_of_the_shards() -> None:
    bodies = toy("labels=2", nodes=4)
    shards = [bodies.secrets(NodeId(f"n{rank}")) for rank in range(4)]
    assert bodies.secrets(NodeId("c17")) in shards


def test_secrets_are_samples_as_they_lie_in_a_tensor() -> None:
    secrets = toy().secrets(NODE)
    assert {len(secret) for secret in secrets} == {8}
    assert max(abs(np.frombuffer(secret, np.float32)).max() for secret in secrets) <= 1


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_tell_good_from_blurred_from_few_modes_from_noise() -> None:
    rng = np.random.default_rng(0)
    real = draw_points(SAMPLES, 1)
    four, one = (real[np.arange(SAMPLES) % MODES < count] for count in (4, 1))
    sets = {
        "real": real,
        "narrowed": real * np.float32(0.8),
        "four": np.resize(four, (SAMPLES, 2)),
        "one": np.resize(one, (SAMPLES, 2)),
        "blurred": real + (3 * SIGMA * rng.standard_normal((SAMPLES, 2))).astype(np.float32),
        "noise": rng.uniform(-1, 1, (SAMPLES, 2)).astype(np.float32),
    }
    found = {name: Scorer(SAMPLES, 2).scores(some) for name, some in sets.items()}
    distance, modes, quality = ({name: f[key] for name, f in found.items()} for key in found["real"])
    assert distance["real"] < 0.02
    assert distance["real"] < distance["narrowed"] < distance["four"] < distance["one"]
    assert distance["real"] < distance["blurred"] < distance["noise"] < distance["four"]
    assert [modes[name] for name in ("real", "four", "one", "noise")] == [8, 4, 1, 0]
    assert quality["real"] > 0.97
    assert quality["real"] > quality["blurred"] > quality["noise"]


def test_the_distance_between_two_shifted_sets_is_that_of_the_shift() -> None:
    """On direction u the sets are |shift . u| apart, and (shift . u)^2 is |shift|^2 / 2 on average."""
    shifted = draw_points(SAMPLES, 2) + np.array([0.3, 0.4], np.float32)
    assert Scorer(SAMPLES, 2).sliced_wasserstein(shifted) == pytest.approx(0.5 / math.sqrt(2), rel=1e-5)


def test_a_generator_that_has_diverged_has_no_scores_and_says_why() -> None:
    trainer = hub()
    trainer.average[:] = math.nan
    result = trainer.do(Evaluate(Version(0), final=False)).finish()
    assert isinstance(result, Evaluated)
    assert set(result.scores.values()) == {None}
    assert result.missing is not None
    assert "diverged" in result.missing


# --- whole runs -------------------------------------------------------------------------------------------------------


def scenario(seconds: int, nodes: int = 10, **settings: object) -> Scenario:
    given = {"training.steps": 1_000_000, **{name.replace("__", "."): value for name, value in settings.items()}}
    return Scenario(name="ring", duration=Duration(seconds * S), nodes=nodes, settings=given, fidelity="toy")


def scores(run: Played) -> dict[str, float | None]:
    core = run.world.last_hub_core
    assert core is not None
    assert core.evaluations.last is not None
    return dict(core.evaluations.last.scores)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_swarm_learns_all_modes(mode: str, seed: int) -> None:
    run = play(plan_run(scenario(100, mode=mode, hub__evaluate_every=50), seed))
    assert run.checks.violations == []
    assert run.checks.verdicts()["samples_stay"] is True
    found = scores(run)
    assert found["modes"] == MODES, f"seed {seed}: {found}"
    assert found["sliced_wasserstein"] is not None
    assert found["sliced_wasserstein"] < LEARNT, f"seed {seed}: {found}"


def test_a_generator_that_has_learnt_nothing_is_far_from_that() -> None:
    result = hub().do(Evaluate(Version(0), final=False)).finish()
    assert isinstance(result, Evaluated)
    assert result.scores["sliced_wasserstein"] is not None
    assert result.scores["sliced_wasserstein"] > 2 * LEARNT
    assert result.scores["modes"] != MODES


def test_the_same_seed_computes_the_same_in_two_processes() -> None:
    check_determinism(plan_run(scenario(6, nodes=4)).scenario)


def test_a_run_needs_no_torch() -> None:
    code = (
        "import sys; from sim.play import plan_run, play; from sim.scenario.reading import find_scenario; "
        "played = play(plan_run(find_scenario('calm'), fidelity='toy', assignments={'training.steps': 3})); "
        "sys.exit(played.world.last_hub_core.training.version != 3 or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_loss_with_a_gradient_penalty_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"wgan_gp.*choose non_saturating, saturating, hinge, or .*full"):
        plan_run(scenario(1, training__loss="wgan_gp"))


def test_what_a_scenario_sets_goes_before_what_suits_the_toy() -> None:
    training = plan_run(scenario(1, training__batch_size=4)).settings.training
    assert training.batch_size == 4
    assert training.lr_generator == TOY_TRAINING["training.lr_generator"]


def test_a_run_from_the_command_line_leaves_its_scores(tmp_path: Path) -> None:
    words = ["run", "calm", "--fidelity", "toy", "--set", "training.steps=12", "--set", "hub.evaluate_every=4"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (found["fidelity"], found["outcome"], found["version"]) == ("toy", "completed", 12)
    assert found["scores"].keys() == {"sliced_wasserstein", "modes", "quality"}
    assert 'name = "toy"' in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize("seed", [4, 10])
def test_a_run_in_all_weathers_violates_nothing(seed: int) -> None:
    assert play(plan_run(find_scenario("everything"), seed, "toy")).checks.violations == []
