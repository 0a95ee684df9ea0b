"""Scores: each against an independent oracle, the classifier and its cache, a calibration on images we understand."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import prdc
import pytest
import torch
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from torch import Tensor
from torch.nn import functional
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from mdgan_edge.data.images import Images, to_unit
from mdgan_edge.data.sources import load
from mdgan_edge.gan import classifier as classifying
from mdgan_edge.gan import scores as scoring
from mdgan_edge.gan.scores import Scorer, Scores

SEED = 0


@pytest.fixture(scope="module")
def train() -> Images:
    """The digits' training part."""
    return load("digits", "train", SEED)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the classifier of these tests is kept."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def scorer(train: Images, cache: Path) -> Scorer:
    """A scorer for digits; trained once."""
    torch.set_num_threads(1)
    return Scorer.build(train, load("digits", "test", SEED), SEED, cache)


@pytest.fixture(scope="module")
def calibration(scorer: Scorer, train: Images) -> dict[str, Scores]:
    """The scores of images of which we know how good they are."""
    x, y = unit(train), torch.from_numpy(np.asarray(train.y))
    samples = {
        "real": x[:1000],
        "blurred": functional.avg_pool2d(x[:1000], 5, stride=1, padding=2, count_include_pad=False),
        "five classes": x[y < 5][:1000],
        "one class": x[y == 3],
        "noise": torch.rand((1000, 1, 28, 28), generator=torch.Generator().manual_seed(SEED)) * 2 - 1,
    }
    return {name: scorer.scores(images) for name, images in samples.items()}


def unit(images: Images) -> Tensor:
    """As the generator makes them."""
    return torch.from_numpy(to_unit(images.x))


def cloud(count: int, shift: float = 0.0, seed: int = 0) -> Tensor:
    """Correlated, skewed features (count, 12)."""
    chance = torch.Generator().manual_seed(seed)
    mixed = torch.randn((count, 12), generator=chance) @ torch.randn((12, 12), generator=chance)
    return functional.relu(mixed + shift)


def made_up(count: int, labels: bool = True, classes: int = 3, size: int = 8, channels: int = 1) -> Images:
    """Tiny images, as bright as their class is high."""
    y = np.arange(count, dtype=np.int64) % classes
    x = np.broadcast_to((y * 60)[:, None, None, None], (count, channels, size, size)).astype(np.uint8)
    return Images(x, y if labels else None, "made-up")


# --- each formula against an oracle


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_frechet_distance_agrees_with_torchmetrics_and_with_scipy(shift: float) -> None:
    moments = (*scoring.moments(cloud(500)), *scoring.moments(cloud(300, shift, seed=1)))
    ours = scoring.frechet_distance(*moments)
    mean_a, covariance_a, mean_b, covariance_b = moments
    assert ours == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)
    root = np.real(sqrtm(covariance_a.numpy() @ covariance_b.numpy()))
    explicit = float((mean_a - mean_b).square().sum() + (covariance_a + covariance_b).trace()) - 2 * np.trace(root)
    assert ours == pytest.approx(explicit, rel=1e-6)


def test_frechet_distance_of_features_that_never_vary_is_the_distance_of_their_means() -> None:
    fixed = torch.ones(50, 12)
    assert scoring.frechet_distance(*scoring.moments(fixed), *scoring.moments(3 * fixed)) == pytest.approx(48)


def test_moments_are_those_of_numpy() -> None:
    mean, covariance = scoring.moments(cloud(200))
    assert np.allclose(mean, cloud(200).double().numpy().mean(0))
    assert np.allclose(covariance, np.cov(cloud(200).double().numpy().T))


def test_kid_agrees_with_torchmetrics() -> None:
    real, fake = cloud(300).double(), cloud(300, 0.5, seed=1).double()
    assert scoring.kid(real, fake) == pytest.approx(float(poly_mmd(real, fake)), rel=1e-9)


def test_precision_recall_density_and_coverage_agree_with_prdc() -> None:
    real, fake = cloud(300), cloud(200, 0.5, seed=1)
    theirs = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=scoring.NEIGHBOURS)
    ours = scoring.neighbourhood(real, scoring.radii(real), fake)
    assert asdict(ours) == pytest.approx(theirs, abs=1e-9)
    assert 0.02 < ours.coverage < 0.98


def test_classifier_score_is_the_inception_formula() -> None:
    p = torch.softmax(3 * torch.randn((100, 10), generator=torch.Generator().manual_seed(SEED)), dim=1).double()
    explicit = np.exp(np.mean([sum(row * np.log(row / p.mean(0).numpy())) for row in p.numpy()]))
    assert scoring.classifier_score(p) == pytest.approx(float(explicit), rel=1e-9)


