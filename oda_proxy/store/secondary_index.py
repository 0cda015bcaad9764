"""Secondary indexes of the recordings: by use, product, subject and order of eviction, with totals by product.

They are tables of their own in the database of the index, and change in the transactions that change its rows.
Triggers do most of it, whichever process and release writes: they delete the entry of a row that is removed, follow
times of use, pins and totals, and note the ids of rows that are new. This release reads a new row at once (`add`);
those that another one wrote are read before the tables are used (`update`).

The names of the tables contain the format of rows and `VERSION`, so that releases that differ in them share a folder.
"""

# ruff: noqa: S608 - names of tables cannot be bound; they consist of two constants, and all values are bound

from __future__ import annotations

import math
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query.subject import subject_of
from oda_proxy.store import eviction, index_keys, rows
from oda_proxy.store.base import HistoryUsage, OtherRecordings, ProductTotals
from oda_proxy.store.counters import DAMAGE
from oda_proxy.store.search import searchable_text, unit_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Query
    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex

VERSION: Final = 3
"""Version of the tables and triggers, which changes with them, and with the bonus that eviction gives for a cost."""

_BATCH: Final = 500
"""Rows that are read in one transaction or one SELECT: other processes wait for the first."""

_MAX_SIZE: Final = 2**53
"""Bytes above which a size is that of a damaged row."""

_MICROSECONDS: Final = 1_000_000
"""Costs are added up as integers, so that the total is the same in any order."""

