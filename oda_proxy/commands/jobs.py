"""The command `jobs`: lists the jobs of a running proxy, and stops one."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.commands import formatting
from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.errors import OdaProxyError, UsageError
from oda_proxy.files.secret_file import read_secret
from oda_proxy.query.cache_key import short_key
from oda_proxy.query.message_text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TIMEOUT: Final = 30.0
"""Seconds for an answer of the proxy."""
MAX_SIZE: Final = 16 * 1024 * 1024
"""Bytes of its answer."""
MAX_PROBLEM: Final = 64 * 1024
"""Bytes of an error of the proxy that are read."""


class ProxyError(OdaProxyError):
    """The proxy cannot be reached, or refuses."""


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
    if admin_token_file is not None:
        admin_token = read_secret(admin_token_file, "--admin-token-file")
    if action is None:
        return _list(proxy, admin_token or read_token, as_json=as_json)
    if key is None:
        raise UsageError("jobs stop needs the KEY of a job, or its beginning; oda-proxy jobs lists them")
    headers = _authorization(admin_token)
    if session:
        headers["Oda-Session"] = session
    if not headers:
        raise UsageError("jobs stop needs the administration token (ODA_PROXY_ADMIN_TOKEN), or --session of the job")
    stopped = _request(f"{proxy}/-/jobs/{key}", "DELETE", headers)["stopped"]
    if as_json:
        print_json({"stopped": stopped})
    else:
        print_lines([f"stopped {short_key(stopped)}; the dispatcher may go on with it"])
    return 0


def address_of(host: str, port: int) -> str:
    """Return the URL of the proxy on this machine that listens on a host, which may stand for all addresses."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing listens here
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _authorization(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _list(proxy: str, token: str | None, *, as_json: bool) -> int:
    found = _request(f"{proxy}/-/jobs", "GET", _authorization(token))["jobs"]
    if as_json:
        print_json(found)
        return 0
    if not found:
        warn(f"{proxy} runs no jobs")
        return 0
    heading = ("KEY", "STATE", "AGE", "SESSIONS", "INSTRUMENT", "PRODUCT", "")
    print_lines(formatting.table([heading, *map(_line, found)], right=frozenset({2, 3})))
    return 0


def _line(job: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        short_key(str(job["key"])),
        str(job["state"]),
        formatting.span(max(time.time() - float(job["begun"]), 0.0)),
        str(job["sessions"]),
        printable(str(job["instrument"] or "(private)")),
        printable(str(job["product_type"] or "(private)")),
        printable(str(job["remark"]).removeprefix("oda-proxy: ")),
    )


def _request(url: str, method: str, headers: Mapping[str, str]) -> Any:
    """Send a request to a proxy, past the proxies of the environment, and return the JSON of its answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310 - an http(s) URL
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return json.loads(response.read(MAX_SIZE))
    except urllib.error.HTTPError as error:
        raise ProxyError(printable(_detail(error.read(MAX_PROBLEM)))) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise ProxyError(f"no oda-proxy answers at {url}: {reason}; name its address with --proxy or --port") from None


def _detail(body: bytes) -> str:
    """Return what a response with an error says: the `detail` of a problem (RFC 9457), or else its text."""
    text = body.decode("utf-8", "replace").strip()
    try:
        problem = json.loads(text)
    except ValueError:
        return text[:1000]
    return str(problem.get("detail", text)) if isinstance(problem, dict) else text[:1000]
