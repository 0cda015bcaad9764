"""Arguments of the command `jobs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.config.options import JOBS
from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from oda_proxy.commands.store_arguments import AddCommand


def add_commands(add: AddCommand) -> None:
    """Add the command to the parser."""
    own = add("jobs", _jobs, JOBS, "list the jobs of a running proxy, or stop one")
    own.add("action", nargs="?", choices=["stop"], help="stop a job: waiting clients receive a failure")
    own.add("key", nargs="?", metavar="KEY", help="key of the job, or its beginning")
    own.add("--session", metavar="SESSION", help="the session that started the job, in place of the token")
    own.add("--json", dest="as_json", action="store_true", help="print JSON")


def _jobs(values: dict[str, Any]) -> int:
    from oda_proxy.commands import jobs

    host, port, server = (values.pop(name) for name in ("host", "port", "server"))
    if server and values["proxy"] and server != values["proxy"]:
        raise UsageError(f"--server {server} and --proxy {values['proxy']} name two proxies: say one of them")
    return jobs.jobs(**values | {"proxy": server or values["proxy"] or jobs.address_of(host, port)})
