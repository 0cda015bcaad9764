"""Writing a capsule while a run goes on (docs/capsules.md).

A file that the manifest lists does not change until the run ends, so that an interrupted run always leaves a capsule
that can be read. Files that may change (descriptions, manifests of fixtures) are listed at the end.
"""

from __future__ import annotations

import json
import platform
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy._version import __version__
from oda_proxy.capsule import command_line, conversion, crate, layout, manifest, readme
from oda_proxy.capsule.errors import CapsuleError, NotACapsuleError, capsule_errors
from oda_proxy.capsule.exchange import body_file, to_json
from oda_proxy.capsule.layout import (
    CRATE,
    DESCRIPTIONS,
    DISPATCHERS,
    EXCHANGES,
    FAILURES,
    FIXTURES,
    MANIFEST,
    kind_of,
)
from oda_proxy.codec import json_text
from oda_proxy.files import atomic, digests
from oda_proxy.files.git_attributes import write_git_attributes
from oda_proxy.fixture import json_files
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import KEY_VERSION, short_key
from oda_proxy.recordings import failures

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from oda_proxy.capsule.exchange import Exchange
    from oda_proxy.capsule.manifest import Manifest, Usage
    from oda_proxy.files.digests import FileDigest
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording


SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"
"""The variable with the time that reproducible programs write into files (reproducible-builds.org)."""


