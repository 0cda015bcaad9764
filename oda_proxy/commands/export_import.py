"""The commands `export` and `import`: recordings to fixtures, and back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.conversion import fixture_from_recording
from oda_proxy.capsule.output import fixtures_output
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import open_recording, open_store
from oda_proxy.commands.output import print_json, print_lines, warn, warn_of_no_match
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import OdaProxyError
from oda_proxy.files.archives import open_tree
from oda_proxy.files.git_attributes import write_git_attributes
from oda_proxy.fixture.json_files import MANIFEST
from oda_proxy.fixture.reading import open_folder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.handlers.imports import import_all, run_here, sources_in, stored_descriptions
from oda_proxy.query.cache_key import short_key
from oda_proxy.store.selection import select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.selection import Filters


def export(
    target: Path,
    keys: Sequence[str],
    *,
    filters: Filters,
    dry_run: bool,
    options: StoreOptions,
    as_json: bool,
) -> int:
    """Write recordings to a folder of fixtures, or to a new zip file; the exit status is 1 if one cannot be written.

    Without keys, all public recordings that meet the filters are written: a private one is published only if its key is
    named.
    """
    with fixtures_output(target) as folder:
        return _export_to(folder, keys, filters, dry_run=dry_run, options=options, as_json=as_json)


def _export_to(
    folder: Path, keys: Sequence[str], filters: Filters, *, dry_run: bool, options: StoreOptions, as_json: bool
) -> int:
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
    """Store the fixtures of a folder, a capsule or an archive as recordings; the exit status is 1 if one cannot be.

    The descriptions of instruments in a capsule are stored, too: the same queries find its recordings.
    """
    stored, failed = {}, {}
    with open_tree(folder) as tree:
        sources = sources_in(tree, (options.upstream, *options.former_url))
        with open_store(options, create=True) as store:
            own = stored_descriptions(cache_folder(options.cache_dir, options.upstream))

            async def store_all() -> None:
                async for one in import_all(sources, store, own, run=run_here):
                    if one.key is None:
                        failed[one.path] = one.error
                        warn(f"{one.path} was not stored: {one.error}")
                    else:
                        stored[one.path] = one.key

            asyncio.run(store_all())
    if as_json:
        print_json({"kept": stored, "failed": failed})
    else:
        print_lines(f"{short_key(key)}  {path}" for path, key in stored.items())
    return 1 if failed else 0


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
