"""Capsules: the folder of what one run asked for, written as it comes and read with every check (docs/capsules.md).

A file that `capsule.json` lists does not change while the run goes on, so that a run which is interrupted, however it
is, leaves a capsule that can be read. What may change (descriptions, manifests of fixtures) is listed at the end.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from oda_proxy._version import __version__
from oda_proxy.capsule import command_line, conversion, crate, exchange
from oda_proxy.codec import json_text
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.errors import CodecError, FixtureError, OdaProxyError, UsageError
from oda_proxy.files import atomic, digests
from oda_proxy.files.digests import FileDigest
from oda_proxy.fixture import json_files
from oda_proxy.fixture.json_files import ANSWER_FILE
from oda_proxy.fixture.reading import Fixture, Limits
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import KEY_VERSION
from oda_proxy.recordings import failures, serialisation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording

FORMAT: Final = 1
"""Version of the manifest."""
MANIFEST: Final = "capsule.json"
CRATE: Final = "ro-crate-metadata.json"

MAX_MANIFEST: Final = 64 * 2**20
MAX_FILE: Final = 2**30
"""Bytes of the manifest, and of any other file, that are read."""
MAX_FILES: Final = 100_000

_DISPATCHERS: Final = "dispatchers"
_EXCHANGES: Final = "exchanges"
_FIXTURES: Final = "fixtures"
_FAILURES: Final = "failures"
_DESCRIPTIONS: Final = "descriptions"

_LIMITS: Final = Limits(json_bytes=MAX_FILE, file_bytes=MAX_FILE, files=MAX_FILES)


class NotACapsuleError(UsageError):
    """A folder that cannot be written to as a capsule."""


class CapsuleError(FixtureError):
    """A file of a capsule is missing, changed, or not what the format says; the message begins with its name."""


class NoCapsuleError(CapsuleError):
    """There is no capsule where one is looked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / MANIFEST, "is not there")
        self.args = (f"there is no capsule in {folder}",)


@dataclass(frozen=True, slots=True)
class Use:
    """How often something was used in the run, and when first (ISO, UTC)."""

    count: int
    first: str


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Say which file it was, in a CapsuleError."""
    try:
        yield
    except (CapsuleError, NotACapsuleError):
        raise
    except FixtureError as error:
        raise CapsuleError(error.file, str(error).removeprefix(f"{error.file}: ")) from None
    except OdaProxyError as error:
        raise CapsuleError(file, str(error)) from None
    except OSError as error:
        raise CapsuleError(file, f"cannot be written: {error.strerror or error}") from None


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DispatcherCapsule:
    """What was recorded of one dispatcher."""

    name: str
    url: str
    """Which dispatcher was asked."""
    addresses: tuple[str, ...]
    """Under which addresses the command named it, in the order in which they came; `url` is among them if it was."""
    folder: Path
    """For `DescriptionCache` and `Descriptions`."""
    failures: Mapping[Key, Failure]
    fixtures: tuple[Fixture, ...] = field(default=(), repr=False)

    def recordings(self) -> Iterator[Recording]:
        """Read the recordings, one after the other; blocks. Raises CapsuleError."""
        return map(_recording, self.fixtures)


def _recording(one: Fixture) -> Recording:
    with _blaming(one.file(ANSWER_FILE)):
        return conversion.to_recording(one, now=0.0)


@dataclass(frozen=True, slots=True)
class Capsule:
    """A capsule that was opened: everything that its manifest lists is there, and as it was written."""

    folder: Path
    created: str
    ended: str | None
    """When the run ended (ISO, UTC); None where it was interrupted."""
    exit_status: int | None
    command: tuple[str, ...]
    key_version: int
    versions: Mapping[str, Any]
    dispatchers: tuple[DispatcherCapsule, ...]
    uses: Mapping[str, Use]
    """Uses of things, by their path in the capsule."""
    files: Mapping[str, FileDigest] = field(repr=False)
    """What the manifest lists, by its path in the capsule."""
    unlisted: tuple[str, ...] = ()
    """Files in the capsule's own folders that the manifest does not list; of these only descriptions are read."""

    def exchanges(self) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        """Read the other exchanges, one after the other: the document of each, and its body. Raises CapsuleError."""
        for path in self.files:
            if _kind(path) == _EXCHANGES and path.endswith(".json"):
                with _blaming(self.folder / path):
                    document = JsonObject.of(json_text.loads(_content(self.folder, path, self.files[path])))
                body = path.removesuffix(".json") + ".body"
                with _blaming(self.folder / body):
                    content = _content(self.folder, body, self.files[body])
                yield document.members, content


