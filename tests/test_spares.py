"""What a node has beside the discriminator it holds: a swap that was decided is carried out after any death."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from mdgan_edge.digest import digest
from mdgan_edge.gan.parcel import pack
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, NodeId, SwapId, Tensor
from nodes.jobs import Install, Moved, Offer, Offered, Prepare, Prepared, Save, Shelve, Shelved
from nodes.saved import read_discriminator
from nodes.spares import Spares
from nodes.store import NodeStore
from nodes.trainer import NodeTrainer
from tests.test_node_store import FINGERPRINT, MINE, TERMS, prepare, shard, train

ANN, BOB = NodeId("ann"), NodeId("bob")
BOBS = DiscriminatorId("d2-bob")
GIVEN = (BOBS, 1)
ZOES = DiscriminatorId("d9-zoe")
SWAP = SwapId("bob/1/1")


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore.create(tmp_path / "ann", "ann")


def started(store: NodeStore) -> NodeTrainer:
    return NodeTrainer(ANN, shard(), store.discriminator)


def bobs_copy() -> tuple[Copy, NodeTrainer]:
    """Bob's, as it travels, and bob."""
    bob = NodeTrainer(BOB, shard(), None)
    bob.do(replace(prepare(fresh=True), discriminator_id=BOBS))
    train(bob, range(3))
    offered = bob.do(Offer(SWAP))
    assert isinstance(offered, Offered)
    rows = (offered.digest, offered.numbers, offered.counters)
    return Copy(SWAP, BOB, ANN, BOBS, 0, FINGERPRINT, *rows), bob


def prepared(store: NodeStore) -> tuple[NodeTrainer, NodeTrainer]:
    """Ann with bob's in her shadow slot, and bob."""
    ann = started(store)
    ann.do(prepare(fresh=True))
    train(ann, range(2))
    copy, bob = bobs_copy()
    shelved = ann.do(Shelve(copy))
    assert shelved == Shelved(copy, None, (HeldDiscriminator(*GIVEN, FINGERPRINT, 2),))
    return ann, bob


def test_a_spare_is_given_as_well_as_what_is_held(store: NodeStore) -> None:
    ann, _ = prepared(store)
    copy, _ = bobs_copy()
    given = ann.do(Offer(SWAP, GIVEN))
    assert isinstance(given, Offered)
    assert given.digest == copy.digest  # bob's, as it came
    assert ann.do(Offer(SWAP, ann.name)) == ann.do(Offer(SWAP))


def test_a_spare_that_is_not_here_any_more_is_not_given(store: NodeStore) -> None:
    assert prepared(store)[0].do(Offer(SWAP, (BOBS, 99))) == Offered(SWAP, "", None, None)


def test_what_is_adopted_leaves_no_backup_of_the_fresh_one_it_replaces(store: NodeStore) -> None:
    ann = started(store)
    ann.do(prepare(fresh=True))
    copy, _ = bobs_copy()
    name = (DiscriminatorId("d7-ann"), 0)
    ann.do(Shelve(copy, name))
    moved = ann.do(Install(*name, backup=False))
    assert isinstance(moved, Moved)
    assert (moved.held.discriminator_id, [one.discriminator_id for one in moved.spares]) == (name[0], [name[0]])


def test_what_was_adopted_from_one_that_trained_it_is_a_backup_also_if_a_welcome_tells_of_the_swap(
    store: NodeStore,
) -> None:
    ann = started(store)
    ann.do(prepare(fresh=True))
    copy, _ = bobs_copy()
    ann.do(Shelve(copy, (ZOES, 5)))
    ann.do(Install(ZOES, 5, backup=False))
    ann.do(Shelve(copy))
    welcomed = replace(prepare(fresh=False), discriminator_id=BOBS, hop=1)
    assert names(ann.do(welcomed).spares) == [GIVEN, (ZOES, 5)]


