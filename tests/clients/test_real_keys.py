"""Requests have the same cache key exactly where the real dispatcher takes them for the same query."""

from __future__ import annotations

import json
import os
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode

import pytest

from oda_proxy.query.cache_key import key_of
from oda_proxy.query.echo import contradictions
from oda_proxy.query.explanation import differences
from oda_proxy.query.normalised import normalise
from oda_proxy.query.query import ENVELOPE, parse_fields, split_query
from oda_proxy.query.schema import Schema, read_schema
from tests.support.query_variations import COMMON_ARGUMENTS, QUERIES, Variation, vary
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oda_proxy.query.cache_key import Key
    from oda_proxy.query.query import Query

pytestmark = pytest.mark.real

VARIATIONS = int(os.environ.get("ODA_PROXY_VARIATIONS", "1000"))
AT_ONCE = 8
"""Concurrent requests: as many as the dispatcher has threads."""


def echo_of(url: str, variation: Variation) -> dict[str, Any] | None:
    """Send a request to the dispatcher; return the parameters that it echoes, or None if it refuses."""
    request = urllib.request.Request(f"{url}/run_analysis?{variation.query_string}", variation.form)  # noqa: S310 - an address on this machine
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            echo: dict[str, Any] | None = json.load(response)["products"].get("analysis_parameters")
    except HTTPError as error:
        error.close()
        return None
    return echo


def without_client(echo: dict[str, Any]) -> str:
    """Return the parameters used for the analysis, without the envelope and what clients up to 1.1.0 always send."""
    used = {name: value for name, value in echo.items() if name not in ENVELOPE}
    used["api"] = "api" in echo  # its presence counts
    used.pop("verbose", None)  # it changes only what the dispatcher logs
    if used.get("dry_run") == "False":
        del used["dry_run"]
    return json.dumps(used, sort_keys=True)


@pytest.fixture(scope="module")
def schema(dispatcher_url: str) -> Schema:
    with urllib.request.urlopen(f"{dispatcher_url}/api/meta-data?instrument=empty") as response:  # noqa: S310 - as above
        return read_schema(response.read())


def read(variation: Variation) -> Query:
    return split_query(parse_fields(variation.query_string, variation.form or b""))[0]


def all_variations() -> Iterator[tuple[int, Variation]]:
    """Yield variations of each query in turn, without end; the same ones in each run."""
    chance = Random(20030315)  # noqa: S311 - no secret
    while True:
        for number, query in enumerate(QUERIES):
            yield number, vary(query, chance)


def test_requests_have_one_key_if_the_dispatcher_takes_them_for_one_query_and_two_if_for_two(
    dispatcher_url: str, schema: Schema, capsys: pytest.CaptureFixture[str]
) -> None:
    variations = list(islice(all_variations(), VARIATIONS))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        echoes = list(pool.map(lambda numbered: echo_of(dispatcher_url, numbered[1]), variations))
    answered = [
        (number, variation, echo, without_client(echo), key_of(read(variation), schema))
        for (number, variation), echo in zip(variations, echoes, strict=True)
        if echo is not None
    ]

    # Of the keys of one echo, the most common is the key; a request with another one would miss the recording.
    by_echo: dict[str, Counter[Key]] = {}
    for _, _, _, used, key in answered:
        by_echo.setdefault(used, Counter())[key] += 1
    usual = {used: keys.most_common(1)[0][0] for used, keys in by_echo.items()}
    missed = [one for one in answered if one[4] != usual[one[3]]]
    wrong = {key: len(used) for key, used in _echoes_by_key(answered).items() if len(used) > 1}
    contradicted = [(one[1], names) for one in answered if (names := contradictions(read(one[1]), schema, one[2]))]
    with capsys.disabled():
        print(f"\n{len(answered)} of {VARIATIONS} answered, {len(by_echo)} queries, {len(missed)} missed:")  # noqa: T201 - the list is the result
        for number, variation, _, used, key in missed:
            same = next(one for one in answered if one[3] == used and one[4] != key and one[4] == usual[used])
            reasons = differences(normalise(read(variation), schema), normalise(read(same[1]), schema))
            print(f"  query {number}: {'; '.join(variation.changes)}: {'; '.join(reasons)}")  # noqa: T201 - as above

    assert wrong == {}
    assert len(answered) >= 0.9 * VARIATIONS
    assert len(missed) <= 0.01 * len(answered)
    assert contradicted == []


