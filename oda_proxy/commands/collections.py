"""The command `collections`, and `export --collection`, for the collections of a store."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

from oda_proxy.capsule.output import capsule_output
from oda_proxy.commands import formatting
from oda_proxy.commands.open_store import check_store, open_store
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.config.folders import cache_folder
from oda_proxy.errors import UsageError
from oda_proxy.handlers.collection_export import collection_json, export_collection, member_json
from oda_proxy.http.scope import parse_name
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable
from oda_proxy.store.collection_index import FILE, CollectionIndex
from oda_proxy.store.collections import remove_collection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from oda_proxy.config.settings import StoreOptions
    from oda_proxy.store.collections import Collections
    from oda_proxy.store.selection import Filters

_OWNER: int = 12
"""Characters of an owner that are printed."""


def collections(*, action: str, names: Sequence[str], owner: str | None, options: StoreOptions, as_json: bool) -> int:
    """List, show, rename or remove collections. Raises UsageError for missing or additional names."""
    check_names(action, names)
    index = _index(options)
    if action == "list":
        return print_list([collection_json(one) for one in index.list()], as_json=as_json)
    collection = index.find(names[0], beginning=owner)
    if action == "show":
        shown = {**collection_json(collection), "members": [member_json(one) for one in index.members(collection)]}
        return print_one(shown, as_json=as_json)
    if action == "rename":
        index.rename(collection, names[1])
        return print_done("renamed", names, as_json=as_json)
    with open_store(options, create=True) as store:
        remove_collection(index, store, collection)
    return print_done("removed", names, as_json=as_json)


def export(
    name: str,
    target: Path,
    keys: Sequence[str],
    *,
    owner: str | None,
    filters: Filters,
    include_private: bool,
    replace: bool,
    dry_run: bool,
    options: StoreOptions,
    as_json: bool,
) -> int:
    """Write a collection as a capsule; the exit status is 1 if a part of it cannot be written.

    Raises UsageError for keys or filters, which select recordings of a store.
    """
    if keys or filters:
        raise UsageError("a collection is exported as a whole: name no keys and no filters with --collection")
    index = _index(options)
    collection = index.find(name, beginning=owner)
    if dry_run:
        return print_list([collection_json(collection)], as_json=as_json)
    store_folder = cache_folder(options.cache_dir, options.upstream)
    with open_store(options) as store, capsule_output(target, replace=replace) as folder:
        exported = export_collection(
            index,
            collection,
            store,
            folder,
            url=options.upstream,
            store_folder=store_folder,
            include_private=include_private,
        )
    for line in exported.missing_lines():
        warn(printable(line))
    if exported.private:
        warn("--include-private writes answers that were requested with a token")
    if as_json:
        print_json(
            {
                "capsule": str(target),
                "recordings": exported.recordings,
                "failures": exported.failures,
                "descriptions": exported.descriptions,
                "private_left_out": exported.private,
                "missing": exported.missing,
            }
        )
    else:
        counts = [
            formatting.number(exported.recordings, "recording"),
            formatting.number(exported.failures, "failure"),
            formatting.number(exported.descriptions, "description"),
        ]
        print_lines(
            [
                f"written to {target}: {', '.join(counts)}",
                f"to run the program again: oda-proxy replay {shlex.quote(str(target))} -- COMMAND",
            ]
        )
    return 1 if exported.missing or exported.private else 0


def warn_of_members(keys: Sequence[str], options: StoreOptions) -> None:
    """Warn that recordings of collections, which are no longer pinned, may be evicted."""
    warn_of_collections(open_collections(options).names_with(keys))


def warn_of_collections(names: Sequence[str]) -> None:
    """Warn that recordings of these collections, which are no longer pinned, may be evicted."""
    if names:
        what = "the collections" if len(names) > 1 else "the collection"
        warn(
            f"recordings of {what} {', '.join(names)} may be evicted now, and are missing in an export then; pin, or a "
            "request at the address of the collection, prevents that"
        )


def check_names(action: str, names: Sequence[str]) -> None:
    """Raise UsageError unless an action has as many names as it needs, all of them valid."""
    needed = {"list": 0, "rename": 2}.get(action, 1)
    if len(names) != needed:
        what = ("no NAME", "the NAME of a collection", "the NAME of a collection and its new name")[needed]
        raise UsageError(f"collections {action} needs {what}; oda-proxy collections lists them")
    for name in names:
        parse_name(name)


def print_list(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> int:
    """Print collections, given as JSON objects."""
    if as_json:
        print_json({"collections": found})
    elif not found:
        warn("there are no collections; requests to the address of the server with /in/NAME make one")
    else:
        print_lines(map(_line, found))
    return 0


def print_one(shown: Mapping[str, Any], *, as_json: bool) -> int:
    """Print a collection with its members, given as a JSON object."""
    if as_json:
        print_json(shown)
    else:
        print_lines([_line(shown), *_member_lines(shown["members"])])
    return 0


def print_done(what: str, names: Sequence[str], *, as_json: bool) -> int:
    """Print what was done with a collection."""
    if as_json:
        print_json({what: list(names)})
    else:
        print_lines([f"{what} {' to '.join(names)}"])
    return 0


def _line(one: Mapping[str, Any]) -> str:
    counts = [formatting.number(int(one["recordings"]), "recording")]
    if one["failures"]:
        counts.append(formatting.number(int(one["failures"]), "failure"))
    owner = f"  owner {str(one['owner'])[:_OWNER]}" if one["owner"] else ""
    changed = time.strftime("%Y-%m-%d %H:%M", time.gmtime(float(one["changed"])))
    return printable(f"{one['name']}  {', '.join(counts)}, {formatting.size(int(one['size']))}  {changed}Z{owner}")


def _member_lines(members: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for one in members:
        yield printable(f"  {short_key(one['key'])}  {one['kind']}, {formatting.number(int(one['uses']), 'use')}")


def open_collections(options: StoreOptions) -> Collections:
    """Open the collections of a dispatcher, of which there may be none."""
    if options.store is not None:
        from oda_proxy.store.redis import opening

        return opening.open_collections(options.store, options.upstream, time.time)
    return CollectionIndex(cache_folder(options.cache_dir, options.upstream), time.time)


def _index(options: StoreOptions) -> Collections:
    """Open the collections of a dispatcher. Raises NoStoreError where it has no recordings either."""
    folder = cache_folder(options.cache_dir, options.upstream)
    if options.store is None and not (folder / FILE).exists():
        check_store(folder)
    return open_collections(options)