def is_capsule(folder: Path) -> bool:
    """Tell whether a folder holds a capsule, sound or not."""
    try:
        (folder / MANIFEST).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):  # whoever reads it says why that cannot be done
        return True
    return True


def open_capsule(folder: Path) -> Capsule:
    """Open a capsule, and check all that its manifest lists, except that arrays are decoded when they are read.

    Blocks: every file is read once. Raises CapsuleError, which names the file, NoCapsuleError where there is none.
    """
    if not is_capsule(folder):
        raise NoCapsuleError(folder)
    with _blaming(folder / MANIFEST):
        manifest = _manifest(digests.read_within(folder, MANIFEST, limit=MAX_MANIFEST))
        files, named = _files(manifest), _named(manifest)
        capsule = Capsule(
            folder=folder,
            created=manifest.text("created"),
            ended=manifest.text_or_none("ended"),
            exit_status=_whole_or_none(manifest, "exit_status"),
            command=serialisation.read_texts(manifest, "command"),
            key_version=manifest.count("key_version"),
            versions=manifest.mapping("versions"),
            dispatchers=(),
            uses={path: _use(JsonObject.of(use)) for path, use in manifest.mapping("uses").items()},
            files=files,
        )
    for path, member in files.items():
        with _blaming(folder / path):
            _check_file(folder, path, member, named)
    unlisted = tuple(_unlisted(folder, files))
    for path in unlisted:
        if _kind(path) == _DESCRIPTIONS:
            with _blaming(folder / path):
                _check_unlisted(folder, path, ended=capsule.ended is not None)
    dispatchers = tuple(_dispatcher(folder, one, files) for one in named.values())
    return replace(capsule, dispatchers=dispatchers, unlisted=unlisted)


def verify(folder: Path) -> list[CapsuleError]:
    """Check everything in a capsule; no error means that all of it can be read and replayed.

    Blocks: beyond what `open_capsule` does, all arrays are decoded. Where it cannot be opened, that is the one error.
    """
    try:
        opened = open_capsule(folder)
        pages = list(opened.exchanges())
    except CapsuleError as error:
        return [error]
    found: list[CapsuleError] = []
    for one in chain.from_iterable(dispatcher.fixtures for dispatcher in opened.dispatchers):
        try:
            _recording(one).head.close()
        except CapsuleError as error:
            found.append(error)
    for document, body in pages:
        try:
            exchange.from_json(json.dumps(document).encode("ascii"), body)
        except exchange.ExchangeError as error:
            found.append(CapsuleError(folder / _EXCHANGES, str(error)))
    return found


_NAME: Final = re.compile(r"[A-Za-z0-9_+%~-][A-Za-z0-9._+%~-]{0,254}")


def _kind(path: str) -> str:
    """Say in which of the format's folders a file is; nothing where it is in none."""
    names = path.split("/")
    if not all(map(_NAME.fullmatch, names)):
        return ""
    match names:
        case ["exchanges", name] if name.endswith((".json", ".body")):
            return _EXCHANGES
        case ["dispatchers", _, "fixtures", "manifest.json"]:
            return json_files.MANIFEST
        case ["dispatchers", _, "fixtures", _, _, _, _]:
            return _FIXTURES
        case ["dispatchers", _, ("failures" | "descriptions") as kind, name] if name.endswith(".json"):
            return kind
    return ""


def _manifest(content: bytes) -> JsonObject:
    manifest = JsonObject.of(json_text.loads(content))
    if (version := manifest.count("format")) != FORMAT:
        raise CodecError(f"is of format {version}; this release reads format {FORMAT}")
    return manifest


def _files(manifest: JsonObject) -> dict[str, FileDigest]:
    """Read which files a capsule has."""
    given = manifest.mapping("files")
    if len(given) > MAX_FILES:
        raise CodecError(f"lists more than {MAX_FILES} files")
    files = {}
    for path, value in sorted(given.items()):
        if not _kind(path):
            raise CodecError(f"lists {path[:200]!r}, which is no path of the format")
        member = JsonObject.of(value)
        if not digests.SHA256.fullmatch(member.text("sha256")):
            raise CodecError(f"gives no SHA-256 for {path}")
        files[path] = FileDigest(member.count("size"), member.text("sha256"))
    for path in files:
        is_exchange = _kind(path) == _EXCHANGES and path.endswith(".json")
        if is_exchange and path.removesuffix(".json") + ".body" not in files:
            raise CodecError(f"lists {path} without a body")
    return files


