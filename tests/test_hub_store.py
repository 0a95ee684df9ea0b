"""The hub's register and epoch survive, and a wrong folder or name is explained."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.cli import main
from broker.ownership import Owner, Record
from broker.store import DATABASE, RUNS_REMEMBERED, HubStore
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.messages import DiscriminatorId, Incarnation, NodeId
from mdgan_edge.wire.keys import generate
from mdgan_edge.wire.zap import Member, Revoked, Unknown
from tests.hub_world import ALICE, BOB, CAROL

KEY, OTHER = generate().public, generate().public


@pytest.fixture
def store(tmp_path: Path) -> HubStore:
    return HubStore.create(tmp_path / "hub")[0]


def lines(store: HubStore) -> list[tuple[str, str, str]]:
    return [(line.node, line.public_key, line.wish) for line in store.list()]


def test_a_hub_finds_its_keys_again(tmp_path: Path) -> None:
    _, keys = HubStore.create(tmp_path / "hub")
    assert HubStore(tmp_path / "hub").keys() == keys


def test_a_hub_is_not_made_over_another(store: HubStore) -> None:
    keys = store.keys()
    with pytest.raises(ConfigurationError, match="is a hub already"):
        HubStore.create(store.folder)
    assert store.keys() == keys


def test_a_folder_that_is_no_hub_is_named_with_the_remedy(tmp_path: Path) -> None:
    store = HubStore(tmp_path)
    uses: list[Callable[[], object]] = [
        store.next_epoch,
        store.list,
        lambda: store.add(ALICE, KEY),
        lambda: store.lookup(KEY),
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match=f"make one with `mdgan-hub init {tmp_path}`"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_a_hub_cannot_be_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(DataError, match="cannot make the hub's folder"):
        HubStore.create(tmp_path / "hub")


def test_a_broken_database_is_an_error_for_the_operator(store: HubStore) -> None:
    (store.folder / DATABASE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="cannot use"):
        store.next_epoch()


def test_every_epoch_is_one_more_than_any_before_and_is_kept(store: HubStore) -> None:
    assert [store.next_epoch(), store.next_epoch(), HubStore(store.folder).next_epoch()] == [1, 2, 3]


def test_a_node_is_known_by_its_key_once_added(store: HubStore) -> None:
    assert store.lookup(KEY) == Unknown()
    store.add(ALICE, KEY)
    assert (store.lookup(KEY), lines(store)) == (Member(ALICE), [("alice", KEY, "member")])


def test_the_same_line_twice_is_no_error(store: HubStore) -> None:
    store.add(ALICE, KEY)
    store.add(ALICE, KEY)
    assert lines(store) == [("alice", KEY, "member")]


def test_a_known_name_with_another_key_is_refused(store: HubStore) -> None:
    store.add(ALICE, KEY)
    with pytest.raises(ConfigurationError, match="registered with another key"):
        store.add(ALICE, OTHER)
    assert lines(store) == [("alice", KEY, "member")]


def test_a_known_key_under_another_name_is_refused(store: HubStore) -> None:
    store.add(ALICE, KEY)
    with pytest.raises(ConfigurationError, match="this key is registered as 'alice'"):
        store.add(BOB, KEY)
    assert lines(store) == [("alice", KEY, "member")]


@pytest.mark.parametrize(
    ("node", "key"),
    [("Alice", KEY), ("", KEY), ("hub", KEY), ("alice", "short"), ("alice", KEY[:-1] + " ")],
    ids=["capital", "no name", "the hub's name", "short key", "a space in the key"],
)
def test_what_is_no_name_or_no_key_is_refused(store: HubStore, node: str, key: str) -> None:
    with pytest.raises(ConfigurationError):
        store.add(node, key)
    assert lines(store) == []


def test_a_revoked_node_keeps_its_line_and_is_turned_away(store: HubStore) -> None:
    store.add(ALICE, KEY)
    store.wish(ALICE, "revoked")
    assert (store.lookup(KEY), lines(store)) == (Revoked(), [("alice", KEY, "revoked")])


def test_a_drained_node_may_connect_and_adding_it_again_takes_the_wish_back(store: HubStore) -> None:
    store.add(ALICE, KEY)
    store.wish(ALICE, "drain")
    assert (store.lookup(KEY), lines(store)) == (Member(ALICE), [("alice", KEY, "drain")])
    store.add(ALICE, KEY)
    assert lines(store) == [("alice", KEY, "member")]


def test_a_removed_node_frees_its_name_and_its_key(store: HubStore) -> None:
    store.add(ALICE, KEY)
    store.remove(ALICE)
    assert (store.lookup(KEY), lines(store)) == (Unknown(), [])
    store.add(ALICE, OTHER)
    store.add(BOB, KEY)
    assert lines(store) == [("alice", OTHER, "member"), ("bob", KEY, "member")]


def test_a_name_that_is_not_in_the_register_can_be_neither_drained_nor_removed(store: HubStore) -> None:
    uses: list[Callable[[], None]] = [lambda: store.wish(BOB, "drain"), lambda: store.remove(BOB)]
    for use in uses:
        with pytest.raises(ConfigurationError, match="no node 'bob' in the register"):
            use()


def owner(node: NodeId, name: str, hop: int) -> Owner:
    return Owner(node, Incarnation(1), DiscriminatorId(name), hop)


def test_two_that_swap_are_remembered_at_once_though_no_discriminator_may_have_two_owners(store: HubStore) -> None:
    before = (owner(ALICE, "d1-alice", 0), owner(BOB, "d2-bob", 0), owner(CAROL, "d3-carol", 0))
    store.remember("run-1", Record(before, 3))
    for first, second in ((0, 1), (1, 0)):
        swapped = (owner(ALICE, "d2-bob", first + 1), owner(BOB, "d1-alice", first + 1))
        store.remember("run-1", Record((swapped[first], swapped[second]), 3))
        assert store.recall("run-1").owners == (*swapped, before[2])


def test_of_two_that_swap_none_is_remembered_if_one_cannot_be(store: HubStore) -> None:
    before = (owner(ALICE, "d1-alice", 0), owner(BOB, "d2-bob", 0))
    store.remember("run-1", Record(before, 3))
    torn = Owner(BOB, Incarnation(1), DiscriminatorId("d1-alice"), None)  # type: ignore[arg-type]
    with pytest.raises(DataError):
        store.remember("run-1", Record((owner(ALICE, "d2-bob", 1), torn), 2))
    assert store.recall("run-1").owners == before


def test_owners_are_remembered_by_run_and_of_the_last_few_runs_only(store: HubStore) -> None:
    def alices(hop: int) -> tuple[Owner, ...]:
        return (owner(ALICE, "d1-alice", hop),)

    for run in range(RUNS_REMEMBERED + 2):
        store.remember(f"run-{run}", Record(alices(run), 1))
    store.remember("run-1", Record(alices(99), 1))  # the one last written to
    assert store.recall("run-0").owners == alices(0)
    assert store.recall("new").owners == ()
    known = [run for run in range(RUNS_REMEMBERED + 2) if store.recall(f"run-{run}").owners]
    assert known == [1, *range(3, RUNS_REMEMBERED + 2)]
    assert store.recall("run-1").owners == alices(99)


def test_how_many_names_a_run_has_given_is_remembered_and_never_falls(store: HubStore) -> None:
    assert store.recall("run-1").issued == 0
    store.remember("run-1", Record((owner(ALICE, "d1-alice", 0),), 1))
    store.remember("run-1", Record((), 5))
    store.remember("run-1", Record((), 4))
    assert store.recall("run-1") == Record((owner(ALICE, "d1-alice", 0),), 5)
    assert store.recall("run-2").issued == 0


def test_a_register_of_before_the_count_was_kept_opens(store: HubStore) -> None:
    store.remember("run-1", Record((owner(ALICE, "d1-alice", 0),), 1))
    with sqlite3.connect(store.folder / DATABASE) as db:
        db.execute("DROP TABLE issued")
    assert store.recall("run-1") == Record((owner(ALICE, "d1-alice", 0),), 0)


def test_a_key_that_begins_with_a_dash_is_no_option(store: HubStore) -> None:
    key = "-" + "0" * 39
    done = CliRunner().invoke(main, ["nodes", "add", "alice", key, "--state", str(store.folder)])
    assert (done.exit_code, done.output) == (0, "alice may join.\n")
    assert store.list()[0].public_key == key


def test_a_number_that_the_database_cannot_hold_is_an_error_and_not_a_crash(store: HubStore) -> None:
    with pytest.raises(DataError, match="too large"):
        store.remember("run-1", Record((Owner(NodeId("a"), Incarnation(2**63), DiscriminatorId("d1-a"), 0),), 1))
    assert store.recall("run-1").owners == ()
