"""What a node keeps on disk, who may read it, and what it says when it is not what it wrote."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from mdgan_edge.data.images import Images
from mdgan_edge.errors import ConfigurationError, DataError, ExitCode, TryLater
from mdgan_edge.gan.models import architecture, build_discriminator
from mdgan_edge.gan.tensors import to_torch, to_wire
from mdgan_edge.messages import (
    DiscriminatorId,
    HeldDiscriminator,
    ModelSettings,
    NodeId,
    NodeTerms,
    Task,
    TaskId,
    Version,
)
from nodes.jobs import Prepare, Prepared, Save, Saved, Train, Trained
from nodes.saved import FORMAT, SavedDiscriminator, read_discriminator, write_discriminator
from nodes.store import NodeStore
from nodes.trainer import NodeTrainer

torch.set_num_threads(1)

MODEL = ModelSettings(name="cnn", image_size=9, channels=1, classes=3, latent_size=6)
TERMS = NodeTerms(MODEL, 4, 4, "wgan_gp", 0.01, (0.5, 0.9), 10.0)
MINE = DiscriminatorId("d1-ann")
HELD = HeldDiscriminator(MINE, 2, "fingerprint", 17)
FINGERPRINT = architecture(build_discriminator(MODEL, seed=0))


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore.create(tmp_path / "ann", "ann")


def discriminator_file(store: NodeStore) -> Path:
    return store.folder / "discriminator.safetensors"


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_new_node_has_a_name_and_a_key_that_only_its_owner_can_read(store: NodeStore) -> None:
    again = NodeStore(store.folder)
    assert again.node_id() == "ann"
    assert again.keys() == store.keys()
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert (store.folder / "node.secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("path", "mode"), [("node.secret", 0o640), (".", 0o750)])
def test_a_key_that_others_could_read_is_not_used(store: NodeStore, path: str, mode: int) -> None:
    (store.folder / path).chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod"):
        store.keys()


def test_no_node_is_called_as_the_hub_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="node name 'hub': so the hub is called; choose another name"):
        NodeStore.create(tmp_path / "hub", "hub")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_node_is_not_made_one_again(store: NodeStore) -> None:
    keys = store.keys()
    with pytest.raises(ConfigurationError, match="is a node already"):
        NodeStore.create(store.folder, "bob")
    assert (store.node_id(), store.keys()) == ("ann", keys)


@pytest.mark.parametrize("name", ["", "Ann", "-ann", "a" * 33, "../ann"])
def test_a_name_that_cannot_be_registered_makes_no_node(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="node name"):
        NodeStore.create(tmp_path / "new", name)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_no_node_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"mdgan-node init NAME --state {tmp_path}"):
        NodeStore(tmp_path).node_id()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"node_id": 5}'])
def test_a_name_that_cannot_be_read_is_a_data_error(store: NodeStore, text: str) -> None:
    (store.folder / "node.json").write_text(text)
    with pytest.raises(DataError, match=r"node\.json"):
        store.node_id()


def test_a_folder_is_used_by_one_process_at_a_time(store: NodeStore) -> None:
    assert not store.running()
    store.lock()
    other = NodeStore(store.folder)
    assert other.running()
    with pytest.raises(TryLater, match="another mdgan-node uses"):
        other.lock()
    assert TryLater.exit_code is ExitCode.TRY_LATER


def test_asking_whether_a_node_runs_does_not_keep_it_from_running(store: NodeStore) -> None:
    assert not store.running()
    NodeStore(store.folder).lock()


def test_an_incarnation_is_never_given_twice(store: NodeStore) -> None:
    assert [store.next_incarnation(), store.next_incarnation()] == [1, 2]
    assert NodeStore(store.folder).next_incarnation() == 3


@pytest.mark.parametrize("text", ["", "many", "1.5"])
def test_an_incarnation_that_cannot_be_read_is_not_guessed(store: NodeStore, text: str) -> None:
    (store.folder / "incarnation").write_text(text)
    with pytest.raises(DataError, match="must hold a number"):
        store.next_incarnation()


def test_what_a_killed_process_has_half_written_is_swept_away_and_nothing_else(store: NodeStore) -> None:
    left = [".discriminator.safetensors.4711.tmp", ".shadow.safetensors.1.tmp"]
    kept = ["notes.tmp", ".4711.tmp", ".shadow.safetensors.x.tmp", ".shadow.safetensors.12.tmp.bak"]
    for name in (*left, *kept):
        (store.folder / name).write_text("half")
    (store.folder / ".folder.1.tmp").mkdir()
    store.lock()
    names = {path.name for path in store.folder.iterdir()}
    assert not names & set(left)
    assert names >= {*kept, ".folder.1.tmp", "node.json", "node.secret"}


# --- the discriminator ------------------------------------------------------------------------------------------------


def test_a_new_node_holds_no_discriminator(store: NodeStore) -> None:
    assert read_discriminator(store.discriminator) is None


def test_a_discriminator_comes_back_bit_for_bit(store: NodeStore) -> None:
    tensors = {"module.a": torch.randn(3, 2), "adam.0.step": torch.tensor(5.0)}
    write_discriminator(store.discriminator, SavedDiscriminator("run-0", HELD, {"module.old": torch.zeros(1)}))
    write_discriminator(store.discriminator, SavedDiscriminator("run-1", HELD, tensors))
    saved = read_discriminator(NodeStore(store.folder).discriminator)
    assert saved is not None
    assert (saved.run_id, saved.held) == ("run-1", HELD)
    assert saved.tensors.keys() == tensors.keys()
    assert all(torch.equal(saved.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    "facts",
    [
        None,
        {"format": "something else"},
        {"format": FORMAT},
        {"format": FORMAT, "held": "{", "run_id": "run-1"},
        {"format": FORMAT, "held": '{"hop": 1}', "run_id": "run-1"},
        {"format": FORMAT, "held": msgspec.json.encode(HELD).decode()},
    ],
    ids=["no facts", "another format", "nothing held", "broken", "incomplete", "no run"],
)
def test_a_file_that_is_no_discriminator_is_refused_with_what_to_do(store: NodeStore, facts: dict[str, str]) -> None:
    path = discriminator_file(store)
    save_file({"module.a": torch.zeros(1)}, path, facts)
    with pytest.raises(DataError, match=f"move {path} away"):
        read_discriminator(store.discriminator)


@pytest.mark.parametrize("cut", [0, 7, 60, -1])
def test_a_file_that_is_cut_short_is_refused_with_what_to_do(store: NodeStore, cut: int) -> None:
    write_discriminator(store.discriminator, SavedDiscriminator("run-1", HELD, {"module.a": torch.zeros(9)}))
    path = discriminator_file(store)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=f"move {path} away"):
        read_discriminator(store.discriminator)


# --- the trainer that writes it ---------------------------------------------------------------------------------------


def shard(count: int = 11) -> Images:
    rng = torch.Generator().manual_seed(3)
    x = torch.randint(256, (count, 1, 9, 9), generator=rng).to(torch.uint8).numpy()
    return Images(x, torch.randint(3, (count,), generator=rng).numpy(), "made up")


def task(number: int) -> Task:
    rng = torch.Generator().manual_seed(number)
    x_d, x_g = (to_wire(torch.rand(4, 1, 9, 9, generator=rng)) for _ in range(2))
    y_d, y_g = (to_wire(torch.randint(3, (4,), generator=rng)) for _ in range(2))
    return Task(TaskId(number), Version(number), 10.0, 2, x_d, x_g, y_d, y_g)


def prepare(fresh: bool, terms: NodeTerms = TERMS, labels: tuple[int, ...] | None = None) -> Prepare:
    return Prepare("run-1", MINE, 0, fresh, terms, labels)


def train(trainer: NodeTrainer, numbers: range) -> list[Trained]:
    results = [trainer.do(Train(task(number))) for number in numbers]
    assert all(isinstance(result, Trained) for result in results)
    return [result for result in results if isinstance(result, Trained)]


def test_a_node_that_is_stopped_and_started_answers_like_one_that_was_not(store: NodeStore) -> None:
    whole = NodeTrainer(NodeId("ann"), shard(), None)
    whole.do(prepare(fresh=True))
    expected = train(whole, range(5))
    first = NodeTrainer(NodeId("ann"), shard(), store.discriminator)
    assert first.saved is None
    assert first.do(prepare(fresh=True)) == Prepared(HeldDiscriminator(MINE, 0, FINGERPRINT, 0))
    train(first, range(3))
    assert first.do(Save()) == Saved()
    second = NodeTrainer(NodeId("ann"), shard(), NodeStore(store.folder).discriminator)
    held = HeldDiscriminator(MINE, 0, FINGERPRINT, 3)
    assert second.saved is not None
    assert (second.saved.run_id, second.saved.held) == ("run-1", held)
    assert second.do(prepare(fresh=False)) == Prepared(held)
    found = train(second, range(3, 5))
    assert [one.feedback for one in found] == [one.feedback for one in expected[3:]]
    assert [(one.loss_d, one.loss_g, one.tasks) for one in found] == [
        (one.loss_d, one.loss_g, one.tasks) for one in expected[3:]
    ]


def test_what_is_judged_follows_the_shard_and_not_the_discriminator(store: NodeStore) -> None:
    aware = msgspec.structs.replace(TERMS, label_aware=True)
    first = NodeTrainer(NodeId("ann"), shard(), store.discriminator)
    first.do(prepare(fresh=True, terms=aware, labels=(0, 1)))
    assert judged_labels(*train(first, range(3))) <= {0, 1}
    first.do(Save())
    second = NodeTrainer(NodeId("ann"), shard(), store.discriminator)
    second.do(prepare(fresh=False, terms=aware, labels=(2,)))
    assert judged_labels(*train(second, range(3, 9))) == {2}


def judged_labels(*results: Trained) -> set[int]:
    """The labels of the samples whose feedback is not zero."""
    found: set[int] = set()
    for result in results:
        assert result.feedback is not None
        assert result.task.y_g is not None
        pairs = zip(to_torch(result.feedback), to_torch(result.task.y_g).tolist(), strict=True)
        found |= {label for row, label in pairs if row.any()}
    return found


def test_a_discriminator_at_hand_is_kept_and_a_fresh_one_begins_anew(store: NodeStore) -> None:
    trainer = NodeTrainer(NodeId("ann"), shard(), store.discriminator)
    trainer.do(prepare(fresh=True))
    first = train(trainer, range(2))
    assert trainer.do(prepare(fresh=False)) == Prepared(HeldDiscriminator(MINE, 0, FINGERPRINT, 2))
    assert trainer.do(prepare(fresh=True)) == Prepared(HeldDiscriminator(MINE, 0, FINGERPRINT, 0))
    assert [one.feedback for one in train(trainer, range(2))] == [one.feedback for one in first]


def test_a_saved_discriminator_of_another_model_is_refused_with_what_to_do(store: NodeStore) -> None:
    trainer = NodeTrainer(NodeId("ann"), shard(), store.discriminator)
    trainer.do(prepare(fresh=True))
    trainer.do(Save())
    wider = msgspec.structs.replace(TERMS, model=msgspec.structs.replace(MODEL, classes=4))
    with pytest.raises(DataError, match=r"move discriminator\.safetensors away"):
        NodeTrainer(NodeId("ann"), shard(), store.discriminator).do(prepare(fresh=False, terms=wider))


def test_nothing_is_saved_before_there_is_a_discriminator(store: NodeStore) -> None:
    assert NodeTrainer(NodeId("ann"), shard(), store.discriminator).do(Save()) == Saved()
    assert read_discriminator(store.discriminator) is None


def test_a_diverged_discriminator_gives_no_feedback() -> None:
    trainer = NodeTrainer(NodeId("ann"), shard(), None)
    trainer.do(prepare(fresh=True))
    broken = to_wire(torch.full((4, 1, 9, 9), float("nan")))
    result = trainer.do(Train(msgspec.structs.replace(task(1), x_d=broken)))
    assert isinstance(result, Trained)
    assert (result.feedback, result.tasks) == (None, 1)
