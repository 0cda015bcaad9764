"""What a recorder records of the requests of a run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import oda_proxy
from oda_proxy.capsule.capsule import open_capsule
from oda_proxy.testing.cassette import CassetteOptions, open_cassette
from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.http_server import http_server
from tests.support.internet import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.http_server import Received

    Open = Callable[[Path, str], AbstractContextManager[str]]

BOUNDARY = "the-boundary"
DONE = Page(json_bytes(answer()), "application/json")
FAILED = Page(json_bytes(answer(query_status="failed", products={})), "application/json")
INVALID = Page(b'{"query_status":"failed"}', "application/json", 400)
SUBMITTED = Page(json_bytes(answer(query_status="submitted", products={})), "application/json")


def upload(url: str, query_status: str, *, content: bytes = b"F" * 5000) -> str:
    """Send a query with a file, and return the status of its job."""
    fields = {"instrument": "isgri", "product_type": "isgri_image", "query_type": "Real", "api": "True", "RA": "83.0"}
    fields |= {"query_status": query_status, "session_id": "SESSIONOFTHETEST"}
    fields |= {} if query_status == "new" else {"job_id": "5bfa425b4384c651"}
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(b'Content-Disposition: form-data; name="user_catalog_file"; filename="c.fits"\r\n\r\n' + content)
    body = b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY.encode(), part) for part in parts) + f"--{BOUNDARY}--\r\n".encode()
    request = urllib.request.Request(  # noqa: S310 - a server of ours
        f"{url}/run_analysis", body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310 - as above
            return str(json.load(response)["query_status"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["query_status"])


def by_record(folder: Path, upstream: str) -> AbstractContextManager[str]:
    return oda_proxy.recording(folder, upstream=upstream)


@contextmanager
def by_cassette(folder: Path, upstream: str) -> Iterator[str]:
    with open_cassette(CassetteOptions(folder, record_mode="all", upstream=upstream)) as cassette:
        yield cassette.url


@pytest.mark.parametrize("opened", [by_record, by_cassette])
@pytest.mark.parametrize("pages", [[DONE], [SUBMITTED, SUBMITTED, DONE], [INVALID], [FAILED], [SUBMITTED, FAILED]])
def test_an_upload_is_recorded_at_once_or_after_polls(tmp_path: Path, opened: Open, pages: list[Page]) -> None:
    left = list(pages)

    def dispatcher(received: Received) -> Page:
        return left.pop(0) if received.method == "POST" else Page(b"", status=404)

    folder = tmp_path / "capsule"
    with http_server(dispatcher) as server, opened(folder, server.url) as url:
        status = upload(url, "new")
        while status == "submitted":
            status = upload(url, status)

    (recorded,) = open_capsule(folder).dispatchers
    assert (len(recorded.fixtures), len(recorded.failures)) == (status == "done", status == "failed")
    with oda_proxy.replaying(folder) as url:
        assert upload(url, "new") == status
        assert upload(url, "new", content=b"another file") == "failed"
