"""Checkpoints on disk: they restore to the last bit, the last three are kept, and a torn one is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from broker.checkpoint_files import KEPT, checkpoint_files, newest_checkpoint, write_checkpoint
from mdgan_edge.errors import DataError
from mdgan_edge.gan.generator import GeneratorState, JudgedBatch, NodeFeedback
from mdgan_edge.gan.state import read_file
from mdgan_edge.messages import ModelSettings, Version
from mdgan_edge.settings import TrainingSettings

MODEL = ModelSettings(name="cnn28", image_size=28)
TRAINING = TrainingSettings(batch_size=4, seed=3)


def state(model: ModelSettings = MODEL) -> GeneratorState:
    return GeneratorState(model, TRAINING)


def stepped(one: GeneratorState, steps: int) -> list[torch.Tensor]:
    """Steps with feedback that depends on the version alone; the batches made on the way."""
    made = []
    for _ in range(steps):
        images, _ = one.make_batch(0)
        rng = torch.Generator().manual_seed(one.version)
        feedback = torch.randn(images.shape, generator=rng)
        one.step([JudgedBatch(one.version, 0, [NodeFeedback(feedback)])], 1.0, 1.0, one.version)
        made.append(images)
    return made


def read(folder: Path) -> tuple[Version | None, list[str]]:
    told: list[str] = []
    saved = newest_checkpoint(folder, told.append)
    return (None if saved is None else saved.version), told


def test_what_is_restored_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    first = state()
    stepped(first, 3)
    write_checkpoint(tmp_path / "checkpoints", first, "run-1")
    saved = newest_checkpoint(tmp_path / "checkpoints", pytest.fail)
    assert saved is not None
    assert (saved.run_id, saved.version, saved.model) == ("run-1", 3, MODEL)
    second = state()
    saved.restore(second)
    on, again = stepped(first, 4), stepped(second, 4)
    assert all(torch.equal(one, other) for one, other in zip(on, again, strict=True))
    for name, value in first.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name


def test_the_last_three_are_kept(tmp_path: Path) -> None:
    one = state()
    for _ in range(5):
        stepped(one, 1)
        write_checkpoint(tmp_path, one, "run-1")
    assert [path.name for path in checkpoint_files(tmp_path)] == [f"version-{n:06d}.safetensors" for n in (5, 4, 3)]
    assert len(checkpoint_files(tmp_path)) == KEPT


def test_torn_ones_of_later_versions_take_no_place_from_those_that_can_be_read(tmp_path: Path) -> None:
    for version in (7, 8, 9):
        (tmp_path / f"version-{version:06d}.safetensors").write_bytes(b"torn")
    one = state()
    for _ in range(5):
        stepped(one, 1)
        write_checkpoint(tmp_path, one, "run-1")
    assert [int(path.stem[-6:]) for path in checkpoint_files(tmp_path)] == [9, 8, 7, 5, 4, 3]


def test_order_is_by_version_also_beyond_six_digits(tmp_path: Path) -> None:
    for name in ("version-999999.safetensors", "version-1000000.safetensors"):
        (tmp_path / name).touch()
    assert checkpoint_files(tmp_path)[0].name == "version-1000000.safetensors"


@pytest.mark.parametrize("damage", [b"", b"not safetensors", None])
def test_a_torn_one_is_said_and_the_one_before_is_taken(tmp_path: Path, damage: bytes | None) -> None:
    one = state()
    for _ in range(2):
        stepped(one, 1)
        write_checkpoint(tmp_path, one, "run-1")
    newest = checkpoint_files(tmp_path)[0]
    newest.write_bytes(newest.read_bytes()[:-100] if damage is None else damage)
    version, told = read(tmp_path)
    assert version == 1
    assert len(told) == 1
    assert "version-000002.safetensors" in told[0]
    assert "going back to the one before" in told[0]


def spoil(one: GeneratorState) -> None:
    for parameter in one.module.parameters():
        parameter.data.fill_(float("nan"))


def test_a_generator_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    one = state()
    write_checkpoint(tmp_path, one, "run-1")
    stepped(one, 1)
    spoil(one)
    with pytest.raises(DataError, match="version 1 is not finite"):
        write_checkpoint(tmp_path, one, "run-1")
    assert read(tmp_path) == (0, [])


def test_one_that_is_not_finite_is_said_and_the_one_before_is_taken(tmp_path: Path) -> None:
    one = state()
    for _ in range(2):
        write_checkpoint(tmp_path, one, "run-1")
        stepped(one, 1)
    newest = checkpoint_files(tmp_path)[0]
    facts, tensors = read_file(newest)
    newest.write_bytes(save({name: value / 0 for name, value in tensors.items()}, facts))
    version, (told,) = read(tmp_path)
    assert version == 0
    assert "is not finite: going back to the one before" in told


def test_the_norms_of_late_come_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(), "run-1", (1.5, 0.1))
    saved = newest_checkpoint(tmp_path, pytest.fail)
    assert saved is not None
    assert saved.norms == (1.5, 0.1)


def test_where_there_is_none_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert read(tmp_path / "checkpoints") == (None, [])


def test_one_of_another_network_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(), "run-1")
    saved = newest_checkpoint(tmp_path, pytest.fail)
    assert saved is not None
    with pytest.raises(DataError, match="is of another network"):
        saved.restore(state(ModelSettings(name="mlp", image_size=28)))


def test_a_disk_that_will_not_have_it_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(DataError, match="cannot make"):
        write_checkpoint(tmp_path / "checkpoints", state(), "run-1")


def test_what_a_process_left_half_written_is_swept_away_by_the_next_checkpoint(tmp_path: Path) -> None:
    left = tmp_path / ".version-000003.safetensors.77.tmp"
    left.write_bytes(b"half")
    write_checkpoint(tmp_path, state(), "run-1")
    assert not left.exists()
