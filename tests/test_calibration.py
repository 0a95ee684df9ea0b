"""Scores of images we understand, on data of one's own: real ones beat blurred ones, fewer classes and noise.

MDGAN_TEST_DATA names a folder; every .npz in it is tried. tests/test_scores.py does the same with the embedded digits,
with narrower limits: there the classifier knows its classes, of photographs it knows half.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from mdgan_edge.cache import cache_folder
from mdgan_edge.data.images import to_unit
from mdgan_edge.data.sources import load
from mdgan_edge.gan.scores import Scorer, Scores

torch.set_num_threads(1)

SEED = 0
COUNT = 1000
FOLDER = os.environ.get("MDGAN_TEST_DATA")
FILES = [f"npz:{path}" for path in sorted(Path(FOLDER).expanduser().glob("*.npz"))] if FOLDER else []
OWN = pytest.param("", marks=pytest.mark.skip(reason="set MDGAN_TEST_DATA to a folder with .npz files"))
SOURCES = FILES or [OWN]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The scores of each kind of images."""

    real: Scores
    blurred: Scores
    five: Scores
    one: Scores
    noise: Scores

    @property
    def worse(self) -> tuple[Scores, ...]:
        return self.blurred, self.five, self.one, self.noise


@cache
def calibration(source: str) -> Calibration:
    """One classifier and five sets of images; kept for the tests of this source."""
    train, test = load(source, "train", SEED), load(source, "test", SEED)
    scorer = Scorer.build(train, test, SEED, cache_folder(os.environ))
    images = train.subset(np.arange(min(len(train), 10 * COUNT)))
    x, y = torch.from_numpy(to_unit(images.x)), torch.from_numpy(np.asarray(images.y))
    blurred = functional.avg_pool2d(x[:COUNT], 5, stride=1, padding=2, count_include_pad=False)
    noise = torch.rand((COUNT, *images.shape), generator=torch.Generator().manual_seed(SEED)) * 2 - 1
    kinds = (x[:COUNT], blurred, x[y < 5][:COUNT], x[y == 3][:COUNT], noise)
    return Calibration(*(scorer.scores(kind) for kind in kinds))


def found(scores: Scores, name: str) -> float:
    value = getattr(scores, name)
    assert value is not None, (name, scores.reason)
    return float(value)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["fid_classifier", "kid"])
def test_real_images_are_nearest_to_real_images(source: str, name: str) -> None:
    scores = calibration(source)
    assert found(scores.real, name) < 0.5 * min(found(one, name) for one in scores.worse)


@pytest.mark.parametrize("source", SOURCES)
def test_real_images_cover_the_most(source: str) -> None:
    scores = calibration(source)
    assert found(scores.real, "coverage") > max(found(one, "coverage") for one in scores.worse)


@pytest.mark.parametrize("source", SOURCES)
def test_the_classifier_scores_real_images_highest(source: str) -> None:
    scores = calibration(source)
    assert found(scores.real, "classifier_score") > max(found(one, "classifier_score") for one in scores.worse)


@pytest.mark.parametrize("source", SOURCES)
def test_fewer_classes_cost_variety(source: str) -> None:
    scores = calibration(source)
    for name, better in (("coverage", -1), ("fid_classifier", 1), ("kid", 1), ("label_total_variation", 1)):
        real, five, one = (better * found(which, name) for which in (scores.real, scores.five, scores.one))
        assert real < five < one, name


@pytest.mark.parametrize("source", SOURCES)
def test_noise_is_far_off(source: str) -> None:
    scores = calibration(source)
    assert found(scores.noise, "coverage") < 0.1
    assert found(scores.noise, "fid_classifier") > found(scores.five, "fid_classifier")
