"""The command `jobs`: lists the jobs of a running proxy, and stops one."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy.commands import formatting
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.commands.proxy_api import Server, send_one, token_of
from oda_proxy.errors import UsageError
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def jobs(
    *,
    proxy: str,
    admin_token: str | None,
    admin_token_file: Path | None,
    read_token: str | None,
    action: str | None,
    key: str | None,
    session: str | None,
    as_json: bool,
) -> int:
    """List the jobs of a proxy, the oldest first, or stop the one whose key begins with `key`.

    Raises UsageError for a key that is missing or not expected, and ProxyError.
    """
    admin_token = token_of(admin_token, admin_token_file)
    server = Server(proxy, admin_token or read_token, "--server or --port")
    if action is None:
        return _list(server, as_json=as_json)
    if key is None:
        raise UsageError("jobs stop needs the KEY of a job, or its beginning; oda-proxy jobs lists them")
    headers = {"Oda-Session": session} if session else {}
    if not headers and not admin_token:
        raise UsageError("jobs stop needs the administration token (ODA_PROXY_ADMIN_TOKEN), or --session of the job")
    stopped = send_one(replace(server, token=admin_token), "DELETE", f"/-/jobs/{key}", headers=headers)["stopped"]
    if as_json:
        print_json({"stopped": stopped})
    else:
        print_lines([f"stopped {short_key(stopped)}; the dispatcher may go on with it"])
    return 0


def address_of(host: str, port: int) -> str:
    """Return the URL of the proxy on this machine that listens on a host, which may stand for all addresses."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing listens here
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _list(server: Server, *, as_json: bool) -> int:
    found = send_one(server, "GET", "/-/jobs")["jobs"]
    if as_json:
        print_json(found)
        return 0
    if not found:
        warn(f"{server.url} runs no jobs")
        return 0
    heading = ("KEY", "STATE", "AGE", "SESSIONS", "INSTRUMENT", "PRODUCT", "")
    print_lines(formatting.table([heading, *map(_line, found)], right=frozenset({2, 3})))
    return 0


def _line(job: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        printable(short_key(str(job["key"]))),
        printable(str(job["state"])),
        formatting.span(max(time.time() - float(job["begun"]), 0.0)),
        str(job["sessions"]),
        printable(str(job["instrument"] or "(private)")),
        printable(str(job["product_type"] or "(private)")),
        printable(str(job["remark"]).removeprefix("oda-proxy: ")),
    )
