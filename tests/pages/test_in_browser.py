"""The pages in Chromium: found, opened, read and changed as a person does it, on each screen."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from oda_proxy.config.folders import cache_folder
from oda_proxy.query.query import Query
from oda_proxy.store.disk import DiskStore
from tests.support.browser import (
    SCHEMES,
    WIDTHS,
    chromium,
    faint_texts,
    keep_screenshot,
    margin,
    overflow,
    widest,
    window,
)
from tests.support.front_end import front_end
from tests.support.paths import CHECKOUT
from tests.support.real_clients import environment
from tests.support.recordings import KEYS, recording
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pages-in-browser")]
UPSTREAM = "http://dispatcher.example"
TOKEN = "the administration token"  # noqa: S105 - of a test
FIXTURES = ("isgri/isgri_image/4u1700-377", "isgri/isgri_lc", "isgri/isgri_spectrum", "spi_acs", "polar")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a proxy with recordings of the fixtures."""
    folder = tmp_path_factory.mktemp("pages")
    (token := folder / "token").write_text(TOKEN)
    token.chmod(0o600)
    arguments = ["serve", "--mock", "--time-scale", "0", "--port", "0", "--admin-token-file", str(token)]
    arguments += ["--trusted-proxy", "127.0.0.1"]
    with running(folder / "log", *arguments) as server:
        for name in FIXTURES:
            for query in sorted((CHECKOUT / "fixtures" / name).rglob("query.json")):
                record(server.url, query.read_text())
        yield server.url


def record(url: str, query: str) -> None:
    """Send the query of a fixture until it is done."""
    members = json.loads(query)
    fields = {"query_type": "Real", **members["parameters"]}
    fields |= {"instrument": members["instrument"], "product_type": members["product_type"]}
    client = {"session_id": "ASESSIONOFATEST0", "api": "True", "oda_api_version": "1.3.5", "off_line": "False"}
    status, job_id = "new", ""
    for _ in range(100):
        form = {**fields, **client, "query_status": status, **({"job_id": job_id} if job_id else {})}
        body = urlencode(form, doseq=True).encode()
        with urllib.request.urlopen(f"{url}/run_analysis", body) as response:  # noqa: S310 - our own server
            answer = json.load(response)
        status, job_id = answer["query_status"], answer["job_monitor"]["job_id"]
        if status in {"done", "failed"}:
            break
    assert status == "done", answer["exit_status"]


def test_a_recording_is_found_and_opened(browser: Browser, url: str) -> None:
    with window(browser) as page:
        page.goto(f"{url}/-/")
        page.get_by_role("searchbox", name="Search").fill("isgri image")
        page.get_by_role("button", name="Find").click()
        rows = page.locator("table.recordings tbody tr")
        assert rows.count() == 1
        page.get_by_text("Filter by instrument").click()
        page.get_by_label("Position").fill("255.99 -37.84")
        page.get_by_label("Within").fill("5'")
        page.get_by_label("Position").press("Enter")
        assert page.get_by_label("Position").input_value() == "255.99 -37.84"
        rows.first.get_by_role("link").click()

        assert page.get_by_role("heading", level=1).inner_text().startswith("isgri_image")
        assert page.locator(".parameters").first.get_by_text("255.986542").count() == 1
        assert page.get_by_role("row", name="RA 255.986542 deg").count() == 1


def open_recording(page: Page, url: str, words: str) -> None:
    page.goto(f"{url}/-/?q={words}")
    page.locator("table.recordings tbody a").first.click()
    page.wait_for_url("**/recordings/*")


def test_pictures_of_products_are_seen_and_files_are_downloaded(browser: Browser, url: str, tmp_path: Path) -> None:
    with window(browser) as page:
        open_recording(page, url, "isgri_image")
        picture = page.locator("figure img").first
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete", arg=picture.element_handle(), timeout=60_000)
        assert picture.evaluate("image => image.naturalWidth") > 300
        assert page.get_by_role("columnheader", name="ra (deg)").count() == 1, "the catalogue is a table"
        for name, magic in (("FITS", b"SIMPLE  ="), ("PNG", b"\x89PNG"), ("All products (ZIP)", b"PK")):
            with page.expect_download(timeout=60_000) as download:
                page.get_by_role("link", name=name, exact=True).first.click()
            download.value.save_as(tmp_path / "file")
            assert (tmp_path / "file").read_bytes().startswith(magic), name
        page.locator(".units a").first.click()
        assert page.inner_text("body").startswith("SIMPLE  =")


