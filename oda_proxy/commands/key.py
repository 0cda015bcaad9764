"""What a request is to the proxy: its key, why it has it, and in what two requests differ."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from oda_proxy.commands.output import say, say_json, warn
from oda_proxy.config import PRODUCTION, cache_folder
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
    """Give the keys of requests, each an address or what follows the question mark in it.

    Instruments are described as `upstream` does, or, where none is named, as was kept of the production dispatcher.
    Raises UsageError for a request that is no query, and for a comparison of other than two.
    """
    if differs and len(requests) != 2:  # noqa: PLR2004 - as the message says
        raise UsageError(f"--diff compares two requests, here are {len(requests)}")
    read = [_question(request, upstream, cache_dir) for request in requests]
    resolver = [resolved for resolved, _ in read]
    for doubt in dict.fromkeys(doubt for _, doubt in read if doubt):
        warn(doubt)
    if as_json:
        told = [
            {"key": key_of_normalised(one), "parameters": one.parameters, "left_out": sorted(one.defaulted)}
            for one in resolver
        ]
        say_json({"questions": told, "differences": differences(*resolver)} if differs else {"questions": told})
    elif differs:
        found = differences(*resolver)
        say(found or [f"both ask the same: key {key_of_normalised(resolver[0])}"])
    else:
        say(explain(one) if explains else key_of_normalised(one) for one in resolver)
    return 0


def _question(request: str, upstream: str | None, cache_dir: Path | None) -> tuple[NormalisedQuery, str]:
    """Read a request under the description of its instrument, and say why words may be only words."""
    _, mark, query_string = request.partition("?")
    try:
        query, _ = split_query(parse_fields(query_string if mark else request))
    except BadQueryError as error:
        raise UsageError(f"this is no request for run_analysis: {error}") from error
    schema, doubt = asyncio.run(_schema(query, upstream, cache_dir)), ""
    if schema is None:
        named = f"no description of {query.instrument!r:.100} is known"
        doubt = f"{named}: words are taken as they are; --upstream URL names a dispatcher to ask for it"
    elif query.product_type not in schema.products:
        named = f"{query.instrument} has no product {query.product_type!r:.100}"
        doubt = f"the description of {named}: words are taken as they are"
    return normalise(query, schema), doubt


async def _schema(query: Query, upstream: str | None, cache_dir: Path | None) -> Schema | None:
    """Find the description of a query's instrument: asked for where an upstream is named, or kept."""
    folder = cache_folder(cache_dir, upstream or PRODUCTION)
    if upstream is None:
        known = await Descriptions(None, folder, ttl=math.inf, clock=time.monotonic).schemas(query.instrument)
    else:
        async with Dispatcher(upstream) as dispatcher:
            known = await Descriptions(dispatcher, folder, ttl=math.inf, clock=time.monotonic).schemas(query.instrument)
    return known[0] if known else None