def _named(manifest: JsonObject) -> dict[str, JsonObject]:
    """Read which dispatchers a capsule has, by the names of their folders."""
    named = {}
    for one in manifest.objects("dispatchers"):
        name = one.text("name")
        if not _NAME.fullmatch(name) or name in named:
            raise CodecError(f"names the dispatcher {name[:80]!r}, which is no name, or twice")
        one.text("url")
        serialisation.read_texts(one, "addresses")
        named[name] = one
    return named


def _use(use: JsonObject) -> Use:
    return Use(use.count("count"), use.text("first"))


def _whole_or_none(manifest: JsonObject, name: str) -> int | None:
    value = manifest.members.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise CodecError(f"{name!r} should be a whole number")
    return value


def _content(folder: Path, path: str, member: FileDigest) -> bytes:
    return digests.read_verified(folder, path, member, limit=MAX_FILE)


def _check_file(folder: Path, path: str, member: FileDigest, named: Mapping[str, JsonObject]) -> None:
    """Check that a file is as the manifest says, and what can be said of it alone."""
    content = _content(folder, path, member)
    kind = _kind(path)
    if kind != _EXCHANGES and path.split("/")[1] not in named:
        raise CodecError("belongs to a dispatcher that the manifest does not name")
    if kind == _DESCRIPTIONS:
        _check_description(content)
    elif kind == _EXCHANGES and path.endswith(".json"):
        JsonObject.of(json_text.loads(content))


def _check_description(content: bytes) -> None:
    JsonObject.of(json_text.loads(content)).count("format")


def _check_unlisted(folder: Path, path: str, *, ended: bool) -> None:
    """Check a description that is not listed: only a run that was interrupted leaves one, and it would be read."""
    if ended:
        raise CodecError("is not in the manifest")
    _check_description(digests.read_within(folder, path, limit=MAX_FILE))


def _unlisted(folder: Path, files: Mapping[str, FileDigest]) -> Iterator[str]:
    """Give the files in the capsule's folders that the manifest does not list."""
    for own in (_DISPATCHERS, _EXCHANGES):
        for file in sorted((folder / own).rglob("*")):
            path = file.relative_to(folder).as_posix()
            if path not in files and (file.is_symlink() or not file.is_dir()):
                yield path


def _dispatcher(folder: Path, described: JsonObject, files: Mapping[str, FileDigest]) -> DispatcherCapsule:
    """Read what was recorded of a dispatcher, but for the arrays."""
    name = described.text("name")
    own = f"{_DISPATCHERS}/{name}"
    here = {path.removeprefix(f"{own}/"): member for path, member in files.items() if path.startswith(f"{own}/")}
    return DispatcherCapsule(
        name=name,
        url=described.text("url"),
        addresses=serialisation.read_texts(described, "addresses"),
        folder=folder / own,
        failures=_failures(folder / own, here),
        fixtures=_fixtures(folder / own / _FIXTURES, here),
    )


def _failures(root: Path, here: Mapping[str, FileDigest]) -> dict[Key, Failure]:
    found: dict[Key, Failure] = {}
    for path, member in here.items():
        if path.startswith(f"{_FAILURES}/"):
            with _blaming(root / path):
                failure = failures.parse(_content(root, path, member))
                _refuse_second(failure.key, found)
            found[failure.key] = failure
    return found


def _fixtures(root: Path, here: Mapping[str, FileDigest]) -> tuple[Fixture, ...]:
    """Give the fixtures; what clients would load from one that is not from an array was looked at."""
    members: dict[str, dict[str, FileDigest]] = {}
    for path, member in here.items():
        slug, _, file = path.removeprefix(f"{_FIXTURES}/").rpartition("/")
        if path.startswith(f"{_FIXTURES}/") and slug:
            members.setdefault(slug, {})[file] = member
    found: dict[Key, Fixture] = {}
    for slug, its_members in members.items():
        one = Fixture(slug, {}, its_members, root, _LIMITS)
        with _blaming(one.file(ANSWER_FILE)):
            one.query()
            key = conversion.key_in(one)
            _refuse_second(key, found)
            conversion.refuse_unsafe(one)
        found[key] = one
    return tuple(found.values())


