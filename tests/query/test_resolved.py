"""Resolved queries are memoised for as long as their descriptions stay the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.query.cache_key import keys_of
from oda_proxy.query.query import Query, parse_fields, split_query
from oda_proxy.query.resolved import QueryResolver
from tests.support.examples import examples
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, OLD_SCHEMA, SCHEMA

if TYPE_CHECKING:
    from oda_proxy.query.descriptions import Descriptions
    from oda_proxy.query.schema import Schema


class Known:
    """Descriptions as they are set."""

    current: tuple[Schema, ...] = (SCHEMA,)

    async def schemas(self, _: str, *, may_request: bool = True) -> tuple[Schema, ...]:
        return self.current


def resolver(known: Known) -> QueryResolver:
    return QueryResolver(cast("Descriptions", known))


def query(fields: str) -> Query:
    return split_query(parse_fields(f"{IMAGE_ARGUMENTS}&{fields}"))[0]


async def test_a_query_is_resolved_once_for_each_audience() -> None:
    resolve = resolver(Known()).resolve

    first = await resolve(query("RA=83.6"))

    assert await resolve(query("RA=83.6")) is first
    assert (await resolve(query("RA=83.6"), audience="team")).keys == keys_of(
        query("RA=83.6"), (SCHEMA,), audience="team"
    )
    assert (await resolve(query("RA=83.7"))).keys != first.keys


async def test_a_query_is_resolved_again_when_the_description_of_its_instrument_has_changed() -> None:
    known = Known()
    resolve = resolver(known).resolve
    first = await resolve(query("T1=52713.5&T_format=mjd"))

    known.current = (OLD_SCHEMA, SCHEMA)
    second = await resolve(query("T1=52713.5&T_format=mjd"))

    assert second.schemas == (OLD_SCHEMA, SCHEMA)
    assert second.keys == keys_of(query("T1=52713.5&T_format=mjd"), (OLD_SCHEMA, SCHEMA))
    assert second.keys != first.keys


async def test_a_query_that_may_hold_a_token_is_not_memoised() -> None:
    resolve = resolver(Known()).resolve

    assert await resolve(query("access_token=SECRET")) is not await resolve(query("access_token=SECRET"))


names = st.sampled_from(["RA", "T1", "scw_list", "flag", "verbose", "src_name"])
fields = st.lists(st.tuples(names, st.sampled_from(["1", "1.0", "01", "x", "", "True"])).map("=".join), max_size=4)
requests = st.lists(
    st.tuples(
        fields.map("&".join), st.sampled_from(["", "team"]), st.sampled_from([(), (SCHEMA,), (OLD_SCHEMA, SCHEMA)])
    ),
    max_size=8,
)


@settings(max_examples=examples(200), deadline=None)
@given(requests)
async def test_the_keys_are_those_of_the_plain_way(requests: list[tuple[str, str, tuple[Schema, ...]]]) -> None:
    known = Known()
    resolve = resolver(known).resolve

    for text, audience, known.current in requests + requests:
        resolved = await resolve(query(text), audience=audience)
        assert resolved.keys == keys_of(query(text), known.current, audience=audience)
        assert (resolved.query, resolved.schemas) == (query(text), known.current)