def parameters(trainer: NodeTrainer) -> dict[str, torch.Tensor]:
    assert trainer.state is not None
    return {name: value.clone() for name, value in trainer.state.tensors().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def names(spares: tuple[HeldDiscriminator, ...]) -> list[tuple[DiscriminatorId, int]]:
    return [(one.discriminator_id, one.hop) for one in spares]


def test_installing_flips_to_the_other_and_keeps_what_was_given_away(store: NodeStore) -> None:
    ann, bob = prepared(store)
    mine = parameters(ann)
    moved = ann.do(Install(*GIVEN))
    assert isinstance(moved, Moved)
    assert (moved.held.discriminator_id, moved.held.hop, moved.held.tasks) == (*GIVEN, 2)
    assert names(moved.spares) == [GIVEN, (MINE, 0)]
    assert same(parameters(ann), parameters(bob))
    backup = Spares(store.folder).named("run-1", (MINE, 0))
    assert backup is not None
    assert same(backup.tensors, mine)


@pytest.mark.parametrize("committed", [True, False])
def test_a_death_between_prepared_and_the_decision_loses_neither(store: NodeStore, committed: bool) -> None:
    ann, bob = prepared(store)
    mine, again = parameters(ann), started(store)
    assert again.saved is not None
    assert names((again.saved.held, *again.spares)) == [(MINE, 0), GIVEN]
    name, expected = (GIVEN, parameters(bob)) if committed else ((MINE, 0), mine)
    done = again.do(Prepare("run-1", *name, False, TERMS))
    assert isinstance(done, Prepared)
    assert done.held == HeldDiscriminator(*name, FINGERPRINT, 2)
    assert names(done.spares) == ([GIVEN, (MINE, 0)] if committed else [GIVEN])
    assert same(parameters(again), expected)


def test_a_death_after_installing_holds_what_was_installed(store: NodeStore) -> None:
    ann, bob = prepared(store)
    ann.do(Install(*GIVEN))
    again = started(store)
    assert again.saved is not None
    assert names((again.saved.held,)) == [GIVEN]
    assert names(again.spares) == [GIVEN, (MINE, 0)]
    again.do(Prepare("run-1", *GIVEN, False, TERMS))
    assert same(parameters(again), parameters(bob))


def test_what_is_held_is_on_disk_before_anybody_hears_of_the_shadow(store: NodeStore) -> None:
    ann, _ = prepared(store)
    saved = read_discriminator(store.discriminator)
    assert saved is not None
    assert (saved.held.discriminator_id, saved.held.tasks) == (MINE, 2)
    assert same(saved.tensors, parameters(ann))


def test_training_goes_on_after_installing_with_all_tasks_counted(store: NodeStore) -> None:
    ann, _ = prepared(store)
    ann.do(Install(*GIVEN))
    assert [result.tasks for result in train(ann, range(2, 4))] == [3, 4]


def test_spares_of_another_run_are_not_told(store: NodeStore) -> None:
    prepared(store)
    again = started(store)
    again.do(Prepare("run-2", MINE, 0, True, TERMS))
    assert again.spares == ()
    assert Spares(store.folder).named("run-2", GIVEN) is None


ROW = Tensor("float32", (3,), b"123412341234")


@pytest.mark.parametrize(
    ("changes", "trouble"),
    [
        ({"digest": "0" * 32}, "its digest is another"),
        ({"numbers": ROW}, "its digest is another"),
        ({"numbers": ROW, "counters": None, "digest": digest(ROW, None)}, "it has another number of parameters"),
    ],
)
def test_a_bad_copy_is_refused_and_changes_nothing(store: NodeStore, changes: dict[str, object], trouble: str) -> None:
    ann, _ = prepared(store)
    before = parameters(ann)
    bad = replace(bobs_copy()[0], **changes)
    shelved = ann.do(Shelve(bad))
    assert shelved == Shelved(bad, trouble, (HeldDiscriminator(*GIVEN, FINGERPRINT, 2),))
    assert same(parameters(ann), before)


def test_a_copy_that_is_not_finite_is_refused(store: NodeStore) -> None:
    ann = started(store)
    ann.do(prepare(fresh=True))
    copy, bob = bobs_copy()
    assert bob.state is not None
    broken = {name: value * float("nan") for name, value in bob.state.travelling(optimizer=True).items()}
    numbers, _ = pack({name: value for name, value in broken.items() if value.dtype == torch.float32})
    shelved = ann.do(Shelve(replace(copy, numbers=numbers, digest=digest(numbers, copy.counters))))
    assert isinstance(shelved, Shelved)
    assert (shelved.trouble, shelved.spares) == ("it is not finite", ())


def test_what_a_copy_says_of_its_architecture_is_not_believed(store: NodeStore) -> None:
    ann = started(store)
    ann.do(prepare(fresh=True))
    shelved = ann.do(Shelve(replace(bobs_copy()[0], architecture="made up")))
    assert isinstance(shelved, Shelved)
    assert [one.architecture for one in shelved.spares] == [FINGERPRINT]


def test_a_torn_spare_is_set_aside_told_of_once_and_stops_nobody(store: NodeStore) -> None:
    prepared(store)
    shadow = store.folder / "shadow.safetensors"
    shadow.write_bytes(b"torn")
    ann = started(store)
    assert ann.troubles == (f"cannot read {shadow}: set aside as shadow.unreadable, going on without it",)
    assert (ann.spares, (store.folder / "shadow.unreadable").read_bytes()) == ((), b"torn")
    assert started(store).troubles == ()


def test_without_a_folder_spares_are_kept_in_memory() -> None:
    ann = NodeTrainer(ANN, shard(), None)
    ann.do(prepare(fresh=True))
    ann.do(Shelve(bobs_copy()[0]))
    ann.do(Save())
    assert isinstance(ann.do(Install(*GIVEN)), Moved)
