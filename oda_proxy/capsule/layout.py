"""Names of the files in a capsule, and limits on what is read of them (docs/capsules.md)."""

from __future__ import annotations

import re
from typing import Final

from oda_proxy.files import git_attributes
from oda_proxy.fixture import json_files

MANIFEST: Final = "capsule.json"
CRATE: Final = "ro-crate-metadata.json"

README: Final = "README.md"
GENERATED: Final = (README, git_attributes.NAME)
"""Files that are written for people and for git, and not listed in the manifest: their
readers may change them."""

DISPATCHERS: Final = "dispatchers"
EXCHANGES: Final = "exchanges"
FIXTURES: Final = "fixtures"
FAILURES: Final = "failures"
DESCRIPTIONS: Final = "descriptions"

FOLDERS: Final = (DISPATCHERS, EXCHANGES)
"""The folders of a capsule. Whatever else lies beside them is not ours."""

MAX_MANIFEST: Final = 64 * 2**20
"""Bytes of the manifest."""
MAX_FILE: Final = 2**30
"""Bytes of any other file."""
MAX_FILES: Final = 100_000

NAME: Final = re.compile(r"[A-Za-z0-9_+%~-][A-Za-z0-9._+%~-]{0,254}")
"""Names of files and folders."""


def kind_of(path: str) -> str:
    """Return the kind of file that a path in a capsule names, '' for a path that is not in the format.

    The kinds are EXCHANGES, FIXTURES, FAILURES, DESCRIPTIONS and `json_files.MANIFEST`.
    """
    names = path.split("/")
    if not all(map(NAME.fullmatch, names)):
        return ""
    match names:
        case ["exchanges", name] if name.endswith((".json", ".body")):
            return EXCHANGES
        case ["dispatchers", _, "fixtures", "manifest.json"]:
            return json_files.MANIFEST
        case ["dispatchers", _, "fixtures", _, _, _, _]:
            return FIXTURES
        case ["dispatchers", _, ("failures" | "descriptions") as kind, name] if name.endswith(".json"):
            return kind
    return ""


def body_of(path: str) -> str:
    """Return the path of the body of an exchange."""
    return f"{path.removesuffix('.json')}.body"


def is_exchange(path: str) -> bool:
    """Return whether a path names the JSON part of an exchange."""
    return kind_of(path) == EXCHANGES and path.endswith(".json")