def _refuse_second(key: Key, known: Mapping[Key, Any]) -> None:
    if key in known:
        raise CodecError(f"has the key {key}, which another file has, too")


# -- writing ---------------------------------------------------------------------------------------


class Writer:
    """Writes a capsule while a run goes on; each method blocks, may be called from any thread, raises CapsuleError."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        include_private: bool = False,
        replace: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a capsule in a folder that is not there or empty, or holds one of a run that recorded nothing.

        With `replace` it may be one with any capsule: what belongs to that one is removed, other files stay.
        `environment` is where tokens may stand that the command repeats; `clock` gives s since 1970 (UTC). Raises
        NotACapsuleError for any other folder, CapsuleError where it cannot be written.
        """
        self.folder = folder
        self._include_private = include_private
        self._dispatchers: dict[str, DispatcherWriter] = {}
        self._book = _Book(folder, command_line.published(command, environment or {}, home=str(Path.home())), clock)
        with _blaming(folder):
            _make_room(folder, replace=replace)
            self._book.write()

    @property
    def private_left_out(self) -> int:
        """Count the recordings and failures that were not kept because they were asked for with a token."""
        return sum(one.private_left_out for one in self._dispatchers.values())

    def dispatcher(self, url: str) -> DispatcherWriter:
        """Give the writer for a dispatcher: the same one for the same address."""
        url = command_line.without_user(url)
        with self._book.noting:
            if url not in self._dispatchers:
                name = _free(_name_of(url), self._book.dispatchers)
                self._book.dispatchers[name] = (url, {})
                self._dispatchers[url] = DispatcherWriter(self._book, name, include_private=self._include_private)
            return self._dispatchers[url]

    def save_exchange(self, name: str, document: Mapping[str, Any], body: bytes) -> None:
        """Keep another exchange under a name (a digest), once."""
        thing = f"{_EXCHANGES}/{name}.json"
        with self._book.changing(self.folder / thing):
            if _kind(thing) != _EXCHANGES:
                raise CodecError(f"{name[:80]!r} is no name of an exchange")
            if not self._book.has(thing):
                contents = {f"{_EXCHANGES}/{name}.body": body, thing: json_text.dumps(document).encode()}
                for path, content in contents.items():
                    atomic.write(self.folder / path, content)
                self._book.keep(thing, {path: digests.compute_digest(self.folder, path) for path in contents})

    def used_exchange(self, name: str) -> None:
        """Take note that another exchange was given."""
        self._book.used(f"{_EXCHANGES}/{name}.json")

    def note_version(self, program: str, version: str) -> None:
        """Take note of the version of a program that took part: `oda_api`, `dispatcher`."""
        with self._book.noting:
            self._book.versions.setdefault(program, {}).setdefault(version)

    def finish(self, exit_status: int) -> None:
        """List everything, say how the command ended, and describe the capsule as an RO-Crate."""
        with self._book.changing(self.folder / CRATE):
            document = self._book.finish(exit_status)
            itself = {"name": MANIFEST, **asdict(digests.compute_digest(self.folder, MANIFEST))}
            described = crate.metadata(document, manifest_file=itself)
            atomic.write(self.folder / CRATE, json_text.dumps(described).encode())
            for path in (MANIFEST, CRATE, *document["files"]):  # a capsule is there to be read by others
                (self.folder / path).chmod(self.folder.stat().st_mode & 0o666)


