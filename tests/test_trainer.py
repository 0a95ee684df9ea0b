"""The hub's trainer: what each job gives and which files it leaves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from PIL import Image

from broker.jobs import BatchesMade, Contribution, Evaluate, Evaluated, MakeBatches, Step, Stepped
from broker.scoring import NO_REAL_IMAGES, SnapshotScorer
from broker.trainer import HubTrainer, judged_batches
from mdgan_edge.actors import Aside
from mdgan_edge.data.images import Images
from mdgan_edge.gan.generator import GeneratorState
from mdgan_edge.gan.saved import load_generator
from mdgan_edge.gan.scores import Scorer, Scores
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import ModelSettings, NodeId, TaskId, Tensor, Version
from mdgan_edge.rundir import RunDirectory
from mdgan_edge.settings import Settings, TrainingSettings

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
SETTINGS = replace(Settings(), model=MODEL, training=TrainingSettings(seed=4, batch_size=4))
REASON = "nothing to learn from"


def feedback(seed: int) -> Tensor:
    return to_wire(torch.randn(4, 1, 9, 9, generator=torch.Generator().manual_seed(seed)))


def given(node: str, version: int, index: int, weight: float = 1.0, seed: int = 0) -> Contribution:
    return Contribution(TaskId(1), NodeId(node), Version(version), index, weight, feedback(seed))


def step(version: int, *contributions: Contribution) -> Step:
    return Step(Version(version), contributions, float(len(contributions)), 0.5, Version(0))


def no_scorer() -> SnapshotScorer:
    """What can give no score."""
    x = torch.zeros(4, 1, 9, 9, dtype=torch.uint8).numpy()
    return SnapshotScorer(SETTINGS, Scorer(None, Images(x, None, "made up"), 0, REASON))


def evaluated(trainer: HubTrainer, version: int, *, final: bool = False) -> Evaluated:
    """Both parts of an evaluation, one after the other."""
    aside = trainer.do(Evaluate(Version(version), final=final))
    assert isinstance(aside, Aside)
    result = aside.finish()
    assert isinstance(result, Evaluated)
    return result


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", "test", 4)


def test_batches_are_those_of_the_generator_in_order() -> None:
    made = HubTrainer(SETTINGS, None, None).do(MakeBatches(Version(0), 3))
    twin = GeneratorState(MODEL, SETTINGS.training)
    assert isinstance(made, BatchesMade)
    assert (made.version, len(made.batches)) == (0, 3)
    for index, batch in enumerate(made.batches):
        images, labels = twin.make_batch(index)
        assert labels is not None
        assert (batch.images, batch.labels) == (to_wire(images), to_wire(labels))


def test_batches_of_a_model_without_labels_have_none() -> None:
    made = HubTrainer(replace(SETTINGS, model=replace(MODEL, classes=0)), None, None).do(MakeBatches(Version(0), 2))
    assert isinstance(made, BatchesMade)
    assert [batch.labels for batch in made.batches] == [None, None]


def test_contributions_on_the_same_batch_are_judged_together_in_their_order() -> None:
    all_of_them = [
        replace(given("ann", 0, 0, 0.5, seed=1), part=0.75, labels=(0, 2)),
        given("cay", 0, 0, 1.0, seed=2),
        given("bob", 0, 1, 1.0, seed=3),
        given("ann", 1, 0, 1.0, seed=4),
    ]
    found = judged_batches(all_of_them)
    assert [(one.version, one.index, [given.weight for given in one.feedbacks]) for one in found] == [
        (0, 0, [0.5, 1.0]),
        (0, 1, [1.0]),
        (1, 0, [1.0]),
    ]
    given_to_it = [one for batch in found for one in batch.feedbacks]
    for there, here in zip(given_to_it, all_of_them, strict=True):
        assert torch.equal(there.feedback, to_torch(here.feedback))
        assert (there.part, there.labels) == (here.part, here.labels)
    assert judged_batches([]) == []


def test_a_step_is_the_generators_with_the_jobs_divisor_rate_and_weights() -> None:
    trainer, twin = HubTrainer(SETTINGS, None, None), GeneratorState(MODEL, SETTINGS.training)
    for version in range(2):
        trainer.do(MakeBatches(Version(version), 2))
        for index in range(2):
            twin.make_batch(index)
        job = step(version, given("ann", version, 0, 0.5, seed=1), given("bob", version, 1, seed=2))
        stepped = trainer.do(job)
        norm = twin.step(judged_batches(job.contributions), 2.0, 0.5, Version(0))
        assert isinstance(stepped, Stepped)
        assert (stepped.version, stepped.gradient_norm) == (version + 1, norm)
        assert stepped.seconds > 0
    found, expected = trainer.state.module.state_dict(), twin.module.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_evaluation_leaves_a_grid_and_the_generator(run: RunDirectory) -> None:
    trainer = HubTrainer(SETTINGS, run, None)
    trainer.do(MakeBatches(Version(0), 1))
    trainer.do(step(0, given("ann", 0, 0)))
    result = evaluated(trainer, 1)
    assert (result.version, set(result.scores.values()), result.missing) == (1, {None}, NO_REAL_IMAGES)
    assert [path.name for path in run.samples.iterdir()] == ["version-000001.png"]
    with Image.open(run.samples / "version-000001.png") as grid:
        assert grid.width == grid.height >= 10 * 9
        assert len(set(grid.convert("L").tobytes())) > 2
    saved = load_generator(run.generator)
    assert (saved.model, saved.version) == (MODEL, 1)
    assert all(torch.equal(saved.module[name], value) for name, value in trainer.state.module.state_dict().items())


def test_the_last_evaluation_leaves_a_final_grid_too(run: RunDirectory) -> None:
    HubTrainer(SETTINGS, run, None).do(Evaluate(Version(0), final=True))  # whatever becomes of the scores
    grids = {path.name: path.read_bytes() for path in run.samples.iterdir()}
    assert grids.keys() == {"version-000000.png", "final.png"}
    assert grids["final.png"] == grids["version-000000.png"]


def test_a_generator_that_is_not_finite_does_not_replace_the_one_that_was_saved(run: RunDirectory) -> None:
    trainer = HubTrainer(SETTINGS, run, None)
    evaluated(trainer, 0)
    before = run.generator.read_bytes()
    for parameter in trainer.state.average.parameters():
        parameter.data.fill_(float("nan"))
    trouble = evaluated(trainer, 0, final=True).trouble
    assert trouble is not None
    assert "not finite" in trouble
    assert run.generator.read_bytes() == before


def test_a_scorer_that_can_give_no_score_gives_none_of_each() -> None:
    result = evaluated(HubTrainer(SETTINGS, None, no_scorer()), 0)
    assert result.scores.keys() == {field.name for field in fields(Scores)} - {"reason"}
    assert (set(result.scores.values()), result.missing) == ({None}, REASON)


def test_an_evaluation_changes_nothing_that_training_depends_on(run: RunDirectory) -> None:
    looked_at, left_alone = (HubTrainer(SETTINGS, run, no_scorer()) for _ in range(2))
    for trainer in (looked_at, left_alone):
        trainer.do(MakeBatches(Version(0), 2))
    evaluated(looked_at, 0)
    for trainer in (looked_at, left_alone):
        trainer.do(step(0, given("ann", 0, 0), given("bob", 0, 1, seed=1)))
    made = [trainer.do(MakeBatches(Version(1), 2)) for trainer in (looked_at, left_alone)]
    assert made[0] == made[1]
    found, expected = looked_at.state.module.state_dict(), left_alone.state.module.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_job_of_another_version_is_a_bug() -> None:
    trainer = HubTrainer(SETTINGS, None, None)
    with pytest.raises(AssertionError):
        trainer.do(MakeBatches(Version(1), 1))
    with pytest.raises(AssertionError):
        trainer.do(step(1, given("ann", 1, 0)))
