"""The client's own cache: which of its entries may be given for a question they do not answer.

With `use_local_cache`, `oda_api` since 1.1.46 names a file by a hash of the sorted characters of all that was asked:
whatever is an anagram of it has the same file, such as the same query with RA and DEC exchanged, and the client gives
what it finds without looking. Nor does it look at the dispatcher's address, and it keeps failures for ever.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.query.query import ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATTERN: Final = "oda_api_data_collection_*.json.gz"

LARGEST: Final = 512 * 1024 * 1024
"""Bytes of an entry, uncompressed."""

_NAME: Final = re.compile(r"oda_api_data_collection_[0-9a-f]{1,64}\.json\.gz")

_NOT_EXCHANGED: Final = ENVELOPE | {"instrument", "product_type", "query_type", "api", "T_format"}


class NoClientCacheError(OdaProxyError):
    """A folder is no cache of the client."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} has no entries of the client's cache; they are named {PATTERN}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the cache.

    `question` is what it answers, for a person; empty where it does not say. `mistaken_for` names another question
    whose file has the same name, `clashes` the files of that name that answer other questions.
    """

    file: Path
    resolved: str
    state: str
    mistaken_for: str = ""
    clashes: tuple[Path, ...] = ()

    @property
    def doubts(self) -> list[str]:
        """Say what is wrong with the entry, in a few words each."""
        said = [f"is also given for {self.mistaken_for}"] if self.mistaken_for else []
        said += [f"{file} has its name and answers another question" for file in self.clashes]
        if self.state not in {"done", "unreadable"}:
            said.append(f"holds an analysis that is {self.state!r:.50}, and is given for ever")
        if self.state == "unreadable":
            said.append("cannot be read")
        elif not self.resolved:
            said.append("does not say what it answers")
        return said


def scan(folder: Path) -> list[Entry]:
    """Read every entry below a folder, sorted by path. Raises NoClientCacheError where there is none."""
    entries = [_entry(file) for file in sorted(folder.rglob(PATTERN)) if _NAME.fullmatch(file.name) and file.is_file()]
    if not entries:
        raise NoClientCacheError(folder)
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(entry.file.name, []).append(entry)
    return [_with_clashes(entry, by_name[entry.file.name]) for entry in entries]


def _with_clashes(entry: Entry, namesakes: list[Entry]) -> Entry:
    clashes = tuple(other.file for other in namesakes if other.resolved != entry.resolved)
    return Entry(entry.file, entry.resolved, entry.state, entry.mistaken_for, clashes)


def _entry(file: Path) -> Entry:
    """Read one file; one that is damaged is an entry that cannot be read."""
    try:
        answer = _read(file)
        products = answer.get("products")
        echo = products.get("analysis_parameters") if isinstance(products, dict) else None
        asked = {name: value for name, value in echo.items() if name not in ENVELOPE} if isinstance(echo, dict) else {}
        return Entry(file, _written(asked), str(answer.get("query_status")), _mistaken_for(asked))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return Entry(file, "", "unreadable")


def _read(file: Path) -> Mapping[str, Any]:
    """Read the answer in a file; raises ValueError where there is none, or one too large."""
    with gzip.open(file) as stream:
        text = stream.read(LARGEST + 1)
    answer = json.loads(text) if len(text) <= LARGEST else None
    if not isinstance(answer, dict):
        raise ValueError(file)  # noqa: TRY004 - as for a text that is no JSON
    return answer


def _written(asked: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_shown(value)}" for name, value in sorted(asked.items()) if value is not None)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _mistaken_for(asked: Mapping[str, Any]) -> str:
    """Give a question that has the same characters: with two numbers or times exchanged, or two digits of one."""
    values = {name: _shown(value) for name, value in sorted(asked.items()) if name not in _NOT_EXCHANGED and value}
    for pair in (("RA", "DEC"), ("T1", "T2"), ("E1_keV", "E2_keV")):
        one, other = (values.get(name) for name in pair)
        if one is not None and other is not None and one != other:
            return f"{pair[0]}={other} {pair[1]}={one}"
    for name, value in values.items():
        if (anagram := _anagram(value)) != value:
            return f"{name}={anagram}"
    return ""


def _anagram(text: str) -> str:
    """Exchange the first two neighbouring digits that differ."""
    for at, (one, other) in enumerate(pairwise(text)):
        if one.isdigit() and other.isdigit() and one != other:
            return f"{text[:at]}{other}{one}{text[at + 2 :]}"
    return text
