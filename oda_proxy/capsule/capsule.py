"""Opening, checking and verifying a capsule: a folder, or an archive of one (docs/capsules.md)."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.capsule import conversion, exchange, layout, manifest
from oda_proxy.capsule.errors import CapsuleError, NoCapsuleError, capsule_errors
from oda_proxy.capsule.layout import DESCRIPTIONS, EXCHANGES, FAILURES, FIXTURES, MANIFEST, kind_of
from oda_proxy.codec import json_text
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.errors import CodecError
from oda_proxy.files import digests
from oda_proxy.files.archives import open_tree
from oda_proxy.fixture.json_files import ANSWER_FILE
from oda_proxy.fixture.reading import Fixture, Limits
from oda_proxy.recordings import failures

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from oda_proxy.capsule.exchange import Exchange
    from oda_proxy.capsule.manifest import DispatcherEntry, Manifest, Usage
    from oda_proxy.files.digests import FileDigest
    from oda_proxy.files.trees import FileTree
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording

_LIMITS: Final = Limits(json_bytes=layout.MAX_FILE, file_bytes=layout.MAX_FILE, files=layout.MAX_FILES)


@dataclass(frozen=True, slots=True)
class DispatcherCapsule:
    """What was recorded of one dispatcher."""

    name: str
    url: str
    """The address that requests were sent to."""
    addresses: tuple[str, ...]
    """The addresses that the command used, in the order of their first use."""
    folder: Path
    """The folder for `DescriptionCache` and `Descriptions`; that of an archive is temporary."""
    failures: Mapping[Key, Failure]
    fixtures: tuple[Fixture, ...] = field(default=(), repr=False)

    def recordings(self) -> Iterator[Recording]:
        """Read the recordings, one after the other. Blocks. Raises CapsuleError."""
        return map(_recording, self.fixtures)


def _recording(fixture: Fixture) -> Recording:
    with capsule_errors(fixture.file(ANSWER_FILE)):
        return conversion.recording_from_fixture(fixture, now=0.0)


@dataclass(frozen=True, slots=True)
class Capsule:
    """An opened capsule: every file of its manifest is there, with its size and digest.

    One of an archive has temporary files until it is closed.
    """

    tree: FileTree
    manifest: Manifest
    dispatchers: tuple[DispatcherCapsule, ...]
    unlisted: tuple[str, ...] = ()
    """Files in the folders of the capsule that the manifest does not list; of these only descriptions are read."""

    def with_present_address(self, url: str, former_urls: Collection[str]) -> Capsule:
        """Return the capsule as if its dispatchers at one of the former addresses had been used at `url`, too."""
        former = {former.rstrip("/") for former in former_urls}
        dispatchers = tuple(
            replace(one, addresses=(*one.addresses, url))
            if former & {address.rstrip("/") for address in (one.url, *one.addresses)}
            else one
            for one in self.dispatchers
        )
        return replace(self, dispatchers=dispatchers)

    @property
    def path(self) -> Path:
        """The folder or archive."""
        return self.tree.path

    def close(self) -> None:
        """Close the archive, and remove temporary files."""
        self.tree.close()

    @property
    def command(self) -> tuple[str, ...]:
        """The command that was recorded, without secrets."""
        return self.manifest.command

    @property
    def created(self) -> str:
        """When the run began (ISO, UTC)."""
        return self.manifest.created

    @property
    def ended(self) -> str | None:
        """When the run ended (ISO, UTC); None where it was interrupted."""
        return self.manifest.ended

    @property
    def exit_status(self) -> int | None:
        """The exit status of the command; None where the run was interrupted."""
        return self.manifest.exit_status

    @property
    def versions(self) -> Mapping[str, Any]:
        """Versions of the programs that took part."""
        return self.manifest.versions

    @property
    def uses(self) -> Mapping[str, Usage]:
        """Uses of fixtures, failures and exchanges, by path."""
        return self.manifest.uses

    @property
    def files(self) -> Mapping[str, FileDigest]:
        """Size and digest of each file, by path."""
        return self.manifest.files

    def exchanges(self) -> Iterator[Exchange]:
        """Read the exchanges, one after the other. Raises CapsuleError."""
        for path in filter(layout.is_exchange, self.files):
            yield self.exchange(path)

    def exchange(self, path: str) -> Exchange:
        """Read the exchange of a path. Raises CapsuleError."""
        body = layout.body_of(path)
        with capsule_errors(self.path / body):
            content = _content(self.tree, body, self.files[body])
        with capsule_errors(self.path / path):
            return exchange.from_json(_content(self.tree, path, self.files[path]), content)


def is_capsule(tree: FileTree) -> bool:
    """Return whether there is a capsule, sound or not."""
    try:
        return tree.has(MANIFEST)
    except (OSError, ValueError):  # opening it reports the reason
        return True


def open_capsule(source: Path | FileTree) -> Capsule:
    """Open a capsule and check every file of its manifest; arrays are decoded when they are read.

    Blocks: every file is read once. Raises CapsuleError, which names the file, NoCapsuleError where there is none; then
    what was opened is closed.
    """
    with ExitStack() as stack:
        if isinstance(source, Path):
            with capsule_errors(source):
                source = stack.enter_context(open_tree(source))
        else:
            stack.enter_context(source)
        opened = _open(source)
        stack.pop_all()
    return opened


def _open(tree: FileTree) -> Capsule:
    if not is_capsule(tree):
        raise NoCapsuleError(tree.path)
    with capsule_errors(tree.path / MANIFEST):
        listed = manifest.read(tree)
    for path, member in listed.files.items():
        with capsule_errors(tree.path / path):
            _check_file(tree, path, member, listed)
    unlisted = tuple(unlisted_files(tree, listed))
    for path in unlisted:
        if kind_of(path) == DESCRIPTIONS:
            with capsule_errors(tree.path / path):
                _check_unlisted(tree, path, ended=listed.ended is not None)
    dispatchers = tuple(_dispatcher(tree, entry, listed.files) for entry in listed.dispatchers.values())
    return Capsule(tree, listed, dispatchers, unlisted)


def verify(source: Path | FileTree) -> list[CapsuleError]:
    """Check everything in a capsule; no error means that all of it can be read and replayed.

    Blocks: in addition to `open_capsule`, all arrays are decoded. A capsule that cannot be opened gives one error.
    """
    try:
        opened = open_capsule(source)
    except CapsuleError as error:
        return [error]
    found: list[CapsuleError] = []
    with closing(opened):
        for fixture in chain.from_iterable(dispatcher.fixtures for dispatcher in opened.dispatchers):
            try:
                _recording(fixture).head.close()
            except CapsuleError as error:
                found.append(error)
        for path in filter(layout.is_exchange, opened.files):
            try:
                opened.exchange(path)
            except CapsuleError as error:
                found.append(error)
    return found


def unlisted_files(tree: FileTree, listed: Manifest) -> Iterator[str]:
    """Return the files in the folders of a capsule that its manifest does not list."""
    for own in layout.FOLDERS:
        yield from (path for path in tree.files_below(own) if path not in listed.files)


def _content(tree: FileTree, path: str, member: FileDigest) -> bytes:
    return digests.read_verified(tree, path, member, limit=layout.MAX_FILE)


def _check_file(tree: FileTree, path: str, member: FileDigest, listed: Manifest) -> None:
    """Check the size and the digest of a file, and its content as far as it does not depend on other files."""
    content = _content(tree, path, member)
    kind = kind_of(path)
    if kind != EXCHANGES and path.split("/")[1] not in listed.dispatchers:
        raise CodecError("belongs to a dispatcher that the manifest does not name")
    if kind == DESCRIPTIONS:
        _check_description(content)
    elif layout.is_exchange(path):
        JsonObject.of(json_text.loads(content))


def _check_description(content: bytes) -> None:
    JsonObject.of(json_text.loads(content)).count("format")


def _check_unlisted(tree: FileTree, path: str, *, ended: bool) -> None:
    """Check an unlisted description: it would be read, and only an interrupted run leaves one."""
    if ended:
        raise CodecError("is not in the manifest")
    _check_description(digests.read_within(tree, path, limit=layout.MAX_FILE))


def _dispatcher(tree: FileTree, entry: DispatcherEntry, files: Mapping[str, FileDigest]) -> DispatcherCapsule:
    """Read what was recorded of a dispatcher, except for the arrays."""
    root = f"{layout.DISPATCHERS}/{entry.name}/"
    members = {path.removeprefix(root): member for path, member in files.items() if path.startswith(root)}
    return DispatcherCapsule(
        name=entry.name,
        url=entry.url,
        addresses=entry.addresses,
        folder=tree.on_disk(f"{root}{DESCRIPTIONS}").parent,
        failures=_failures(tree.below(root.rstrip("/")), members),
        fixtures=_fixtures(tree.below(f"{root}{FIXTURES}"), members),
    )


def _failures(tree: FileTree, members: Mapping[str, FileDigest]) -> dict[Key, Failure]:
    found: dict[Key, Failure] = {}
    for path, member in members.items():
        if path.startswith(f"{FAILURES}/"):
            with capsule_errors(tree.path / path):
                failure = failures.parse(_content(tree, path, member))
                _check_unique(failure.key, found)
            found[failure.key] = failure
    return found


def _fixtures(tree: FileTree, members: Mapping[str, FileDigest]) -> tuple[Fixture, ...]:
    """Return the fixtures, after checking that no client would load anything unsafe from what is not an array."""
    by_folder: dict[str, dict[str, FileDigest]] = {}
    for path, member in members.items():
        slug, _, file = path.removeprefix(f"{FIXTURES}/").rpartition("/")
        if path.startswith(f"{FIXTURES}/") and slug:
            by_folder.setdefault(slug, {})[file] = member
    found: dict[Key, Fixture] = {}
    for slug, its_members in by_folder.items():
        fixture = Fixture(slug, {}, its_members, tree, _LIMITS)
        with capsule_errors(fixture.file(ANSWER_FILE)):
            fixture.query()
            key = conversion.recorded_key(fixture)
            _check_unique(key, found)
            conversion.check_safe(fixture)
        found[key] = fixture
    return tuple(found.values())


def _check_unique(key: Key, found: Mapping[Key, Any]) -> None:
    if key in found:
        raise CodecError(f"has the key {key}, which another file has, too")
