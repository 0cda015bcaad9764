"""The commands on requests as the command line offers them; what they do is imported when it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oda_proxy import config

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import Add


def add_to(add: Add) -> None:
    """Add the commands on requests."""
    key = add("key", _key, config.KEY, "say what a request is, and why two are the same or not")
    key.add("requests", nargs="+", metavar="REQUEST", help="its address, or what follows the question mark in it")
    key.add("--explain", dest="explains", action="store_true", help="say what is in the key")
    key.add("--diff", dest="differs", action="store_true", help="say in what two requests differ")
    key.add("--json", dest="as_json", action="store_true", help="say it as JSON")
    doctor = add("doctor", _doctor, (), "find what is wrong around the proxy")
    doctor.add("--scan", dest="folder", type=Path, metavar="DIR", required=True, help="a cache of the client's own")
    doctor.add("--json", dest="as_json", action="store_true", help="say it as JSON")


def _key(values: dict[str, Any]) -> int:
    from oda_proxy.commands import key

    return key.key(**values)


def _doctor(values: dict[str, Any]) -> int:
    from oda_proxy.commands import doctor

    return doctor.doctor(**values)
