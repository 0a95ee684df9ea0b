"""The hub's shelf: what nodes that left have handed over, in files, and how it comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from broker.jobs import Forget, Forgotten, Give, Given, Keep, Kept
from broker.shelf import listed
from broker.trainer import HubTrainer
from mdgan_edge.actors import HUB
from mdgan_edge.digest import digest
from mdgan_edge.messages import Copy, DiscriminatorId, HeldDiscriminator, NodeId, SwapId, Tensor
from tests.test_trainer import SETTINGS

ANN, BOB = NodeId("ann"), NodeId("bob")
NUMBERS = Tensor("float32", (3,), np.arange(3, dtype=np.float32).tobytes(), 5**0.5)
COUNTERS = Tensor("int64", (2,), np.arange(2).tobytes())
ANNS = Copy(
    SwapId("=1/1"), ANN, HUB.node, DiscriminatorId("d1-ann"), 2, "a", digest(NUMBERS, COUNTERS), NUMBERS, COUNTERS
)
LISTED = HeldDiscriminator(ANNS.discriminator_id, 2, "a", 0)
GIVE = Give(SwapId("+1/1"), BOB, ANNS.discriminator_id)


def trainer(folder: Path | None) -> HubTrainer:
    return HubTrainer(SETTINGS, None, None, orphans=folder)


def fails(trouble: str) -> None:
    raise AssertionError(trouble)


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_is_kept_is_given_as_it_came_until_it_is_forgotten(tmp_path: Path, on_disk: bool) -> None:
    hub = trainer(tmp_path / "orphans" if on_disk else None)
    assert hub.do(Keep(ANNS, "run-1")) == Kept(ANNS.swap_id, None)
    given = hub.do(GIVE)
    assert isinstance(given, Given)
    assert given.copy is not None
    assert replace(given.copy, numbers=NUMBERS) == replace(ANNS, swap_id=GIVE.swap_id, sender=HUB.node, to=BOB)
    assert given.copy.numbers.data == NUMBERS.data
    assert hub.do(Forget((ANNS.discriminator_id,))) == Forgotten()
    assert hub.do(GIVE) == Given(GIVE.swap_id, BOB, ANNS.discriminator_id, None)


def test_it_outlives_the_process_and_is_of_its_run_only(tmp_path: Path) -> None:
    trainer(tmp_path).do(Keep(ANNS, "run-1"))
    assert listed(tmp_path, "run-1", fails) == (LISTED,)
    assert listed(tmp_path, "run-2", fails) == ()
    assert listed(tmp_path / "nowhere", "run-1", fails) == ()
    given = trainer(tmp_path).do(GIVE)
    assert isinstance(given, Given)
    assert given.copy is not None


def test_what_came_damaged_is_not_kept(tmp_path: Path) -> None:
    assert trainer(tmp_path).do(Keep(replace(ANNS, digest="00"), "run-1")) == Kept(
        ANNS.swap_id, "its digest is another"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_torn_file_is_told_of_and_never_given(tmp_path: Path) -> None:
    hub = trainer(tmp_path)
    hub.do(Keep(ANNS, "run-1"))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    told: list[str] = []
    assert listed(tmp_path, "run-1", told.append) == ()
    assert len(told) == 1
    assert str(file) in told[0]
    assert hub.do(GIVE) == Given(GIVE.swap_id, BOB, ANNS.discriminator_id, None)


def test_what_was_changed_on_disk_is_not_given(tmp_path: Path) -> None:
    hub = trainer(tmp_path)
    hub.do(Keep(ANNS, "run-1"))
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    assert hub.do(GIVE) == Given(GIVE.swap_id, BOB, ANNS.discriminator_id, None)


def test_what_is_called_otherwise_than_a_hub_calls_them_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "generator.safetensors").write_bytes(b"the run's")
    hub, name = trainer(tmp_path / "orphans"), DiscriminatorId("../generator")
    kept = hub.do(Keep(replace(ANNS, discriminator_id=name), "run-1"))
    assert kept == Kept(ANNS.swap_id, "'../generator' is no name that the hub gives")
    assert hub.do(replace(GIVE, discriminator_id=name)) == Given(GIVE.swap_id, BOB, name, None)
    assert hub.do(Forget((name,))) == Forgotten()
    assert (tmp_path / "generator.safetensors").read_bytes() == b"the run's"


def test_if_the_disk_is_full_the_hub_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    kept = trainer(tmp_path / "file" / "orphans").do(Keep(ANNS, "run-1"))
    assert isinstance(kept, Kept)
    assert kept.trouble is not None
    assert "cannot make" in kept.trouble