class DispatcherWriter:
    """Keeps what one dispatcher answers; each method blocks, may be called from any thread, raises CapsuleError."""

    def __init__(self, book: _Book, name: str, *, include_private: bool) -> None:
        """Keep under this name what the dispatcher answers."""
        self.folder = book.folder / _DISPATCHERS / name
        """For `DescriptionCache` and `Descriptions`, which write there by themselves."""
        self.private_left_out = 0
        self._url, self._addresses = book.dispatchers[name]
        self._include_private = include_private
        self._book = book
        self._at = f"{_DISPATCHERS}/{name}"
        self._recordings: dict[Key, str] = {}
        """The path of each fixture in its folder."""
        self._failures: dict[Key, str] = {}
        """The name of each file."""
        self._digests: dict[str, FileDigest] = {}

    def named(self, address: str) -> None:
        """Take note of an address under which the command named the dispatcher."""
        with self._book.noting:
            self._addresses.setdefault(command_line.without_user(address))

    def save_recording(self, recording: Recording) -> bool:
        """Keep a recording, in place of an earlier one of its key; tell whether it was kept.

        A private one is not, unless the capsule includes those.
        """
        if not self._includes(private=recording.private):
            return False
        folder, at = self.folder / _FIXTURES, f"{self._at}/{_FIXTURES}"
        with _blaming(folder):
            path, query, answer = conversion.to_fixture(recording)
        with self._book.changing(folder / path):
            path = _free(path, self._recordings.values())
            write_fixture(folder, path, query, answer)
            before = self._recordings.get(recording.key)
            recordings = {**self._recordings, recording.key: path}
            origin = {"kind": "recorded", "source": self._url, "modelled": []}
            write_manifest(folder, dict.fromkeys(recordings.values(), origin), digests=self._digests)
            self._recordings = recordings
            if before:
                self._digests = {file: of for file, of in self._digests.items() if not file.startswith(f"{before}/")}
            files = {f"{at}/{file}": of for file, of in self._digests.items() if file.startswith(f"{path}/")}
            self._book.keep(f"{at}/{path}", files, in_place_of=before and f"{at}/{before}")
        return True

    def save_failure(self, failure: Failure) -> bool:
        """Keep a failure, in place of an earlier one of its key; tell whether it was kept, as `save_recording` does."""
        if not self._includes(private=failure.private):
            return False
        at = f"{self._at}/{_FAILURES}"
        with self._book.changing(self._book.folder / at):
            name = _free(failure.key, self._failures.values())
            thing = f"{at}/{name}.json"
            atomic.write(self._book.folder / thing, failures.serialise(failure).encode())
            before = self._failures.get(failure.key)
            self._failures[failure.key] = name
            files = {thing: digests.compute_digest(self._book.folder, thing)}
            self._book.keep(thing, files, in_place_of=before and f"{at}/{before}.json")
        return True

    def used(self, key: Key) -> None:
        """Take note that a recording or a failure was given; nothing is written before the next thing is kept."""
        if key in self._recordings:
            self._book.used(f"{self._at}/{_FIXTURES}/{self._recordings[key]}")
        elif key in self._failures:
            self._book.used(f"{self._at}/{_FAILURES}/{self._failures[key]}.json")

    def _includes(self, *, private: bool) -> bool:
        """Tell whether something may be kept, and count what may not."""
        left_out = private and not self._include_private
        with self._book.noting:
            self.private_left_out += left_out
        return not left_out