class CapsuleWriter:
    """Writes a capsule while a run goes on; each method blocks, is thread-safe, and raises CapsuleError."""

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        include_private: bool = False,
        rewritten: Manifest | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin a capsule in a folder that does not exist or is empty.

        `environment` may hold tokens that the command repeats; `rewritten` is the manifest of a run whose capsule is
        written again, and whose times and packages stay; `clock` returns s since 1970 (UTC). Raises NotACapsuleError
        for any other folder, CapsuleError where it cannot be written.
        """
        self.folder = folder
        self._include_private = include_private
        self._dispatchers: dict[str, DispatcherWriter] = {}
        self._command = tuple(command)
        self._environment = dict(environment or {})
        self._credentials: set[str] = set()
        self._missing: list[str] = []
        self._manifest = ManifestWriter(folder, self._redacted_command(), clock)
        if (epoch := self._environment.get(SOURCE_DATE_EPOCH, "")).isdecimal():
            self._manifest.source_date_epoch = int(epoch)
        if rewritten:
            self._manifest.rewrite(rewritten)
            self.note_packages(rewritten.packages)
        with capsule_errors(folder):
            _begin_folder(folder)
            write_git_attributes(folder)
            self._manifest.write()

    @property
    def private_left_out(self) -> int:
        """Number of recordings and failures that were left out because they were requested with a token."""
        return sum(one.private_left_out for one in self._dispatchers.values())

    def dispatcher(self, url: str) -> DispatcherWriter:
        """Return the writer for a dispatcher: the same one for the same address."""
        url = command_line.without_user(url)
        with self._manifest.lock:
            if url not in self._dispatchers:
                name = _free_name(_name_of(url), self._manifest.dispatchers)
                self._manifest.dispatchers[name] = (url, {})
                self._dispatchers[url] = DispatcherWriter(self._manifest, name, include_private=self._include_private)
            return self._dispatchers[url]

    def save_exchange(self, exchange: Exchange) -> None:
        """Save an exchange, once."""
        entry = f"{EXCHANGES}/{exchange.name}.json"
        with self._manifest.changing(self.folder / entry):
            if not self._manifest.has(entry):
                contents = {layout.body_of(entry): body_file(exchange), entry: to_json(exchange)}
                for path, content in contents.items():
                    atomic.write(self.folder / path, content)
                self._manifest.add(entry, {path: digests.compute_digest(self.folder, path) for path in contents})
                self._manifest.contents[entry] = f"{exchange.method} {exchange.url}"

    def count_exchange_use(self, name: str) -> None:
        """Count a use of an exchange."""
        self._manifest.count_use(f"{EXCHANGES}/{name}.json")

    def set_uses(self, uses: Mapping[str, Usage]) -> None:
        """Set how often the run used each part of the capsule; parts that are not there are left out."""
        with self._manifest.changing(self.folder / MANIFEST):
            self._manifest.set_uses(uses)

    @property
    def source_date_epoch(self) -> int:
        """The time that programs of the run write into files (SOURCE_DATE_EPOCH), in s since 1970 (UTC)."""
        return self._manifest.source_date_epoch

    @property
    def command(self) -> tuple[str, ...]:
        """The command in the manifest, without secrets."""
        return self._manifest.command

    def add_credentials(self, credentials: Collection[str]) -> None:
        """Remove credentials that the command sent from the command in the manifest, at once."""
        with self._manifest.lock:
            if self._credentials.issuperset(credentials):
                return
            self._credentials |= set(credentials)
            command = self._redacted_command()
        if command != self._manifest.command:
            with self._manifest.changing(self.folder / MANIFEST):
                self._manifest.command = command
                self._manifest.write()

    def _redacted_command(self) -> tuple[str, ...]:
        home = str(Path.home())
        return command_line.redacted(
            self._command, self._environment, home=home, credentials=frozenset(self._credentials)
        )

    def note_version(self, program: str, version: str) -> None:
        """Add the version of a program that took part: `oda_api`, `dispatcher`."""
        with self._manifest.lock:
            self._manifest.versions.setdefault(program, {}).setdefault(version)

    def note_packages(self, packages: Mapping[str, Sequence[str]]) -> None:
        """Add the versions of packages that the run imported; `python` is that of its interpreters."""
        with self._manifest.lock:
            for name, versions in packages.items():
                if name == "python":
                    self._manifest.versions.setdefault("interpreters", {}).update(dict.fromkeys(versions))
                else:
                    self._manifest.packages.setdefault(name, {}).update(dict.fromkeys(versions))

    def note_missing(self, line: str) -> None:
        """Note for the README, in a line, something that is not in the capsule."""
        self._missing.append(line)

    def finish(self, exit_status: int) -> None:
        """List all files with the exit status of the command, and write the RO-Crate."""
        with self._manifest.changing(self.folder / CRATE):
            document = self._manifest.finish(exit_status)
            manifest_file = {"name": MANIFEST, **asdict(digests.compute_digest(self.folder, MANIFEST))}
            metadata = crate.metadata(document, manifest_file=manifest_file)
            atomic.write(self.folder / CRATE, json_text.dumps(metadata).encode())
            if not (file := self.folder / layout.README).exists() or readme.is_generated(file):
                atomic.write(file, readme.render(document, self._manifest.contents, self._missing).encode())
            for path in (MANIFEST, CRATE, *layout.GENERATED, *document["files"]):  # others may read a capsule
                (self.folder / path).chmod(self.folder.stat().st_mode & 0o666)


class DispatcherWriter:
    """Saves the answers of one dispatcher; each method blocks, is thread-safe, and raises CapsuleError."""

    def __init__(self, writer: ManifestWriter, name: str, *, include_private: bool) -> None:
        """Save the answers of a dispatcher in the folder of this name."""
        self.folder = writer.folder / DISPATCHERS / name
        """The folder for `DescriptionCache` and `Descriptions`, which write there themselves."""
        self.private_left_out = 0
        self._url, self._addresses = writer.dispatchers[name]
        self._include_private = include_private
        self._manifest = writer
        self._root = f"{DISPATCHERS}/{name}"
        self._recordings: dict[Key, str] = {}
        """Path of each fixture in its folder."""
        self._failures: dict[Key, str] = {}
        """Name of each file."""
        self._fixture_files: dict[str, FileDigest] = {}
        """Sizes and digests, which are computed once."""

    def add_address(self, address: str) -> None:
        """Add an address that the command used for the dispatcher."""
        with self._manifest.lock:
            self._addresses.setdefault(command_line.without_user(address))

    def save_recording(self, recording: Recording) -> bool:
        """Save a recording in place of an earlier one of its key, and tell whether it was saved.

        A private recording is saved only where the capsule includes private ones.
        """
        if not self._includes(private=recording.private):
            return False
        folder, root = self.folder / FIXTURES, f"{self._root}/{FIXTURES}"
        with capsule_errors(folder):
            path, query, answer = conversion.fixture_from_recording(recording)
        with self._manifest.changing(folder / path):
            path = _free_name(path, self._recordings.values())
            write_fixture(folder, path, query, answer)
            before = self._recordings.get(recording.key)
            recordings = {**self._recordings, recording.key: path}
            origin = {"kind": "recorded", "source": self._url, "modelled": []}
            write_manifest(folder, dict.fromkeys(recordings.values(), origin), digests=self._fixture_files)
            self._recordings = recordings
            if before:
                self._fixture_files = {
                    file: member for file, member in self._fixture_files.items() if not file.startswith(f"{before}/")
                }
            files = {
                f"{root}/{file}": member for file, member in self._fixture_files.items() if file.startswith(f"{path}/")
            }
            self._manifest.add(f"{root}/{path}", files, in_place_of=before and f"{root}/{before}")
            self._manifest.contents[f"{root}/{path}"] = readme.describe(recording.query)
        return True

    def save_failure(self, failure: Failure) -> bool:
        """Save a failure in place of an earlier one of its key, and tell whether it was saved, as `save_recording`."""
        if not self._includes(private=failure.private):
            return False
        root = f"{self._root}/{FAILURES}"
        with self._manifest.changing(self._manifest.folder / root):
            name = _free_name(_failure_name(failure), self._failures.values())
            entry = f"{root}/{name}.json"
            atomic.write(self._manifest.folder / entry, failures.serialise(failure).encode())
            before = self._failures.get(failure.key)
            self._failures[failure.key] = name
            files = {entry: digests.compute_digest(self._manifest.folder, entry)}
            self._manifest.add(entry, files, in_place_of=before and f"{root}/{before}.json")
            self._manifest.contents[entry] = f"{readme.describe(failure.query)}, which failed"
        return True

    def count_use(self, key: Key, uses: int = 1) -> None:
        """Count uses of a recording or a failure; they are written with the next thing that is saved."""
        if key in self._recordings:
            self._manifest.count_use(f"{self._root}/{FIXTURES}/{self._recordings[key]}", uses)
        elif key in self._failures:
            self._manifest.count_use(f"{self._root}/{FAILURES}/{self._failures[key]}.json", uses)

    def _includes(self, *, private: bool) -> bool:
        """Return whether an answer may be saved, and count those that may not."""
        left_out = private and not self._include_private
        with self._manifest.lock:
            self.private_left_out += left_out
        return not left_out


class ManifestWriter:
    """Writes the manifest each time that something is added to the capsule."""

    def __init__(self, folder: Path, command: tuple[str, ...], clock: Callable[[], float]) -> None:
        self.folder = folder
        self.command = command
        self.dispatchers: dict[str, tuple[str, dict[str, None]]] = {}
        """Address and aliases of each dispatcher, by the name of its folder."""
        self.versions: dict[str, dict[str, None]] = {}
        self.packages: dict[str, dict[str, None]] = {}
        self.lock = threading.Lock()
        """Guards the attributes; held briefly, never while writing."""
        self._writing = threading.Lock()
        self._clock = clock
        self._created = self._now()
        self.source_date_epoch = int(self._clock())
        """The time that programs of the run write into files, in s since 1970 (UTC)."""
        self._ended: str | None = None
        self._exit_status: int | None = None
        self.contents: dict[str, str] = {}
        """What each entry is, in one line."""
        self._entries: dict[str, dict[str, FileDigest]] = {}
        """The files of each entry (a fixture, failure or exchange) by path."""
        self._uses: Counter[str] = Counter()
        self._first_uses: dict[str, str] = {}

    @contextmanager
    def changing(self, file: Path) -> Iterator[None]:
        """Hold the lock for changing the capsule; errors name `file`."""
        with self._writing, capsule_errors(file):
            if self._exit_status is not None:
                raise CapsuleError(file, "is not written: the capsule is finished")
            yield

    def rewrite(self, earlier: Manifest) -> None:
        """Take the times of a run from its manifest."""
        self._created, self._ended, self.source_date_epoch = earlier.created, earlier.ended, earlier.epoch

    def has(self, entry: str) -> bool:
        """Return whether there is an entry."""
        return entry in self._entries

    def add(self, entry: str, files: Mapping[str, FileDigest], *, in_place_of: str | None = None) -> None:
        """Add an entry, in place of another one, whose files are then removed."""
        self._entries[entry] = dict(files)
        removed = self._entries.pop(in_place_of, {}) if in_place_of else {}
        with self.lock:
            if in_place_of in self._first_uses:
                self._uses[entry] += self._uses.pop(in_place_of)
                self._first_uses[entry] = self._first_uses.pop(in_place_of)
        self.write()
        for path in removed:
            (self.folder / path).unlink()
        if removed and not any((self.folder / path).parent.iterdir()):
            (self.folder / path).parent.rmdir()

    def set_uses(self, uses: Mapping[str, Usage]) -> None:
        """Set how often the entries were used, in place of what was counted."""
        with self.lock:
            self._uses = Counter({entry: usage.count for entry, usage in uses.items()})
            self._first_uses = {entry: usage.first for entry, usage in uses.items()}
        self.write()

    def count_use(self, entry: str, uses: int = 1) -> None:
        """Count uses of an entry."""
        with self.lock:
            self._uses[entry] += uses
            self._first_uses.setdefault(entry, self._now())

    def finish(self, exit_status: int) -> dict[str, Any]:
        """Write the manifest for the last time, with all files; return the document."""
        for name in self.dispatchers:
            for path in self._changeable_files(f"{DISPATCHERS}/{name}"):
                self._entries[path] = {path: digests.compute_digest(self.folder, path)}
        self._ended, self._exit_status = self._ended or self._now(), exit_status
        return self.write()

    def write(self) -> dict[str, Any]:
        """Write the manifest; return the document."""
        document = self._document()
        text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        atomic.write(self.folder / MANIFEST, f"{text}\n".encode())
        return document

    def _document(self) -> dict[str, Any]:
        files = {path: asdict(member) for members in self._entries.values() for path, member in members.items()}
        with self.lock:
            versions = {program: sorted(versions) for program, versions in self.versions.items()}
            named = {name: sorted(versions) for name, versions in self.packages.items()}
            packages = {"packages": named} if named else {}
            return {
                "format": manifest.FORMAT,
                "source_date_epoch": self.source_date_epoch,
                "created": self._created,
                "ended": self._ended,
                "exit_status": self._exit_status,
                "command": list(self.command),
                "key_version": KEY_VERSION,
                "versions": {**versions, **packages, "oda_proxy": __version__, "python": platform.python_version()},
                "dispatchers": [
                    {"name": name, "url": url, "addresses": list(addresses)}
                    for name, (url, addresses) in self.dispatchers.items()
                ],
                "uses": {
                    entry: {"count": uses, "first": self._first_uses[entry]}
                    for entry, uses in self._uses.items()
                    if entry in self._entries
                },
                "files": files,
            }

    def _changeable_files(self, root: str) -> Iterator[str]:
        """Return the files of a dispatcher that could change during the run, and so are listed at its end."""
        if (self.folder / (path := f"{root}/{FIXTURES}/{json_files.MANIFEST}")).is_file():
            yield path
        for file in sorted((self.folder / root / DESCRIPTIONS).glob("*.json")):
            if kind_of(path := f"{root}/{DESCRIPTIONS}/{file.name}"):
                yield path

    def _now(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _begin_folder(folder: Path) -> None:
    """Create the folder of a capsule with an empty manifest. Raises NotACapsuleError unless it is new or empty."""
    if folder.exists() and not folder.is_dir():
        raise NotACapsuleError(f"{folder} is not a folder; name another one for the capsule")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise NotACapsuleError(f"{folder} is not empty; name another folder for the capsule")
    try:
        (folder / MANIFEST).touch(exist_ok=False)
    except FileExistsError:
        raise NotACapsuleError(f"another process writes a capsule to {folder}; name another folder") from None


MAX_DISPATCHER_NAME = 18
"""Characters of the name of a dispatcher's folder: all paths have up to 120 (docs/capsules.md)."""


def _name_of(url: str) -> str:
    """Return the name of the folder of a dispatcher: its host."""
    host = url.partition("://")[2].partition("/")[0] or url
    return re.sub(r"[^A-Za-z0-9.-]+", "_", host)[:MAX_DISPATCHER_NAME].strip("._-") or "unnamed"


def _failure_name(failure: Failure) -> str:
    query = failure.query
    words = [query.instrument, query.product_type] if query else []
    readable = "_".join(re.sub(r"[^A-Za-z0-9+-]+", "_", word) for word in words).strip("_")[:_MAX_FAILURE_NAME]
    return f"{readable or 'query'}-{short_key(failure.key)}"


_MAX_FAILURE_NAME = 40


def _free_name(name: str, taken: Collection[str]) -> str:
    """Return a name, with a number appended where it is taken."""
    return next(free for number in count(1) if (free := f"{name}-{number}" if number > 1 else name) not in taken)
