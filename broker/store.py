"""What the hub must not forget: its epoch and the register of nodes, in SQLite (`hub.sqlite` in the state folder).

Every call opens the database for itself, so that the I/O thread, the commands and the watching thread never share one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.ownership import Owner, Record
from mdgan_edge.errors import ConfigurationError, DataError
from mdgan_edge.folder_lock import FolderLock
from mdgan_edge.messages import DiscriminatorId, Epoch, Incarnation, NodeId, check_node_id
from mdgan_edge.wire.keys import KeyPair, check_public_key, create, load
from mdgan_edge.wire.zap import Admission, Member, Revoked, Unknown

DATABASE = "hub.sqlite"
KEY_NAME = "hub"
RUNS_REMEMBERED = 16  # beside the one that goes on: of how many runs the owners are kept
LOCKED_MAX_S = 5.0  # how long a writer waits for another

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS nodes (
    node_id TEXT PRIMARY KEY, public_key TEXT NOT NULL UNIQUE,
    wish TEXT NOT NULL DEFAULT 'member' CHECK (wish IN ('member', 'drain', 'revoked')),
    added_at TEXT NOT NULL DEFAULT (datetime('now'))
) STRICT;
CREATE TABLE IF NOT EXISTS owners (
    run_id TEXT NOT NULL, node_id TEXT NOT NULL, incarnation INTEGER NOT NULL,
    discriminator_id TEXT NOT NULL, hop INTEGER NOT NULL,
    PRIMARY KEY (run_id, node_id), UNIQUE (run_id, discriminator_id)
) STRICT;
CREATE TABLE IF NOT EXISTS parents (
    run_id TEXT NOT NULL, discriminator_id TEXT NOT NULL, parent_id TEXT NOT NULL,
    PRIMARY KEY (run_id, discriminator_id)
) STRICT;
CREATE TABLE IF NOT EXISTS issued (run_id TEXT PRIMARY KEY, names INTEGER NOT NULL) STRICT;
"""