def _echoes_by_key(answered: list[tuple[int, Variation, dict[str, Any], str, Key]]) -> dict[Key, set[str]]:
    found: dict[Key, set[str]] = {}
    for _, _, _, used, key in answered:
        found.setdefault(key, set()).add(used)
    return found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "product_type=echo&ang_deg=1",
            "product_type=echo",
        ),  # what was sent is converted to seconds of arc, a default not
        ("product_type=echo&ang=1", "product_type=echo"),
        ("product_type=echo&energ=1&energ_units=keV", "product_type=echo&energ=1"),
        ("product_type=dummy&RA=", "product_type=dummy"),
        ("product_type=dummy&RA=1&RA=2", "product_type=dummy&RA=1"),
        ("product_type=dummy&RA=05h34m32s", "product_type=dummy&RA=83.63333333333333"),
        ("product_type=dummy&RA=05h34m32s", "product_type=dummy&RA=83.63333333333331"),
        ("product_type=dummy&T_format=mjd", "product_type=dummy"),
        ("product_type=dummy&T1=1971-12-31T01:00:00", "product_type=dummy&T1=1971-12-31T01:00:00.0000"),
        ("product_type=dummy&T1=2003-03-15T23:27:40.0005", "product_type=dummy&T1=2003-03-15T23:27:40.001"),
        ("product_type=dummy&T1=2003-03-15", "product_type=dummy&T1=2003-03-15T00:00:00"),
        ("product_type=dummy&T1=1e9&T_format=gps", "product_type=dummy&T1=1e9&T_format=unix"),
        ("product_type=dummy&T1=2003.5&T_format=jyear", "product_type=dummy&T1=2003.5&T_format=decimalyear"),
        ("product_type=dummy&scw_list=a", "product_type=dummy&scw_list=a,"),
        ("product_type=dummy&scw_list=a,b&scw_list=c", "product_type=dummy&scw_list=a,b,c"),
        ("product_type=dummy&scw_list=", "product_type=dummy"),
        ("product_type=dummy&p_list=a&p_list=b", "product_type=dummy&p_list=a"),
        ("product_type=dummy&p_list=", "product_type=dummy"),
        ('product_type=dummy&p_list=["a","b"]', "product_type=dummy&p_list=a,b"),
        ("product_type=dummy&p_list='a','b'", "product_type=dummy&p_list=a,b"),
        ("product_type=dummy&sb=1.0", "product_type=dummy&sb=1"),  # of another product: taken as it is
        ("product_type=dummy&x=[1, 2]", "product_type=dummy&x=[1,2]"),
        ("product_type=dummy&x=%00", "product_type=dummy"),
        ("product_type=dummy&verbose=True", "product_type=dummy"),
        ("product_type=dummy&use_scws=no", "product_type=dummy"),
        ("product_type=parametrical&sb=", "product_type=parametrical&sb=nan"),
        ("product_type=parametrical&sb=1_0", "product_type=parametrical&sb=10"),
        ("product_type=parametrical&sb=-0", "product_type=parametrical&sb=0"),
    ],
)
def test_one_key_means_one_query_to_the_dispatcher(dispatcher_url: str, schema: Schema, one: str, other: str) -> None:
    variations = [
        Variation(quote(f"{words}&{urlencode(COMMON_ARGUMENTS)}&api=True", safe="=&%+"), None, ())
        for words in (one, other)
    ]
    echoes = [echo_of(dispatcher_url, variation) for variation in variations]
    keys = [key_of(read(variation), schema) for variation in variations]

    assert any(echoes)
    used = [echo and without_client(echo) for echo in echoes]
    assert keys[0] != keys[1] or used[0] == used[1] or None in used


def test_the_dispatchers_own_description_is_read(schema: Schema) -> None:
    kinds = {name: parameter.kind.name for name, parameter in schema.products["echo"].items()}

    assert not schema.reads_json
    assert kinds | {"src_name": "TEXT", "RA": "ANGLE", "T1": "TIME", "p_list": "LIST", "energ": "NUMBER"} == kinds


def test_a_recording_is_found_in_other_notation_also_without_the_dispatcher(
    dispatcher_url: str, tmp_path: Path
) -> None:
    words = "instrument=empty&product_type=parametrical&query_type=Dummy&query_status=new&api=True"
    first = f"{words}&RA=83.63333333333331&T1=2003-03-15T23:27:40&T2=2003-03-16T00:03:15&sb=25"
    again = f"{words}&RA=05h34m32s&T1=52713.97754629630&T2=52714.00225694444&T_format=mjd&sb=2.5e1&DEC=-29.74516667"
    another = again.replace("sb=2.5e1", "sb=52")
    folder = ["--cache-dir", str(tmp_path / "cache"), "--port", "0", "--upstream", dispatcher_url]

    with running(tmp_path / "log", "serve", *folder) as proxy:
        online = [cache_status(proxy.url, query) for query in (first, again, another)]
    with running(tmp_path / "log", "serve", "--offline", *folder) as proxy:
        offline = [cache_status(proxy.url, query) for query in (first, again, another, again.replace("52", "25"))]

    stored = "oda-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert online == [stored, "oda-proxy; hit", stored]
    assert offline == ["oda-proxy; hit"] * 3 + ["oda-proxy; detail=no-recording"]


def cache_status(url: str, words: str) -> str:
    """Send a request to the proxy; return its `Cache-Status`."""
    try:
        with urllib.request.urlopen(f"{url}/run_analysis?{words}") as response:  # noqa: S310 - as above
            return str(response.headers["Cache-Status"])
    except HTTPError as error:
        with error:
            return str(error.headers["Cache-Status"])
