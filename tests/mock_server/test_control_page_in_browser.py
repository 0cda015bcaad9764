"""The page of the mock in Chromium without scripts, on each screen."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

import oda_proxy
from tests.support.browser import SCHEMES, WIDTHS, chromium, faint_texts, keep_screenshot, overflow, widest, window

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pages-in-browser")]
QUERY = {"instrument": "empty-async", "product_type": "dummy", "query_type": "Real", "query_status": "new", "api": "1"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def analyse(url: str, **changes: str) -> dict[str, Any]:
    query = urlencode({**QUERY, "session_id": "S1", **changes})
    with urllib.request.urlopen(f"{url}/run_analysis?{query}") as response:  # noqa: S310 - an address on this machine
        body: dict[str, Any] = json.load(response)
    return body


def test_a_person_fails_a_job_and_the_client_sees_why(browser: Browser) -> None:
    with oda_proxy.mocking(dummy_instruments=True) as url, window(browser, scripts=False) as page:
        job_id = analyse(url)["job_monitor"]["job_id"]
        page.goto(f"{url}/-/")
        page.get_by_label("Message").fill("the node died")
        page.get_by_role("button", name="Fail").click()
        assert page.get_by_text("the node died").is_visible()
        answer = analyse(url, query_status="submitted", job_id=job_id)
        assert answer["exit_status"]["message"] == "the node died"
        page.get_by_role("button", name="Reset").click()
        assert page.get_by_text("No job so far").is_visible()


def test_it_fits_each_screen_and_can_be_read(browser: Browser) -> None:
    with oda_proxy.mocking(dummy_instruments=True, faults=[{"do": "status", "on": [9]}]) as url:
        analyse(url, src_name="a source with a long name " * 20)
        analyse(url, RA="1")
        for scheme in SCHEMES:
            for name, width in WIDTHS.items():
                with window(browser, width=width, scheme=scheme) as page:
                    page.goto(f"{url}/-/")
                    keep_screenshot(page, f"mock-{name}-{scheme}")
                    assert overflow(page) == 0, widest(page)
                    assert faint_texts(page) == []
