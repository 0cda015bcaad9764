"""The story of a request, told with an upstream that plays a script."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from oda_proxy.errors import StoreUnusableError, UpstreamPausedError, UpstreamUnreachableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.cache_key import keys_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.schema import read_schema
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import JOB, SESSION, answer, json_bytes
from tests.support.sample_descriptions import meta_data
from tests.support.scripted_upstream import (
    JSON,
    ORIGIN,
    QUERY,
    Body,
    Clock,
    Reply,
    Script,
    at_once,
    body_of,
    request,
    told,
)

if TYPE_CHECKING:
    from oda_proxy.http.message import Headers
    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.schema import Schema
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream() -> Script:
    return Script()


@pytest.fixture
def proxy(upstream: Script, clock: Clock) -> Proxy:
    return Proxy(MemoryStore(), upstream, Policy(), runtime=Runtime(clock=clock, sleep=at_once))


async def test_the_first_answer_is_relayed_unchanged_and_stored(proxy: Proxy, upstream: Script) -> None:
    upstream.then(answer())

    assert await told(proxy, request()) == (
        200,
        "oda-proxy; fwd=uri-miss; fwd-status=200; stored",
        json_bytes(answer()),
    )
    assert [ask.path for ask in upstream.asked] == ["/run_analysis"]


async def test_the_second_request_is_a_hit(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    upstream.then(answer())
    await told(proxy, request())
    clock.now += 90.5

    result = await proxy.answer(request(who="SECONDSESSION000"), origin=ORIGIN)

    got = json.loads(await body_of(result))
    assert str(result.cache_status) == "oda-proxy; hit"
    assert ("Age", "90") in result.headers
    assert ("Content-Length", str(len(await body_of(result)))) in result.headers
    assert got["products"]["numpy_data_product_list"] == answer()["products"]["numpy_data_product_list"]
    assert got["session_id"] == "SECONDSESSION000"
    assert len(upstream.asked) == 1
    assert (proxy.counts.hits, proxy.counts.asked, proxy.counts.kept) == (1, 1, 1)


async def test_a_form_asks_the_same_as_a_query_string(proxy: Proxy, upstream: Script) -> None:
    upstream.then(answer())
    await told(proxy, request())
    content_type = (("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),)
    form = Request("POST", "/p/run_analysis", "", content_type, f"{QUERY}&query_status=new&session_id=S".encode())

    status, cache_status, _ = await told(proxy, form)

    assert (status, cache_status) == (200, "oda-proxy; hit")


async def test_a_job_is_polled_to_its_end_and_stored(proxy: Proxy, upstream: Script) -> None:
    for state in ["submitted", "progress", "ready"]:
        upstream.then({**answer(query_status=state), "products": {}})
    upstream.then(answer())

    states, state, job_id = [], "new", ""
    while state not in {"done", "failed"}:
        _status, cache_status, body = await told(proxy, request(f"{QUERY}&job_id={job_id}", status=state))
        state, job_id = json.loads(body)["query_status"], json.loads(body)["job_monitor"]["job_id"]
        states.append((state, cache_status))

    assert states[0] == ("submitted", "oda-proxy; fwd=uri-miss; detail=running")
    assert states[-1] == ("done", "oda-proxy; fwd=uri-miss; fwd-status=200; stored")
    assert job_id == JOB
    asked = [dict(parse_fields(ask.query_string)) for ask in upstream.asked]
    assert [(one["query_status"], one.get("job_id", "")) for one in asked] == [
        ("new", ""),
        ("submitted", JOB),
        ("progress", JOB),
        ("ready", JOB),
    ]
    assert (await told(proxy, request()))[1] == "oda-proxy; hit"


async def test_a_failed_job_is_not_stored(proxy: Proxy, upstream: Script) -> None:
    failed = answer(query_status="failed", exit_status={**answer()["exit_status"], "status": 1, "message": "failing"})
    upstream.then(failed).then(answer())

    assert (await told(proxy, request()))[2] == json_bytes(failed)
    assert (await told(proxy, request()))[2] == json_bytes(answer())


@pytest.mark.parametrize(
    ("query", "headers", "detail"),
    [
        (f"{QUERY}&token=T", (), "token"),
        (QUERY, (("Authorization", "Bearer T"),), "credentials"),
        (QUERY, (("Cookie", "_oauth2_proxy=T"),), "credentials"),
        (QUERY.replace("&api=True", ""), (), "not-api"),
        (f"{QUERY}&return_progress=True", (), "partial"),
        (QUERY.replace("instrument=isgri&", ""), (), "not-a-query"),
        (f"{QUERY}&session_id=ANOTHER", (), "not-a-query"),
    ],
)
async def test_what_may_belong_to_one_person_is_neither_stored_nor_looked_up(
    proxy: Proxy, upstream: Script, query: str, headers: Headers, detail: str
) -> None:
    upstream.then(answer()).then(answer())
    asked = request(query)
    asked = Request("GET", asked.path, asked.query_string, headers)

    expected = (200, f"oda-proxy; fwd=bypass; fwd-status=200; detail={detail}", json_bytes(answer()))

    assert await told(proxy, asked) == expected
    assert await told(proxy, asked) == expected
    assert list(proxy.store.keys()) == []


async def test_a_request_with_a_token_does_not_find_public_recordings(proxy: Proxy, upstream: Script) -> None:
    upstream.then(answer()).then(answer(session_id="other"))
    await told(proxy, request())

    assert (await told(proxy, request(f"{QUERY}&token=T")))[2] == json_bytes(answer(session_id="other"))


def upload(content: bytes, boundary: str = "xYz") -> Request:
    """Ask with a form that uploads a file."""
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in [pair.split("=") for pair in f"{QUERY}&query_status=new&session_id=S".split("&")]
    )
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="user_catalog_file"; filename="c.fits"\r\n\r\n'
    body = f"{fields}{head}".encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Request("POST", "/run_analysis", "", (("Content-Type", f"multipart/form-data; boundary={boundary}"),), body)


async def test_an_uploaded_file_is_part_of_the_question_and_goes_on_byte_for_byte(
    proxy: Proxy, upstream: Script
) -> None:
    upstream.then(answer()).then(answer())

    assert (await told(proxy, upload(b"a file")))[1] == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert (await told(proxy, upload(b"a file", "other")))[1] == "oda-proxy; hit"
    assert (await told(proxy, upload(b"another")))[1] == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert [ask.body for ask in upstream.asked] == [upload(b"a file").body, upload(b"another").body]


async def test_large_uploaded_files_are_relayed_as_they_come(proxy: Proxy, upstream: Script) -> None:
    upstream.then(answer())
    parts = Body(b"--x\r\n\r\n--x--")
    ask = Request("POST", "/run_analysis", "", (("Content-Type", "multipart/form-data; boundary=x"),), parts)

    assert (await told(proxy, ask))[1] == "oda-proxy; fwd=bypass; fwd-status=200; detail=not-a-query"
    assert upstream.asked[0].body is parts


@pytest.mark.parametrize(
    ("wish", "cache_status"),
    [
        ("no-cache", "oda-proxy; fwd=request; fwd-status=200; stored"),
        ("no-store", "oda-proxy; fwd=request; fwd-status=200; detail=no-store"),
        ("max-age=0", "oda-proxy; fwd=request; fwd-status=200; stored"),
    ],
)
async def test_a_request_may_ask_for_a_refresh(proxy: Proxy, upstream: Script, wish: str, cache_status: str) -> None:
    upstream.then(answer()).then(answer(products={"catalog": {}}))
    await told(proxy, request())
    ask = request()

    anew = await told(proxy, Request(ask.method, ask.path, ask.query_string, (("Cache-Control", wish),)))

    assert anew == (200, cache_status, json_bytes(answer(products={"catalog": {}})))
    replaced = b'"catalog":{}' in (await told(proxy, request()))[2]
    assert replaced == (wish != "no-store")


async def test_pragma_asks_for_a_refresh_where_there_is_no_cache_control(proxy: Proxy, upstream: Script) -> None:
    """RFC 9111, section 5.4."""
    upstream.then(answer()).then(answer(products={"catalog": {}}))
    await told(proxy, request())

    reloaded = await told(proxy, replace(request(), headers=(("Pragma", "no-cache"),)))
    both = await told(proxy, replace(request(), headers=(("Pragma", "no-cache"), ("Cache-Control", "max-age=60"))))

    assert reloaded[1] == "oda-proxy; fwd=request; fwd-status=200; stored"
    assert both[1] == "oda-proxy; hit"


async def test_a_recording_may_be_as_old_as_the_request_says(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    """RFC 9111, section 5.2.1.1."""
    upstream.then(answer()).then(answer(products={"catalog": {}}))
    await told(proxy, request())
    clock.now += 60

    young, old = (replace(request(), headers=(("Cache-Control", f"max-age={age}"),)) for age in (60, 59))

    assert (await told(proxy, young))[1] == "oda-proxy; hit"
    only = replace(old, headers=(("Cache-Control", "max-age=59, only-if-cached"),))
    assert (await told(proxy, only))[0] == 504
    assert (await told(proxy, old))[1] == "oda-proxy; fwd=request; fwd-status=200; stored"
    assert (await told(proxy, old))[1] == "oda-proxy; hit"


async def test_a_recording_that_is_too_old_for_its_client_is_served_while_the_dispatcher_is_away(
    proxy: Proxy, upstream: Script
) -> None:
    upstream.then(answer())
    upstream.replies.append(UpstreamUnreachableError(upstream.url, "Connection refused"))
    await told(proxy, request())

    got = await told(proxy, replace(request(), headers=(("Cache-Control", "max-age=0"),)))

    assert got[:2] == (200, "oda-proxy; hit; detail=stale")


async def test_without_a_dispatcher_a_reload_is_answered_from_the_recording(
    proxy: Proxy, upstream: Script, clock: Clock
) -> None:
    upstream.then(answer())
    await told(proxy, request())
    offline = Proxy(proxy.store, None, Policy(), runtime=Runtime(clock=clock))

    for header in (("Pragma", "no-cache"), ("Cache-Control", "no-cache"), ("Cache-Control", "max-age=0")):
        assert (await told(offline, replace(request(), headers=(header,))))[1] == "oda-proxy; hit"


async def test_a_recording_of_when_verbose_was_in_the_key_is_found_by_who_sends_it(
    proxy: Proxy, upstream: Script, clock: Clock
) -> None:
    upstream.then(answer())
    await told(proxy, request())
    query, _ = split_query(parse_fields(f"{QUERY}&verbose=True"))
    first, earlier = keys_of(query, ())
    recording = proxy.store.get(first)
    assert recording
    old = MemoryStore()
    old.put(replace(recording, key=earlier))
    offline = Proxy(old, None, Policy(), runtime=Runtime(clock=clock))

    assert (await told(offline, request(f"{QUERY}&verbose=True")))[1] == "oda-proxy; hit"
    assert (await told(offline, request()))[1] != "oda-proxy; hit"


async def test_a_request_may_want_nothing_but_a_recording(proxy: Proxy, upstream: Script) -> None:
    ask = Request("GET", "/run_analysis", request().query_string, (("Cache-Control", "only-if-cached"),))

    status, cache_status, body = await told(proxy, ask)

    assert (status, cache_status) == (504, "oda-proxy; detail=no-recording")
    assert json.loads(body)["query_status"] == "failed"
    assert upstream.asked == []


@pytest.mark.parametrize(("state", "status"), [("new", 500), ("submitted", 502), ("ready", 502)])
async def test_an_unreachable_upstream_ends_what_was_not_submitted(
    proxy: Proxy, upstream: Script, state: str, status: int
) -> None:
    upstream.replies.append(UpstreamUnreachableError(upstream.url, "Connection refused"))

    told_status, cache_status, body = await told(proxy, request(f"{QUERY}&job_id={JOB}", status=state))

    got = json.loads(body)
    assert (told_status, cache_status) == (status, "oda-proxy; detail=unreachable")
    reason = f"cannot reach the dispatcher {upstream.url}: Connection refused"
    assert got["error"] == got["error_message"] == got["exit_status"]["message"] == reason
    assert (got["query_status"], got["session_id"], got["job_monitor"]["job_id"]) == ("failed", SESSION, JOB)


@pytest.mark.parametrize("path", ["/run_analysis", "/inspect-state"])
async def test_a_refused_request_has_retry_after(proxy: Proxy, upstream: Script, path: str) -> None:
    upstream.replies.append(UpstreamPausedError(upstream.url, "it has failed", 3.2, is_down=True))

    result = await proxy.answer(request(path=path), origin=ORIGIN)

    assert ("Retry-After", "4") in result.headers
    assert b"retry in 4 s" in await body_of(result)


async def test_offline_a_miss_fails_at_once_and_a_hit_does_not(upstream: Script, clock: Clock) -> None:
    store = MemoryStore()
    upstream.then(answer())
    await told(Proxy(store, upstream, Policy(), runtime=Runtime(clock=clock)), request())
    offline = Proxy(store, None, Policy(), runtime=Runtime(clock=clock))

    assert (await told(offline, request()))[1] == "oda-proxy; hit"
    status, cache_status, body = await told(offline, request(f"{QUERY}&DEC=1"))
    assert (status, cache_status) == (400, "oda-proxy; detail=no-recording")
    assert "offline" in json.loads(body)["error"]
    assert (await told(offline, Request("GET", "/api/meta-data", "instrument=isgri")))[0] == 404


class BrokenStore(MemoryStore):
    def get(self, key: Key) -> Recording | None:
        raise StoreUnusableError(Path("/nowhere"), "disk I/O error")

    def put(self, recording: Recording, *, same_as: Entry | None = None) -> None:
        raise StoreUnusableError(Path("/nowhere"), "No space left on device")


async def test_a_store_that_fails_fails_no_request(upstream: Script, caplog: pytest.LogCaptureFixture) -> None:
    upstream.then(answer())
    proxy = Proxy(BrokenStore(), upstream, Policy())

    assert await told(proxy, request()) == (
        200,
        "oda-proxy; fwd=uri-miss; fwd-status=200; detail=store-failed",
        json_bytes(answer()),
    )
    assert "No space left on device" in caplog.text


async def test_an_answer_that_cannot_be_decoded_is_relayed_and_not_stored(proxy: Proxy, upstream: Script) -> None:
    upstream.then(b"\x8b\x00", headers=(*JSON, ("Content-Encoding", "br")))

    assert await told(proxy, request()) == (200, "oda-proxy; fwd=uri-miss; fwd-status=200; detail=encoded", b"\x8b\x00")
    assert ("Accept-Encoding", "identity") in upstream.asked[0].headers


async def test_an_answer_too_large_to_keep_passes_through_whole(
    proxy: Proxy, upstream: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oda_proxy.jobs.exchange.MAX_STORED", 300)
    upstream.then(answer())

    assert await told(proxy, request()) == (
        200,
        "oda-proxy; fwd=uri-miss; fwd-status=200; detail=too-large",
        json_bytes(answer()),
    )


async def test_a_description_is_requested_once_per_ttl(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    upstream.then(["RA"])
    ask = Request("GET", "/p/api/par-names", "instrument=isgri&product_type=isgri_image")
    again = Request("GET", "/api/par-names", "product_type=isgri_image&instrument=isgri")

    assert (await told(proxy, ask))[1:] == ("oda-proxy; fwd=uri-miss; fwd-status=200; stored", json_bytes(["RA"]))
    clock.now += 299
    result = await proxy.answer(again, origin=ORIGIN)
    assert (str(result.cache_status), await body_of(result)) == ("oda-proxy; hit", json_bytes(["RA"]))
    assert ("Age", "299") in result.headers


async def test_a_description_for_a_token_is_relayed(proxy: Proxy, upstream: Script) -> None:
    upstream.then(["isgri"]).then(["isgri", "private"])

    assert (await told(proxy, Request("GET", "/api/instr-list", "instrument=mock")))[2] == json_bytes(["isgri"])
    with_token = await told(proxy, Request("GET", "/api/instr-list", "instrument=mock&token=T"))
    assert with_token == (200, "oda-proxy; fwd=bypass; fwd-status=200; detail=token", json_bytes(["isgri", "private"]))
    assert (await told(proxy, Request("GET", "/api/instr-list", "instrument=mock")))[2] == json_bytes(["isgri"])


async def test_a_description_that_failed_is_not_cached(proxy: Proxy, upstream: Script) -> None:
    upstream.then({"error": "x"}, status=500).then(["RA"])
    ask = Request("GET", "/api/par-names", "instrument=isgri")

    assert [(await told(proxy, ask))[0] for _ in range(2)] == [500, 200]


@pytest.mark.parametrize("query", ["instrument=isgri", "instrument=isgri&token=T"])
async def test_a_description_that_failed_tells_nothing_of_the_dispatchers_configuration(
    proxy: Proxy, upstream: Script, query: str
) -> None:
    upstream.then({"error": "x", "config": {"folder": "/srv"}}, status=403)

    status, _, body = await told(proxy, Request("GET", "/api/meta-data", query))

    assert (status, json.loads(body)) == (403, {"error": "x"})


async def test_the_list_of_instruments_is_fetched_from_where_it_is(proxy: Proxy, upstream: Script) -> None:
    elsewhere = (("Location", "https://www.astro.unige.ch/mmoda/dispatch-data/instr-list?instrument=mock"),)
    upstream.then(b"<p>Redirecting", status=302, headers=elsewhere).then(["isgri"])
    redirect = upstream.replies[0]
    assert isinstance(redirect, Reply)

    assert (await told(proxy, Request("GET", "/api/instr-list", "instrument=mock")))[::2] == (
        200,
        json_bytes(["isgri"]),
    )
    assert [ask.path for ask in upstream.asked] == ["/api/instr-list", "/instr-list"]
    assert redirect.body.closed


async def test_other_routes_are_relayed_faithfully(proxy: Proxy, upstream: Script) -> None:
    headers = (("Content-Type", "text/html"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("ETag", '"x"'))
    upstream.then(b"<p>", status=418, headers=(*headers, ("Connection", "close")))
    sent = (("Cookie", "c=1"), ("Host", "127.0.0.1:8400"), ("Accept-Encoding", "gzip"), ("TE", "trailers"))

    result = await proxy.answer(
        Request("PUT", "/p/dispatch-data/tap/sync", "a=%2B&token=T", sent, b"form"), origin=ORIGIN
    )

    assert (result.status, result.headers) == (418, (*headers, ("Via", "1.1 oda-proxy")))
    assert await body_of(result) == b"<p>"
    assert str(result.cache_status) == "oda-proxy; fwd=bypass; fwd-status=418"
    expected = (("Cookie", "c=1"), ("Accept-Encoding", "gzip"), ("Via", "1.1 oda-proxy"))
    assert upstream.asked == [Request("PUT", "/tap/sync", "a=%2B&token=T", expected, b"form", at_most_once=False)]


async def test_a_redirect_points_at_the_proxy_under_the_clients_prefix(proxy: Proxy, upstream: Script) -> None:
    location = "http://dispatcher.example/dispatch-data/download_products?file_list=a"
    upstream.then(b"", status=302, headers=(("Location", location),))

    result = await proxy.answer(Request("GET", "/mmoda/dispatch-data/download_file", "file_list=a"), origin=ORIGIN)

    assert ("Location", f"{ORIGIN}/mmoda/dispatch-data/download_products?file_list=a") in result.headers


@pytest.mark.parametrize(("path", "status"), [("/call_back", 403), ("/x/../y", 404)])
async def test_a_refused_request_is_not_relayed(proxy: Proxy, upstream: Script, path: str, status: int) -> None:
    assert (await told(proxy, Request("GET", path)))[0] == status
    assert upstream.asked == []


class Described:
    """An upstream's descriptions, as it gives them now and gave them before."""

    def __init__(self, *texts: str) -> None:
        self._schemas = tuple(read_schema(text) for text in texts)
        self.invalidated: list[str] = []

    async def schemas(self, instrument: str, *, may_request: bool = True) -> tuple[Schema, ...]:
        return self._schemas

    def invalidate(self, instrument: str) -> None:
        self.invalidated.append(instrument)