class _Book:
    """What the manifest of a capsule that is being written says."""

    def __init__(self, folder: Path, command: Sequence[str], clock: Callable[[], float]) -> None:
        self.folder = folder
        self.dispatchers: dict[str, tuple[str, dict[str, None]]] = {}
        """The name of each -> its address, and those under which it was named."""
        self.versions: dict[str, dict[str, None]] = {}
        self.noting = threading.Lock()
        """Held while something is noted: never for long."""
        self._writing = threading.Lock()
        self._clock = clock
        self._command = command
        self._created = self._now()
        self._ended: str | None = None
        self._exit_status: int | None = None
        self._things: dict[str, dict[str, FileDigest]] = {}
        """The files of each thing that was saved; both by their paths in the capsule."""
        self._uses: Counter[str] = Counter()
        self._first_uses: dict[str, str] = {}

    @contextmanager
    def changing(self, file: Path) -> Iterator[None]:
        """Change the capsule, while nobody else does."""
        with self._writing, _blaming(file):
            if self._ended is not None:
                raise CapsuleError(file, "is not written: the capsule is finished")
            yield

    def has(self, thing: str) -> bool:
        """Tell whether a thing was saved."""
        return thing in self._things

    def keep(self, thing: str, files: Mapping[str, FileDigest], *, in_place_of: str | None = None) -> None:
        """List the files of a thing, in place of another's, which are removed then."""
        self._things[thing] = dict(files)
        gone = self._things.pop(in_place_of, {}) if in_place_of else {}
        with self.noting:
            if in_place_of in self._first_uses:
                self._uses[thing] += self._uses.pop(in_place_of)
                self._first_uses[thing] = self._first_uses.pop(in_place_of)
        self.write()
        for path in gone:
            (self.folder / path).unlink()
        if gone and not any((self.folder / path).parent.iterdir()):
            (self.folder / path).parent.rmdir()

    def used(self, thing: str) -> None:
        """Take note that a thing was used."""
        with self.noting:
            self._uses[thing] += 1
            self._first_uses.setdefault(thing, self._now())

    def finish(self, exit_status: int) -> dict[str, Any]:
        """Write the manifest for the last time, with all that changed until now; give what it says."""
        for name in self.dispatchers:
            for path in self._changed_until_now(f"{_DISPATCHERS}/{name}"):
                self._things[path] = {path: digests.compute_digest(self.folder, path)}
        self._ended, self._exit_status = self._now(), exit_status
        return self.write()

    def write(self) -> dict[str, Any]:
        """Write the manifest, and give what it says."""
        document = self._document()
        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        atomic.write(self.folder / MANIFEST, f"{text}\n".encode())
        return document

    def _document(self) -> dict[str, Any]:
        files = {path: asdict(member) for things in self._things.values() for path, member in things.items()}
        with self.noting:
            seen = {program: sorted(versions) for program, versions in self.versions.items()}
            return {
                "format": FORMAT,
                "created": self._created,
                "ended": self._ended,
                "exit_status": self._exit_status,
                "command": list(self._command),
                "key_version": KEY_VERSION,
                "versions": {**seen, "oda_proxy": __version__, "python": platform.python_version()},
                "dispatchers": [
                    {"name": name, "url": url, "addresses": list(addresses)}
                    for name, (url, addresses) in self.dispatchers.items()
                ],
                "uses": {
                    thing: {"count": count, "first": self._first_uses[thing]}
                    for thing, count in self._uses.items()
                    if thing in self._things
                },
                "files": files,
            }

    def _changed_until_now(self, at: str) -> Iterator[str]:
        """Give the files of a dispatcher that were not listed before, because they might change."""
        if (self.folder / (manifest := f"{at}/{_FIXTURES}/{json_files.MANIFEST}")).is_file():
            yield manifest
        for file in sorted((self.folder / at / _DESCRIPTIONS).glob("*.json")):
            if _kind(path := f"{at}/{_DESCRIPTIONS}/{file.name}"):
                yield path

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _make_room(folder: Path, *, replace: bool) -> None:
    """Make a folder for a capsule, and remove from it what belongs to one that is there.

    That must be wanted, or there is nothing to lose.
    """
    if folder.exists() and not folder.is_dir():
        raise NotACapsuleError(f"{folder} is no folder; name another one for the capsule")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).exists():
        raise NotACapsuleError(f"{folder} is not empty, and holds no capsule; name another folder")
    try:
        manifest = _manifest(digests.read_within(folder, MANIFEST, limit=MAX_MANIFEST))
        nothing_to_lose = _holds_nothing(folder, manifest)
    except (CodecError, FixtureError) as error:
        raise NotACapsuleError(f"{folder} is not replaced, it holds no capsule that we know: {error}") from None
    if not (replace or nothing_to_lose):
        raise NotACapsuleError(
            f"{folder} holds a capsule; name another folder, or have it replaced (--replace, or replace=True)"
        )
    for own in (_DISPATCHERS, _EXCHANGES):
        if (folder / own).exists():
            shutil.rmtree(folder / own)
    for name in (CRATE, MANIFEST):
        (folder / name).unlink(missing_ok=True)


def _holds_nothing(folder: Path, manifest: JsonObject) -> bool:
    """Tell whether a capsule's run has ended without a recording, a failure or a page; descriptions may be there."""
    files = _files(manifest)
    if manifest.text_or_none("ended") is None:  # the run may still go on
        return False
    return all(_kind(path) == _DESCRIPTIONS for path in files) and not any(_unlisted(folder, files))


def _name_of(url: str) -> str:
    """Name the folder of a dispatcher by its address."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", url.partition("://")[2] or url).strip("._-")[:80] or "unnamed"


def _free(name: str, taken: Collection[str]) -> str:
    """Give a name, with a number where it is taken."""
    return next(free for number in count(1) if (free := f"{name}-{number}" if number > 1 else name) not in taken)
