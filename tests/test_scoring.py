"""What scores beside the training: the child, what it answers, and what becomes of it when it dies or hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from broker.scoring import ENDED, NO_REAL_IMAGES, NoScores, ScorerFacts, ScoringProcess, SnapshotScorer, scored
from mdgan_edge.cache import cache_folder, keep
from mdgan_edge.data.images import Images
from mdgan_edge.errors import DataError
from mdgan_edge.gan.classifier import Classifier
from mdgan_edge.gan.generator import GeneratorState
from mdgan_edge.gan.scores import Scorer
from mdgan_edge.messages import ModelSettings
from mdgan_edge.settings import Settings, TrainingSettings

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, classes=3, latent_size=6)
SETTINGS = replace(Settings(), model=MODEL, training=TrainingSettings(seed=4), hub=replace(Settings().hub, samples=40))


def images(count: int = 60, labels: bool = True) -> Images:
    y = np.arange(count, dtype=np.int64) % 3
    x = np.broadcast_to((y * 60)[:, None, None, None], (count, 1, 9, 9)).astype(np.uint8)
    return Images(x, y if labels else None, "made up")


def scorer() -> SnapshotScorer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return SnapshotScorer(SETTINGS, Scorer(Classifier(1, 9, 3), images(), 0, None))


def average(seed: int = 4) -> dict[str, torch.Tensor]:
    return GeneratorState(MODEL, TrainingSettings(seed=seed)).average.state_dict()


# --- the child --------------------------------------------------------------------------------------------------------


def test_the_child_answers_what_this_process_would_have() -> None:
    process, here = ScoringProcess(scorer), scorer()
    try:
        assert [process.scores(average(seed)) for seed in (4, 5)] == [here.scores(average(seed)) for seed in (4, 5)]
        assert process.facts == here.facts != ScorerFacts()
    finally:
        process.close()


def test_the_child_gives_way_to_training() -> None:
    process = ScoringProcess(scorer)
    try:
        process.scores(average())
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        process.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_hub_leaves_the_child_its_last_scores(number: signal.Signals) -> None:
    process = ScoringProcess(scorer)
    try:
        assert process.scores(average()).reason is not ENDED
        os.kill(process.pid, number)
        assert process.scores(average()).fid_classifier is not None
    finally:
        process.close()


def test_a_child_that_was_killed_gives_no_scores_and_says_so() -> None:
    process = ScoringProcess(scorer)
    try:
        os.kill(process.pid, signal.SIGKILL)
        assert process.scores(average()).reason == ENDED
        assert process.facts == ScorerFacts()
    finally:
        process.close()


def test_a_child_that_fails_gives_no_scores_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> SnapshotScorer:
        raise RuntimeError("no classifier today")

    process = ScoringProcess(broken)
    try:
        assert process.scores(average()).reason == ENDED
        assert "no classifier today" in capfd.readouterr().err
    finally:
        process.close()


def test_a_child_that_hangs_is_ended_with_the_hub() -> None:
    process = ScoringProcess(signal.pause)  # type: ignore[arg-type]
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_without_images_or_labels_nobody_is_started() -> None:
    with scored(SETTINGS, None, None) as scoring:
        assert isinstance(scoring, NoScores)
        assert scoring.scores(average()).reason == NO_REAL_IMAGES
    with scored(SETTINGS, (images(labels=False), images()), None) as scoring:
        assert isinstance(scoring, NoScores)
        assert "no labels" in str(scoring.scores(average()).reason)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_operator_says_else_where_caches_are() -> None:
    assert cache_folder({"MDGAN_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_folder({"XDG_CACHE_HOME": "/b"}) == Path("/b/mdgan-edge")
    assert cache_folder({"MDGAN_CACHE": ""}) == Path.home() / ".cache" / "mdgan-edge"


def test_what_is_kept_is_there_whole_and_its_folder_is_made(tmp_path: Path) -> None:
    keep(tmp_path / "deep" / "folder" / "file", b"first")
    keep(tmp_path / "deep" / "folder" / "file", b"second")
    assert [path.read_bytes() for path in (tmp_path / "deep" / "folder").iterdir()] == [b"second"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="set MDGAN_CACHE"):
        keep(tmp_path / "file" / "folder" / "file", b"")
