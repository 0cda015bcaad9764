"""Answers as they were at a past time: by address, by header, by option."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import jwt
import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http import headers
from oda_proxy.http.memento import TimeLine
from oda_proxy.http.message import Request
from oda_proxy.http.scope import AsOf, Scope
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.query.audience import Sharing, TokenVerifier
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.store.memory import MemoryStore
from tests.support.dispatcher_responses import SESSION, answer
from tests.support.scripted_upstream import ORIGIN, QUERY, Clock, Script, at_once, body_of, request

if TYPE_CHECKING:
    from oda_proxy.http.answer import Answer
    from oda_proxy.http.message import Headers

NO_CACHE = (("Cache-Control", "no-cache"),)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


JANUARY, MARCH, JUNE = at("2026-01-10T12:00:00"), at("2026-03-10T12:00:00"), at("2026-06-10T12:00:00")
TEXTS = ("one", "two", "three")


def product(text: str) -> dict[str, object]:
    return answer(products={"text_product_list": [{"name": "t", "value": text, "meta_data": {}}]})


@pytest.fixture
def upstream() -> Script:
    return Script()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def proxy(upstream: Script, clock: Clock) -> Proxy:
    """Return a proxy with three versions of an answer."""
    proxy = Proxy(MemoryStore(), upstream, Policy(), runtime=Runtime(clock=clock, sleep=at_once))
    for time, text in zip((JANUARY, MARCH, JUNE), TEXTS, strict=True):
        clock.now = time
        upstream.then(product(text))
        await body_of(await proxy.answer(refreshing(), origin=ORIGIN))
    clock.now = at("2026-07-01T00:00:00")
    upstream.asked.clear()
    return proxy


def refreshing() -> Request:
    plain = request()
    return Request("GET", plain.path, plain.query_string, NO_CACHE)


async def ask(proxy: Proxy, prefix: str = "", fields: str = "", sent: Headers = ()) -> Answer:
    plain = request(f"{QUERY}{fields}", path=f"{prefix}/run_analysis")
    return await proxy.answer(Request("GET", plain.path, plain.query_string, sent), origin=ORIGIN)


async def value(result: Answer) -> str:
    products = json.loads(await body_of(result))["products"]
    return str(products["text_product_list"][0]["value"])


def header(result: Answer, name: str) -> str:
    (found,) = headers.values(result.headers, name)
    return found


@pytest.mark.parametrize(
    ("date", "text"),
    [
        ("2026-01-10", "one"),
        ("2026-01-10T12-00-00", "one"),
        ("2026-03-09", "one"),
        ("2026-03-10T11-59", "one"),
        ("2026-03-10", "two"),
        ("20260610115959", "two"),
        ("2026-06-10", "three"),
        ("2026-07-01", "three"),
    ],
)
async def test_an_address_has_the_answer_of_its_date(proxy: Proxy, upstream: Script, date: str, text: str) -> None:
    for prefix in (f"/as-of/{date}", f"/as-of/{date}/only", f"/p/dispatch-data/as-of/{date}"):
        result = await ask(proxy, prefix)

        assert str(result.cache_status) == "oda-proxy; hit; detail=as-of"
        assert await value(result) == text
    assert not upstream.asked
    assert await value(await ask(proxy)) == "three"


async def test_a_past_answer_is_not_refreshed(proxy: Proxy, upstream: Script) -> None:
    assert await value(await ask(proxy, "/as-of/2026-03-01", sent=NO_CACHE)) == "one"
    assert not upstream.asked


async def test_what_was_not_recorded_by_then_is_answered_as_today_and_says_so(proxy: Proxy, upstream: Script) -> None:
    result = await ask(proxy, "/as-of/2026-01-09")

    assert str(result.cache_status) == "oda-proxy; hit; detail=not-recorded-then"
    assert await value(result) == "three"
    upstream.then(product("four"))
    result = await ask(proxy, "/as-of/2026-01-09", "&E1_keV=99")
    assert str(result.cache_status) == "oda-proxy; fwd=uri-miss; fwd-status=200; stored; detail=not-recorded-then"
    assert await value(await ask(proxy, "/as-of/2026-07-01/only", "&E1_keV=99")) == "four"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "as of 2026-01-09: there is no recording of isgri isgri_image as requested: it was recorded later, on"),
        ("&E1_keV=99", "as of 2026-01-09: there is no recording of isgri isgri_image"),
        ("&return_progress=True", "as of 2026-01-09: there is no recording of this"),
    ],
)
async def test_only_fails_in_the_words_of_a_near_miss(
    proxy: Proxy, upstream: Script, fields: str, message: str
) -> None:
    result = await ask(proxy, "/as-of/2026-01-09/only", fields)

    assert result.status == 400
    assert json.loads(await body_of(result))["error"].startswith(message)
    for path in ("/as-of/2026-01-09/only/api/meta-data", "/as-of/2026-01-09/only/download_products"):
        assert (await proxy.answer(Request("GET", path, "instrument=isgri"), origin=ORIGIN)).status == 404
    assert not upstream.asked


async def test_a_recording_of_later_that_day_is_named_with_its_time(proxy: Proxy) -> None:
    result = await ask(proxy, "/as-of/2026-01-10T11-00/only")

    assert json.loads(await body_of(result))["error"].endswith("it was recorded later, at 2026-01-10T12:00:00Z")


async def test_near_misses_are_those_of_that_time(proxy: Proxy) -> None:
    result = await ask(proxy, "/as-of/2026-02-01/only", "&src_name=Elsewhere")
    earlier = await ask(proxy, "/as-of/2026-01-01/only", "&src_name=Elsewhere")

    assert "the nearest is" in json.loads(await body_of(result))["error"]
    assert "the nearest is" not in json.loads(await body_of(earlier))["error"]


async def test_hits_of_a_past_time_are_not_repeated_from_memory(proxy: Proxy) -> None:
    for _ in range(3):
        assert (await ask(proxy, "/as-of/2026-01-09")).repeatable is None
        assert (await ask(proxy, "/as-of/2026-02-01")).repeatable is None
        assert (await ask(proxy, sent=(("Accept-Datetime", "Sun, 01 Feb 2026 00:00:00 GMT"),))).repeatable is None
    await ask(proxy)
    assert (await ask(proxy)).repeatable is not None


async def test_equal_answers_are_one_version(upstream: Script, clock: Clock) -> None:
    services = Services(is_same=lambda one, other: b"one" in b"".join([*one.head.pieces(), *other.head.pieces()]))
    proxy = Proxy(MemoryStore(), upstream, Policy(), services=services, runtime=Runtime(clock=clock, sleep=at_once))
    for time, text in ((JANUARY, "one"), (MARCH, "one, with another date"), (JUNE, "two")):
        clock.now = time
        upstream.then(product(text))
        await body_of(await proxy.answer(refreshing(), origin=ORIGIN))
    (key,) = proxy.store.keys()

    assert [(one.valid_from, one.valid_until) for one in proxy.store.versions(key)] == [
        (JANUARY, None),
    ]


async def test_a_server_may_have_a_past_time_for_all(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    runtime = Runtime(clock=clock, sleep=at_once)
    policy = Policy(as_of=Scope(AsOf.parse("2026-04-01"), only=True))
    past = Proxy(proxy.store, upstream, policy, runtime=runtime)

    assert await value(await ask(past)) == "two"
    assert await value(await ask(past, "/as-of/2026-02-01")) == "one"
    assert (await ask(past, fields="&E1_keV=99")).status == 400
    offline = Proxy(proxy.store, None, policy, runtime=runtime)
    assert await value(await ask(offline)) == "two"
    assert not upstream.asked


CREDENTIALS = [(("Cookie", "_oauth2_proxy=T"),), (("Authorization", "Bearer T"),)]


@pytest.mark.parametrize("sent", CREDENTIALS)
async def test_a_client_with_credentials_receives_the_version_that_everyone_may_read(
    proxy: Proxy, upstream: Script, sent: Headers
) -> None:
    for prefix in ("/as-of/2026-02-01", "/as-of/2026-02-01/only"):
        result = await ask(proxy, prefix, sent=sent)
        assert (str(result.cache_status), await value(result)) == ("oda-proxy; hit; detail=as-of", "one")
    assert (await ask(proxy, "/as-of/2026-01-09/only", sent=sent)).status == 400
    assert not upstream.asked
    upstream.then(product("for this client"))
    result = await ask(proxy, "/as-of/2026-01-09", sent=sent)
    assert str(result.cache_status) == "oda-proxy; fwd=bypass; fwd-status=200; detail=not-recorded-then"
    assert await value(result) == "for this client"
    assert upstream.asked[0].headers[: len(sent)] == sent


@pytest.mark.parametrize(
    ("path", "fields"),
    [("run_analysis", "&return_progress=True"), ("run_analysis", "no api"), ("download_products", ""), ("any", "")],
)
async def test_what_is_relayed_says_that_it_is_of_today(proxy: Proxy, upstream: Script, path: str, fields: str) -> None:
    plain = request(f"{QUERY}{fields}".replace("&api=Trueno api", ""), path=f"/as-of/2026-02-01/{path}")
    upstream.then(product("today"))
    result = await proxy.answer(plain, origin=ORIGIN)

    assert str(result.cache_status) == "oda-proxy; fwd=bypass; fwd-status=200; detail=not-recorded-then"
    assert len(upstream.asked) == 1


async def test_nothing_is_sent_under_only(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    """Neither to describe an instrument, nor to verify a token, nor for pages of the frontend."""
    descriptions = Descriptions(upstream, None, ttl=300.0, clock=clock)
    tokens = TokenVerifier(Sharing.SUBJECT, secret_key=None, trust=0.0, clock=clock)
    services = Services(instruments=descriptions, tokens=tokens)
    online = Proxy(proxy.store, upstream, Policy(), services=services, runtime=Runtime(clock=clock, sleep=at_once))
    claims = {"sub": "someone", "exp": clock.now + 3600, "roles": "general"}
    token = jwt.encode(claims, "k" * 32, algorithm="HS256")

    upstream.then([]).then(product("private"))  # the description of the instrument, and the answer
    assert "stored" in str((await ask(online, fields=f"&token={token}")).cache_status)
    clock.now += 60.0
    upstream.asked.clear()
    assert await value(await ask(online, "/as-of/2026-02-01/only")) == "one"
    result = await ask(online, "/as-of/2026-07-01/only", f"&token={token}")
    assert "the token has not been verified" in json.loads(await body_of(result))["error"]
    for fields, words in (
        ("&instrument=unknown", "as of 2026-02-01: there is no recording of "),
        (f"&token={token}", "as of 2026-02-01: the token has not been verified"),
        ("&return_progress=True", "as of 2026-02-01: there is no recording of this"),
        ("&query_status=ready", "as of 2026-02-01: there is no recording of this"),
    ):
        plain = request(QUERY.replace("instrument=isgri", "instrument=unknown") if "unknown" in fields else QUERY)
        query_string = f"{plain.query_string}{'' if 'unknown' in fields else fields}"
        if "query_status" in fields:
            query_string = query_string.replace("query_status=new&", "")
        result = await online.answer(Request("GET", "/as-of/2026-02-01/only/run_analysis", query_string), origin=ORIGIN)
        assert result.status == 400
        assert json.loads(await body_of(result))["error"].startswith(words)
    for path in ("api/instr-list", "api/meta-data", "download_products", "resolve_name", "call_back", "x/y"):
        result = await online.answer(Request("GET", f"/as-of/2026-02-01/only/{path}", "token=x"), origin=ORIGIN)
        assert result.status in {403, 404}
    assert not upstream.asked


async def head(proxy: Proxy, prefix: str = "", fields: str = "", sent: Headers = ()) -> Answer:
    plain = request(f"{QUERY}{fields}", path=f"{prefix}/run_analysis")
    return await proxy.answer(Request("HEAD", plain.path, plain.query_string, sent), origin=ORIGIN)


async def test_head_has_the_headers_of_the_version_that_get_has(proxy: Proxy, upstream: Script) -> None:
    """Clients of RFC 7089 begin with HEAD (section 3.1)."""
    for prefix, sent in (
        ("", (("Accept-Datetime", "Sun, 01 Feb 2026 00:00:00 GMT"),)),
        ("/as-of/2026-02-01", ()),
        ("/as-of/2026-02-01/only", ()),
        ("", ()),
    ):
        one, other = await head(proxy, prefix, sent=sent), await ask(proxy, prefix, sent=sent)
        assert one.headers == other.headers
        assert one.cache_status.hit
    assert (await head(proxy, "/as-of/2026-01-01/only")).status == 400
    assert not upstream.asked


@pytest.mark.parametrize(
    ("fields", "sent", "detail"),
    [
        ("&E1_keV=99", (), "head"),
        ("", NO_CACHE, "head"),
        ("&return_progress=True", (), "partial"),
        ("", (("Cookie", "a=b"),), "credentials"),
    ],
)
async def test_head_without_a_recording_is_relayed_and_begins_no_job(
    proxy: Proxy, upstream: Script, fields: str, sent: Headers, detail: str
) -> None:
    upstream.then(b"")
    result = await head(proxy, fields=fields, sent=sent)

    assert str(result.cache_status) == f"oda-proxy; fwd=bypass; fwd-status=200; detail={detail}"
    assert await body_of(result) == b""
    assert [one.method for one in upstream.asked] == ["HEAD"]
    assert not [*proxy.jobs]


async def test_head_of_a_description_is_answered_as_get(proxy: Proxy, upstream: Script) -> None:
    upstream.then([{"isgri": []}])
    one = await proxy.answer(Request("HEAD", "/api/meta-data", "instrument=isgri"), origin=ORIGIN)
    await body_of(one)
    other = await proxy.answer(Request("GET", "/api/meta-data", "instrument=isgri"), origin=ORIGIN)

    assert json.loads(await body_of(other)) == [{"isgri": []}]
    assert [asked.method for asked in upstream.asked] == ["GET"]


async def test_a_preference_is_not_forwarded(proxy: Proxy, upstream: Script) -> None:
    """An upstream that is such a proxy would answer as of then, and that would be stored as the answer of today."""
    upstream.then(product("today"))
    sent = (("Accept-Datetime", "Sun, 01 Feb 2026 00:00:00 GMT"),)

    result = await ask(proxy, fields="&E1_keV=99", sent=sent)

    assert str(result.cache_status).endswith("stored; detail=not-recorded-then")
    assert not headers.values(upstream.asked[0].headers, "Accept-Datetime")
    assert await value(await ask(proxy, fields="&E1_keV=99")) == "today"


# -- RFC 7089 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferred", "text", "memento"),
    [
        ("Sun, 01 Feb 2026 00:00:00 GMT", "one", "Sat, 10 Jan 2026 12:00:00 GMT"),
        ("Wed, 10 Jun 2026 11:59:59 GMT", "two", "Tue, 10 Mar 2026 12:00:00 GMT"),
        ("Thu, 31 May 2007 20:35:00 GMT", "one", "Sat, 10 Jan 2026 12:00:00 GMT"),  # before the first: section 4.5.3
        ("Mon, 31 Dec 2040 00:00:00 GMT", "three", "Wed, 10 Jun 2026 12:00:00 GMT"),  # after the last
    ],
)
async def test_a_client_that_prefers_a_time_receives_the_memento_of_it(
    proxy: Proxy, preferred: str, text: str, memento: str
) -> None:
    """The response of section 4.1.2: Vary, Content-Location, Memento-Datetime and Link."""
    result = await ask(proxy, "/mmoda/dispatch-data", sent=(("Accept-Datetime", preferred),))

    assert header(result, "Memento-Datetime") == memento
    assert "accept-datetime" in header(result, "Vary")
    assert 'rel="original timegate"' in header(result, "Link")
    location = header(result, "Content-Location")
    assert location.startswith(f"{ORIGIN}/mmoda/dispatch-data/as-of/2026")
    assert await value(result) == text
    path, _, query = location.removeprefix(ORIGIN).partition("?")
    again = await proxy.answer(Request("GET", path, query), origin=ORIGIN)  # as it is: clients follow it
    assert header(again, "Memento-Datetime") == memento
    assert not headers.values(again.headers, "Vary")
    assert await value(again) == text
    assert header(await ask(proxy), "Vary") == "accept-datetime"


async def test_links_name_the_original_the_timemap_and_the_neighbours(proxy: Proxy) -> None:
    (key,) = proxy.store.keys()
    result = await ask(proxy, "/as-of/2026-04-01")

    links = header(result, "Link").split(", <")
    original = f"{ORIGIN}/run_analysis?"
    followed = await proxy.answer(
        Request("GET", "/run_analysis", links[0].partition("?")[2].partition(">")[0]), origin=ORIGIN
    )
    assert await value(followed) == "three"
    assert links[0].startswith(f"<{original}")
    assert links[0].endswith('>; rel="original timegate"')
    assert links[1].startswith(f'{ORIGIN}/-/timemap/{key}>; rel="timemap"; type="application/link-format"; from="Sat,')
    assert [link.partition("; ")[2] for link in links[2:]] == [
        'rel="first prev memento"; datetime="Sat, 10 Jan 2026 12:00:00 GMT"',
        'rel="memento"; datetime="Tue, 10 Mar 2026 12:00:00 GMT"',
        'rel="next last memento"; datetime="Wed, 10 Jun 2026 12:00:00 GMT"',
    ]
    for secret in (SESSION, "session_id", "token"):
        assert secret not in header(result, "Link")


async def test_versions_of_one_second_have_addresses_of_their_own(proxy: Proxy, upstream: Script, clock: Clock) -> None:
    for fraction in (0.0, 0.25, 0.25, 0.75):  # two at one instant
        clock.now = at("2026-07-02T00:00:00") + fraction
        upstream.then(product(f"at {fraction}, of {clock.now} and request {len(upstream.asked)}"))
        await body_of(await proxy.answer(refreshing(), origin=ORIGIN))
    (key,) = proxy.store.keys()
    line = TimeLine(ORIGIN, "/run_analysis", "", tuple(one.valid_from for one in proxy.store.versions(key)))
    prefixes = re.findall(r"<[^>]*(/as-of/\d+)/run_analysis>", line.document())

    assert len(set(prefixes)) == 7
    assert prefixes[2:5] == ["/as-of/20260610120000", "/as-of/20260702000000000000", "/as-of/20260702000000250000"]
    assert len({await value(await ask(proxy, prefix)) for prefix in prefixes}) == 7


@pytest.mark.parametrize("preferred", ["", "yesterday", "2026-03-01", "Thu, 31 May 2007", "Thu, 31 May 2007 20:35:00"])
async def test_a_preference_that_is_no_date_is_a_bad_request(proxy: Proxy, preferred: str) -> None:
    result = await ask(proxy, sent=(("Accept-Datetime", preferred),))

    assert result.status == 400
    assert "is not a date: write one such as Thu, 31 May 2007" in json.loads(await body_of(result))["error"]


async def test_an_address_counts_more_than_a_preference(proxy: Proxy) -> None:
    sent = (("Accept-Datetime", "Mon, 31 Dec 2040 00:00:00 GMT"),)

    assert await value(await ask(proxy, "/as-of/2026-02-01", sent=sent)) == "one"
