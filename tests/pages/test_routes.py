"""The pages over HTTP: who sees what, in which form, and that no text of a recording becomes a part of a page."""

from __future__ import annotations

import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

import aiohttp
import pytest

from oda_proxy.access.authentication import Authentication, Secret, Tokens
from oda_proxy.access.hosts import HostPolicy
from oda_proxy.errors import OdaProxyError, StoreUnusableError
from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.pages import quantities, rendering
from oda_proxy.pages.problem_pages import problem_pages
from oda_proxy.pages.routes import Pages
from oda_proxy.proxy import Proxy
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import Query
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.near_misses import NearMissHandler
from oda_proxy.web.app import make_app
from oda_proxy.web.metrics_page import snapshot_of
from oda_proxy.web.own_routes import Guard
from oda_proxy.web.pages import status_of
from oda_proxy.web.server import listening
from oda_proxy.web.server_state import ServerState
from tests.pages.test_product_views import summary
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from oda_proxy.http.message import Upstream
    from oda_proxy.store.base import Entry
    from oda_proxy.store.search import Found, Search

ADMIN = "the administration token"
DISPATCHER = "http://dispatcher.example"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PUBLIC, PRIVATE = Key("a" * 64), Key("b" * 64)
HOSTILE = "{{7*7}}<script>alert(1)</script>\"'><img src=x onerror=a()>\x00\x1b[31m\udc80\N{RIGHT-TO-LEFT OVERRIDE}"

ENCODED = quote(HOSTILE.encode("utf-8", "surrogatepass"))


def query(instrument: str = "isgri", product: str = "isgri_image", **parameters: str) -> Query:
    pairs = tuple(sorted((name, (value,)) for name, value in parameters.items()))
    return Query(instrument, product, "Real", pairs, api=True)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(recording(PUBLIC, query=query(src_name="Crab", RA="83.6", DEC="22.0"), cost=930.0))
    secret = query("secret_instrument", "secret_product", src_name="Secret source")
    store.put(recording(PRIVATE, query=secret, private=True))
    return store