_SCHEMA = """
CREATE TABLE {entries} (
    id INTEGER PRIMARY KEY, format TEXT, head TEXT, stored_size INTEGER, size INTEGER, stored_at REAL, used_at REAL,
    bonus REAL, evict_at REAL, microseconds INTEGER, private INTEGER, pinned INTEGER, instrument TEXT, product TEXT,
    subject TEXT, x REAL, y REAL, z REAL, begin_mjd REAL, end_mjd REAL
);
CREATE TABLE {unread} (id INTEGER PRIMARY KEY);
CREATE TABLE {totals} (
    instrument TEXT, product TEXT, private INTEGER, recordings INTEGER, size INTEGER, microseconds INTEGER,
    pinned INTEGER
);
CREATE INDEX {entries}_used_at ON {entries} (used_at) WHERE format IS NULL;
CREATE INDEX {entries}_evict_at ON {entries} (evict_at) WHERE format IS NULL AND pinned = 0;
CREATE INDEX {entries}_head ON {entries} (head, evict_at) WHERE format IS NULL;
CREATE INDEX {entries}_version ON {entries} (head, evict_at, pinned) WHERE format = '{history}';
CREATE INDEX {entries}_pinned_head ON {entries} (head) WHERE pinned = 1;
CREATE INDEX {entries}_product ON {entries} (instrument, product, private, stored_at) WHERE format IS NULL;
CREATE INDEX {entries}_format ON {entries} (format) WHERE format IS NOT NULL;
CREATE TRIGGER {entries}_row_added AFTER INSERT ON Cache
    WHEN {is_row} BEGIN
    INSERT OR IGNORE INTO {unread} VALUES (NEW.rowid);
END;
CREATE TRIGGER {entries}_row_replaced AFTER UPDATE OF value, mode ON Cache
    WHEN {is_row} BEGIN
    DELETE FROM {entries} WHERE id = NEW.rowid;
    INSERT OR IGNORE INTO {unread} VALUES (NEW.rowid);
END;
CREATE TRIGGER {entries}_row_deleted AFTER DELETE ON Cache BEGIN
    DELETE FROM {entries} WHERE id = OLD.rowid;
    DELETE FROM {unread} WHERE id = OLD.rowid;
END;
CREATE TRIGGER {entries}_use_added AFTER INSERT ON Cache
    WHEN substr(NEW.key, 1, 5) = 'used:' BEGIN
    UPDATE {entries} SET used_at = max(stored_at, CAST(NEW.value AS REAL)),
        evict_at = max(stored_at, CAST(NEW.value AS REAL)) + bonus WHERE id IN {rows_of_new_use};
END;
CREATE TRIGGER {entries}_use_replaced AFTER UPDATE OF value ON Cache
    WHEN substr(NEW.key, 1, 5) = 'used:' BEGIN
    UPDATE {entries} SET used_at = max(stored_at, CAST(NEW.value AS REAL)),
        evict_at = max(stored_at, CAST(NEW.value AS REAL)) + bonus WHERE id IN {rows_of_new_use};
END;
CREATE TRIGGER {entries}_use_deleted AFTER DELETE ON Cache
    WHEN substr(OLD.key, 1, 5) = 'used:' BEGIN
    UPDATE {entries} SET used_at = stored_at, evict_at = stored_at + bonus WHERE id IN {rows_of_old_use};
END;
CREATE TRIGGER {entries}_pin_added AFTER INSERT ON Cache
    WHEN substr(NEW.key, 1, 4) = 'pin:' BEGIN
    UPDATE {entries} SET pinned = 1 WHERE id IN {rows_of_new_pin};
END;
CREATE TRIGGER {entries}_pin_deleted AFTER DELETE ON Cache
    WHEN substr(OLD.key, 1, 4) = 'pin:' BEGIN
    UPDATE {entries} SET pinned = 0 WHERE id IN {rows_of_old_pin};
END;
CREATE TRIGGER {entries}_added AFTER INSERT ON {entries} WHEN NEW.format IS NULL BEGIN
    INSERT INTO {totals} SELECT NEW.instrument, NEW.product, NEW.private, 0, 0, 0, 0 WHERE NOT EXISTS (
        SELECT 1 FROM {totals} WHERE {is_product_of_new});
    UPDATE {totals} SET recordings = recordings + 1, size = size + NEW.size,
        microseconds = microseconds + NEW.microseconds, pinned = pinned + NEW.pinned WHERE {is_product_of_new};
END;
CREATE TRIGGER {entries}_pinned AFTER UPDATE OF pinned ON {entries} WHEN NEW.format IS NULL BEGIN
    UPDATE {totals} SET pinned = pinned + NEW.pinned - OLD.pinned WHERE {is_product_of_new};
END;
CREATE TRIGGER {entries}_deleted AFTER DELETE ON {entries} WHEN OLD.format IS NULL BEGIN
    UPDATE {totals} SET recordings = recordings - 1, size = size - OLD.size,
        microseconds = microseconds - OLD.microseconds, pinned = pinned - OLD.pinned WHERE {is_product_of_old};
    DELETE FROM {totals} WHERE recordings <= 0 AND {is_product_of_old};
END
"""

_VERSION_PREFIX: Final = index_keys.VERSION_PREFIX
_KEY_IN_ROW: Final = (
    f"CASE WHEN substr({{0}}, 1, {len(_VERSION_PREFIX)}) = '{_VERSION_PREFIX}' "
    f"THEN substr({{0}}, {len(_VERSION_PREFIX) + 1}, 64) ELSE substr({{0}}, -64) END"
)
"""The key of the recording in the key of its row, or of that of an earlier version, in SQL."""

_READ = (
    "SELECT unread.id, row.key, CASE WHEN typeof(row.value) = 'text' THEN row.value END, used.value, pin.rowid "
    "FROM {unread} AS unread LEFT JOIN Cache AS row ON row.rowid = unread.id "
    "LEFT JOIN Cache AS used ON used.key = 'used:' || substr(row.key, -64) AND used.raw = 1 "
    f"LEFT JOIN Cache AS pin ON pin.key = 'pin:' || {_KEY_IN_ROW.format('row.key')} AND pin.raw = 1 "
    "ORDER BY unread.id LIMIT {batch}"
)

Group = list[int]
"""Ids of recordings that share a head."""


def _is_row(row: str) -> str:
    """Return the condition in SQL that a row of diskcache is that of a recording, in any format."""
    return f"{row}.raw = 1 AND (length({row}.key) = 64 OR substr({row}.key, 1, 7) = 'format-')"


