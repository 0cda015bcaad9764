"""Chromium without a window, driven by Playwright; screenshots are kept in `build/screenshots`."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import sync_playwright

from tests.support.paths import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

SCREENSHOTS: Final = CHECKOUT / "build" / "screenshots"
"""A folder that git ignores."""
WIDTHS: Final = {"wide": 1360, "narrow": 390}
"""Widths of windows in pixels: that of a desk, and that of a phone."""
SCHEMES: Final = ("light", "dark")

_CONTRASTS: Final = """
() => {
  const linear = value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = value => linear(value / 255);
  const parse = color => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const background = element => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || box.width < 2 || box.height < 2) continue;
    const [one, other] = [luminance(parse(getComputedStyle(element).color)), luminance(background(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) found.push(`${element.tagName} "${element.textContent.trim().slice(0, 40)}": ${ratio.toFixed(2)}`);
  }
  return found;
}
"""

_LOAD_PICTURES: Final = """
() => Promise.all([...document.images].map(image => { image.loading = "eager"; return image.decode().catch(() => 0); }))
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; skip the test where it is not installed, except in CI."""
    if (program := shutil.which("chromium")) is None:
        if os.environ.get("ODA_PROXY_REQUIRE_REAL"):
            pytest.fail("CI must test pages with Chromium")
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(
    browser: Browser, *, width: int = WIDTHS["wide"], scheme: str = "light", scripts: bool = True
) -> Iterator[Page]:
    """Open a window, and check at the end that no page had an error, or was refused anything by its policy."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        accept_downloads=True,
        ignore_https_errors=True,  # certificates of tests are of authorities that Chromium does not know
    )
    errors: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield page
    finally:
        context.close()
    assert errors == []


def keep_screenshot(page: Page, name: str) -> None:
    """Write a picture of a page with all its pictures, for people to look at."""
    page.evaluate(_LOAD_PICTURES)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{re.sub('[^a-z0-9-]+', '-', name)}.png", full_page=True)


def overflow(page: Page) -> int:
    """Return by how many pixels a page is wider than its window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def widest(page: Page) -> str:
    """Return the innermost element that is wider than its window, for the message of a test."""
    found: str = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(one => one.getBoundingClientRect().right > innerWidth)"
        ".slice(-1).map(one => one.outerHTML.slice(0, 200)).join()"
    )
    return found


def faint_texts(page: Page) -> list[str]:
    """Return the texts whose contrast is below 4.5 (WCAG 2.2, success criterion 1.4.3)."""
    found: list[str] = page.evaluate(_CONTRASTS)
    return found


def margin(page: Page) -> float:
    """Return the smallest distance, in pixels, of the content from the left edge of the window."""
    distance: float = page.evaluate(
        "Math.min(...[...document.querySelectorAll('main > *')].map(one => one.getBoundingClientRect())"
        ".filter(box => box.width > 1).map(box => box.left))"
    )
    return distance