class Browser:
    """Requests as a browser sends them."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.url = url
        self.proxy = proxy

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        response = await self.respond(path, headers)
        return response.status, await response.text()

    async def respond(self, path: str, headers: Mapping[str, str] | None = None) -> aiohttp.ClientResponse:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers={**BROWSER, **(headers or {})}) as response,
        ):
            await response.read()
            return response


async def summaries(_: Entry) -> list[dict[str, Any]]:
    """Return the products of every recording of these tests."""
    table = {"columns": [HOSTILE, "RA"], "units": ["", "deg"], "rows": [[HOSTILE, "83.6"]], "notes": [HOSTILE]}
    return [
        summary(units=[{"name": HOSTILE, "shape": [2], "columns": [HOSTILE], "units": [HOSTILE], "cards": 3}]),
        summary(number=1, name=HOSTILE, source=HOSTILE, kind="catalogue", preview=table),
        summary(number=2, kind="damaged", error=HOSTILE, has_picture=False, has_fits=False),
        summary(number=3, kind="text", preview={"lines": [HOSTILE, "second line"], "notes": []}),
    ]


@asynccontextmanager
async def serving(
    store: MemoryStore,
    products: Any = summaries,
    *,
    upstream: Upstream | None = None,
    collections: CollectionIndex | None = None,
) -> AsyncIterator[Browser]:
    misses = NearMissHandler(store)
    services = Services(miss_handler=misses, collections=collections)
    proxy = Proxy(store, upstream, Policy(), services=services)
    server = ServerState()
    status, metrics = partial(status_of, proxy, server), partial(snapshot_of, proxy, server)
    app = make_app(
        proxy,
        misses,
        guard=Guard(Authentication(Tokens(admin=Secret(ADMIN))), HostPolicy()),
        routes=Pages(proxy, misses, status, metrics, products, DISPATCHER).routes(),
        page_middlewares=[problem_pages],
    )
    async with listening(app, "127.0.0.1", 0) as url:
        yield Browser(url, proxy)
    await proxy.close()


@pytest.fixture
async def browser(store: MemoryStore, tmp_path: Path) -> AsyncIterator[Browser]:
    async with serving(store, collections=CollectionIndex(tmp_path, time.time)) as browser:
        yield browser


async def test_the_overview_lists_recordings_with_links_to_their_pages(browser: Browser) -> None:
    status, text = await browser.get("/-/")

    assert status == 200
    assert "Crab" in text
    assert f'href="recordings/{PUBLIC}"' in text
    assert "1 recording" in text.replace("\N{NO-BREAK SPACE}", " ")
    status, text = await browser.get(f"/-/recordings/{PUBLIC}")
    assert status == 200
    assert "83.6" in text


async def test_the_page_of_a_recording_shows_its_versions(browser: Browser) -> None:
    assert "Versions" not in (await browser.get(f"/-/recordings/{PUBLIC}"))[1]
    store = browser.proxy.store
    current = store.peek(PUBLIC)
    assert current is not None
    store.put(replace(current, stored_at=current.stored_at + 86400))

    _, text = await browser.get(f"/-/recordings/{PUBLIC}")

    first, second = (quantities.moment(current.stored_at + days * 86400) for days in (0, 1))
    assert f"<dt>{second}</dt><dd>until today" in text
    assert f"<dt>{first}</dt><dd>until {second}" in text
    assert f"oda-proxy history {PUBLIC[:12]}" in text
    assert "<summary>" not in text.partition(">Versions<")[2].partition("</section>")[0]
    for days in range(2, 300):
        store.put(replace(current, stored_at=current.stored_at + days * 86400))

    _, text = await browser.get(f"/-/recordings/{PUBLIC}")

    versions = text.partition(">Versions<")[2].partition("</section>")[0]
    assert versions.count("<dt>") == 300
    assert versions.partition("<details><summary>290 earlier ones</summary>")[0].count("<dt>") == 10


async def test_the_page_of_a_recording_shows_its_products_and_how_to_request_it(browser: Browser) -> None:
    _, text = await browser.get(f"/-/recordings/{PUBLIC}")

    assert f'src="{PUBLIC}/products/0.png"' in text
    assert f'href="{PUBLIC}/products/0.fits"' in text
    assert f'src="{PUBLIC}/products/1.png"' not in text, "a table is shown as a table"
    assert "<td>83.6</td>" in text
    assert "second line" in text
    for name in ("products.zip", "fixture.zip", "program.py"):
        assert f'href="{PUBLIC}/{name}"' in text
    assert "disp.get_product(" in text
    assert f"url = &#39;{browser.url}&#39;" in text


@pytest.mark.parametrize(
    ("fault", "note"),
    [(OdaProxyError("it is too large"), "it is too large"), (TimeoutError(), "load this page again")],
)
async def test_products_that_cannot_be_listed_leave_the_rest_of_the_page(
    store: MemoryStore, fault: Exception, note: str
) -> None:
    async def fail(_: Entry) -> list[dict[str, Any]]:
        raise fault

    async with serving(store, products=fail) as browser:
        status, text = await browser.get(f"/-/recordings/{PUBLIC}")

    assert status == 200
    assert note in text
    assert "83.6" in text


async def test_the_slash_at_the_end_may_be_left_out(browser: Browser) -> None:
    response = await browser.respond("/-")

    assert response.status == 200
    assert response.url.path == "/-/"


async def test_the_form_finds_recordings_and_keeps_its_values(browser: Browser) -> None:
    assert f"recordings/{PUBLIC}" in (await browser.get("/-/?q=CRAB"))[1]
    _, text = await browser.get("/-/?q=nothing&position=Crab")
    assert f"recordings/{PUBLIC}" not in text
    assert 'value="nothing"' in text
    assert "is no position" in text


async def test_a_private_recording_is_neither_listed_nor_counted_nor_named_nor_opened(browser: Browser) -> None:
    for path in ("/-/", "/-/?q=secret", "/-/?sort=size&ascending=1", f"/-/?q={PRIVATE}", "/-/?instrument=isgri"):
        _, text = await browser.get(path)
        page = re.sub(r'next=[^"]*', "", text)  # the address of the page itself, as the visitor has typed it
        page = page.replace(f'value="{PRIVATE}"', "").replace('value="secret"', "")
        assert "secret" not in page.casefold(), path
        assert PRIVATE[:12] not in page, path
        assert "2 recordings" not in page.replace("\N{NO-BREAK SPACE}", " "), path
        assert '<dd class="value">2</dd>' not in page, path
    for key in (PRIVATE, PRIVATE[:12]):
        status, text = await browser.get(f"/-/recordings/{key}")
        assert status == 404
        assert "secret" not in text.casefold()
    assert (await browser.get(f"/-/recordings/{PRIVATE}"))[1].replace(PRIVATE, "") == (
        await browser.get(f"/-/recordings/{'c' * 64}")
    )[1].replace("c" * 64, ""), "nobody learns whether there is one"


async def test_the_administrator_sees_all_recordings(browser: Browser) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}

    _, text = await browser.get("/-/", headers)
    assert "Secret source" in text
    assert "2 recordings" in text.replace("\N{NO-BREAK SPACE}", " ")
    status, text = await browser.get(f"/-/recordings/{PRIVATE}", headers)
    assert status == 200
    assert "Secret source" in text


async def test_the_beginning_of_a_key_opens_its_recording(browser: Browser) -> None:
    assert (await browser.get(f"/-/recordings/{PUBLIC[:12]}"))[0] == 200
    assert (await browser.get("/-/recordings/abc"))[0] == 404


@pytest.mark.parametrize("path", ["/-/jobs", "/-/near-misses", "/-/status"])
async def test_browsers_receive_a_page_and_programs_json(browser: Browser, path: str) -> None:
    page = await browser.respond(path)
    assert page.content_type == "text/html"
    for accept in ("*/*", "application/json"):
        response = await browser.respond(path, {"Accept": accept})
        assert response.content_type == "application/json"
        assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize(("path", "status"), [("/-/nothing", 404), ("/-/recordings/" + "c" * 64, 404)])
async def test_errors_are_pages_for_browsers_and_problems_for_programs(
    browser: Browser, path: str, status: int
) -> None:
    page = await browser.respond(path)
    assert (page.status, page.content_type) == (status, "text/html")
    problem = await browser.respond(path, {"Accept": "application/json"})
    assert (problem.status, problem.content_type) == (status, "application/problem+json")


async def test_a_wrong_token_is_said_on_a_page(browser: Browser) -> None:
    response = await browser.respond("/-/", {"Authorization": "Bearer wrong"})

    assert (response.status, response.content_type) == (401, "text/html")
    assert response.headers["WWW-Authenticate"] == "Bearer"


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


PATHS = ["/-/", "/-/jobs", "/-/near-misses", "/-/status", f"/-/recordings/{PUBLIC}", "/-/nothing", "/-/a%2Fb/c"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_fetches_nothing_from_elsewhere_and_its_links_are_relative(browser: Browser, path: str) -> None:
    response = await browser.respond(path)
    elements = Elements(await response.text())

    for tag, attributes in elements.tags:
        for name in ("href", "src", "action"):
            link = attributes.get(name)
            assert link is None or not re.match(r"[a-z]+:|/", link), (tag, link)
        assert "style" not in attributes
        assert not any(name.startswith("on") for name in attributes)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PATHS)
async def test_each_control_of_a_page_has_a_name(browser: Browser, path: str) -> None:
    _, text = await browser.get(path)
    elements = Elements(text)
    labelled = {attributes.get("for") for tag, attributes in elements.tags if tag == "label"}
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]

    assert len(ids) == len(set(ids))
    assert dict(elements.tags)["html"] == {"lang": "en"}
    assert [tag for tag, _ in elements.tags].count("h1") == 1
    for tag, attributes in elements.tags:
        if tag in {"input", "select"} and attributes.get("type") != "hidden":
            assert attributes.get("id") in labelled
        if tag == "img":
            assert attributes.get("alt")
        if tag == "time":
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", attributes.get("datetime") or "")
        if tag == "th":
            assert attributes.get("scope") in {"col", "row"}


async def test_links_lead_to_pages_that_exist(browser: Browser) -> None:
    for path in PATHS:
        _, text = await browser.get(path)
        elements = Elements(text)
        links = {attributes[name] for _, attributes in elements.tags for name in ("href", "src") if name in attributes}
        for link in (link for link in links - {"#content"} if not (link or "").startswith((PUBLIC, "lines"))):
            target = urljoin(browser.url + path, link)
            assert (await browser.get(target.removeprefix(browser.url)))[0] == 200, (path, link)


async def test_hostile_names_are_text_in_every_place(store: MemoryStore) -> None:
    parameters = dict.fromkeys(("src_name", "RA", "T1", "scw_list", HOSTILE), HOSTILE)
    store.put(
        recording(
            Key("d" * 64),
            query=query(HOSTILE, HOSTILE, **parameters, long=HOSTILE * 50),
            exit_status={"status": 0, "message": HOSTILE, "comment": HOSTILE},
            timeline=((HOSTILE, 1.0), ("ready", 2.0)),
        )
    )
    async with serving(store) as browser:
        names = f"instrument={ENCODED}&product_type={ENCODED}"
        await browser.respond(f"/run_analysis?{names}&query_type=Real&query_status=new&api=True")
        fields = ("q", "instrument", "product", "position", "radius", "from", "to", "age", "sort", "page")
        form = "&".join(f"{name}={ENCODED}" for name in fields)
        for path in ("/-/", f"/-/recordings/{'d' * 64}", f"/-/?{form}", f"/-/{ENCODED}", "/-/near-misses"):
            _, text = await browser.get(path)
            elements = Elements(text)
            scripts = [attributes.get("src") or "" for tag, attributes in elements.tags if tag == "script"]
            assert [script.rpartition("/")[2].partition("?")[0] for script in scripts] == ["pages.js"], path
            assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in elements.tags)
            assert "{{7*7}}" in text, path
            assert "\x1b" not in text
            assert "\x00" not in text


@pytest.mark.parametrize("page", ["/-/", "/-/near-misses"])
async def test_a_near_miss_leads_to_the_nearest_recording(browser: Browser, page: str) -> None:
    await browser.get(
        "/run_analysis?instrument=isgri&product_type=isgri_image&query_type=Real&query_status=new&api=True"
    )
    _, text = await browser.get(page)

    assert f'<a href="recordings/{PUBLIC[:12]}">' in text
    assert (await browser.get(f"/-/recordings/{PUBLIC[:12]}"))[0] == 200


async def test_a_store_that_fails_is_said_on_the_page(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(search: Search, *, offset: int, limit: int) -> Found:
        raise StoreUnusableError("/folder", "it cannot be read", "wait")

    monkeypatch.setattr(store, "search", fail)
    async with serving(store) as browser:
        status, text = await browser.get("/-/")

    assert status == 200
    assert "recordings cannot be listed" in text


async def test_an_empty_store_says_what_to_do() -> None:
    async with serving(MemoryStore()) as browser:
        _, text = await browser.get("/-/")

        assert f'DispatcherAPI(url="{browser.url}")' in text


def test_a_static_file_with_other_content_has_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rendering.static_path("pages.css")
    monkeypatch.setattr(rendering, "static_file", lambda _: b"body {}")
    rendering.static_path.cache_clear()

    assert rendering.static_path("pages.css") != before
    rendering.static_path.cache_clear()


@pytest.mark.parametrize("name", list(rendering.STATIC))
async def test_static_files_may_be_stored_by_browsers(browser: Browser, name: str) -> None:
    response = await browser.respond(f"/-/static/{name}")

    assert response.status == 200
    assert response.content_type == rendering.STATIC[name]
    assert "max-age" in response.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("path", "root"),
    [("/-/", ""), ("/-/jobs", ""), ("/-/recordings/ab", "../"), ("/prefix/-/recordings/ab/x", "../../")],
)
def test_the_way_to_the_overview_is_the_same_below_a_prefix(path: str, root: str) -> None:
    assert rendering.root_of(path) == root
