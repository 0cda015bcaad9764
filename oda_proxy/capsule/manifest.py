"""The manifest of a capsule, `capsule.json`, as a value (docs/capsules.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.capsule import layout
from oda_proxy.codec import json_text
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.errors import CodecError
from oda_proxy.files import digests
from oda_proxy.files.digests import FileDigest
from oda_proxy.recordings import serialisation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.files.trees import FileTree

FORMAT: Final = 2
"""Version of the manifest; all earlier ones are read, too (docs/capsules.md)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How often the run used a part of the capsule, and when first (ISO, UTC)."""

    count: int
    first: str


@dataclass(frozen=True, slots=True)
class DispatcherEntry:
    """A dispatcher of the manifest."""

    name: str
    """Name of its folder."""
    url: str
    """The address that requests were sent to."""
    addresses: tuple[str, ...]
    """The addresses that the command used, in the order of their first use."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest says."""

    created: str
    """Start of the run (ISO, UTC)."""
    ended: str | None
    """End of the run (ISO, UTC); None where it was interrupted."""
    exit_status: int | None
    command: tuple[str, ...]
    key_version: int
    versions: Mapping[str, Any]
    source_date_epoch: int | None
    """The time that programs of the run wrote into files, in s since 1970 (UTC); None in format 1."""
    dispatchers: Mapping[str, DispatcherEntry]
    """Dispatchers by the names of their folders."""
    uses: Mapping[str, Usage]
    """Uses of fixtures, failures and exchanges, by path."""
    files: Mapping[str, FileDigest] = field(repr=False)
    """Size and digest of each file, by path."""

    @property
    def epoch(self) -> int:
        """The time that programs of the run write into files, in s since 1970 (UTC), in format 1 its start."""
        if self.source_date_epoch is not None:
            return self.source_date_epoch
        try:
            return int(datetime.fromisoformat(self.created).timestamp())
        except ValueError:  # an old capsule that somebody changed
            return 0

    @property
    def packages(self) -> dict[str, list[str]]:
        """The versions of the packages that the run imported; `python` is that of its interpreters."""
        packages = self.versions.get("packages")
        named = {**packages} if isinstance(packages, dict) else {}
        named |= {"python": self.versions.get("interpreters")}
        return {
            name: [version for version in versions if isinstance(version, str)]
            for name, versions in named.items()
            if isinstance(versions, list)
        }


def read(tree: FileTree) -> Manifest:
    """Read the manifest of a capsule. Blocks. Raises CodecError and FixtureError."""
    return parse(digests.read_within(tree, layout.MANIFEST, limit=layout.MAX_MANIFEST))


def parse(content: bytes) -> Manifest:
    """Parse a manifest. Raises CodecError."""
    document = JsonObject.of(json_text.loads(content))
    if not 1 <= (version := document.count("format")) <= FORMAT:
        raise CodecError(f"is of format {version}; this release reads formats 1 to {FORMAT}")
    return Manifest(
        created=document.text("created"),
        ended=document.text_or_none("ended"),
        exit_status=_whole_number_or_none(document, "exit_status"),
        command=serialisation.read_texts(document, "command"),
        key_version=document.count("key_version"),
        versions=document.mapping("versions"),
        source_date_epoch=_whole_number_or_none(document, "source_date_epoch"),
        dispatchers=_dispatchers(document),
        uses={path: _usage(JsonObject.of(usage)) for path, usage in document.mapping("uses").items()},
        files=_files(document),
    )


def _files(document: JsonObject) -> dict[str, FileDigest]:
    listed = document.mapping("files")
    if len(listed) > layout.MAX_FILES:
        raise CodecError(f"lists more than {layout.MAX_FILES} files")
    files = {}
    for path, value in sorted(listed.items()):
        if not layout.kind_of(path):
            raise CodecError(f"lists {path[:200]!r}, which is not a path of the format")
        member = JsonObject.of(value)
        if not digests.SHA256.fullmatch(member.text("sha256")):
            raise CodecError(f"has no SHA-256 for {path}")
        files[path] = FileDigest(member.count("size"), member.text("sha256"))
    for path in files:
        if layout.is_exchange(path) and layout.body_of(path) not in files:
            raise CodecError(f"lists {path} without a body")
    return files


def _dispatchers(document: JsonObject) -> dict[str, DispatcherEntry]:
    dispatchers = {}
    for entry in document.objects("dispatchers"):
        name = entry.text("name")
        if not layout.NAME.fullmatch(name) or name in dispatchers:
            raise CodecError(f"names the dispatcher {name[:80]!r}, which is not a valid name, or twice")
        dispatchers[name] = DispatcherEntry(name, entry.text("url"), serialisation.read_texts(entry, "addresses"))
    return dispatchers


def _usage(usage: JsonObject) -> Usage:
    return Usage(usage.count("count"), usage.text("first"))


def _whole_number_or_none(document: JsonObject, name: str) -> int | None:
    value = document.members.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise CodecError(f"{name!r} should be a whole number")
    return value
