"""Changes of a recording by the administrator, each confirmed on a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp
import pytest

from oda_proxy.pages.changes import NOTICES
from tests.pages.test_routes import ADMIN, BROWSER, PRIVATE, PUBLIC, serving, store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.store.memory import MemoryStore

__all__ = ["store"]  # a fixture
BEARER = {"Authorization": f"Bearer {ADMIN}"}


async def post(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Send a form, and return the status and the address of the page that follows."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers={**BROWSER, **headers}, allow_redirects=False) as response,
    ):
        return response.status, response.headers.get("Location", "")


async def test_only_the_administrator_sees_buttons(store: MemoryStore) -> None:
    async with serving(store) as browser:
        assert f"{PUBLIC}/remove" not in (await browser.get(f"/-/recordings/{PUBLIC}"))[1]
        _, text = await browser.get(f"/-/recordings/{PUBLIC}", BEARER)

    assert f'href="{PUBLIC}/remove"' in text
    assert f'href="{PUBLIC}/pin"' in text


@pytest.mark.parametrize("change", ["remove", "pin", "unpin"])
async def test_a_page_asks_before_anything_changes(store: MemoryStore, change: str) -> None:
    async with serving(store) as browser:
        status, text = await browser.get(f"/-/recordings/{PUBLIC}/{change}", BEARER)

    assert status == 200
    assert f'<form method="post" action="{change}">' in text
    assert store.entry(PUBLIC) is not None


async def test_a_recording_is_removed_and_the_overview_says_so(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with serving(store) as browser:
        url = f"{browser.url}/-/recordings/{PUBLIC}/remove"
        status, target = await post(url, BEARER)
        _, text = await browser.get(urljoin(url, target).removeprefix(browser.url))

    assert status == 303
    assert store.entry(PUBLIC) is None
    assert NOTICES["removed"] in text
    assert PUBLIC[:12] in caplog.text


async def test_a_recording_is_pinned_and_its_page_says_so(store: MemoryStore) -> None:
    async with serving(store) as browser:
        url = f"{browser.url}/-/recordings/{PUBLIC}/pin"
        status, target = await post(url, BEARER)
        _, text = await browser.get(urljoin(url, target).removeprefix(browser.url), BEARER)
        assert (entry := store.entry(PUBLIC)) is not None
        assert (status, entry.pinned) == (303, True)
        assert NOTICES["pinned"] in text
        assert f'href="{PUBLIC}/unpin"' in text
        await post(url.replace("/pin", "/unpin"), BEARER)

    assert (entry := store.entry(PUBLIC)) is not None
    assert not entry.pinned


@pytest.mark.parametrize("change", ["remove", "pin", "unpin"])
async def test_others_change_nothing(store: MemoryStore, change: str) -> None:
    async with serving(store) as browser:
        for method_url in (f"{browser.url}/-/recordings/{key}/{change}" for key in (PUBLIC, PRIVATE)):
            assert (await post(method_url, {}))[0] == 401
            assert (await post(method_url, {"Authorization": "Bearer wrong"}))[0] == 401
            assert (await post(method_url, {**BEARER, "Origin": "https://elsewhere.example"}))[0] == 403
        assert (await browser.get(f"/-/recordings/{PUBLIC}/{change}"))[0] == 401

    for key in (PUBLIC, PRIVATE):
        assert (entry := store.entry(key)) is not None
        assert not entry.pinned


async def test_a_server_that_is_offline_says_that_nothing_is_computed_again(store: MemoryStore) -> None:
    async with serving(store) as browser:
        assert f'href="{PUBLIC}/refresh"' not in (await browser.get(f"/-/recordings/{PUBLIC}", BEARER))[1]
        url = f"{browser.url}/-/recordings/{PUBLIC}/refresh"
        async with aiohttp.ClientSession() as session, session.post(url, headers={**BROWSER, **BEARER}) as response:
            assert response.status == 409
            assert "this server is offline" in await response.text()


async def test_a_notice_is_one_of_ours(store: MemoryStore) -> None:
    async with serving(store) as browser:
        assert '<p class="notice"' not in (await browser.get("/-/?notice=hacked"))[1]
