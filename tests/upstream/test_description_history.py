"""Descriptions as they were at a past time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.handlers.services import Services
from oda_proxy.http.message import Request
from oda_proxy.jobs.runtime import Runtime
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from oda_proxy.upstream.description_cache import DescriptionCache
from tests.support.scripted_upstream import ORIGIN, Clock, Script, at_once, body_of

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400.0
FIRST = 1767225600.0  # 2026-01-01
LIST, META = "/api/instr-list", "/api/meta-data"


class Server:
    """A proxy that is started anew at any time, and its dispatcher."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.clock = Clock()
        self.upstream = Script()
        self.start()

    def start(self) -> None:
        cache = DescriptionCache(60.0, self.clock, self.folder)
        runtime = Runtime(clock=self.clock, sleep=at_once)
        self.proxy = Proxy(
            MemoryStore(), self.upstream, Policy(), services=Services(description_cache=cache), runtime=runtime
        )

    async def get(self, path: str, query: str = "", prefix: str = "") -> tuple[str, str, str]:
        """Return the body, the cache status and the date of the memento."""
        result = await self.proxy.answer(Request("GET", f"{prefix}{path}", query), origin=ORIGIN)
        dates = [value for name, value in result.headers if name == "Memento-Datetime"]
        return (await body_of(result)).decode(), str(result.cache_status), "".join(dates)

    async def refresh(self, day: int, text: str, path: str = LIST, query: str = "") -> None:
        self.clock.now = FIRST + day * DAY
        self.upstream.then([text])
        await self.get(path, query)


@pytest.fixture(params=["memory", "files"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """Return a server on day 90: the list was `one` since day 0, `two` since day 30, `three` since day 60."""
    server = Server(tmp_path if request.param == "files" else None)
    for day, text in ((0, "one"), (10, "one"), (30, "two"), (40, "two"), (60, "three")):
        await server.refresh(day, text)
    server.clock.now = FIRST + 90 * DAY
    server.upstream.asked.clear()
    if request.param == "files":
        server.start()
    return server


@pytest.mark.parametrize(
    ("date", "text", "memento"),
    [
        ("2026-01-01", "one", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("2026-01-30", "one", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("2026-01-31", "two", "Sat, 31 Jan 2026 00:00:00 GMT"),
        ("2026-03-01", "two", "Sat, 31 Jan 2026 00:00:00 GMT"),
        ("2026-03-02", "three", "Mon, 02 Mar 2026 00:00:00 GMT"),
    ],
)
async def test_an_address_has_the_descriptions_of_its_date(server: Server, date: str, text: str, memento: str) -> None:
    for prefix in (f"/as-of/{date}", f"/as-of/{date}/only"):
        body, status, found = await server.get(LIST, prefix=prefix)

        assert json.loads(body) == [text]
        assert (status, found) == ("oda-proxy; hit; detail=as-of", memento)
    assert not server.upstream.asked


async def test_descriptions_are_mementos(server: Server) -> None:
    """The headers of RFC 7089, section 4.1.2: a description is its own TimeGate, and its versions have addresses."""
    sent = (("Accept-Datetime", "Fri, 20 Feb 2026 00:00:00 GMT"),)
    result = await server.proxy.answer(Request("GET", f"/p{LIST}", "", sent), origin=ORIGIN)
    found = dict(result.headers)

    assert found["Vary"] == "accept-datetime"
    assert found["Memento-Datetime"] == "Sat, 31 Jan 2026 00:00:00 GMT"
    assert found["Content-Location"] == f"{ORIGIN}/p/as-of/20260131000000{LIST}"
    assert found["Link"].split(", <") == [
        f'<{ORIGIN}/p{LIST}>; rel="original timegate"',
        f'{ORIGIN}/p/as-of/20260101000000{LIST}>; rel="first prev memento"; datetime="Thu, 01 Jan 2026 00:00:00 GMT"',
        f'{ORIGIN}/p/as-of/20260131000000{LIST}>; rel="memento"; datetime="Sat, 31 Jan 2026 00:00:00 GMT"',
        f'{ORIGIN}/p/as-of/20260302000000{LIST}>; rel="next last memento"; datetime="Mon, 02 Mar 2026 00:00:00 GMT"',
    ]
    result = await server.proxy.answer(Request("GET", f"/p/as-of/20260131000000{LIST}"), origin=ORIGIN)
    assert {name: value for name, value in result.headers if name in {"Link", "Memento-Datetime"}} == {
        name: found[name] for name in ("Link", "Memento-Datetime")
    }
    assert not {"Vary", "Content-Location"} & dict(result.headers).keys()
    today = await server.proxy.answer(Request("GET", f"/as-of/2025-12-31/only{LIST}"), origin=ORIGIN)
    assert today.status == 404
    for text in ("yesterday", "2026-02-20"):
        refused = await server.proxy.answer(Request("GET", LIST, "", (("Accept-Datetime", text),)), origin=ORIGIN)
        assert refused.status == 400
        assert (await body_of(refused)).startswith(b"Accept-Datetime: '")
    assert not server.upstream.asked


async def test_no_description_is_lost_where_the_clock_was_set_back(server: Server) -> None:
    await server.refresh(50, "four")  # ten days before `three`
    await server.refresh(95, "five")
    server.clock.now = FIRST + 100 * DAY

    for date, text in (("2026-03-01", "two"), ("2026-03-02T00-00-00", "four"), ("2026-04-06", "five")):
        assert json.loads((await server.get(LIST, prefix=f"/as-of/{date}/only"))[0]) == [text]
    result = await server.proxy.answer(Request("GET", f"/as-of/2026-04-06/only{LIST}"), origin=ORIGIN)
    mementos = re.findall(r'<([^>]*)>; rel="(?:first |prev |last )*memento"', dict(result.headers)["Link"])
    earlier = await server.get(LIST, prefix="/as-of/20260302000000000000/only")
    assert json.loads(earlier[0]) == ["three"]
    assert mementos[-1].endswith(f"/as-of/20260406000000{LIST}")


async def test_a_token_does_not_prevent_it(server: Server) -> None:
    assert json.loads((await server.get(LIST, "token=abc", "/as-of/2026-01-20/only"))[0]) == ["one"]


async def test_what_was_not_described_by_then_is_requested_now_and_says_so(server: Server) -> None:
    server.upstream.then(["four"])
    body, status, memento = await server.get(LIST, prefix="/as-of/2025-12-31")
    assert (json.loads(body), memento) == (["four"], "")
    assert status.endswith("detail=not-recorded-then")

    body, _, _ = await server.get(META, "instrument=isgri", "/as-of/2026-01-20/only")
    assert body == "as of 2026-01-20: no description is recorded (/api/meta-data, instrument=isgri)\n"


async def test_a_damaged_file_is_logged_and_counts_as_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(tmp_path)
    await server.refresh(0, "one")
    await server.refresh(30, "two")
    (file,) = (tmp_path / "descriptions").glob("*.history.json")
    file.write_text("{")
    server.clock.now += DAY

    assert "no description is recorded" in (await server.get(LIST, prefix="/as-of/2026-01-02/only"))[0]
    assert "cannot read the earlier descriptions" in caplog.text
