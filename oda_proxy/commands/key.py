"""The command `key`: the cache key of a request, and what differs between two."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from oda_proxy.commands.output import print_json, print_lines, warn
from oda_proxy.config.folders import cache_folder
from oda_proxy.config.options import PRODUCTION
from oda_proxy.errors import BadQueryError, UsageError
from oda_proxy.query.cache_key import key_of_normalised
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.explanation import differences, explain
from oda_proxy.query.normalised import normalise
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.upstream.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oda_proxy.query.normalised import NormalisedQuery
    from oda_proxy.query.query import Query
    from oda_proxy.query.schema import Schema


def key(
    requests: Sequence[str],
    *,
    explains: bool,
    differs: bool,
    upstream: str | None,
    cache_dir: Path | None,
    as_json: bool,
) -> int:
    """Print the cache keys of requests, each a URL or a query string.

    Descriptions of instruments are fetched from `upstream`, or, without it, those cached of production are used. Raises
    UsageError for a request that is no query, and if not exactly two are compared.
    """
    if differs and len(requests) != 2:  # noqa: PLR2004 - as the message says
        raise UsageError(f"--diff compares two requests, not {len(requests)}")
    normalised = [_normalise(request, upstream, cache_dir) for request in requests]
    queries = [query for query, _ in normalised]
    for warning in dict.fromkeys(warning for _, warning in normalised if warning):
        warn(warning)
    if as_json:
        keys = [
            {"key": key_of_normalised(one), "parameters": one.parameters, "left_out": sorted(one.defaulted)}
            for one in queries
        ]
        print_json({"questions": keys, "differences": differences(*queries)} if differs else {"questions": keys})
    elif differs:
        found = differences(*queries)
        print_lines(found or [f"both have the key {key_of_normalised(queries[0])}"])
    else:
        print_lines(explain(one) if explains else key_of_normalised(one) for one in queries)
    return 0


def _normalise(request: str, upstream: str | None, cache_dir: Path | None) -> tuple[NormalisedQuery, str]:
    """Normalise a request by the description of its instrument; the text is a warning if there is none."""
    _, mark, query_string = request.partition("?")
    try:
        query, _ = split_query(parse_fields(query_string if mark else request))
    except BadQueryError as error:
        raise UsageError(f"this is not a request for run_analysis: {error}") from error
    schema, warning = asyncio.run(_schema(query, upstream, cache_dir)), ""
    if schema is None:
        missing = f"there is no cached description of {query.instrument!r:.100}"
        warning = f"{missing}: values are compared as text; --upstream URL fetches the description"
    elif query.product_type not in schema.products:
        missing = f"the description of {query.instrument} has no product {query.product_type!r:.100}"
        warning = f"{missing}: values are compared as text"
    return normalise(query, schema), warning


async def _schema(query: Query, upstream: str | None, cache_dir: Path | None) -> Schema | None:
    """Return the description of a query's instrument, fetched from `upstream` or else cached."""
    folder = cache_folder(cache_dir, upstream or PRODUCTION)
    if upstream is None:
        found = await Descriptions(None, folder, ttl=math.inf, clock=time.monotonic).schemas(query.instrument)
    else:
        async with Dispatcher(upstream) as dispatcher:
            found = await Descriptions(dispatcher, folder, ttl=math.inf, clock=time.monotonic).schemas(query.instrument)
    return found[0] if found else None
