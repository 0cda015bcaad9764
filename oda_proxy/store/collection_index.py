"""Collections: which recordings, failures and descriptions were requested through the address of each.

They are in a file of its own beside the index of the store, which other releases leave alone. Each change is one
transaction, which survives a crash and is seen by all processes at once. Recordings of collections are pinned by their
callers: other releases do not evict them either.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import StoreUnusableError
from oda_proxy.files.ownership import make_folder, match_owner
from oda_proxy.query.cache_key import Key
from oda_proxy.store import collections
from oda_proxy.store.collections import (
    RECORDING,
    Collection,
    CollectionError,
    Member,
    NoCollectionError,
    choose,
    full_collection,
    full_collections,
    no_collections,
    other_version,
    too_many_collections,
)
from oda_proxy.store.medium_errors import advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

FILE: Final = "collections.sqlite3"
FORMAT: Final = 1
_TIMEOUT: Final = 10.0
_SCHEMA: Final = """
CREATE TABLE collections (id INTEGER PRIMARY KEY, name TEXT NOT NULL, owner TEXT NOT NULL, created REAL NOT NULL,
    changed REAL NOT NULL, UNIQUE (owner, name));
CREATE TABLE members (collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE, kind TEXT NOT NULL,
    key TEXT NOT NULL, uses INTEGER NOT NULL, first REAL NOT NULL, size INTEGER NOT NULL, was_pinned INTEGER NOT NULL,
    content BLOB, PRIMARY KEY (collection, kind, key)) WITHOUT ROWID;
