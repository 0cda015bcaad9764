"""Running jobs on their page, where the administrator stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.store.memory import MemoryStore
from tests.pages.test_changes import BEARER, post
from tests.pages.test_routes import serving
from tests.support.dispatcher_responses import answer
from tests.support.scripted import Client, token
from tests.support.scripted_upstream import Script

if TYPE_CHECKING:
    from oda_proxy.http.message import Request
    from tests.support.scripted_upstream import Reply


class Submitting(Script):
    """An upstream whose jobs never end."""

    async def send(self, ask: Request) -> Reply:
        self.then({**answer(query_status="submitted"), "products": {}})
        return await super().send(ask)


async def test_a_running_job_is_listed_and_stopped_after_a_question() -> None:
    async with serving(MemoryStore(), upstream=Submitting()) as browser:
        await Client(browser.proxy).ask()
        (running,) = browser.proxy.jobs
        path = f"/-/jobs/{running.resolved.key}/stop"
        for page in ("/-/", "/-/jobs"):
            _, text = await browser.get(page)
            assert "isgri_image" in text
            assert "/stop" not in text
            assert f'href="{path.removeprefix("/-/")}"' in (await browser.get(page, BEARER))[1]
        status, text = await browser.get(path, BEARER)
        assert (status, "Stop this job?" in text) == (200, True)
        assert list(browser.proxy.jobs) == [running]

        assert (await post(browser.url + path, {}))[0] == 401
        assert list(browser.proxy.jobs) == [running]
        assert await post(browser.url + path, BEARER) == (303, "../../jobs")
        assert list(browser.proxy.jobs) == []
        status, text = await browser.get(path, BEARER)
        assert (status, "it has ended" in text) == (404, True)


async def test_of_a_job_with_a_token_only_the_state_is_shown() -> None:
    async with serving(MemoryStore(), upstream=Submitting()) as browser:
        await Client(browser.proxy, token=token(expires=1e10)).ask()
        (running,) = browser.proxy.jobs
        for page in ("/-/", "/-/jobs"):
            _, text = await browser.get(page)
            assert "private query" in text
            assert "isgri_image</span>" not in text.partition("</table>")[0]
            assert running.resolved.key[:12] not in text
        _, text = await browser.get(f"/-/jobs/{running.resolved.key}/stop", BEARER)
        assert "a private query" in text
        assert "isgri" not in text