def _rows_of(key: str) -> str:
    """Return the subquery in SQL for the ids of the rows that the recording with a key may have in this format."""
    return f"(SELECT rowid FROM Cache WHERE raw = 1 AND key IN ({key}, '{index_keys.aside_prefix()}' || {key}))"


def _rows_and_versions_of(key: str) -> str:
    """Return the subquery in SQL as `_rows_of`, with the ids of earlier versions."""
    begin = f"'{_VERSION_PREFIX}' || {key}"
    versions = f"SELECT rowid FROM Cache WHERE raw = 1 AND key > {begin} || ':' AND key < {begin} || ';'"
    return f"{_rows_of(key)[:-1]} UNION ALL {versions})"


def _is_product_of(row: str) -> str:
    """Return the condition in SQL that totals are those to which an entry belongs."""
    return f"instrument IS {row}.instrument AND product IS {row}.product AND private = {row}.private"


def table_names() -> dict[str, str]:
    """Return the names of the tables, for the format of this release."""
    suffix = f"{rows.own_format()}_{VERSION}"
    return {"entries": f"Entries_{suffix}", "unread": f"Unread_{suffix}", "totals": f"Totals_{suffix}"}


def create(index: Index) -> None:
    """Create the tables where they do not exist yet; all rows are to be read then. Raises sqlite3.Error."""
    names = table_names()
    if _exists(index, names["entries"]):
        return
    with index.writing():
        if _exists(index, names["entries"]):  # another process created them
            return
        parts = {
            "is_row": _is_row("NEW"),
            "rows_of_new_use": _rows_of("substr(NEW.key, 6)"),
            "rows_of_old_use": _rows_of("substr(OLD.key, 6)"),
            "rows_of_new_pin": _rows_and_versions_of("substr(NEW.key, 5)"),
            "rows_of_old_pin": _rows_and_versions_of("substr(OLD.key, 5)"),
            "history": rows.VERSION_FORMAT,
            "is_product_of_new": _is_product_of("NEW"),
            "is_product_of_old": _is_product_of("OLD"),
        }
        for statement in _statements(_SCHEMA.format(**names, **parts)):
            index.execute(statement)
        _mark_all_unread(index)


def is_complete(index: Index | ReadOnlyIndex) -> bool:
    """Return whether the tables exist and contain all rows."""
    unread = table_names()["unread"]
    return _exists(index, unread) and not index.select(f"SELECT 1 FROM {unread} LIMIT 1")


def add(index: Index, row_key: str) -> None:
    """Read a row that was just written, within a transaction."""
    _read_batch(index, "(SELECT rowid AS id FROM Cache WHERE key = ? AND raw = 1)", row_key)


def update(index: Index, stop: Callable[[], bool]) -> None:
    """Read the rows that other releases wrote since the last call, some in each transaction, until `stop` is true.

    Raises sqlite3.Error.
    """
    while not (stop() or is_complete(index)):
        with index.writing():
            _read_batch(index, table_names()["unread"])


def rebuild(index: Index) -> None:
    """Read all rows again, within a transaction."""
    names = table_names()
    for table in names.values():
        index.execute(f"DELETE FROM {table}")
    _mark_all_unread(index)
    while not is_complete(index):
        _read_batch(index, names["unread"])


def is_correct(index: Index | ReadOnlyIndex) -> bool:
    """Return whether the tables agree with the rows, those that are not read yet apart; called in a snapshot."""
    names = table_names()
    if not _exists(index, names["entries"]):
        return True
    entries, rows_after = names["entries"], f"(SELECT rowid AS id FROM Cache WHERE rowid > ? AND {_is_row('Cache')})"
    last = -1
    while found := index.select(_READ.format(unread=rows_after, batch=_BATCH), last):
        first, last = last, found[-1][0]
        between = f"FROM {entries} WHERE id > ? AND id <= ?"
        recorded = {one[0]: one for one in index.select(f"SELECT * {between}", first, last)}
        unread = {
            number for (number,) in index.select(f"SELECT id {between}".replace(entries, names["unread"]), first, last)
        }
        expected = {one[0]: values for one in found if (values := _entry_values(*one)) is not None}
        if recorded != {number: values for number, values in expected.items() if number not in unread}:
            return False
    return not index.select(f"SELECT 1 FROM {entries} WHERE id > ? LIMIT 1", last) and _totals_agree(index)


