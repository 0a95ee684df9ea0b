"""What another node sends in a swap, or what lies on the disk, never ends a node: it is refused, or set aside."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from mdgan_edge.digest import digest
from mdgan_edge.gan.parcel import BATCHES_MAX, STEPS_MAX, pack, unpack
from mdgan_edge.messages import Copy, SwapId
from nodes.jobs import Install, Moved, Save, Shelve, Shelved, Train, Trained
from nodes.saved import SavedDiscriminator, read_discriminator, write_discriminator
from nodes.store import NodeStore
from nodes.trainer import NodeTrainer
from tests.test_node_store import MINE, prepare, shard, task, train
from tests.test_spares import ANN, BOBS, bobs_copy

HUGE = 1e30
OTHER = SwapId("bob/1/2")


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore.create(tmp_path / "ann", "ann")


def ann_of(store: NodeStore) -> NodeTrainer:
    return NodeTrainer(ANN, shard(), store.discriminator)


def training(store: NodeStore) -> NodeTrainer:
    ann = ann_of(store)
    ann.do(prepare(fresh=True))
    train(ann, range(2))
    return ann


def tampered(key: str, value: float) -> Copy:
    """A copy of bob's that is right but for the numbers of this kind, one of each tensor."""
    copy, bob = bobs_copy()
    assert bob.state is not None
    tensors = bob.state.travelling(optimizer=True)
    for name, values in tensors.items():
        if name.endswith(f".{key}"):
            values.view(-1)[0] = value
    numbers, counters = pack(tensors)
    return replace(copy, digest=digest(numbers, counters), numbers=numbers, counters=counters)


@pytest.mark.parametrize("steps", [-1.0, -2000.0, 0.5, 2.0 * STEPS_MAX, HUGE])
def test_a_copy_whose_adam_has_taken_no_such_number_of_steps_is_refused(store: NodeStore, steps: float) -> None:
    ann, copy = training(store), tampered("step", steps)
    assert ann.do(Shelve(copy)) == Shelved(copy, "its step is one that no training leaves", ())
    assert len(train(ann, range(2, 4))) == 2


def test_a_copy_with_a_negative_second_moment_is_refused(store: NodeStore) -> None:
    ann, copy = training(store), tampered("exp_avg_sq", -1e-9)
    assert ann.do(Shelve(copy)) == Shelved(copy, "its exp_avg_sq is one that no training leaves", ())


def test_a_copy_at_the_bounds_is_taken_and_can_be_trained(store: NodeStore) -> None:
    ann, copy = training(store), tampered("step", STEPS_MAX)
    assert isinstance(shelved := ann.do(Shelve(copy)), Shelved)
    assert shelved.trouble is None
    ann.do(Install(BOBS, 1))
    assert train(ann, range(2, 4))[-1].trouble is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("module.norm.running_var", torch.tensor([1.0, -1.0])),
        ("module.norm.num_batches_tracked", torch.tensor(-1)),
        ("module.norm.num_batches_tracked", torch.tensor(BATCHES_MAX + 1)),
    ],
)
def test_statistics_that_no_batch_normalisation_has_are_refused(name: str, values: torch.Tensor) -> None:
    tensors = {"module.w": torch.ones(2), name: values}
    with pytest.raises(ValueError, match="that no training leaves"):
        unpack(tensors, *pack(tensors))


def test_a_parameter_of_any_name_and_size_may_travel() -> None:
    tensors = {"module.step": torch.tensor([-0.5, HUGE]), "module.w": torch.tensor(-1.0)}
    assert unpack(tensors, *pack(tensors)).keys() == tensors.keys()


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", ["discriminator", "shadow"])
def test_a_disk_that_will_not_have_a_copy_costs_the_swap_and_no_more(
    store: NodeStore, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    ann, (copy, _) = training(store), bobs_copy()

    def replace_or_not(self: Path, target: Path) -> Path:
        if target.stem == full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    rename = Path.replace
    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", replace_or_not)
        shelved = ann.do(Shelve(copy))
    assert isinstance(shelved, Shelved)
    assert not shelved.theirs
    assert shelved.trouble is not None
    assert "No space left on device" in shelved.trouble
    assert shelved.spares == (), "what is not on the disk is not said to be there"
    train(ann, range(2, 4))
    assert isinstance(again := ann.do(Shelve(copy)), Shelved)
    assert (again.trouble, len(again.spares)) == (None, 1)


def bad_on_disk(store: NodeStore) -> None:
    """As a version without these checks may have left it."""
    ann = training(store)
    ann.do(Save())
    saved = read_discriminator(store.discriminator)
    assert saved is not None
    for name, values in saved.tensors.items():
        if name.endswith(".step"):
            values.fill_(-1.0)  # the next step divides by zero
    write_discriminator(store.discriminator, saved)


def test_a_discriminator_on_disk_that_cannot_be_trained_is_set_aside_once(store: NodeStore) -> None:
    bad_on_disk(store)
    ann = ann_of(store)
    ann.do(prepare(fresh=False))
    done = ann.do(Train(task(2)))
    assert isinstance(done, Trained)
    aside = store.discriminator.with_suffix(".unusable")
    assert done.feedback is None
    assert done.trouble is not None
    assert done.trouble.startswith(f"the discriminator {MINE} cannot be trained with (ZeroDivisionError")
    assert done.trouble.endswith(f"{aside} has it")
    assert (aside.exists(), store.discriminator.exists()) == (True, False)
    assert ann_of(store).saved is None, "a node that is started again begins as if it had none"
    ann.do(prepare(fresh=True))
    assert train(ann, range(3, 5))[-1].trouble is None


def test_a_spare_that_cannot_be_trained_gives_way_to_a_fresh_one(store: NodeStore) -> None:
    ann, (copy, _) = training(store), bobs_copy()
    ann.do(Shelve(copy))
    path = store.folder / "shadow.safetensors"
    saved = read_discriminator(path)
    assert saved is not None
    bad = {name: -torch.ones_like(v) if name.endswith(".step") else v for name, v in saved.tensors.items()}
    write_discriminator(path, SavedDiscriminator(saved.run_id, saved.held, bad))
    ann.do(Save())
    again = ann_of(store)
    again.do(prepare(fresh=False))
    assert isinstance(again.do(Install(BOBS, 1)), Moved)
    assert isinstance(done := again.do(Train(task(2))), Trained)
    assert done.trouble is not None


def test_what_a_discriminator_of_its_own_raises_is_not_hidden(store: NodeStore) -> None:
    ann = training(store)
    assert ann.state is not None
    for state in ann.state.optimizer.state.values():
        state["step"].fill_(-1.0)
    with pytest.raises(ZeroDivisionError):
        ann.do(Train(task(2)))
