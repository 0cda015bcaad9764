"""The cache of `oda_api` itself: which of its entries may be returned for another query.

With `use_local_cache`, `oda_api` since 1.1.46 names a file by a hash of the sorted characters of the query. All
anagrams share one file, such as the same query with RA and DEC exchanged, and the client returns the file unchecked. It
also ignores the URL of the dispatcher, and never expires failures.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.query.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATTERN: Final = "oda_api_data_collection_*.json.gz"

LARGEST: Final = 512 * 1024 * 1024
"""Maximum size of an entry, in bytes, uncompressed."""

_NAME: Final = re.compile(r"oda_api_data_collection_[0-9a-f]{1,64}\.json\.gz")

_NOT_EXCHANGED: Final = ENVELOPE | {"instrument", "product_type", "query_type", "api", "T_format"}


class NoClientCacheError(OdaProxyError):
    """A folder is not a cache of the client."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} has no entries of the client's cache, which are named {PATTERN}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the cache.

    Attributes
    ----------
    query
        The parameters that the response echoes; empty if it has no echo.
    state
        Its `query_status`.
    collision
        Parameters of another query with the same file name; empty if there is none.
    clashes
        Files with this name that hold the response to another query.
    """

    file: Path
    query: str
    state: str
    collision: str = ""
    clashes: tuple[Path, ...] = ()

    @property
    def doubts(self) -> list[str]:
        """What is wrong with the entry, in a few words each."""
        found = [f"is also returned for {self.collision}"] if self.collision else []
        found += [f"{file} has the same name and answers another query" for file in self.clashes]
        if self.state not in {"done", "unreadable"}:
            found.append(f"holds a job in state {self.state!r:.50}, and never expires")
        if self.state == "unreadable":
            found.append("cannot be read")
        elif not self.query:
            found.append("does not name its query")
        return found


def scan(folder: Path) -> list[Entry]:
    """Read all entries below a folder, sorted by path. Raises NoClientCacheError if there is none."""
    entries = [_entry(file) for file in sorted(folder.rglob(PATTERN)) if _NAME.fullmatch(file.name) and file.is_file()]
    if not entries:
        raise NoClientCacheError(folder)
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.file.name, []).append(entry)
    return [_with_clashes(entry, by_name[entry.file.name]) for entry in entries]


def _with_clashes(entry: Entry, namesakes: list[Entry]) -> Entry:
    clashes = tuple(other.file for other in namesakes if other.query != entry.query)
    return replace(entry, clashes=clashes)


def _entry(file: Path) -> Entry:
    """Read one file; a damaged one is an entry with state `unreadable`."""
    try:
        answer = _read(file)
        products = answer.get("products")
        echo = products.get("analysis_parameters") if isinstance(products, dict) else None
        query = {name: value for name, value in echo.items() if name not in ENVELOPE} if isinstance(echo, dict) else {}
        return Entry(file, _query_text(query), str(answer.get("query_status")), _collision(query))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return Entry(file, "", "unreadable")


def _read(file: Path) -> Mapping[str, Any]:
    """Read the response in a file. Raises ValueError if it is no JSON object, or too large."""
    with gzip.open(file) as stream:
        text = stream.read(LARGEST + 1)
    answer = json.loads(text) if len(text) <= LARGEST else None
    if not isinstance(answer, dict):
        raise ValueError(file)  # noqa: TRY004 - as for a file that is no JSON
    return answer


def _query_text(query: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value_text(value)}" for name, value in sorted(query.items()) if value is not None)


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _collision(query: Mapping[str, Any]) -> str:
    """Return parameters of a query with the same characters: two values, or two digits of one, exchanged."""
    values = {name: _value_text(value) for name, value in sorted(query.items()) if name not in _NOT_EXCHANGED and value}
    for first, second in (("RA", "DEC"), ("T1", "T2"), ("E1_keV", "E2_keV")):
        one, other = values.get(first), values.get(second)
        if one is not None and other is not None and one != other:
            return f"{first}={other} {second}={one}"
    for name, value in values.items():
        if (anagram := _anagram(value)) != value:
            return f"{name}={anagram}"
    return ""


def _anagram(text: str) -> str:
    """Exchange the first two adjacent digits that differ."""
    for index, (one, other) in enumerate(pairwise(text)):
        if one.isdigit() and other.isdigit() and one != other:
            return f"{text[:index]}{other}{one}{text[index + 2 :]}"
    return text