def by_use(index: Index | ReadOnlyIndex, condition: str = "1", values: Iterable[Any] = ()) -> list[int]:
    """Return the ids of the recordings that meet a condition in SQL, the one used last first."""
    query = (
        f"SELECT id FROM {table_names()['entries']} WHERE format IS NULL AND {condition} ORDER BY used_at DESC, id DESC"
    )
    return _ids(index.select(query, *values))


def of_product(index: Index | ReadOnlyIndex, instrument: str, product: str) -> list[int]:
    """Return the ids of the public recordings of a product, the one stored last first."""
    query = (
        f"SELECT id FROM {table_names()['entries']} WHERE format IS NULL AND instrument = ? AND product = ? "
        "AND private = 0 ORDER BY stored_at DESC"
    )
    return _ids(index.select(query, instrument, product))


def totals(index: Index | ReadOnlyIndex) -> list[ProductTotals]:
    """Return the totals of all products."""
    query = (
        f"SELECT instrument, product, private, recordings, size, microseconds, pinned FROM {table_names()['totals']}"
    )
    return [
        ProductTotals(instrument, product, bool(private), recordings, size, microseconds / _MICROSECONDS, pinned)
        for instrument, product, private, recordings, size, microseconds, pinned in index.select(query)
    ]


def other_recordings(index: Index | ReadOnlyIndex) -> OtherRecordings:
    """Return how much belongs to other releases."""
    found = index.select(
        f"SELECT format, head, stored_size FROM {table_names()['entries']} "
        f"WHERE format IS NOT NULL AND format <> '{rows.VERSION_FORMAT}'"
    )
    heads = {head: size for _, head, size in found if head is not None}
    return OtherRecordings(len(found), sum(heads.values()), tuple(sorted({one for one, _, _ in found})))


def groups_to_evict(index: Index | ReadOnlyIndex, uses: dict[Key, float]) -> Iterator[Group]:
    """Iterate over groups of recordings in the order of eviction, as `eviction.groups_to_evict`.

    `uses` are later times of use, in s since 1970 (UTC), that are not written yet. Recordings may be removed meanwhile.
    """
    yield from _versions_to_evict(index)
    entries, position = table_names()["entries"], (-math.inf, -1)
    last_of_their_heads = (
        f"SELECT evict_at, id, head FROM {entries} AS one WHERE format IS NULL AND pinned = 0 "
        f"AND (evict_at, id) > (?, ?) AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND pinned = 1) "
        f"AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND format IS NULL "
        "AND evict_at >= one.evict_at AND (evict_at, id) > (one.evict_at, one.id)) "
        f"ORDER BY evict_at, id LIMIT {_BATCH}"
    )
    used_lately = _used_lately(index, uses)
    waiting = deque(sorted(used_lately.items(), key=lambda item: item[1]))
    while found := index.select(last_of_their_heads, *position):
        for evict_at, number, head in found:
            position = evict_at, number
            while waiting and waiting[0][1] <= evict_at:
                yield _group(index, waiting.popleft()[0])
            if head not in used_lately:
                yield _group(index, head)
    yield from (_group(index, head) for head, _ in waiting)


def _versions_to_evict(index: Index | ReadOnlyIndex) -> Iterator[Group]:
    """Iterate over groups of earlier versions whose heads no recording has, those that were replaced first before."""
    entries, position = table_names()["entries"], (-math.inf, "")
    heads = (
        f"SELECT max(evict_at), head FROM {entries} AS one WHERE {_IS_VERSION} "
        f"AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND format IS NULL) "
        f"AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND pinned = 1) "
        f"GROUP BY head HAVING (max(evict_at), head) > (?, ?) ORDER BY 1, 2 LIMIT {_BATCH}"
    )
    while found := index.select(heads, *position):
        position = found[-1]
        yield from (_group(index, head) for _, head in found)