CREATE INDEX members_by_key ON members (kind, key);
CREATE TABLE facts (collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE, kind TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (collection, kind, value)) WITHOUT ROWID;
CREATE TABLE descriptions (name TEXT NOT NULL, file TEXT NOT NULL, fetched REAL NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (name, file)) WITHOUT ROWID;
"""


class CollectionIndex:
    """The collections of a store, in a file of its folder; each method blocks, and raises StoreUnusableError.

    `clock` returns s since 1970 (UTC); recordings of all collections take up to `max_size` bytes of the store, None for
    no limit, and with 0 no collections are made.
    """

    def __init__(self, folder: Path, clock: Callable[[], float], *, max_size: int | None = None) -> None:
        self.max_size = max_size
        self._file = folder / FILE
        self._clock = clock

    def note(self, name: str, owner: str, member: Member, size: int, facts: Sequence[tuple[str, str]]) -> bool:
        """Add a use of a recording or a failure to a collection, which is made; return whether it was not there.

        `size` is that of a recording in bytes, as stored, `facts` are kinds and values. Raises CollectionError where
        the collection or the server has no room for it.
        """
        with self._writing() as rows:
            now = self._clock()
            found = rows.execute("SELECT id FROM collections WHERE owner = ? AND name = ?", (owner, name)).fetchone()
            number = found[0] if found else self._make(rows, name, owner, now)
            for fact in facts:
                rows.execute(
                    "INSERT OR IGNORE INTO facts SELECT ?, ?, ? WHERE (SELECT COUNT(*) FROM facts WHERE collection = ?)"
                    " < ?",
                    (number, *fact, number, collections.MAX_FACTS),
                )
            self._check_version(rows, name, number, member)
            known = rows.execute(
                "UPDATE members SET uses = uses + 1, content = COALESCE(?, content)"
                " WHERE collection = ? AND kind = ? AND key = ?",
                (member.content, number, member.kind, member.key),
            ).rowcount
            if not known:
                self._check_room(rows, name, number, member, size)
                rows.execute(
                    "INSERT INTO members VALUES (?, ?, ?, 1, ?, ?, ?, ?)",
                    (number, member.kind, member.key, now, size, member.was_pinned, member.content),
                )
            rows.execute("UPDATE collections SET changed = ? WHERE id = ?", (now, number))
            return not known

    def _make(self, rows: sqlite3.Connection, name: str, owner: str, now: float) -> int:
        if self.max_size == 0:
            raise no_collections()
        if _number(rows, "SELECT COUNT(*) FROM collections WHERE owner = ?", owner) >= collections.MAX_COLLECTIONS:
            raise too_many_collections()
        cursor = rows.execute(
            "INSERT INTO collections (name, owner, created, changed) VALUES (?, ?, ?, ?)", (name, owner, now, now)
        )
        return int(cursor.lastrowid or 0)

    @staticmethod
    def _check_version(rows: sqlite3.Connection, name: str, number: int, member: Member) -> None:
        """Raise CollectionError where a collection has another version of a recording: a capsule has one answer."""
        found = rows.execute(
            "SELECT content FROM members WHERE collection = ? AND kind = ? AND key = ?",
            (number, member.kind, member.key),
        ).fetchone()
        if member.kind != RECORDING or found is None or found[0] == member.content:
            return
        raise other_version(name, found[0])

    def _check_room(self, rows: sqlite3.Connection, name: str, number: int, member: Member, size: int) -> None:
        counted = "SELECT COUNT(*) FROM members WHERE collection = ? AND kind = ?"
        if _number(rows, counted, number, member.kind) >= collections.MAX_MEMBERS:
            raise full_collection(name, member.kind, collections.MAX_MEMBERS)
        if self.max_size is None or member.kind != RECORDING or self._is_member(rows, member.key):
            return
        summed = "SELECT COALESCE(SUM(size), 0) FROM (SELECT MAX(size) AS size FROM members GROUP BY kind, key)"
        if _number(rows, summed) + size > self.max_size:
            raise full_collections(self.max_size)

    def note_description(self, name: str, file: str, fetched: float, content: bytes) -> None:
        """Note a description that was requested through the address of a collection, with its file.

        Descriptions are the same for everyone: they are noted for all collections of a name. Raises CollectionError.
        """
        with self._writing() as rows:
            taken = _number(rows, "SELECT COUNT(*) FROM descriptions WHERE name = ?", name)
            lone = "SELECT COUNT(*) FROM descriptions WHERE name NOT IN (SELECT name FROM collections)"
            is_new = not _number(rows, "SELECT COUNT(*) FROM descriptions WHERE name = ? AND file = ?", name, file)
            if is_new and self.max_size == 0:
                raise no_collections()
            if is_new and _number(rows, lone) >= collections.MAX_LONE:
                rows.execute("DELETE FROM descriptions WHERE name NOT IN (SELECT name FROM collections)")
            if is_new and taken >= collections.MAX_DESCRIPTIONS:
                raise full_collection(name, "description", collections.MAX_DESCRIPTIONS)
            rows.execute(
                "INSERT INTO descriptions VALUES (?, ?, ?, ?) ON CONFLICT (name, file) DO UPDATE SET"
                " fetched = excluded.fetched, content = excluded.content WHERE fetched != excluded.fetched",
                (name, file, fetched, content),
            )

    def merge(
        self, collection: Collection, members: Sequence[tuple[Member, int]], facts: Sequence[tuple[str, str]]
    ) -> None:
        """Add what a collection of another store has, as `Collections.merge`."""
        with self._writing() as rows:
            place = collection.owner, collection.name
            rows.execute(
                "INSERT INTO collections (owner, name, created, changed) VALUES (?, ?, ?, ?) ON CONFLICT (owner, name)"
                " DO UPDATE SET created = MIN(created, excluded.created), changed = MAX(changed, excluded.changed)",
                (*place, collection.created, collection.changed),
            )
            number = _number(rows, "SELECT id FROM collections WHERE owner = ? AND name = ?", *place)
            rows.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?, ?)", [(number, *fact) for fact in facts])
            rows.executemany(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (collection, kind, key) DO UPDATE SET"
                " uses = MAX(uses, excluded.uses), first = MIN(first, excluded.first),"
                " was_pinned = MAX(was_pinned, excluded.was_pinned), content = CASE kind WHEN 'recording' THEN content"
                " ELSE COALESCE(content, excluded.content) END",  # another content is another version of a recording
                [
                    (number, one.kind, one.key, one.uses, one.first, size, one.was_pinned, one.content)
                    for one, size in members
                ],
            )

    def list(self, owner: str | None = None) -> Sequence[Collection]:
        """Return the collections of an owner, None for all, by name."""
        with self._reading() as rows:
            if rows is None:
                return []
            found = rows.execute(
                "SELECT id, name, owner, created, changed,"
                " (SELECT COUNT(*) FROM members WHERE collection = id AND kind = 'recording'),"
                " (SELECT COUNT(*) FROM members WHERE collection = id AND kind = 'failure'),"
                " (SELECT COALESCE(SUM(size), 0) FROM members WHERE collection = id)"
                " FROM collections WHERE ?1 IS NULL OR owner = ?1 ORDER BY name, owner",
                (owner,),
            )
            return [Collection(*row) for row in found]

    def find(self, name: str, owner: str | None = None, *, beginning: str | None = None) -> Collection:
        """Return the collection of a name and an owner, whose `beginning` may be named; None is any.

        Raises NoCollectionError where there is none, CollectionError for several.
        """
        return choose(self.list(owner), name, beginning)

    def members(self, collection: Collection) -> Sequence[Member]:
        """Return the recordings and failures of a collection, in the order of their first use."""
        with self._reading() as rows:
            if rows is None:
                return []
            found = rows.execute(
                "SELECT kind, key, uses, first, was_pinned, content FROM members WHERE collection = ?"
                " ORDER BY first, key",
                (collection.id,),
            )
            return [
                Member(kind, Key(key), uses, first, bool(was_pinned), content)
                for kind, key, uses, first, was_pinned, content in found
            ]

    def facts(self, collection: Collection, kind: str) -> Sequence[str]:
        """Return the facts of a kind about a collection."""
        with self._reading() as rows:
            if rows is None:
                return []
            found = rows.execute("SELECT value FROM facts WHERE collection = ? AND kind = ?", (collection.id, kind))
            return [row[0] for row in found]

    def descriptions(self, collection: Collection) -> Sequence[tuple[str, bytes]]:
        """Return the descriptions of a collection: name and content of their files."""
        with self._reading() as rows:
            if rows is None:
                return []
            return list(rows.execute("SELECT file, content FROM descriptions WHERE name = ?", (collection.name,)))

    def names_with(self, keys: Iterable[str]) -> Sequence[str]:
        """Return the names of the collections that have any of these recordings, in order."""
        with self._reading() as rows:
            if rows is None:
                return []
            found = "SELECT name FROM members JOIN collections ON id = collection WHERE kind = 'recording' AND key = ?"
            return sorted({name for key in keys for (name,) in rows.execute(found, (key,))})

    def is_member(self, key: str) -> bool:
        """Return whether a recording is in any collection."""
        with self._reading() as rows:
            return rows is not None and self._is_member(rows, key)

    @staticmethod
    def _is_member(rows: sqlite3.Connection, key: str) -> bool:
        return bool(_number(rows, "SELECT COUNT(*) FROM members WHERE kind = 'recording' AND key = ?", key))

    def rename(self, collection: Collection, name: str) -> None:
        """Rename a collection. Raises CollectionError where its owner has one of the new name."""
        with self._writing() as rows:
            try:
                changed = rows.execute("UPDATE collections SET name = ? WHERE id = ?", (name, collection.id)).rowcount
            except sqlite3.IntegrityError:
                raise CollectionError(f"there is a collection {name} already; choose another name") from None
            if not changed:
                raise NoCollectionError(f"there is no collection {collection.name}")
            rows.execute(
                "INSERT OR IGNORE INTO descriptions SELECT ?, file, fetched, content FROM descriptions WHERE name = ?",
                (name, collection.name),
            )
            self._remove_lone_descriptions(rows, collection.name)

    def unpinned_by_removal(self, collection: Collection) -> Sequence[Key]:
        """Return the keys of recordings that nothing but this collection exempts from eviction."""
        with self._reading() as rows:
            if rows is None:
                return []
            found = rows.execute(
                "SELECT key FROM members AS one WHERE collection = ? AND kind = 'recording' AND NOT was_pinned AND NOT"
                " EXISTS (SELECT 1 FROM members AS other WHERE other.kind = one.kind AND other.key = one.key"
                " AND other.collection != one.collection)",
                (collection.id,),
            )
            return [Key(key) for (key,) in found]

    def remove(self, collection: Collection) -> None:
        """Remove a collection. Callers unpin its recordings before: after a crash it is still there to be removed."""
        with self._writing() as rows:
            # Another collection that has one of its recordings has to know that somebody had pinned that before.
            rows.execute(
                "UPDATE members SET was_pinned = 1 WHERE kind = 'recording' AND key IN"
                " (SELECT key FROM members WHERE collection = ? AND kind = 'recording' AND was_pinned)",
                (collection.id,),
            )
            rows.execute("DELETE FROM collections WHERE id = ?", (collection.id,))
            self._remove_lone_descriptions(rows, collection.name)

    @staticmethod
    def _remove_lone_descriptions(rows: sqlite3.Connection, name: str) -> None:
        rows.execute("DELETE FROM descriptions WHERE name = ? AND name NOT IN (SELECT name FROM collections)", (name,))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection; None where there is no file. Raises StoreUnusableError."""
        if not self._file.exists():
            yield None
            return
        with self._errors():
            # Not read-only: the transaction of a process that was killed has to be rolled back, where that is possible.
            address = f"{self._file.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=_TIMEOUT)) as rows:
                rows.execute("PRAGMA query_only = ON")
                yield rows if self._check_format(rows) else None  # without a format, nothing was written yet

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction, which ends with the block. Raises StoreUnusableError."""
        with self._errors():
            make_folder(self._file.parent)
            with closing(sqlite3.connect(self._file, timeout=_TIMEOUT, isolation_level=None)) as rows:
                rows.execute("PRAGMA foreign_keys = ON")
                rows.execute("BEGIN IMMEDIATE")
                try:
                    if self._check_format(rows) == 0:
                        for statement in _SCHEMA.split(";\n"):
                            rows.execute(statement)
                        rows.execute(f"PRAGMA user_version = {FORMAT}")
                        match_owner(self._file, self._file.parent)
                    yield rows
                except BaseException:
                    if rows.in_transaction:  # SQLite has ended it itself where the disk is full
                        rows.execute("ROLLBACK")
                    raise
                rows.execute("COMMIT")

    def _check_format(self, rows: sqlite3.Connection) -> int:
        version = _number(rows, "PRAGMA user_version")
        if version > FORMAT:
            reason = f"{FILE} is of a later release: its format is {version}, not {FORMAT}"
            raise StoreUnusableError(self._file.parent, reason)
        return version

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            reason = f"its collections cannot be read or written: {error}"
            raise StoreUnusableError(self._file.parent, reason, advice(error, self._file.parent)) from None


def _number(rows: sqlite3.Connection, statement: str, *values: object) -> int:
    return int(rows.execute(statement, values).fetchone()[0])
