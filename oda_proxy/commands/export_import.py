"""The commands `export` and `import`: recordings to fixtures, and back."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule import capsule
from oda_proxy.capsule.conversion import fixture_from_recording, recording_from_fixture
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_recording, open_store
from oda_proxy.commands.output import print_json, print_lines, warn, warn_of_no_match
from oda_proxy.commands.source_folder import is_capsule
from oda_proxy.config import cache_folder
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.files.git_attributes import write_git_attributes
from oda_proxy.fixture.json_files import MANIFEST
from oda_proxy.fixture.reading import open_folder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import key_of, short_key
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.resolved import QueryResolver
from oda_proxy.store.selection import select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.capsule.capsule import DispatcherCapsule
    from oda_proxy.config import StoreOptions
    from oda_proxy.fixture.reading import Fixture
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.selection import Filters


def export(
    folder: Path,
    keys: Sequence[str],
    *,
    filters: Filters,
    dry_run: bool,
    options: StoreOptions,
    as_json: bool,
) -> int:
    """Write recordings to a folder of fixtures; the exit status is 1 if one cannot be written.

    Without keys, all public recordings that meet the filters are written: a private one is published only if its key is
    named.
    """
    origins = _origins(folder)
    written, failed = {}, {}
    with open_store(options) as store:
        entries = _select_for_export(store, keys, filters)
        if not entries and filters:
            warn_of_no_match(options.upstream)
        elif not entries:
            warn(f"there are no public recordings of {options.upstream}; private ones are exported only by key")
        if dry_run:
            print_json({"would_be_written": [entry.key for entry in entries]}) if as_json else print_lines(
                [
                    *(entry.key for entry in entries),
                    f"{formatting.number(len(entries), 'recording')}; nothing was written",
                ]
            )
            return 0
        for entry in entries:
            try:
                path = _export(store, entry, folder)
            except OdaProxyError as error:
                failed[entry.key] = str(error)
                warn(f"{short_key(entry.key)} was not written: {error}")
            else:
                written[entry.key] = path
                origins[path] = {"kind": "recorded", "source": options.upstream, "modelled": []}
    if origins:
        write_manifest(folder, origins)
        write_git_attributes(folder)
    if as_json:
        print_json({"written": written, "failed": failed})
    else:
        print_lines(f"{short_key(key)}  {path}" for key, path in written.items())
    return 1 if failed else 0


def _select_for_export(store: Store, keys: Sequence[str], filters: Filters) -> Sequence[Entry]:
    """Return the recordings with these keys, or else the public ones that meet the filters, the oldest first."""
    if keys:
        return select(store, keys, filters)
    public = (entry for entry in store.entries() if not entry.private and filters.matches(entry))
    return sorted(public, key=lambda entry: entry.stored_at)


def import_(folder: Path, *, options: StoreOptions, as_json: bool) -> int:
    """Store the fixtures of a folder or a capsule as recordings; the exit status is 1 if one cannot be stored.

    The descriptions of instruments in a capsule are stored, too: the same queries find its recordings.
    """
    sources: list[tuple[Fixture, Descriptions | None]]
    if is_capsule(folder):
        dispatchers = _dispatchers_of_capsule(folder, options)
        sources = [(one, _descriptions(dispatcher.folder)) for dispatcher in dispatchers for one in dispatcher.fixtures]
    else:
        sources = [(one, None) for one in open_folder(folder).fixtures]
    stored, failed = {}, {}
    with open_store(options, create=True) as store:
        own_descriptions = _descriptions(cache_folder(options.cache_dir, options.upstream))
        for one, descriptions in sources:
            try:
                recording = recording_from_fixture(one, now=time.time())
                recording = asyncio.run(_with_public_key(recording, own_descriptions, descriptions))
                store.put(recording)
            except OdaProxyError as error:
                failed[one.path] = str(error)
                warn(f"{one.path} was not stored: {error}")
            else:
                stored[one.path] = recording.key
    if as_json:
        print_json({"kept": stored, "failed": failed})
    else:
        print_lines(f"{short_key(key)}  {path}" for path, key in stored.items())
    return 1 if failed else 0


def _descriptions(folder: Path) -> Descriptions:
    """Return the descriptions that are stored in a folder."""
    return Descriptions(None, folder, ttl=math.inf, clock=time.monotonic)


async def _with_public_key(recording: Recording, own: Descriptions, added: Descriptions | None) -> Recording:
    """Return a recording with the key under which its query finds it, without a token.

    Its query is read with the description of its time: in `added`, which are then stored as earlier descriptions, or
    else with the newest in `own`, unless the dispatcher's echo contradicts that. Without any, values count as they were
    sent.
    """
    query = recording.query
    if query is None:
        return recording
    if added:
        await own.add_earlier(added, query.instrument)
    resolved = await QueryResolver(added or own).resolve(query)
    keys = [key_of(query, schema) for schema in resolved.schemas]
    if recording.key in keys:
        key = recording.key
    else:
        key = resolved.key if await resolved.is_confirmed_by(recording.parameters) else key_of(query)
    return replace(recording, key=key, private=False)


def _dispatchers_of_capsule(folder: Path, options: StoreOptions) -> Sequence[DispatcherCapsule]:
    """Return what a capsule has of a dispatcher, at any of its addresses. Raises UsageError if there is nothing."""
    opened = capsule.open_capsule(folder)
    urls_of_dispatcher = {url.rstrip("/") for url in (options.upstream, *options.former_url)}
    found = [one for one in opened.dispatchers if one.url.rstrip("/") in urls_of_dispatcher]
    if not found:
        urls = ", ".join(one.url for one in opened.dispatchers) or "no dispatcher"
        raise UsageError(
            f"the capsule {folder} is from {urls}, not from {options.upstream}; choose one with --upstream, or "
            "name a former address of the dispatcher with --former-url"
        )
    return found


def _origins(folder: Path) -> dict[str, Any]:
    """Return the origins of the fixtures that a folder holds already."""
    if not (folder / MANIFEST).exists():
        return {}
    return {path: dict(origin) for path, origin in open_folder(folder).origins.items()}


def _export(store: Store, entry: Entry, folder: Path) -> str:
    """Write one recording, and return the path of its fixture."""
    with open_recording(store, entry.key) as recording:
        path, query, answer = fixture_from_recording(recording)
        write_fixture(folder, path, query, answer)
    return path
