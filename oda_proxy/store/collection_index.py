"""Collections: which recordings, failures and descriptions were requested through the address of each.

They are in a file of its own beside the index of the store, which other releases leave alone. Each change is one
transaction, which survives a crash and is seen by all processes at once. Recordings of collections are pinned by their
callers: other releases do not evict them either.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from oda_proxy.errors import OdaProxyError, StoreUnusableError
from oda_proxy.files.ownership import make_folder, match_owner
from oda_proxy.http.scope import time_text
from oda_proxy.query.cache_key import PUBLIC, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

FILE: Final = "collections.sqlite3"
FORMAT: Final = 1
MAX_COLLECTIONS: Final = 1000
"""Collections of one owner; those without an owner count together."""
MAX_MEMBERS: Final = 10_000
"""Recordings and failures of a collection, each."""
MAX_DESCRIPTIONS: Final = 1024
"""Descriptions of a name, as many as a server has in memory."""
MAX_FACTS: Final = 100
"""Addresses, and versions of the client, that are noted of a collection."""
MAX_LONE: Final = 5_000
"""Descriptions under names of which there is no collection yet."""
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

RECORDING: Final = "recording"
FAILURE: Final = "failure"
LEFT_OUT: Final = "answer that was not stored"
CLIENT: Final = "oda_api"
ADDRESS: Final = "address"


class CollectionError(OdaProxyError):
    """A collection cannot take what is requested through its address, or cannot be changed so."""

    http_status = 400
    detail = "collection"


class NoCollectionError(CollectionError):
    """There is no collection of a name, as far as one may see."""

    http_status = 404


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection; times are in s since 1970 (UTC), sizes in bytes as stored."""

    id: int = field(repr=False)
    name: str
    owner: str
    """A digest of the audience that it belongs to; empty where requests had no token."""
    created: float
    changed: float
    recordings: int
    failures: int
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """A recording or a failure of a collection: its key, how often it was requested, and when first."""

    kind: str
    key: Key
    uses: int
    first: float
    was_pinned: bool
    """Whether somebody had pinned it before."""
    content: bytes | None
    """The text of a failure; of a recording, which version it is, None for the last one."""

    @property
    def version(self) -> float | None:
        """Since when the version of a recording was the answer, in s since 1970 (UTC); None for the last one."""
        return float(self.content) if self.kind == RECORDING and self.content else None


def owner_of(audience: str | None) -> str:
    """Return the owner for an audience: nothing else tells who it is."""
    return "" if audience in {None, PUBLIC} else hashlib.sha256(str(audience).encode()).hexdigest()[:32]


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
                    (number, *fact, number, MAX_FACTS),
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
            raise CollectionError("this server makes no collections (--collections 0); use its address without /in/")
        if _number(rows, "SELECT COUNT(*) FROM collections WHERE owner = ?", owner) >= MAX_COLLECTIONS:
            raise CollectionError(f"there are {MAX_COLLECTIONS} collections, which is the limit; remove one")
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
        has = "the answer of today" if found[0] is None else f"the version of {time_text(float(found[0]))}"
        raise CollectionError(
            f"the collection {name} has {has} to this query, and a capsule has one: use a collection for each date"
        )

    def _check_room(self, rows: sqlite3.Connection, name: str, number: int, member: Member, size: int) -> None:
        counted = "SELECT COUNT(*) FROM members WHERE collection = ? AND kind = ?"
        if _number(rows, counted, number, member.kind) >= MAX_MEMBERS:
            raise CollectionError(f"the collection {name} has {MAX_MEMBERS} {member.kind}s, which is the limit")
        if self.max_size is None or member.kind != RECORDING or self._is_member(rows, member.key):
            return
        summed = "SELECT COALESCE(SUM(size), 0) FROM (SELECT MAX(size) AS size FROM members GROUP BY kind, key)"
        if _number(rows, summed) + size > self.max_size:
            raise CollectionError(
                f"the recordings of all collections would take more than {self.max_size} bytes (--collections); remove "
                "a collection, or use the address without /in/"
            )

    def note_description(self, name: str, file: str, fetched: float, content: bytes) -> None:
        """Note a description that was requested through the address of a collection, with its file.

        Descriptions are the same for everyone: they are noted for all collections of a name. Raises CollectionError.
        """
        with self._writing() as rows:
            taken = _number(rows, "SELECT COUNT(*) FROM descriptions WHERE name = ?", name)
            lone = "SELECT COUNT(*) FROM descriptions WHERE name NOT IN (SELECT name FROM collections)"
            is_new = not _number(rows, "SELECT COUNT(*) FROM descriptions WHERE name = ? AND file = ?", name, file)
            if is_new and self.max_size == 0:
                raise CollectionError("this server makes no collections (--collections 0); use it without /in/")
            if is_new and _number(rows, lone) >= MAX_LONE:
                rows.execute("DELETE FROM descriptions WHERE name NOT IN (SELECT name FROM collections)")
            if is_new and taken >= MAX_DESCRIPTIONS:
                raise CollectionError(f"the collection {name} has {MAX_DESCRIPTIONS} descriptions, which is the limit")
            rows.execute(
                "INSERT INTO descriptions VALUES (?, ?, ?, ?) ON CONFLICT (name, file) DO UPDATE SET"
                " fetched = excluded.fetched, content = excluded.content WHERE fetched != excluded.fetched",
                (name, file, fetched, content),
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
        found = [one for one in self.list(owner) if one.name == name and one.owner.startswith(beginning or "")]
        if not found:
            raise NoCollectionError(f"there is no collection {name}; requests to the address with /in/{name} make it")
        if len(found) > 1:
            owners = ", ".join(one.owner[:12] or "nobody" for one in found)
            raise CollectionError(f"several owners have a collection {name}: name one with --owner ({owners})")
        return found[0]

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
            raise StoreUnusableError(self._file.parent, f"its collections cannot be read or written: {error}") from None


def _number(rows: sqlite3.Connection, statement: str, *values: object) -> int:
    return int(rows.execute(statement, values).fetchone()[0])
