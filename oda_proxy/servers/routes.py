"""The own routes of a proxy with its store, its pictures and its pages."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.servers.parts import Parts
    from oda_proxy.web.metrics_page import GetSnapshot
    from oda_proxy.web.own_routes import OwnRoute
    from oda_proxy.web.pages import Status


def own_routes(parts: Parts, status: Status, metrics: GetSnapshot | None = None) -> Sequence[OwnRoute]:
    """Return the own routes of a proxy, beside those of `web.app.make_app`.

    `status` and `metrics` return what is shown, of all workers where there are several.
    """
    from oda_proxy.drawing import routes as drawing_routes
    from oda_proxy.pages.routes import Pages
    from oda_proxy.web import collection_api, history_api, import_api, recording_api
    from oda_proxy.web.metrics_page import snapshot_of

    limits = parts.server.limits
    dispatcher = parts.upstream.url if parts.upstream else parts.options.upstream
    pages = Pages(
        parts.proxy,
        parts.near_misses,
        status,
        metrics or partial(snapshot_of, parts.proxy, parts.server, with_store=False),
        parts.product_files.summaries,
        dispatcher,
        max_size=limits.max_size if limits and parts.folder else None,
    )
    urls = (dispatcher, *parts.options.former_url)
    index = parts.proxy.collections.index
    return (
        *recording_api.routes(parts.proxy),
        *(collection_api.routes(parts.proxy, index, dispatcher, parts.folder) if index else ()),
        *history_api.routes(parts.proxy),
        *import_api.routes(parts.store, parts.proxy.instruments, urls),
        *drawing_routes.routes(parts.product_files),
        *pages.routes(),
    )
