"""A recording but for its head, as a row of JSON text."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from oda_proxy.query.query import Query
from oda_proxy.recordings.fits_cards import Gap
from oda_proxy.recordings.recording import FORMAT, Recording
from oda_proxy.store.base import Entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.head import Head

_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class HeadFile:
    """A head on a medium: the digest of its text and the bytes of it, the name of its file and the bytes of that."""

    digest: str
    size: int
    name: str
    stored_size: int


def written(recording: Recording, kept: HeadFile) -> str:
    """Write the row of a recording whose head is kept there."""
    row = {
        "format": FORMAT,
        "stored_at": recording.stored_at,
        "cost": recording.cost,
        "timeline": recording.timeline,
        "private": recording.private,
        "head": {"sha256": kept.digest, "size": kept.size, "name": kept.name, "occupies": kept.stored_size},
        "query": _query_written(recording.query),
        "exit_status": recording.exit_status,
        "parameters": recording.parameters,
        "echoed": recording.echoed,
        "small": recording.client_members,
        "gaps": recording.gaps,
    }
    return json.dumps(row, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Row:
    """A row that was read, of this format."""

    key: Key
    kept: HeadFile
    stored_at: float
    cost: float
    private: bool
    query: Query | None
    members: Mapping[str, Any]

    def recording(self, head: Head) -> Recording:
        """Put the recording together; raises KeyError, TypeError or ValueError for damage."""
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
            client_members=dict(self.members["small"]),
            gaps=tuple(Gap(*gap) for gap in self.members["gaps"]),
        )

    def entry(self, *, used_at: float, pinned: bool) -> Entry:
        """Describe the recording."""
        return Entry(
            key=self.key,
            stored_at=self.stored_at,
            used_at=used_at,
            size=self.kept.size,
            stored_size=self.kept.stored_size,
            head_name=self.kept.name,
            cost=self.cost,
            private=self.private,
            pinned=pinned,
            query=self.query,
        )


def read(key: Key, text: str) -> Row:
    """Read a row; raises KeyError, TypeError or ValueError for damage, and for one of another format."""
    row = json.loads(text)
    if row["format"] != FORMAT:
        raise ValueError(f"its format is {row['format']!r}, this program reads {FORMAT}")
    head = row["head"]
    if not (_DIGEST.fullmatch(head["sha256"]) and _DIGEST.fullmatch(head["name"])):
        raise ValueError("the name of its head is no digest")
    kept = HeadFile(head["sha256"], int(head["size"]), head["name"], int(head["occupies"]))
    times = float(row["stored_at"]), float(row["cost"])
    return Row(
        key,
        kept,
        *times,
        row["private"] is not False,
        None if row["query"] is None else Query.from_dict(row["query"]),
        row,
    )


def _query_written(query: Query | None) -> dict[str, Any] | None:
    return None if query is None else asdict(query)
