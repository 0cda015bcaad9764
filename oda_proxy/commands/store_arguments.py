"""Arguments of the commands on recordings in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from oda_proxy.commands import argument_types
from oda_proxy.config.options import PRUNE, REFRESH, REMOTE, STORE
from oda_proxy.config.settings import StoreOptions
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oda_proxy.commands.proxy_api import Server
    from oda_proxy.config.options import Option
    from oda_proxy.store.selection import Filters


class OwnArguments(Protocol):
    """Adds the arguments of a command that only the command line sets."""

    def add(self, *flags: str, **keywords: Any) -> Any:
        """Add one argument, with the keywords of argparse."""


class AddCommand(Protocol):
    """Adds a command to the parser."""

    def __call__(
        self, name: str, command: Callable[[dict[str, Any]], int], options: tuple[Option, ...], about: str
    ) -> OwnArguments:
        """Add a command with its options; the value returned adds its own arguments."""


_LOCAL_OR_REMOTE = (*STORE, *REMOTE)
_KEYS = {"metavar": "KEY", "help": "key of a recording, or its beginning"}


def add_commands(add: AddCommand) -> None:
    """Add the commands to the parser."""
    ls = add("ls", _ls, _LOCAL_OR_REMOTE, "list recordings, the one used last first")
    _filters(ls)
    _json(ls)
    _json(add("stats", _stats, STORE, "show the number and size of recordings"))
    for name, command, about in (
        ("rm", _rm, "remove recordings"),
        ("pin", _pin, "never evict these recordings"),
        ("unpin", _unpin, "evict these recordings like others"),
    ):
        own = add(name, command, _LOCAL_OR_REMOTE, about)
        own.add("keys", nargs="*", **_KEYS)
        _filters(own)
        own.add("--dry-run", action="store_true", help="list the recordings, and change nothing")
        if name == "rm":
            own.add("--all-versions", action="store_true", help="remove the earlier versions of the keys, too")
            own.add("--yes", dest="is_confirmed", action="store_true", help="remove what the filters select")
            own.add(
                "--capsule", type=argument_types.path, metavar="DIR", help="remove from a capsule instead of the store"
            )
        _json(own)
    history = add("history", _history, _LOCAL_OR_REMOTE, "show the versions of a recording, and what changed")
    history.add("key", **_KEYS)
    _json(history)
    show = add("show", _show, _LOCAL_OR_REMOTE, "show a recording, with a plot on a terminal")
    show.add("key", **_KEYS)
    show.add("--png", type=argument_types.path, metavar="FILE", help="write the plot to a file")
    _json(show)
    prune = add("prune", _prune, PRUNE, "evict recordings beyond the limits now")
    prune.add("--other-releases", action="store_true", help="also remove recordings that only other releases read")
    _json(prune)
    verify = add("verify", _verify, STORE, "check all recordings, a capsule, or a folder of fixtures")
    verify.add(
        "folder",
        nargs="?",
        type=argument_types.path,
        metavar="DIR",
        help="a capsule, a folder of fixtures, a .zip or .tar.gz file of one, or the folder of a store",
    )
    verify.add("--fix", action="store_true", help="remove damaged recordings and orphaned files")
    _json(verify)
    export = add("export", _export, STORE, "write recordings as a folder of fixtures")
    export.add("folder", type=argument_types.path, metavar="DIR", help="folder, or new .zip file, of fixtures")
    export.add("keys", nargs="*", **_KEYS)
    _filters(export)
    export.add("--dry-run", action="store_true", help="list the recordings, and write nothing")
    export.add("--collection", type=argument_types.collection, metavar="NAME", help="write a collection as a capsule")
    export.add("--owner", metavar="OWNER", help="beginning of the owner of the collection")
    export.add("--replace", action="store_true", help="replace an existing capsule, with --collection")
    export.add("--include-private", action="store_true", help="also write responses to requests with a token")
    _json(export)
    imports = add("import", _import, _LOCAL_OR_REMOTE, "store the fixtures of a folder, or of a capsule, as recordings")
    imports.add(
        "folder",
        type=argument_types.path,
        metavar="DIR",
        help="fixtures or a capsule: a folder, .zip or .tar.gz",
    )
    _json(imports)
    collections = add("collections", _collections, _LOCAL_OR_REMOTE, "list, show, rename and remove collections")
    collections.add("action", nargs="?", choices=("list", "show", "rename", "rm"), help="what to do (default list)")
    collections.add("names", nargs="*", metavar="NAME", help="a collection; for rename, also its new name")
    collections.add("--owner", metavar="OWNER", help="beginning of the owner of the collection")
    _json(collections)
    refresh = add("refresh", _refresh, REFRESH, "have recordings of a running proxy computed again")
    refresh.add("keys", nargs="+", **_KEYS)
    _json(refresh)


def _filters(own: OwnArguments) -> None:
    """Add the filters of `selection.Filters`."""
    for name in ("instrument", "product", "source"):
        own.add(f"--{name}", metavar="NAME", help=f"only recordings of this {name}; * matches any characters")
    for name, verb in (("stored", "stored"), ("used", "last used")):
        own.add(
            f"--{name}-before",
            type=argument_types.time_before,
            metavar="WHEN",
            help=f"only recordings {verb} before a date such as 2026-01-31, or longer ago than 90min, 12h, 30d or 2w",
        )
    own.add("--larger-than", type=argument_types.size, metavar="SIZE", help="only recordings larger than 10MB or 2GiB")


def _json(own: OwnArguments) -> None:
    own.add("--json", dest="as_json", action="store_true", help="print JSON")


def _pop_filters(values: dict[str, Any]) -> Filters:
    from oda_proxy.store.selection import Filters

    return Filters.pop(values)


def _pop_server(values: dict[str, Any]) -> Server | None:
    """Take a running proxy out of the values of a command; where there is one, those of a store are left out."""
    from oda_proxy.commands.proxy_api import Server

    server = Server.pop(values)
    if server is not None:
        StoreOptions.pop(values)
    return server


def _ls(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings, remote_recordings

    filters = _pop_filters(values)
    if server := _pop_server(values):
        return remote_recordings.ls(server, filters=filters, **values)
    return recordings.ls(filters=filters, options=StoreOptions.pop(values), **values)


def _stats(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.stats(options=StoreOptions.pop(values), **values)


def _rm(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings, remote_recordings

    filters = _pop_filters(values)
    if server := _pop_server(values):
        if values.pop("capsule") is not None:
            raise UsageError("a capsule is on this machine: rm --capsule does not work with --server")
        if (all_versions := values.pop("all_versions")) or any(recordings.AT in key for key in values["keys"]):
            from oda_proxy.commands import remote_versions

            recordings.check_versions(values["keys"], filters, all_versions=all_versions)
            del values["is_confirmed"]
            return remote_versions.remove_versions(server, values.pop("keys"), all_versions=all_versions, **values)
        return remote_recordings.rm(server, filters=filters, **values)
    return recordings.rm(filters=filters, options=StoreOptions.pop(values), **values)


def _history(values: dict[str, Any]) -> int:
    from oda_proxy.commands import history, remote_versions

    if server := _pop_server(values):
        return remote_versions.history(server, **values)
    return history.history(options=StoreOptions.pop(values), **values)


def _pin(values: dict[str, Any], *, pinned: bool = True) -> int:
    from oda_proxy.commands import recordings, remote_recordings

    filters = _pop_filters(values)
    if server := _pop_server(values):
        return remote_recordings.pin(server, pinned=pinned, filters=filters, **values)
    return recordings.pin(pinned=pinned, filters=filters, options=StoreOptions.pop(values), **values)


def _unpin(values: dict[str, Any]) -> int:
    return _pin(values, pinned=False)


def _refresh(values: dict[str, Any]) -> int:
    from oda_proxy.commands import remote_recordings
    from oda_proxy.commands.jobs import address_of
    from oda_proxy.commands.proxy_api import Server

    values["server"] = values["server"] or address_of(values["host"], values["port"])
    del values["host"], values["port"]
    server = Server.pop(values)
    assert server is not None  # noqa: S101 - for the type checker
    return remote_recordings.refresh(server, **values)


def _prune(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.prune(options=StoreOptions.pop(values), **values)


def _verify(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings, verify_files

    folder: Path | None = values["folder"]
    if folder is None or recordings.is_store(folder):
        return recordings.verify(options=StoreOptions.pop(values), **values)
    return verify_files.verify(folder, fix=values["fix"], as_json=values["as_json"])


def _show(values: dict[str, Any]) -> int:
    from oda_proxy.commands import remote_recordings, show

    if server := _pop_server(values):
        if values.pop("png") is not None:
            raise UsageError(
                "show --png reads recordings of this machine; with --server, show names the page that has pictures"
            )
        return remote_recordings.show(server, **values)
    return show.show(options=StoreOptions.pop(values), **values)


def _export(values: dict[str, Any]) -> int:
    from oda_proxy.commands import export_import

    values["target"] = values.pop("folder")
    if (name := values.pop("collection")) is not None:
        from oda_proxy.commands import collections

        return collections.export(name, filters=_pop_filters(values), options=StoreOptions.pop(values), **values)
    if any([values.pop("owner") is not None, values.pop("include_private"), values.pop("replace")]):
        raise UsageError("--owner, --include-private and --replace are for a collection: name it with --collection")
    return export_import.export(
        filters=_pop_filters(values),
        options=StoreOptions.pop(values),
        **values,
    )


def _collections(values: dict[str, Any]) -> int:
    from oda_proxy.commands import collections, remote_collections

    values["action"] = values["action"] or "list"
    if server := _pop_server(values):
        return remote_collections.collections(server, **values)
    return collections.collections(options=StoreOptions.pop(values), **values)


def _import(values: dict[str, Any]) -> int:
    from oda_proxy.commands import export_import, remote_import

    if server := _pop_server(values):
        return remote_import.import_(server, **values)
    return export_import.import_(options=StoreOptions.pop(values), **values)
