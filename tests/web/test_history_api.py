"""The versions of a recording over HTTP, and its TimeMap."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from oda_proxy.http.memento import MEDIA_TYPE, TimeLine
from oda_proxy.query.cache_key import Key
from tests.support.access_servers import ADMIN, READ, access_server, bearer
from tests.support.recordings import recording

if TYPE_CHECKING:
    from pathlib import Path

RFC_LINK = re.compile(r'<[^<>\s]+>;\s?rel="[a-z ]+"(?:;\s?[a-z]+="[^"]*")*')
"""A link of a TimeMap, as in the examples of RFC 7089, section 5."""


SECONDS = ("20000618215209", "20001231120211", "20080315180000")


async def test_versions_are_listed_and_removed(tmp_path: Path) -> None:
    async with access_server(tmp_path) as server:
        store, key = server.store, Key(server.public)
        stored_at = store.versions(key)[-1].stored_at
        for days in (1, 2):
            store.put(recording(key, b'"n":%d' % days, stored_at=stored_at + days * 86400))
        path = f"/-/api/recordings/{server.public}/versions"

        status, text = await server.send("GET", path, bearer(READ))
        assert status == 200
        versions = json.loads(text)["versions"]
        assert [one["valid_from"] for one in versions] == [stored_at + days * 86400 for days in (0, 1, 2)]
        assert [one["valid_until"] for one in versions] == [versions[1]["valid_from"], versions[2]["valid_from"], None]

        assert (await server.send("DELETE", f"{path}?at=yesterday", bearer(ADMIN)))[0] == 400
        assert (await server.send("DELETE", path, bearer(ADMIN)))[0] == 400
        assert (await server.send("DELETE", f"{path}?at=1969-01-01", bearer(ADMIN)))[0] == 400
        assert len(store.versions(key)) == 3
        status, text = await server.send("DELETE", f"{path}?at=all", bearer(ADMIN))
        assert json.loads(text) == {"removed": [one["valid_from"] for one in versions[:2]]}
        assert len(store.versions(key)) == 1


async def test_a_timemap_lists_the_original_itself_and_all_versions(tmp_path: Path) -> None:
    async with access_server(tmp_path) as server:
        status, text = await server.send("GET", f"/-/timemap/{server.public}", bearer(READ))

        assert status == 200
        assert f'rel="self";type="{MEDIA_TYPE}"' in text
        assert all(RFC_LINK.fullmatch(link.rstrip(",\n")) for link in text.splitlines())


def test_the_links_of_a_timemap_are_those_of_the_rfc() -> None:
    times = (961365129.0, 978264131.5, 1205604000.0)  # Sun, 18 Jun 2000 21:52:09 GMT, ...
    line = TimeLine("http://a.example", "/run_analysis?x=<1>", "http://a.example/-/timemap/abc", times)

    dates = ["Sun, 18 Jun 2000 21:52:09 GMT", "Sun, 31 Dec 2000 12:02:11 GMT", "Sat, 15 Mar 2008 18:00:00 GMT"]
    addresses = [f"<http://a.example/as-of/{time}/run_analysis?x=%3C1%3E>" for time in SECONDS]
    period = f'from="{dates[0]}";until="{dates[2]}"'
    assert line.document().splitlines() == [
        '<http://a.example/run_analysis?x=%3C1%3E>;rel="original timegate",',
        f'<http://a.example/-/timemap/abc>;rel="self";type="application/link-format";{period},',
        f'{addresses[0]}; rel="first memento"; datetime="{dates[0]}",',
        f'{addresses[1]}; rel="memento"; datetime="{dates[1]}",',
        f'{addresses[2]}; rel="last memento"; datetime="{dates[2]}"',
    ]
