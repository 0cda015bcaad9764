"""The earlier descriptions of a dispatcher, in files beside those of today.

descriptions/<name>.history.json    what was replaced, oldest first, each with the times between which it was valid
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from oda_proxy.files import atomic
from oda_proxy.files.versions import path_of_format

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Version of the files."""
MAX_VERSIONS: Final = 64
"""Earlier descriptions of one name that are stored; they change with releases, a few times a year."""
MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of a file that is read."""
MAX_NAMES: Final = 256
"""Names of which earlier descriptions are in memory, where there is no folder."""


@dataclass(frozen=True, slots=True)
class EarlierDescription:
    """A description that was replaced; times are in s since 1970 (UTC)."""

    valid_from: float
    valid_until: float
    content_type: str
    body: bytes

    def covers(self, time: float) -> bool:
        """Return whether it was the description at a time."""
        return self.valid_from <= time < self.valid_until


class DescriptionHistory:
    """Earlier descriptions by name: in files, or in memory where there is no folder. Blocks."""

    def __init__(self) -> None:
        self._in_memory: LRUCache[tuple[str, ...], tuple[EarlierDescription, ...]] = LRUCache(MAX_NAMES)

    def earlier(self, name: tuple[str, ...], file: Path | None) -> tuple[EarlierDescription, ...]:
        """Return the earlier descriptions, oldest first; none, with a warning, where the file cannot be read."""
        if file is None:
            return self._in_memory.get(name, ())
        file = _history_file(file)
        try:
            file = path_of_format(file, FORMAT)
            if not file.is_file() or file.stat().st_size > MAX_SIZE:
                return ()
            members = json.loads(file.read_bytes())
            if members["format"] != FORMAT or members["asked"] != list(name):
                return ()
            return tuple(
                EarlierDescription(
                    float(one["valid_from"]),
                    float(one["valid_until"]),
                    str(one["content_type"]),
                    one["body"].encode("utf-8"),
                )
                for one in members["earlier"]
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _log.warning("cannot read the earlier descriptions in %s: %s", file, error)
            return ()

    def add(self, name: tuple[str, ...], file: Path | None, replaced: EarlierDescription) -> None:
        """Add a description that was replaced; where that cannot be written, it is logged."""
        earlier = (*self.earlier(name, file), replaced)[-MAX_VERSIONS:]
        if file is None:
            self._in_memory[name] = earlier
            return
        try:
            members = {
                "format": FORMAT,
                "asked": name,
                "earlier": [
                    {
                        "valid_from": one.valid_from,
                        "valid_until": one.valid_until,
                        "content_type": one.content_type,
                        "body": one.body.decode("utf-8"),
                    }
                    for one in earlier
                ],
            }
            atomic.write(path_of_format(_history_file(file), FORMAT), f"{json.dumps(members, indent=1)}\n".encode())
        except UnicodeDecodeError:
            return  # a description is JSON, which is UTF-8
        except OSError as error:
            _log.warning("cannot write an earlier description: %s", error.strerror or error)


def _history_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.history.json")
