"""Downloads of the files of a job in a session that the proxy served."""

from __future__ import annotations

import json

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.http.message import Request
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import Script, request, told


def download(session_id: str) -> Request:
    query = f"session_id={session_id}&job_id=0123456789abcdef&query_status=ready&file_list=a.fits&download_file_name=a"
    return Request("GET", "/mmoda/download_products", query)


async def test_a_download_in_a_session_with_a_recording_says_why_it_fails() -> None:
    upstream = Script().then(answer()).then({"error": "No such file"}, status=403)
    proxy = Proxy(MemoryStore(), upstream, Policy())
    await told(proxy, request())
    await told(proxy, request(who="ANOTHERSESSION00"))

    status, cache_status, body = await told(proxy, download("ANOTHERSESSION00"))

    failure = json.loads(body)
    assert (status, cache_status) == (404, "oda-proxy; detail=no-files")
    assert "Cache-Control: no-cache" in failure["error"]
    assert (failure["session_id"], failure["job_monitor"]["job_id"]) == ("ANOTHERSESSION00", "0123456789abcdef")


@pytest.mark.parametrize("status", [200, 403])
async def test_a_download_in_the_session_of_the_job_is_relayed(status: int) -> None:
    upstream = Script().then(answer()).then({"of": "the dispatcher"}, status=status)
    proxy = Proxy(MemoryStore(), upstream, Policy())
    await told(proxy, request())

    assert json.loads((await told(proxy, download(SESSION)))[2]) == {"of": "the dispatcher"}


async def test_a_download_that_succeeds_is_relayed_in_any_session() -> None:
    upstream = Script().then(answer()).then({"of": "the dispatcher"})
    proxy = Proxy(MemoryStore(), upstream, Policy())
    await told(proxy, request())
    await told(proxy, request(who="ANOTHERSESSION00"))

    assert (await told(proxy, download("ANOTHERSESSION00")))[0] == 200
