"""Recordings as fixtures, and fixtures as recordings."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule import capsule
from oda_proxy.capsule.conversion import to_fixture, to_recording
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import find, opened, reading
from oda_proxy.commands.output import say, say_json, warn
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.fixture.json_files import MANIFEST
from oda_proxy.fixture.reading import open_folder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.disk import DiskStore


def export(folder: Path, keys: Sequence[str], *, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Write recordings into a folder of fixtures; end with 1 where one cannot be.

    Where none is named, all that were asked for without a token: a private one is published only by name.
    """
    origins = _origins(folder)
    written, failed = {}, {}
    with opened(upstream, cache_dir) as store:
        public = (entry for entry in store.entries() if not entry.private)
        entries = find(store, keys) if keys else sorted(public, key=lambda entry: entry.stored_at)
        for entry in entries:
            try:
                path = _export(store, entry, folder)
            except OdaProxyError as error:
                failed[entry.key] = str(error)
                warn(f"{entry.key[: formatting.SHORT]} is left out: {error}")
            else:
                written[entry.key] = path
                origins[path] = {"kind": "recorded", "source": upstream, "modelled": []}
    if origins:
        write_manifest(folder, origins)
    if as_json:
        say_json({"written": written, "failed": failed})
    else:
        say(f"{key[: formatting.SHORT]}  {path}" for key, path in written.items())
    return 1 if failed else 0


def import_(folder: Path, *, upstream: str, cache_dir: Path | None, as_json: bool) -> int:
    """Keep the fixtures of a folder, or those of a capsule, as recordings; end with 1 where one cannot be."""
    is_capsule = capsule.is_capsule(folder)
    imported = _of_capsule(folder, upstream) if is_capsule else open_folder(folder).fixtures
    kept, failed = {}, {}
    with opened(upstream, cache_dir, make=True) as store:
        for one in imported:
            try:
                recording = _here(to_recording(one, now=time.time()))
                store.put(recording)
            except OdaProxyError as error:
                failed[one.path] = str(error)
                warn(f"{one.path} is left out: {error}")
            else:
                kept[one.path] = recording.key
    if as_json:
        say_json({"kept": kept, "failed": failed})
    else:
        say(f"{key[: formatting.SHORT]}  {path}" for path, key in kept.items())
    return 1 if failed else 0


def _of_capsule(folder: Path, upstream: str) -> Sequence[Fixture]:
    """Give what a capsule has of a dispatcher. Raises UsageError where it has nothing of it."""
    opened = capsule.open_capsule(folder)
    found = [one for one in opened.dispatchers if one.url.rstrip("/") == upstream.rstrip("/")]
    if not found:
        known = ", ".join(one.url for one in opened.dispatchers) or "no dispatcher"
        raise UsageError(f"the capsule {folder} is of {known}, and not of {upstream}; say which by --upstream")
    return [one for dispatcher in found for one in dispatcher.fixtures]


def _origins(folder: Path) -> dict[str, Any]:
    """Give the origins of the fixtures that a folder holds already."""
    if not (folder / MANIFEST).exists():
        return {}
    return {path: dict(origin) for path, origin in open_folder(folder).origins.items()}


def _export(store: DiskStore, entry: Entry, folder: Path) -> str:
    """Write one recording, and give the path of its fixture."""
    with reading(store, entry.key) as recording:
        path, query, answer = to_fixture(recording)
        write_fixture(folder, path, query, answer)
    return path


def _here(recording: Recording) -> Recording:
    """Keep a recording under the key of its words alone: the description by which it had its own key is not here."""
    if recording.query is None:
        return recording
    return replace(recording, key=key_of(recording.query), private=False)
