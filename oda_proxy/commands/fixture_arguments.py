"""Arguments of the command `fixture`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.commands import argument_types

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand

_FILES: Final = {
    "image": "FITS image",
    "light-curve": "light curve: FITS, CSV or ECSV, with columns TIME, RATE and ERROR",
    "spectrum": "spectrum, response or other FITS table; CSV or ECSV",
    "table": "table: FITS, CSV or ECSV",
    "picture": "PNG, JPEG or GIF file",
    "text": "text in UTF-8",
    "binary": "any other file",
}


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    own = add("fixture", _fixture, (), "make a fixture for the mock from own files, or check a folder of fixtures")
    own.add("action", choices=("new", "check"), help="new: add a fixture; check: check all of a folder")
    own.add("folder", type=argument_types.path, metavar="DIR", help="folder of fixtures; new makes it")
    own.add("--from-query", metavar="QUERY", help="URL of the request that it answers, or its query string")
    for kind, about in _FILES.items():
        own.add(f"--{kind}", type=argument_types.path, action="append", metavar="FILE", help=f"{about}; repeatable")
    own.add("--name", metavar="NAME", help="name of the product (default: that of its file)")
    own.add("--slug", metavar="NAME", help="name of the fixture (default: the source of the query)")
    own.add(
        "--seconds",
        type=argument_types.seconds,
        default=0.0,
        metavar="X",
        help="duration of its job, in s (default: done at once)",
    )
    own.add("--replace", action="store_true", help="replace the fixture of that name")


def _fixture(values: dict[str, Any]) -> int:
    from oda_proxy.commands.fixtures import fixture

    return fixture(**values)
