"""The commands on recordings as the command line offers them; what they do is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oda_proxy import config

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.config import Option


class Own(Protocol):
    """Takes the arguments of a command that are no options."""

    def add(self, *flags: str, **told: Any) -> Any:
        """Add one, as argparse does."""


class Add(Protocol):
    """Adds a command to the command line."""

    def __call__(
        self, name: str, command: Callable[[dict[str, Any]], int], options: tuple[Option, ...], about: str
    ) -> Own:
        """Add a command with its options, and give what takes its other arguments."""


_KEYS = {"metavar": "KEY", "help": "the key of a recording, or its beginning"}


def add_to(add: Add) -> None:
    """Add the commands on recordings."""
    for name, command, about in (
        ("ls", _ls, "list recordings, the one asked for last first"),
        ("stats", _stats, "count recordings"),
    ):
        _json(add(name, command, config.STORE, about))
    for name, command, about in (
        ("rm", _rm, "remove recordings"),
        ("pin", _pin, "never give up these recordings for lack of space"),
        ("unpin", _unpin, "give up these recordings for lack of space like others"),
    ):
        own = add(name, command, config.STORE, about)
        own.add("keys", nargs="+", **_KEYS)
        _json(own)
    show = add("show", _show, config.STORE, "say what a recording is, with a picture on a terminal")
    show.add("key", **_KEYS)
    show.add("--png", type=Path, metavar="FILE", help="write the picture to a file")
    _json(show)
    _json(add("prune", _prune, config.PRUNE, "give up recordings beyond the limit now"))
    verify = add("verify", _verify, config.STORE, "check all recordings, a capsule, or a folder of fixtures")
    verify.add("folder", nargs="?", type=Path, metavar="DIR", help="capsule, folder of fixtures, or folder of a store")
    verify.add("--fix", action="store_true", help="remove what is damaged, and what belongs to nothing")
    _json(verify)
    export = add("export", _export, config.STORE, "write recordings as a folder of fixtures")
    export.add("folder", type=Path, metavar="DIR", help="folder of fixtures to make or to add to")
    export.add("keys", nargs="*", **_KEYS)
    _json(export)
    imports = add("import", _import, config.STORE, "keep the fixtures of a folder, or of a capsule, as recordings")
    imports.add("folder", type=Path, metavar="DIR", help="folder of fixtures, or a capsule")
    _json(imports)


def _json(own: Own) -> None:
    own.add("--json", dest="as_json", action="store_true", help="say it as JSON")


def _ls(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.ls(**values)


def _stats(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.stats(**values)


def _rm(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.rm(**values)


def _pin(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.pin(pinned=True, **values)


def _unpin(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.pin(pinned=False, **values)


def _prune(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings

    return recordings.prune(**values)


def _verify(values: dict[str, Any]) -> int:
    from oda_proxy.commands import recordings, verify_files

    folder: Path | None = values["folder"]
    if folder is None or recordings.is_store(folder):
        return recordings.verify(**values)
    return verify_files.verify(folder, fix=values["fix"], as_json=values["as_json"])


def _show(values: dict[str, Any]) -> int:
    from oda_proxy.commands import show

    return show.show(**values)


def _export(values: dict[str, Any]) -> int:
    from oda_proxy.commands import export_import

    return export_import.export(**values)


def _import(values: dict[str, Any]) -> int:
    from oda_proxy.commands import export_import

    return export_import.import_(**values)
