"""Arguments of the command `copy`."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.config.options import UPSTREAM
from oda_proxy.errors import InvalidPartError

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.commands.store_arguments import AddCommand
    from oda_proxy.store.redis.address import StoreAddress


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    own = add("copy", _copy, (UPSTREAM,), "copy the recordings of a dispatcher from one store to another")
    about = "as --cache-dir or --store of oda-proxy serve"
    own.add("--from", dest="source", type=_place, required=True, metavar="PLACE", help=f"where they are, {about}")
    own.add("--to", dest="target", type=_place, required=True, metavar="PLACE", help=f"where they are to be, {about}")
    own.add("--json", dest="as_json", action="store_true", help="print JSON")


def _place(text: str) -> Path | StoreAddress:
    """Parse a folder, or the URL of a store."""
    if "://" not in text:
        return argument_types.path(text)
    from oda_proxy.config.values import parse_store

    try:
        return parse_store(text)
    except InvalidPartError as error:
        raise ArgumentTypeError(str(error)) from None


def _copy(values: dict[str, Any]) -> int:
    from oda_proxy.commands import copy_recordings

    return copy_recordings.copy_recordings(**values)