def test_classifier_score_runs_from_one_to_the_number_of_classes() -> None:
    assert scoring.classifier_score(torch.eye(10).repeat(5, 1)) == pytest.approx(10)
    assert scoring.classifier_score(torch.eye(10)[:1].repeat(50, 1)) == pytest.approx(1)


def test_modes_count_classes_with_one_in_a_hundred_sure_samples() -> None:
    p = torch.zeros(200, 4)
    p[:, 0] = 1.0
    p[:2] = torch.tensor([0.0, 1.0, 0.0, 0.0])  # exactly 1 %
    p[2] = torch.tensor([0.0, 0.0, 1.0, 0.0])  # 0.5 %
    p[3:13] = torch.tensor([0.15, 0.0, 0.0, 0.85])  # many, but unsure
    assert scoring.modes(p) == 2


def test_label_total_variation_is_half_the_summed_difference() -> None:
    p = torch.eye(4)[torch.tensor([0, 0, 0, 1])]
    assert scoring.label_total_variation(p, torch.tensor([0.25, 0.25, 0.25, 0.25]).double()) == pytest.approx(0.5)


# --- the classifier and its cache


def test_the_classifier_knows_held_out_digits(scorer: Scorer) -> None:
    assert scorer.accuracy is not None
    assert scorer.accuracy >= 0.96


def test_a_kept_classifier_gives_the_same_scores_without_training(scorer: Scorer, train: Images, cache: Path) -> None:
    (kept,) = cache.iterdir()
    before = (kept.stat().st_ino, kept.stat().st_mtime_ns)
    again = Scorer.build(train, load("digits", "test", SEED), SEED, cache)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before  # what is trained is written, as a new file
    assert again.scores(unit(train)[:200]) == scorer.scores(unit(train)[:200])


def test_training_is_repeatable_and_leaves_the_random_stream_of_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, other = (classifying.obtain(made_up(60), 3, seed, None, steps=20).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_other_images_labels_or_seeds_do_not_fit_a_kept_classifier() -> None:
    images = made_up(60)
    assert images.y is not None
    variants = [
        classifying.cache_key(images, 3, 0),
        classifying.cache_key(images, 3, 1),
        classifying.cache_key(images, 4, 0),
        classifying.cache_key(replace(images, pixels=images.x + np.uint8(1)), 3, 0),
        classifying.cache_key(replace(images, y=images.y[::-1].copy()), 3, 0),
    ]
    assert len(set(variants)) == len(variants)
    assert classifying.cache_key(made_up(60), 3, 0) == variants[0]


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 200])
def test_a_broken_cache_is_made_anew(content: bytes, tmp_path: Path) -> None:
    first = classifying.obtain(made_up(60), 3, 0, tmp_path / "new", steps=2)
    (target,) = (tmp_path / "new").iterdir()
    kept = target.read_bytes()
    target.write_bytes(content)
    second = classifying.obtain(made_up(60), 3, 0, tmp_path / "new", steps=2)
    assert target.read_bytes() == kept
    assert torch.equal(first.head.weight, second.head.weight)
    assert list((tmp_path / "new").iterdir()) == [target]


def test_a_file_with_the_weights_of_other_images_is_not_believed(tmp_path: Path) -> None:
    classifying.obtain(made_up(60), 3, 0, tmp_path, steps=2)
    (of_others,) = tmp_path.iterdir()
    of_others.rename(tmp_path / f"classifier-{classifying.cache_key(made_up(61), 3, 0, 2)}.safetensors")
    found = classifying.obtain(made_up(61), 3, 0, tmp_path, steps=2)
    assert torch.equal(found.head.weight, classifying.obtain(made_up(61), 3, 0, None, steps=2).head.weight)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    found = classifying.obtain(made_up(60), 3, 0, tmp_path / "file" / "folder", steps=2)
    assert torch.equal(found.head.weight, classifying.obtain(made_up(60), 3, 0, None, steps=2).head.weight)


def test_two_processes_that_train_the_same_classifier_leave_one_whole_file(tmp_path: Path) -> None:
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            classifying.obtain(made_up(60), 3, 0, tmp_path, steps=20)
            os._exit(0)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    (kept,) = tmp_path.iterdir()
    trained = classifying.obtain(made_up(60), 3, 0, None, steps=20)
    assert torch.equal(load_file(kept)["head.weight"], trained.head.weight)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 1), (32, 3), (33, 3), (64, 3)])
