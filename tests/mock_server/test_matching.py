"""Which fixture answers a query: exactly the one whose normalised parameters are equal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from mock_server.fixture_library import FixtureLibrary
from mock_server.matching import FixtureIndex, NormalisedQuery
from oda_proxy.errors import FixtureError
from oda_proxy.fixture.reading import open_folder
from tests.support.mock_fixtures import write_folder

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.fixture.reading import Fixture

QUERY = NormalisedQuery("isgri", "isgri_image", "Real", {"RA": 83.0, "scw_list": ["a", "b"]})


def query_with(**parameters: Any) -> NormalisedQuery:
    return replace(QUERY, parameters={**QUERY.parameters, **parameters})


@pytest.mark.parametrize(
    "other",
    [
        query_with(RA=83),
        query_with(image_scale_min=None),
        query_with(p_list=[]),
        replace(QUERY, query_type="dummy"),
        query_with(),
    ],
)
def test_equal_queries_have_the_same_fixture(other: NormalisedQuery) -> None:
    assert other.key() == QUERY.key()


@pytest.mark.parametrize(
    "other",
    [
        query_with(RA=38.0),
        query_with(RA=83.00000000000001),
        query_with(scw_list=["b", "a"]),
        query_with(flag=True),
        replace(QUERY, query_type="Dummy"),
        replace(QUERY, api=False),
        replace(QUERY, product="isgri_lc"),
        replace(QUERY, files={"user_catalog_file": "0" * 64}),
    ],
)
def test_different_queries_have_different_fixtures(other: NormalisedQuery) -> None:
    assert other.key() != QUERY.key()


def test_true_is_not_one() -> None:
    assert query_with(flag=True).key() != query_with(flag=1).key()


def test_catalogues_are_compared_as_json() -> None:
    first, second = query_with(selected_catalog='{"a": [1, 2.0]}'), query_with(selected_catalog='{"a":[1.0,2]}')
    assert first.key() == second.key()
    assert first.key() != query_with(selected_catalog='{"a": [2, 1]}').key()


def test_the_first_of_two_fixtures_for_one_query_wins() -> None:
    first, second = (cast("Fixture", Named(path)) for path in ("first", "second"))
    assert FixtureIndex(((QUERY, first), (QUERY, second))).find(QUERY) is first


class Named:
    """A stand-in for a fixture, with the attributes that matching reads."""

    def __init__(self, path: str) -> None:
        self.path = path


def test_a_library_finds_fixtures_whatever_the_spelling_of_their_queries(tmp_path: Path) -> None:
    library = FixtureLibrary.open([write_folder(tmp_path)])
    paths = {fixture.path for query, fixture in library.index.queries if library.index.find(query) is fixture}
    assert paths == {fixture.path for fixture in open_folder(tmp_path).fixtures}
    assert library.instruments == ["isgri", "polar"]


async def test_products_are_encoded_once(tmp_path: Path) -> None:
    library = FixtureLibrary.open([write_folder(tmp_path)])
    fixture = library.index.queries[0][1]
    assert await library.products(fixture, for_1_0=False) is await library.products(fixture, for_1_0=False)


async def test_a_fixture_with_a_changed_file_is_never_served(tmp_path: Path) -> None:
    library = FixtureLibrary.open([write_folder(tmp_path)])
    fixture = library.index.queries[0][1]
    file = tmp_path / fixture.path / "answer.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"an image", b"no image"))
    for _ in range(2):
        with pytest.raises(FixtureError, match="was changed"):
            await library.products(fixture, for_1_0=False)
    file.write_bytes(content)
    assert b"an image" in await library.products(fixture, for_1_0=False)


def test_a_fixture_of_an_instrument_without_a_description_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "polar" / "instrument.json").unlink()
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text())
    document["instruments"] = [entry for entry in document["instruments"] if not entry["path"].startswith("polar")]
    manifest.write_text(json.dumps(document))
    with pytest.raises(FixtureError, match=r"no instrument\.json describes polar polar_lc"):
        FixtureLibrary.open([folder])
