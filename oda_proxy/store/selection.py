"""Selection of recordings: by the beginning of their keys, or by filters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.query.message_text import shorten
from oda_proxy.store.amounts import parse_size, parse_time_before

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.base import Entry, Store

_SOURCE = "src_name"


class UnknownKeyError(OdaProxyError):
    """A key is that of no recording, or of several."""

    def __init__(self, key: str, found: int) -> None:
        problem = f"{found} keys begin" if found else "no recording has a key that begins"
        super().__init__(f"{problem} with {key!r}; see oda-proxy ls")


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions on recordings, all of which must hold; None for those that are not set.

    Attributes
    ----------
    instrument, product, source
        Patterns of names, without regard to case; `*` matches any characters. The source is the parameter `src_name`.
    stored_before, used_before
        Times in s since 1970 (UTC).
    larger_than
        Size in bytes, uncompressed.
    """

    instrument: str | None = None
    product: str | None = None
    source: str | None = None
    stored_before: float | None = None
    used_before: float | None = None
    larger_than: int | None = None

    @classmethod
    def parse(cls, texts: Mapping[str, str], *, now: float) -> Filters:
        """Read filters from the words of the command line, such as `{"source": "Crab*", "stored-before": "30d"}`.

        `now` is in s since 1970 (UTC). Raises UsageError for an unknown name, or a value that cannot be parsed.
        """
        values: dict[str, Any] = {}
        for name, text in texts.items():
            if name not in WORDS:
                raise UsageError(f"there is no filter {shorten(name)!r}; there are {', '.join(WORDS)}")
            try:
                values[name.replace("-", "_")] = _parse(name, text, now)
            except ValueError:
                raise UsageError(f"{name} must be {_EXPECTED[name]}, not {shorten(text)!r}") from None
        return cls(**values)

    def texts(self) -> dict[str, str]:
        """Return the filters as words of the command line, as `parse` reads them."""
        values = {name: getattr(self, name.replace("-", "_")) for name in WORDS}
        return {name: _text(name, value) for name, value in values.items() if value is not None}

    @classmethod
    def pop(cls, values: dict[str, Any]) -> Filters:
        """Take the filters out of the values of a command."""
        return cls(**{one.name: values.pop(one.name) for one in fields(cls)})

    def __bool__(self) -> bool:
        """Whether a filter is set."""
        return self != Filters()

    def matches(self, entry: Entry) -> bool:
        """Whether a recording meets all conditions; one without its query has no names."""
        query = entry.query
        sources = dict(query.parameters).get(_SOURCE, ()) if query else ()
        return (
            fits(self.instrument, [query.instrument] if query else [])
            and fits(self.product, [query.product_type] if query else [])
            and fits(self.source, sources)
            and (self.stored_before is None or entry.stored_at < self.stored_before)
            and (self.used_before is None or entry.used_at < self.used_before)
            and (self.larger_than is None or entry.size > self.larger_than)
        )


WORDS: Final = tuple(one.name.replace("_", "-") for one in fields(Filters))
"""The names of the filters, as on the command line without the dashes in front."""

MAX_PATTERN: Final = 1000
"""Characters of a pattern of a name that is read from text."""
_WHEN = "a date such as 2026-01-31, or an age in min, h, d or w such as 30d"
_EXPECTED: Final = dict.fromkeys(WORDS, f"a name of up to {MAX_PATTERN} characters") | {
    "stored-before": _WHEN,
    "used-before": _WHEN,
    "larger-than": "a size such as 500MB or 2GiB",
}


def _parse(name: str, text: str, now: float) -> str | float:
    """Parse the value of a filter. Raises ValueError."""
    if name.endswith("-before"):
        return parse_time_before(text, now)
    if name == "larger-than":
        return parse_size(text)
    if not text.strip() or len(text) > MAX_PATTERN:
        raise ValueError(text)
    return text


def _text(name: str, value: str | float) -> str:
    return datetime.fromtimestamp(float(value), UTC).isoformat() if name.endswith("-before") else str(value)


def fits(pattern: str | None, names: Sequence[str]) -> bool:
    """Return whether one of the names fits a pattern, without regard to case; any do where there is none."""
    return pattern is None or any(fnmatchcase(name.casefold(), pattern.casefold()) for name in names)


def find_keys(store: Store, beginnings: Sequence[str]) -> list[Key]:
    """Find recordings by the beginnings of their keys. Raises UnknownKeyError if one of them is not found."""
    return list(dict.fromkeys(_find_key(store, beginning.casefold()) for beginning in beginnings))


def _find_key(store: Store, beginning: str) -> Key:
    found = store.keys_beginning(beginning) if beginning else []
    if len(found) != 1:
        raise UnknownKeyError(beginning, len(found))
    return found[0]


def find_entries(store: Store, beginnings: Sequence[str]) -> list[Entry]:
    """Find the metadata of recordings by the beginnings of their keys. Raises UnknownKeyError."""
    found = []
    for key in find_keys(store, beginnings):
        if (entry := store.entry(key)) is None:
            raise UnknownKeyError(key, 0)
        found.append(entry)
    return found


def select(store: Store, beginnings: Sequence[str], filters: Filters) -> list[Entry]:
    """Return the recordings with these keys, or else all that meet the filters, the one used last first.

    Raises UnknownKeyError, and UsageError if there are keys and filters, or neither.
    """
    if bool(beginnings) == bool(filters):
        raise UsageError("name keys, or filters such as --instrument, and not both")
    if beginnings:
        return find_entries(store, beginnings)
    return list(store.entries_by_use(filters))
