"""The configuration file: options of the server, and a table of options for each of several upstreams.

port = 8400
[upstream.production]
url = "https://dispatcher.example.org"
prefix = "/"
[upstream.staging]
url = "https://staging.example.org"
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

FILE: Final = "oda-proxy.toml"
LARGEST_FILE: Final = 1024 * 1024
"""Maximum size of a configuration file, in bytes."""
MAX_UPSTREAMS: Final = 100

URL: Final = "url"
PREFIX: Final = "prefix"
"""Options of a table that the command line does not have."""
_UPSTREAM: Final = "upstream"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The content of a configuration file; that of an absent one is empty.

    `upstreams` are the options of the tables `[upstream.NAME]`, by name. `table` is the one whose options have
    replaced those of the whole file.
    """

    path: Path = Path(FILE)
    options: Mapping[str, Any] = field(default_factory=dict)
    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    table: str = ""

    def source(self, key: str) -> str:
        """Return where an option is set, for messages."""
        if self.table and key == _UPSTREAM:
            key = URL
        in_table = bool(self.table) and key in self.upstreams[self.table]
        return f"{key} in {f'[upstream.{self.table}] of ' if in_table else ''}{self.path}"

    def with_upstream(self, name: str) -> ConfigFile:
        """Return the file as if the options of a table were those of the whole file."""
        options = {_UPSTREAM if key == URL else key: value for key, value in self.upstreams[name].items()}
        options.pop(PREFIX, None)
        return replace(self, options={**self.options, **options}, table=name)


def present_file() -> Path | None:
    """Return the default file if it exists: who reads that path again fails where it is gone, and keeps its options."""
    path = Path(FILE)
    return path if path.is_file() else None


def refuse_emptied(file: Path | None, *, was_empty: bool) -> Path | None:
    """Return the path of a configuration that is read again. Raises UsageError where nothing is left of its content.

    An editor on a full disk leaves such a file; all options would take their defaults.
    """
    if file is not None and not was_empty and is_empty(file):
        raise UsageError(f"the configuration {file} is empty, and was not when the server started; write it again")
    return file


def is_empty(file: Path | None) -> bool:
    """Return whether a configuration has no content, or does not exist."""
    try:
        return file is None or not file.read_bytes().strip()
    except OSError:
        return False  # reading it says what is wrong


def read_config_file(file: Path | None, *, options: Collection[str], table_options: Collection[str]) -> ConfigFile:
    """Read the configuration: `file`, which must exist, or else the default file, if it exists.

    `options` and `table_options` are the names that the file and its tables may have. Raises UsageError.
    """
    path = file or Path(FILE)
    if file is None and not path.is_file():
        return ConfigFile()
    import tomllib  # imported only if there is a file

    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"the configuration {path} is larger than {LARGEST_FILE} bytes")
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the configuration {path} is not valid TOML: {error}") from error
    if unknown := sorted(set(values) - set(options)):
        raise UsageError(f"the configuration {path} has an unknown option {unknown[0]!r}")
    tables = values.pop(_UPSTREAM) if isinstance(values.get(_UPSTREAM), dict) else {}
    for name, table in tables.items():
        _check_table(path, name, table, table_options, options)
    if len(tables) > MAX_UPSTREAMS:
        raise UsageError(f"the configuration {path} has {len(tables)} upstreams; {MAX_UPSTREAMS} are the limit")
    return ConfigFile(path, values, tables)


def _check_table(path: Path, name: str, table: Any, table_options: Collection[str], options: Collection[str]) -> None:
    """Check the table of an upstream. Raises UsageError."""
    if not isinstance(table, dict):
        raise UsageError(
            f"{name} in [upstream] of {path} is outside the table of an upstream: write [upstream.NAME] above it, or "
            'for one upstream upstream = "URL"'
        )
    where = f"[upstream.{name}] of the configuration {path}"
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: a name has up to 40 lower-case letters, digits, - and _, and begins without - or _")
    if unknown := sorted(set(table) - {URL, PREFIX, *table_options}):
        hint = ", which is one of the whole server: write it above the tables" if unknown[0] in options else ""
        raise UsageError(f"{where} has an unknown option {unknown[0]!r}{hint}")
    if URL not in table:
        raise UsageError(f'{where} has no url: write url = "https://..."')
