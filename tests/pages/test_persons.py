"""A private recording is on the pages of its person and of the administrator, and on nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.access_servers import ADMIN, READ, access_server, bearer, person

if TYPE_CHECKING:
    from pathlib import Path

HTML = {"Accept": "text/html"}


async def test_each_person_finds_and_counts_their_own_recordings(tmp_path: Path) -> None:
    visitors = {READ: 1, person("a"): 2, person("b"): 1, ADMIN: 2}
    async with access_server(tmp_path) as server:
        for token, number in visitors.items():
            status, text = await server.send("GET", "/-/", bearer(token) | HTML)
            assert status == 200
            assert (server.private in text) == (number == 2)
            assert text.count('<a href="recordings/') == number
            words = f"/-/?q={server.private[:12]}"
            assert (server.private in (await server.send("GET", words, bearer(token)))[1]) == (number == 2)
            path = f"/-/recordings/{server.private}"
            assert (await server.send("GET", path, bearer(token)))[0] == (200 if number == 2 else 404)
        assert (await server.send("GET", "/-/", HTML))[0] == 401