_IS_VERSION: Final = f"format = '{rows.VERSION_FORMAT}'"


def history_usage(index: Index | ReadOnlyIndex) -> HistoryUsage:
    """Return the usage of earlier versions."""
    entries = table_names()["entries"]
    ((number,),) = index.select(f"SELECT count(*) FROM {entries} WHERE {_IS_VERSION}")
    ((occupied,),) = index.select(
        f"SELECT sum(size) FROM (SELECT max(stored_size) AS size FROM {entries} AS one WHERE {_IS_VERSION} "
        f"AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND format IS NULL) GROUP BY head)"
    )
    return HistoryUsage(number, occupied or 0)


def versions_replaced_before(index: Index | ReadOnlyIndex, time: float) -> list[int]:
    """Return the ids of the earlier versions, without pinned ones, that were replaced before a time."""
    query = f"SELECT id FROM {table_names()['entries']} WHERE {_IS_VERSION} AND pinned = 0 AND evict_at < ?"
    return _ids(index.select(query, time))


def read(index: Index | ReadOnlyIndex, ids: Iterable[int]) -> Iterator[tuple[rows.Row, float, bool]]:
    """Iterate over the rows with these ids, each with its time of use and whether it is pinned.

    Rows that were removed meanwhile, or are damaged, are left out.
    """
    pending = list(ids)
    for start in range(0, len(pending), _BATCH):
        batch = pending[start : start + _BATCH]
        query = (
            f"SELECT id, key, value, used_at, pinned FROM {table_names()['entries']} JOIN Cache ON Cache.rowid = id "
            f"WHERE id IN ({','.join('?' * len(batch))}) AND typeof(value) = 'text'"
        )
        found = {number: columns for number, *columns in index.select(query, *batch)}
        for key, text, used_at, pinned in (found[number] for number in batch if number in found):
            if (row := _row(key, text)) is not None:
                yield row, used_at, bool(pinned)


def _group(index: Index | ReadOnlyIndex, head: str) -> Group:
    """Return the recordings that share a head, and then the earlier versions."""
    query = f"SELECT id FROM {table_names()['entries']} WHERE head = ? AND"
    return _ids(chain(index.select(f"{query} format IS NULL", head), index.select(f"{query} {_IS_VERSION}", head)))


def _used_lately(index: Index | ReadOnlyIndex, uses: dict[Key, float]) -> dict[str, float]:
    """Return the heads of recordings that were used since times of use were written, with their times of eviction."""
    entries = table_names()["entries"]
    query = (
        f"SELECT head, bonus, (SELECT max(evict_at) FROM {entries} WHERE head = one.head AND format IS NULL) "
        f"FROM {entries} AS one WHERE format IS NULL AND id IN {_rows_of('?1')} "
        f"AND NOT EXISTS (SELECT 1 FROM {entries} WHERE head = one.head AND pinned = 1)"
    )
    found: dict[str, float] = {}
    for key, used_at in uses.items():
        for head, bonus, latest in index.select(query, key):
            found[head] = max(found.get(head, latest), used_at + bonus)
    return found


def _read_batch(index: Index, unread: str, *arguments: object) -> None:
    """Read some of the rows with the ids in a table or subquery, within a transaction."""
    names = table_names()
    for columns in index.select(_READ.format(unread=unread, batch=_BATCH), *arguments):
        if (values := _entry_values(*columns)) is not None:
            index.execute(f"INSERT OR REPLACE INTO {names['entries']} VALUES ({','.join('?' * len(values))})", *values)
        index.execute(f"DELETE FROM {names['unread']} WHERE id = ?", columns[0])


