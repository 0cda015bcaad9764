"""The row of a recording in the index: everything but its head, as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from oda_proxy.query.query import Query
from oda_proxy.recordings.fits_cards import Gap
from oda_proxy.recordings.recording import FORMAT, PRODUCT_IDS, Recording
from oda_proxy.store.base import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.head import Head

_DIGEST = re.compile("[0-9a-f]{64}")

OWN_PREFIX = f'{{"format":{FORMAT},'
"""How `dumps` begins."""


VERSION_FORMAT = f"history-{FORMAT}"
"""The format of the row of an earlier version."""


def own_format() -> int:
    """Return the format of the rows of this release."""
    return FORMAT


@dataclass(frozen=True, slots=True)
class HeadFile:
    """A head on disk: SHA-256 and bytes of its text, name and bytes of its compressed file."""

    digest: str
    size: int
    name: str
    stored_size: int
    checksum: str = ""
    """XXH3 of the compressed file, 128 bits in hexadecimal digits; "" if an earlier release has written it."""


def dumps(recording: Recording, head: HeadFile, first_stored_at: float | None = None) -> str:
    """Return the row of a recording whose head is in that file; the last is as in `Entry`."""
    row = {
        "format": FORMAT,
        "stored_at": recording.stored_at,
        "cost": recording.cost,
        "timeline": recording.timeline,
        "private": recording.private,
        "head": {
            "sha256": head.digest,
            "size": head.size,
            "name": head.name,
            "occupies": head.stored_size,
            **({"xxh3_128": head.checksum} if head.checksum else {}),
        },
        "query": _query_members(recording.query),
        "exit_status": recording.exit_status,
        "parameters": recording.parameters,
        "echoed": recording.echoed,
        "small": recording.client_members,
        "gaps": recording.gaps,
    }
    if recording.job_id:
        row["job_id"] = recording.job_id
    if recording.other_members:
        row["other_members"] = recording.other_members
    if recording.product_ids != PRODUCT_IDS:
        row["product_ids"] = recording.product_ids
    if first_stored_at is not None:
        row["first_stored_at"] = first_stored_at
    return json.dumps(row, separators=(",", ":"))


def dumps_version(text: str, *, valid_from: float, valid_until: float) -> str:
    """Return the row of an earlier version, from that of the recording that is replaced.

    To other releases it is a row of another format, which they leave alone with its head. Raises ValueError or KeyError
    where the row is damaged.
    """
    row = json.loads(text)
    if row["format"] != FORMAT:
        raise ValueError(f"its format is {row['format']!r}")
    row |= {"format": VERSION_FORMAT, "first_stored_at": valid_from, "valid_until": valid_until}
    return json.dumps(row, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Row:
    """A row of this format."""

    key: Key
    head: HeadFile
    stored_at: float
    cost: float
    private: bool
    query: Query | None
    members: Mapping[str, Any]
    first_stored_at: float | None = None
    valid_until: float | None = None
    """As in `Entry`."""

    @property
    def valid_from(self) -> float:
        """Since when it is, or was, the answer."""
        return self.stored_at if self.first_stored_at is None else self.first_stored_at

    def recording(self, head: Head) -> Recording:
        """Return the recording; raises KeyError, TypeError or ValueError where the row is damaged."""
        return Recording(
            key=self.key,
            stored_at=self.stored_at,
            head=head,
            exit_status=dict(self.members["exit_status"]),
            parameters=dict(self.members["parameters"]),
            echoed=tuple(self.members["echoed"]),
            query=self.query,
            private=self.private,
            cost=self.cost,
            timeline=tuple((str(state), float(at)) for state, at in self.members.get("timeline", ())),
            job_id=str(self.members.get("job_id", "")),
            client_members=dict(self.members["small"]),
            gaps=tuple(Gap(*gap) for gap in self.members["gaps"]),
            other_members=dict(self.members.get("other_members", {})),
            product_ids=tuple(name for name in PRODUCT_IDS if name in self.members.get("product_ids", PRODUCT_IDS)),
        )

    def entry(self, *, used_at: float, pinned: bool) -> Entry:
        """Return the metadata of the recording."""
        return Entry(
            key=self.key,
            stored_at=self.stored_at,
            used_at=used_at,
            size=self.head.size,
            stored_size=self.head.stored_size,
            head_name=self.head.name,
            cost=self.cost,
            private=self.private,
            pinned=pinned,
            query=self.query,
            first_stored_at=self.first_stored_at,
            valid_until=self.valid_until,
        )


@dataclass(frozen=True, slots=True)
class OtherRow:
    """A row of another format, which only another release reads."""

    format: object
    head: tuple[str, int] | None
    """Name and bytes of the file of its head, as all formats so far have them; None where this one has not."""


def loads(key: Key, text: str) -> Row:
    """Parse a row of this format; raises KeyError, TypeError or ValueError where it is damaged."""
    row = json.loads(text)
    if row["format"] != FORMAT:
        raise ValueError(f"its format is {row['format']!r}")
    return _row(key, row)


def loads_version(key: Key, text: str) -> Row:
    """Parse the row of an earlier version, as `loads`."""
    row = json.loads(text)
    if row["format"] != VERSION_FORMAT:
        raise ValueError(f"its format is {row['format']!r}")
    return replace(_row(key, row), valid_until=float(row["valid_until"]))


def _row(key: Key, row: dict[str, Any]) -> Row:
    members = row["head"]
    if not (_DIGEST.fullmatch(members["sha256"]) and _DIGEST.fullmatch(members["name"])):
        raise ValueError("its head has no valid digest")
    sizes, checksum = (int(members["size"]), int(members["occupies"])), str(members.get("xxh3_128", ""))
    head = HeadFile(members["sha256"], sizes[0], members["name"], sizes[1], checksum)
    times = float(row["stored_at"]), float(row["cost"])
    return Row(
        key,
        head,
        *times,
        row["private"] is not False,
        None if row["query"] is None else Query.from_dict(row["query"]),
        row,
        None if row.get("first_stored_at") is None else float(row["first_stored_at"]),
    )


def loads_other(text: str) -> OtherRow | None:
    """Parse a row of another format; returns None for one of this format, or that is damaged."""
    if text.startswith(OWN_PREFIX):
        return None
    try:
        row = json.loads(text)
        version = row["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if version == FORMAT or isinstance(version, bool) or not isinstance(version, int | str):
        return None
    try:
        name, size = row["head"]["name"], int(row["head"]["occupies"])
        head = (name, size) if _DIGEST.fullmatch(name) else None
    except (ValueError, KeyError, TypeError):
        head = None
    return OtherRow(version, head)


def _query_members(query: Query | None) -> dict[str, Any] | None:
    return None if query is None else asdict(query)