@pytest.mark.parametrize("client", ["oda_api-1.0", "oda_api-1.3.5"])
def test_the_lines_of_python_run_and_are_a_hit(browser: Browser, url: str, tmp_path: Path, client: str) -> None:
    python = environment(client)
    with window(browser) as page:
        open_recording(page, url, "isgri_lc")
        lines = page.locator("#lines").inner_text()
    before = outcomes(url)
    (tmp_path / "program.py").write_text(lines)
    done = subprocess.run(
        [str(python), "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert "isgri_lc" in done.stdout
    after = outcomes(url)
    assert (after["hits"] - before["hits"], after["asked"] - before["asked"]) == (1, 0)


def outcomes(url: str) -> dict[str, int]:
    """Return what became of queries since the start."""
    with urllib.request.urlopen(f"{url}/-/status") as response:  # noqa: S310 - our own server
        found: dict[str, int] = json.load(response)["run_analysis"]
    return found


def test_everything_works_with_the_keyboard_and_without_scripts(browser: Browser, url: str) -> None:
    with window(browser, scripts=False) as page:
        page.goto(f"{url}/-/")
        page.keyboard.press("Tab")
        assert page.locator(":focus").inner_text() == "Skip to the content"
        page.get_by_role("searchbox", name="Search").focus()
        page.keyboard.type("polar")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=polar*")
        page.locator("table.recordings tbody a").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/recordings/*")
        assert "polar_lc" in page.get_by_role("heading", level=1).inner_text()


@pytest.mark.parametrize("path", ["", "jobs"])
def test_a_job_that_begins_and_ends_meanwhile_is_shown(browser: Browser, url: str, path: str) -> None:
    """The list of jobs is updated from the page of jobs, which the test answers."""
    answers = ["<table class=jobs><tr><td>a new job</td></tr></table>", "nothing runs"]
    with window(browser) as page:
        page.clock.install()
        page.goto(f"{url}/-/{path}")
        page.route("**/-/jobs", lambda route: route.fulfill(body=answers.pop(0), content_type="text/html"))
        job = page.get_by_text("a new job")
        assert job.count() == 0
        page.clock.fast_forward(5000)
        job.wait_for()
        page.clock.fast_forward(5000)
        job.wait_for(state="detached")
        assert page.get_by_text("No job runs").count() == (path == "jobs")


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'" + "W" * 300 + "\N{RIGHT-TO-LEFT OVERRIDE}"


@pytest.fixture(scope="module")
def hostile_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a proxy with a recording whose texts are all hostile, and very long."""
    folder = tmp_path_factory.mktemp("hostile")
    names = ("src_name", "RA", "T1", HOSTILE, f"{HOSTILE * 40} long")
    query = Query(HOSTILE, HOSTILE, HOSTILE, tuple((name, (HOSTILE,)) for name in sorted(names)), api=True)
    status = {"status": 0, "message": HOSTILE, "comment": HOSTILE}
    texts = json.dumps({"text_product_list": [{"name": HOSTILE, "value": HOSTILE, "meta_data": {}}]})[1:-1].encode()
    with closing(DiskStore(cache_folder(folder, UPSTREAM))) as store:
        store.put(recording(KEYS[0], texts, query=query, exit_status=status, timeline=((HOSTILE, 1.0), ("ready", 2.0))))
    arguments = ("serve", "--offline", "--upstream", UPSTREAM, "--cache-dir", str(folder), "--port", "0")
    with running(folder / "log", *arguments) as server:
        yield server.url


@pytest.mark.parametrize("size", WIDTHS)
def test_hostile_texts_run_nothing_and_break_no_page(browser: Browser, hostile_url: str, size: str) -> None:
    with window(browser, width=WIDTHS[size]) as page:
        page.on("dialog", lambda _: pytest.fail("a text of a recording ran a program"))
        for path in (
            "",
            f"recordings/{KEYS[0]}",
            "?" + urlencode(dict.fromkeys(("q", "position", "from", "instrument"), HOSTILE)),
        ):
            page.goto(f"{hostile_url}/-/{path}")
            keep_screenshot(page, f"hostile-{path.partition('/')[0].partition('?')[0] or 'overview'}-{size}")
            assert page.locator("[onerror]").count() == 0
            assert overflow(page) == 0, (path, widest(page))


def test_columns_sort_the_list(browser: Browser, url: str) -> None:
    with window(browser) as page:
        page.goto(f"{url}/-/")
        page.get_by_role("columnheader", name="Size").get_by_role("link").click()
        assert page.get_by_role("columnheader", name="Size").get_attribute("aria-sort") == "descending"
        first = page.locator("table.recordings tbody tr").first.inner_text()
        page.get_by_role("columnheader", name="Size").get_by_role("link").click()
        assert page.get_by_role("columnheader", name="Size").get_attribute("aria-sort") == "ascending"
        assert page.locator("table.recordings tbody tr").first.inner_text() != first


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", WIDTHS)
def test_pages_fit_every_screen_and_can_be_read(browser: Browser, url: str, size: str, scheme: str) -> None:
    with window(browser, width=WIDTHS[size], scheme=scheme) as page:
        page.goto(f"{url}/-/?q=image")
        recording = page.locator("table.recordings tbody a").first.get_attribute("href")
        paths = ("", "?position=Crab&from=soon", recording or "", "jobs", "near-misses", "status", "sign-in")
        for path in paths:
            page.goto(f"{url}/-/{path}")
            name = "recording" if path.startswith("recordings/") else path.partition("?")[0] or "overview"
            keep_screenshot(page, f"{name}{'-errors' if '?' in path else ''}-{size}-{scheme}")
            assert overflow(page) == 0, path
            assert margin(page) >= 12, path
            assert faint_texts(page) == [], path
        background: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 3 * 128) == (scheme == "dark")


def test_behind_nginx_with_tls_and_a_prefix_every_way_leads_on(browser: Browser, url: str, tmp_path: Path) -> None:
    """The page of a recording, its picture, signing in, a change and its notice, and signing out."""
    with front_end(tmp_path / "nginx", url) as nginx, window(browser) as page:
        open_recording(page, nginx.url, "isgri_image")
        picture = page.locator("figure img").first
        page.wait_for_function("image => image.complete", arg=picture.element_handle(), timeout=60_000)
        assert picture.evaluate("image => image.naturalWidth") > 300
        assert f"url = '{nginx.url}'" in page.locator("#lines").inner_text()
        recording = page.url
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        assert page.url == recording
        for change in ("Pin", "Unpin"):
            page.get_by_role("link", name=f"{change}…", exact=True).click()
            page.get_by_role("button", name=change, exact=True).click()
            assert page.url.startswith(f"{recording}?notice={change.casefold()}")
        page.get_by_role("link", name="Recordings").click()
        assert page.url == f"{nginx.url}/-/"
        page.get_by_role("button", name="Sign out").click()
        assert page.url == f"{nginx.url}/-/"


def test_the_administrator_signs_in_and_removes_a_recording(browser: Browser, url: str) -> None:
    with window(browser) as page:
        page.goto(f"{url}/-/")
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.goto(f"{url}/-/?q=spi_acs")
        page.locator("table.recordings tbody a").first.click()
        page.get_by_role("link", name="Compute again…").click()
        page.get_by_role("button", name="Compute again").click()
        assert "computed again" in page.get_by_role("status").first.inner_text()
        page.get_by_role("link", name="Pin…").click()
        page.get_by_role("button", name="Pin").click()
        assert "is pinned" in page.get_by_role("status").first.inner_text()
        page.get_by_role("link", name="Remove…").click()
        keep_screenshot(page, "confirm-wide-light")
        page.get_by_role("button", name="Remove").click()
        assert "was removed" in page.get_by_role("status").first.inner_text()
        page.goto(f"{url}/-/?q=spi_acs")
        assert page.locator("table.recordings tbody tr").count() == 0
        page.get_by_role("button", name="Sign out").click()
        assert page.get_by_role("link", name="Sign in").count() == 1