_OWNERS = """
SELECT node_id, incarnation, discriminator_id, hop, parent_id
FROM owners LEFT JOIN parents USING (run_id, discriminator_id) WHERE run_id = ? ORDER BY node_id
"""
_ISSUED = """
INSERT INTO issued VALUES (?, ?) ON CONFLICT (run_id) DO UPDATE SET names = max(names, excluded.names)
"""
_FORGET = """
DELETE FROM owners WHERE run_id <> ?1 AND run_id NOT IN (
    SELECT run_id FROM owners WHERE run_id <> ?1 GROUP BY run_id ORDER BY max(rowid) DESC LIMIT ?2
)
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """One line of the register. `wish`: member, drain or revoked."""

    node: NodeId
    public_key: str
    wish: str
    added_at: str


class HubStore:
    """A hub's state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / DATABASE
        self._lock = FolderLock(folder)

    @classmethod
    def create(cls, folder: Path) -> tuple[HubStore, KeyPair]:
        """A new hub with a fresh key pair; the folder must not hold one already."""
        store = cls(folder)
        if store._path.exists():
            raise ConfigurationError(f"{folder} is a hub already: use it, or name another folder")
        try:
            keys = create(folder, KEY_NAME)
        except OSError as error:
            raise DataError(f"cannot make the hub's folder {folder}: {error.strerror or error}") from error
        with store._open(must_exist=False) as db:
            db.executescript(_SCHEMA)
        return store, keys

    def keys(self) -> KeyPair:
        """The hub's key pair."""
        return load(self.folder, KEY_NAME, make_with=f"mdgan-hub init {self.folder}")

    def lock(self) -> None:
        """Keep every other hub out of this folder until this process ends; TryLater if one is in."""
        self._lock.take("mdgan-hub")

    def next_epoch(self) -> Epoch:
        """One more than ever before; durable before it is returned."""
        with self._open() as db:
            db.execute("INSERT INTO facts VALUES ('epoch', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1")
            (epoch,) = db.execute("SELECT value FROM facts WHERE name = 'epoch'").fetchone()
        return Epoch(epoch)

    def recall(self, run_id: str) -> Record:
        """Who owned which discriminator when the hub last carried this run, and how many names it had given."""
        with self._open() as db:
            db.executescript(_SCHEMA)  # a folder that an earlier version has made
            rows = db.execute(_OWNERS, (run_id,)).fetchall()
            db.execute(_FORGET, (run_id, RUNS_REMEMBERED))
            names = db.execute("SELECT names FROM issued WHERE run_id = ?", (run_id,)).fetchone()
            for table in ("parents", "issued"):
                db.execute(f"DELETE FROM {table} WHERE run_id NOT IN (SELECT run_id FROM owners)")
        owners = tuple(
            Owner(NodeId(node), Incarnation(start), DiscriminatorId(own), hop, parent and DiscriminatorId(parent))
            for node, start, own, hop, parent in rows
        )
        return Record(owners, names[0] if names else 0)

    def remember(self, run_id: str, record: Record) -> None:
        """All of it or nothing; durable when this returns."""
        rows = [(run_id, one.node, one.incarnation, one.discriminator_id, one.hop) for one in record.owners]
        parents = [(run_id, one.discriminator_id, one.parent) for one in record.owners if one.parent is not None]
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?)", rows)
            db.executemany("INSERT OR REPLACE INTO parents VALUES (?, ?, ?)", parents)
            db.execute(_ISSUED, (run_id, record.issued))

    def add(self, node: str, public_key: str) -> None:
        """Admit a node; a node that was drained or revoked is let in again. A known name or key is never changed."""
        check_node_id(node)
        check_public_key(public_key)
        with self._open() as db:
            query = "SELECT node_id, public_key FROM nodes WHERE node_id = ? OR public_key = ?"
            db.execute("BEGIN IMMEDIATE")  # what is read here must still be so when it is written
            known = db.execute(query, (node, public_key)).fetchall()
            if not known:
                db.execute("INSERT INTO nodes (node_id, public_key) VALUES (?, ?)", (node, public_key))
            elif known == [(node, public_key)]:
                db.execute("UPDATE nodes SET wish = 'member' WHERE node_id = ?", (node,))
            elif any(name == node for name, _ in known):
                text = f"node {node!r} is registered with another key: choose another name, or first"
                raise ConfigurationError(f"{text} `mdgan-hub nodes remove {node}`")
            else:
                text = f"this key is registered as {known[0][0]!r}: make a key of its own for each node"
                raise ConfigurationError(text)

    def wish(self, node: str, wish: str) -> None:
        """Ask for a node to be drained or revoked."""
        with self._open() as db:
            changed = db.execute("UPDATE nodes SET wish = ? WHERE node_id = ?", (wish, node)).rowcount
        if not changed:
            raise ConfigurationError(f"no node {node!r} in the register; `mdgan-hub nodes list` shows it")

    def remove(self, node: str) -> None:
        """Forget a node and its key."""
        with self._open() as db:
            removed = db.execute("DELETE FROM nodes WHERE node_id = ?", (node,)).rowcount
        if not removed:
            raise ConfigurationError(f"no node {node!r} in the register; `mdgan-hub nodes list` shows it")

    def list(self) -> list[Registered]:
        """The register, by name."""
        with self._open() as db:
            rows = db.execute("SELECT node_id, public_key, wish, added_at FROM nodes ORDER BY node_id").fetchall()
        return [Registered(NodeId(node), key, wish, added) for node, key, wish, added in rows]

    def lookup(self, public_key: str) -> Admission:
        """What the register says of a key."""
        with self._open() as db:
            row = db.execute("SELECT node_id, wish FROM nodes WHERE public_key = ?", (public_key,)).fetchone()
        if row is None:
            return Unknown()
        return Revoked() if row[1] == "revoked" else Member(NodeId(row[0]))

    @contextmanager
    def _open(self, *, must_exist: bool = True) -> Iterator[sqlite3.Connection]:
        if must_exist and not self._path.exists():
            raise ConfigurationError(f"{self.folder} is no hub: make one with `mdgan-hub init {self.folder}`")
        try:
            db = sqlite3.connect(self._path, timeout=LOCKED_MAX_S)
        except sqlite3.Error as error:
            raise DataError(f"cannot open {self._path}: {error}") from error
        try:
            with db:
                yield db
        except (sqlite3.Error, OverflowError) as error:  # SQLite's numbers have 64 bits
            raise DataError(f"cannot use {self._path}: {error}") from error
        finally:
            db.close()
