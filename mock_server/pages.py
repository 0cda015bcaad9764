"""Plain pages of the services around a dispatcher, such as the one that resolves names of sources."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SHIPPED: Final = "pages.toml"
_MAX_FILE_SIZE: Final = 16 * 2**20
_KINDS: Final[Mapping[str, type]] = {"path": str, "query": dict, "status": int, "json": object, "text": str}
_LOWEST_STATUS, _HIGHEST_STATUS = 200, 599
_PLACEHOLDER: Final = re.compile(r"\{(\w+)(:url)?\}")


@dataclass(frozen=True)
class Page:
    """The response to requests for a path, under any prefix, with certain arguments.

    `content` is text or, with `is_json`, a JSON value. In its texts, `{name}` is the argument of that name, which a
    request then needs, and `{name:url}` the same as a part of a URL.
    """

    path: str
    query: Mapping[str, str]
    status: int
    content: Any
    is_json: bool

    def fits(self, query: Mapping[str, str]) -> bool:
        """Return whether the page is for a request with these arguments; upper case, blanks and `_` do not matter."""
        needed = set(_placeholders(self.content))
        has_values = all(_comparable(query.get(name, "")) == _comparable(text) for name, text in self.query.items())
        return has_values and all(query.get(name) for name in needed)

    def filled_in(self, query: Mapping[str, str]) -> Any:
        """Return the content with the arguments of a request."""
        return _filled_in(self.content, query)


@dataclass(frozen=True)
class Pages:
    """All pages, in the order in which they are tried."""

    pages: tuple[Page, ...]

    @classmethod
    def read(cls, extra_files: tuple[Path, ...] = ()) -> Pages:
        """Read the pages of files, and after them the shipped ones; raises UsageError."""
        pages: list[Page] = []
        for file in extra_files:
            try:
                with file.open("rb") as stream:
                    content = stream.read(_MAX_FILE_SIZE + 1)
                if len(content) > _MAX_FILE_SIZE:
                    raise UsageError(f"{file}: is larger than {_MAX_FILE_SIZE} bytes")
                pages += _parse(str(file), content.decode())
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{file}: cannot be read: {error}") from None
        shipped = files(__package__).joinpath(_SHIPPED).read_text(encoding="utf-8")
        return cls((*pages, *_parse(_SHIPPED, shipped)))

    def find(self, path: str, query: Mapping[str, str]) -> Page | None:
        """Return the first page for a request, or None."""
        return next((page for page in self.pages if path.endswith(f"/{page.path}") and page.fits(query)), None)


def _parse(source: str, text: str) -> list[Page]:
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{source}: {error}") from None
    tables = document.pop("page", [])
    if document or not isinstance(tables, list):
        raise UsageError(f"{source}: has {', '.join(map(repr, document)) or 'page'} in place of tables [[page]]")
    return [_page(f"{source}: page {number}", table) for number, table in enumerate(tables, 1)]


def _page(place: str, table: Any) -> Page:
    if not isinstance(table, dict):
        raise UsageError(f"{place} should be a table, not {table!r}")
    for name, value in table.items():
        if name not in _KINDS:
            raise UsageError(f"{place} has no {name!r}: it can have {', '.join(_KINDS)}")
        if not isinstance(value, _KINDS[name]) or (name == "status" and isinstance(value, bool)):
            raise UsageError(f"{place}: {name} cannot be {value!r}")
    path, query, status = table.get("path", "").strip("/"), table.get("query", {}), table.get("status", 200)
    if not path:
        raise UsageError(f"{place} has no path: give one, such as 'resolve_name'")
    if not all(isinstance(value, str) for value in query.values()):
        raise UsageError(f"{place}: the query cannot be {query!r}: write every value as text")
    if not _LOWEST_STATUS <= status <= _HIGHEST_STATUS:
        raise UsageError(f"{place}: the status cannot be {status}: give one from {_LOWEST_STATUS} to {_HIGHEST_STATUS}")
    if ("json" in table) == ("text" in table):
        raise UsageError(f"{place} should have either json or text")
    content = table["json"] if "json" in table else table["text"]
    if not _is_json(content):
        raise UsageError(f"{place}: json cannot have dates or times: write them as text")
    return Page(path, query, status, content, "json" in table)


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_json, value.values()))
    return all(map(_is_json, value)) if isinstance(value, list) else isinstance(value, (str, int, float))


def _comparable(text: str) -> str:
    return " ".join(text.replace("_", " ").split()).casefold()


def _placeholders(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [name for member in value for name in _placeholders(member)]
    return [name for name, _ in _PLACEHOLDER.findall(value)] if isinstance(value, str) else []


def _filled_in(value: Any, query: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled_in(member, query) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled_in(member, query) for member in value]
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda match: quote(query[match[1]]) if match[2] else query[match[1]], value)
