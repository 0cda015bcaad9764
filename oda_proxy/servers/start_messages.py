"""What a server says when it starts: its address, its dispatchers, and what could be wrong with its options."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote

from oda_proxy._version import __version__
from oda_proxy.errors import StoreUnusableError
from oda_proxy.web.event_loop import loop_name
from oda_proxy.web.exposure import exposure_warning
from oda_proxy.web.log_thread import log_event

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.config.settings import ServeOptions
    from oda_proxy.servers.parts import Parts
    from oda_proxy.store.base import Store

_log = logging.getLogger(__name__)

TO_PASTE = """\
paste into Python, where oda_api is installed (version 1.0 wants host= instead of url=):

from oda_api.api import DispatcherAPI
disp = DispatcherAPI(url="{url}")
data = disp.get_product(instrument="isgri", product="isgri_image", product_type="Real", osa_version="OSA10.2", \
T1="2003-03-15T23:27:40.0", T2="2003-03-16T00:03:15.0", E1_keV=20.0, E2_keV=40.0, RA=255.986542, DEC=-37.844167, \
detection_threshold=5.0, radius=15.0)

then ask again, and see data.show() come at once; a browser shows what is stored at {url}/-/. Ctrl-C ends it."""


def hosts_of(options: ServeOptions, sockets: Sequence[socket.socket]) -> list[str]:
    """Return the addresses on which the server listens."""
    return [one.getsockname()[0] for one in sockets] or [options.host]


def log_start(options: ServeOptions, every_part: Sequence[Parts], hosts: Sequence[str]) -> None:
    """Log which dispatchers the server asks, where their recordings are, and which event loop it has."""
    log_event(_log, "start", f"event loop: {loop_name()}", version=__version__, workers=options.workers)
    if warning := exposure_warning(hosts, has_tls=options.tls_cert is not None, public_url=options.public_url):
        _log.warning("%s", warning)
    if options.public_url:
        _log.info("clients use %s", options.public_url)
    for parts in every_part:
        one = parts.options
        what = f"{one.name}, at {one.prefix or '/'}: " if one.name else ""
        place = one.store or parts.folder or "memory"
        if one.offline:
            _log.info("%soffline: %d recordings in %s", what, parts.store.usage().recordings, place)
            if others := [] if one.name else _other_dispatchers(parts.folder):
                _log.info("there are recordings of other dispatchers, named with --upstream: %s", ", ".join(others))
        elif not one.mock:
            _log.info("%sdispatcher %s; recordings in %s", what, one.upstream, place)
        _check_sharing(parts.store, parts.folder, one.sharing)


def _check_sharing(store: Store, folder: Path | None, sharing: str) -> None:
    """Log how many private recordings cannot be found because they were stored with another `--sharing`."""
    from oda_proxy.store import sharing_history

    if folder is None:
        return
    try:
        lost = sharing_history.unreachable(store, folder, sharing, now=time.time())
    except StoreUnusableError as error:
        _log.warning("cannot tell which private recordings were stored with another --sharing: %s", error)
        return
    for other, entries in lost.items():
        _log.warning(
            "private recordings stored with --sharing %s: %d, which are not found with --sharing %s; start with "
            "--sharing %s to use them, or let them be evicted",
            other,
            len(entries),
            sharing,
            other,
        )


def _other_dispatchers(folder: Path | None) -> list[str]:
    """Return the addresses of other dispatchers with recordings in the same place."""
    if folder is None or not folder.parent.is_dir():
        return []
    return sorted(
        unquote(other.name)
        for other in folder.parent.iterdir()
        if other != folder and any((other / "heads").glob("*/*"))
    )


def print_line(text: str) -> None:
    """Print a line on standard output at once: a program that started the server waits for it."""
    print(text, flush=True)  # noqa: T201 - what the command was asked for
