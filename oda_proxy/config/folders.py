"""The folders of recordings that options choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def cache_folder(chosen: Path | None, upstream: str) -> Path:
    """Return the folder for the recordings of one dispatcher.

    Each URL has its own: responses of a mock or a staging site are not those of production.
    """
    from urllib.parse import quote, urlsplit, urlunsplit  # not needed by the mock

    if chosen is None:
        import platformdirs  # imported only if no folder is chosen

        chosen = platformdirs.user_cache_path("oda-proxy", appauthor=False)
    parts = urlsplit(upstream)
    url = urlunsplit((parts.scheme, parts.netloc.casefold(), parts.path.rstrip("/"), "", ""))
    return chosen / quote(url, safe="")


def former_folders(chosen: Path | None, upstream: str, former_urls: Iterable[str]) -> list[Path]:
    """Return the folders for the recordings of the former addresses of a dispatcher.

    Raises UsageError for an address that is named twice, or is the present one.
    """
    folders = {cache_folder(chosen, upstream): upstream}
    for url in former_urls:
        folder = cache_folder(chosen, url)
        if folder in folders:
            is_same = folders[folder] == upstream
            raise UsageError(f"--former-url {url} {'is the --upstream itself' if is_same else 'is named twice'}")
        folders[folder] = url
    return list(folders)[1:]