def test_images_of_every_size_can_be_scored(size: int, channels: int) -> None:
    images = made_up(60, size=size, channels=channels)
    classifier = classifying.obtain(images, 3, SEED, None, steps=30)
    scores = Scorer(classifier, images, SEED, None).scores(unit(images))
    assert scores.fid_classifier == pytest.approx(0, abs=1e-4)


# --- what cannot be given


def test_without_labels_no_score_is_given_and_the_reason_says_why() -> None:
    scorer = Scorer.build(made_up(60, labels=False), made_up(60, labels=False), SEED)
    assert scorer.scores(torch.zeros(20, 1, 8, 8)) == Scores(reason=scorer.reason)
    assert "no labels" in str(scorer.reason)
    assert scorer.noise_fid() is None
    assert scorer.accuracy is None


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [(made_up(60, classes=1), made_up(60), "one class"), (made_up(60), made_up(5), "5 images")],
)
def test_data_that_cannot_carry_a_score_says_why(train: Images, test: Images, words: str) -> None:
    assert words in str(Scorer.build(train, test, SEED).reason)


def test_modes_are_not_counted_by_a_classifier_that_does_not_find_them_in_real_images() -> None:
    untrained = classifying.Classifier(1, 8, 3)
    scores = Scorer(untrained, made_up(60), SEED, None).scores(unit(made_up(60)))
    assert scores.modes is None
    assert scores.reason == scoring.UNSURE
    assert scores.coverage is not None


def test_images_that_are_not_finite_or_too_few_get_a_reason(scorer: Scorer) -> None:
    assert "not finite" in str(scorer.scores(torch.full((20, 1, 28, 28), torch.nan)).reason)
    assert "too few" in str(scorer.scores(torch.zeros(5, 1, 28, 28)).reason)


# --- calibration


def ranked(calibration: dict[str, Scores], score: str) -> list[float]:
    """One score of all five kinds, from real to noise."""
    return [getattr(scores, score) for scores in calibration.values()]


def test_real_images_score_as_real(calibration: dict[str, Scores]) -> None:
    real = calibration["real"]
    assert real.reason is None
    assert real.classifier_score is not None and real.classifier_score > 8.8  # noqa: PT018
    assert real.fid_classifier is not None and real.fid_classifier < 1  # noqa: PT018
    assert real.coverage is not None and real.coverage > 0.9  # noqa: PT018
    assert real.modes == 10
    assert real.label_total_variation is not None and real.label_total_variation < 0.05  # noqa: PT018
    assert real.kid is not None and abs(real.kid) < 0.3  # noqa: PT018
    assert real.precision is not None and real.precision > 0.85  # noqa: PT018


def test_real_is_the_best_in_every_score_that_judges(calibration: dict[str, Scores]) -> None:
    for score in ("classifier_score", "coverage"):
        real, *others = ranked(calibration, score)
        assert real > 1.1 * max(others), score
    for score in ("fid_classifier", "kid"):
        real, *others = ranked(calibration, score)
        assert real < 0.1 * min(others), score


def test_fewer_classes_cost_variety(calibration: dict[str, Scores]) -> None:
    real, five, one = (calibration[name] for name in ("real", "five classes", "one class"))
    assert [scores.modes for scores in (real, five, one)] == [10, 5, 1]
    for score in ("classifier_score", "coverage"):
        assert getattr(real, score) > getattr(five, score) > getattr(one, score), score
    for score in ("fid_classifier", "kid", "label_total_variation"):
        assert getattr(real, score) < getattr(five, score) < getattr(one, score), score


def test_noise_is_far_from_real_in_every_score_that_judges(calibration: dict[str, Scores], scorer: Scorer) -> None:
    noise = calibration["noise"]
    assert noise.classifier_score is not None and noise.classifier_score < 3  # noqa: PT018
    assert noise.coverage is not None and noise.coverage < 0.1  # noqa: PT018
    assert noise.modes is not None and noise.modes <= 3  # noqa: PT018
    assert noise.fid_classifier == pytest.approx(scorer.noise_fid(), rel=0.1)
    blurred, five = calibration["blurred"], calibration["five classes"]
    assert noise.fid_classifier is not None
    assert noise.fid_classifier > max(blurred.fid_classifier or 0, five.fid_classifier or 0)


def test_blur_is_seen(calibration: dict[str, Scores]) -> None:
    blurred, real = calibration["blurred"], calibration["real"]
    assert blurred.coverage is not None
    assert real.coverage is not None
    assert blurred.coverage < 0.5 * real.coverage