def describing(upstream: Script, store: MemoryStore, clock: Clock, *texts: str) -> Proxy:
    return Proxy(
        store,
        upstream,
        Policy(),
        services=Services(instruments=cast("Descriptions", Described(*texts))),
        runtime=Runtime(clock=clock),
    )


def echoing(**parameters: Any) -> dict[str, Any]:
    return answer(products={"analysis_parameters": {"instrument": "isgri", "session_id": SESSION, **parameters}})


async def test_an_equivalent_query_is_a_hit(upstream: Script, clock: Clock) -> None:
    proxy = describing(upstream, MemoryStore(), clock, meta_data())
    upstream.then(echoing(RA=83.0, E1_keV=20.0))
    await told(proxy, request(f"{QUERY}&T1=52713&T_format=mjd"))

    again = QUERY.replace("83.0", "8.3e1")
    assert (await told(proxy, request(f"{again}&E1_keV=20&T1=2003-03-15T00:00:00")))[1] == "oda-proxy; hit"


async def test_an_answer_to_another_query_is_relayed_with_a_warning_and_not_stored(
    upstream: Script, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = describing(upstream, MemoryStore(), clock, meta_data())
    upstream.then(echoing(RA=38.0)).then(echoing(RA=83.0))

    status, cache_status, body = await told(proxy, request())

    assert (status, body) == (200, json_bytes(echoing(RA=38.0)))
    assert cache_status == "oda-proxy; fwd=uri-miss; fwd-status=200; detail=echo-differs"
    assert "contradicts the query in ['RA']" in caplog.text
    assert SESSION not in caplog.text
    assert proxy.counts.echo_differs == 1
    assert (await told(proxy, request()))[1] == "oda-proxy; fwd=uri-miss; fwd-status=200; stored"


async def test_an_id_of_the_dispatcher_that_stands_for_two_questions_is_counted(proxy: Proxy, upstream: Script) -> None:
    upstream.then(echoing(RA=83.0)).then(echoing(RA=38.0)).then(echoing(RA=38.0))
    other = request(QUERY.replace("83.0", "38.0"))

    await told(proxy, request())
    await told(proxy, other)
    await told(proxy, Request(other.method, other.path, other.query_string, (("Cache-Control", "no-cache"),)))

    assert proxy.counts.job_ids_shared == 1


@pytest.mark.parametrize(
    ("later", "words", "hit"),
    [
        (meta_data().replace('"max_pointings"', '"most_pointings"'), QUERY, True),  # another parameter came or went
        (meta_data().replace("40.0", "60.0"), QUERY, False),  # a default changed: the same words ask something else
        (meta_data().replace("40.0", "60.0"), f"{QUERY}&E2_keV=40", True),
    ],
)
async def test_a_description_that_changed_hides_nothing_and_makes_nothing_equal(
    upstream: Script, clock: Clock, later: str, words: str, *, hit: bool
) -> None:
    store = MemoryStore()
    upstream.then(echoing(RA=83.0, E2_keV=40.0)).then(echoing(RA=83.0))
    await told(describing(upstream, store, clock, meta_data()), request())

    status = (await told(describing(upstream, store, clock, later, meta_data()), request(words)))[1]

    assert (status == "oda-proxy; hit") == hit


async def test_a_recording_made_without_a_description_is_found_with_one(upstream: Script, clock: Clock) -> None:
    store = MemoryStore()
    upstream.then(echoing(RA=83.0)).then(echoing(RA=83.0))
    await told(describing(upstream, store, clock), request())
    proxy = describing(upstream, store, clock, meta_data())

    assert (await told(proxy, request()))[1] == "oda-proxy; hit"
    assert (await told(proxy, request(f"{QUERY}&new=1")))[1] != "oda-proxy; hit"


async def test_api_dry_run_and_token_never_share_a_recording(upstream: Script, clock: Clock) -> None:
    proxy = describing(upstream, MemoryStore(), clock, meta_data())
    asked = [QUERY, QUERY.replace("&api=True", ""), f"{QUERY}&dry_run=True", f"{QUERY}&token=A", f"{QUERY}&token=B"]
    for _ in range(2 * len(asked)):
        upstream.then(echoing(RA=83.0))

    first = [(await told(proxy, request(words)))[1] for words in asked]
    second = [(await told(proxy, request(words)))[1] for words in asked]

    assert ["hit" in status for status in first] == [False] * 5
    assert ["hit" in status for status in second] == [True, False, True, False, False]


@pytest.mark.parametrize("prefix", ["/as-of/tomorrow", "/as-of/2999-01-01", "/in/a.b", "/as-of"])
async def test_a_prefix_that_is_not_valid_is_a_failed_job(proxy: Proxy, upstream: Script, prefix: str) -> None:
    status, _, body = await told(proxy, request(path=f"{prefix}/run_analysis"))

    message = json.loads(body)["error"]
    assert status == 400
    assert "is not a date" in message or "in the future" in message or "is not the name of a collection" in message
    assert json.loads(body)["exit_status"]["message"] == message
    assert (await told(proxy, request(path=f"{prefix}/api/meta-data")))[2].decode() == f"{message}\n"
    assert not upstream.asked
