"""Arguments of the command `open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.config.options import OPEN
from oda_proxy.config.settings import StoreOptions

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    own = add("open", _open, OPEN, "send products of a recording to DS9, TOPCAT, Aladin, or a FITS viewer")
    own.add("key", metavar="KEY", help="key of a recording, or its beginning")
    own.add(
        "--product", dest="numbers", type=argument_types.index, action="append", metavar="N",
        help="product to send, counted from 0; may be repeated (default the first image with its catalogue, "
        "or the first product)",
    )  # fmt: skip
    own.add("--all", dest="is_all", action="store_true", help="send all products with FITS files")
    own.add("--to", metavar="PROGRAM", help="send to the program with this SAMP name alone, such as ds9 or topcat")


def _open(values: dict[str, Any]) -> int:
    from oda_proxy.commands import open_in_programs
    from oda_proxy.commands.proxy_api import Server

    server, options = Server.pop(values), StoreOptions.pop(values)  # those of a store count without a server
    return open_in_programs.open_in_programs(source=server or options, **values)