def _entry_values(number: int, key: str | None, text: str | None, used: object, pin: object) -> tuple[Any, ...] | None:
    """Return the values of an entry; None for a row that is damaged, or no row."""
    if key is None or text is None:
        return None
    if (other := rows.loads_other(text)) is not None:
        if index_keys.key_of_version(key) is not None and (version := _row(key, text)) is not None:
            return _version_values(number, version, pin)
        name, size = other.head or (None, 0)
        unknown = (0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, *[None] * 8)
        return (number, str(other.format), name, min(max(size, 0), _MAX_SIZE), *unknown)
    row = _row(key, text)
    if row is None or not 0 <= row.head.size <= _MAX_SIZE or not 0 <= row.head.stored_size <= _MAX_SIZE:
        return None
    stored_at, cost = _finite(row.stored_at), _finite(row.cost)
    used_at, bonus = max(stored_at, _time(used)), eviction.cost_bonus(cost)
    return (
        number,
        None,
        row.head.name,
        row.head.stored_size,
        row.head.size,
        stored_at,
        used_at,
        bonus,
        used_at + bonus,
        round(min(cost, _MAX_SIZE / _MICROSECONDS) * _MICROSECONDS),
        int(row.private),
        int(pin is not None),
        row.query.instrument if row.query else None,
        row.query.product_type if row.query else None,
        *_subject_values(row.query),
    )


def _version_values(number: int, row: rows.Row, pin: object) -> tuple[Any, ...] | None:
    """Return the values of the entry of an earlier version, which is evicted in the order of `evict_at`."""
    if not 0 <= row.head.stored_size <= _MAX_SIZE:
        return None
    until = _finite(row.valid_until or 0.0)
    unknown = (0, 0.0, 0.0, 0.0, until, 0, 0, int(pin is not None), *[None] * 8)
    return (number, rows.VERSION_FORMAT, row.head.name, row.head.stored_size, *unknown)


def _subject_values(query: Query | None) -> tuple[Any, ...]:
    """Return the searchable text, the position on the unit sphere and the time range, as MJD, of a query."""
    subject = subject_of(query)
    position = (None, None, None) if subject.position is None else unit_vector(*subject.position)
    return searchable_text(query), *position, subject.begin, subject.end


def _row(key: str, text: str) -> rows.Row | None:
    found, version_of = index_keys.recording_key(key), index_keys.key_of_version(key)
    try:
        if version_of:
            return rows.loads_version(version_of, text)
        return rows.loads(found, text) if found else None
    except (*DAMAGE, RecursionError):
        return None


def _totals_agree(index: Index | ReadOnlyIndex) -> bool:
    names = table_names()
    columns = "instrument, product, private"
    counted = (
        f"SELECT {columns}, count(*), sum(size), sum(microseconds), sum(pinned) FROM {names['entries']} "
        f"WHERE format IS NULL GROUP BY {columns}"
    )
    recorded = f"SELECT {columns}, recordings, size, microseconds, pinned FROM {names['totals']}"
    return not index.select(f"SELECT * FROM ({counted} EXCEPT {recorded}) LIMIT 1") and not index.select(
        f"SELECT * FROM ({recorded} EXCEPT {counted}) LIMIT 1"
    )


def _mark_all_unread(index: Index) -> None:
    index.execute(f"INSERT OR IGNORE INTO {table_names()['unread']} SELECT rowid FROM Cache WHERE {_is_row('Cache')}")


def _exists(index: Index | ReadOnlyIndex, table: str) -> bool:
    return bool(index.select("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", table))


def _statements(script: str) -> Iterator[str]:
    """Split a script: a trigger ends with END, any other statement with a semicolon at the end of a line."""
    lines: list[str] = []
    for line in script.strip().splitlines():
        lines.append(line)
        is_trigger = lines[0].startswith("CREATE TRIGGER")
        if line.rstrip(";") == "END" if is_trigger else line.endswith(";"):
            yield "\n".join(lines)
            lines = []


def _ids(found: Iterable[tuple[int]]) -> list[int]:
    return list(chain.from_iterable(found))


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0


def _time(text: object) -> float:
    """Return a stored time of use, in s since 1970 (UTC), or 0 where it is damaged."""
    match = index_keys.TIME.fullmatch(text) if isinstance(text, str) else None
    return float(match[0]) if match else 0.0
