"""Arguments of the commands on requests: `key` and `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands import argument_types
from oda_proxy.config.options import KEY

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the commands to the parser."""
    key = add("key", _key, KEY, "show the cache key of a request, and why two keys are equal or not")
    key.add("requests", nargs="+", metavar="REQUEST", help="URL of a request, or its query string")
    key.add("--explain", dest="explains", action="store_true", help="list the parameters in the key")
    key.add("--diff", dest="differs", action="store_true", help="show what differs between two requests")
    key.add("--json", dest="as_json", action="store_true", help="print JSON")
    doctor = add("doctor", _doctor, (), "find faults in the environment of the proxy")
    doctor.add(
        "--scan", dest="folder", type=argument_types.path, metavar="DIR", required=True, help="cache folder of oda_api"
    )
    doctor.add("--json", dest="as_json", action="store_true", help="print JSON")


def _key(values: dict[str, Any]) -> int:
    from oda_proxy.commands import key

    return key.key(**values)


def _doctor(values: dict[str, Any]) -> int:
    from oda_proxy.commands import doctor

    return doctor.doctor(**values)
