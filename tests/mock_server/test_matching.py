"""Which fixture answers a query: exactly the one whose normalised parameters are equal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from mock_server.library import Library
from mock_server.matching import FixtureIndex, Question
from oda_proxy.errors import FixtureError
from oda_proxy.fixture.reading import open_folder
from tests.support.mock_folders import write_folder

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.fixture.reading import Fixture

QUESTION = Question("isgri", "isgri_image", "Real", {"RA": 83.0, "scw_list": ["a", "b"]})


def asks(**parameters: Any) -> Question:
    return replace(QUESTION, parameters={**QUESTION.parameters, **parameters})


@pytest.mark.parametrize(
    "other",
    [
        asks(RA=83),
        asks(image_scale_min=None),
        asks(p_list=[]),
        replace(QUESTION, query_type="dummy"),
        asks(),
    ],
)
def test_one_answer_serves_equal_questions(other: Question) -> None:
    assert other.key() == QUESTION.key()


@pytest.mark.parametrize(
    "other",
    [
        asks(RA=38.0),
        asks(RA=83.00000000000001),
        asks(scw_list=["b", "a"]),
        asks(flag=True),
        replace(QUESTION, query_type="Dummy"),
        replace(QUESTION, api=False),
        replace(QUESTION, product="isgri_lc"),
        replace(QUESTION, files={"user_catalog_file": "0" * 64}),
    ],
)
def test_one_answer_does_not_serve_different_questions(other: Question) -> None:
    assert other.key() != QUESTION.key()


def test_true_is_not_one() -> None:
    assert asks(flag=True).key() != asks(flag=1).key()


def test_catalogues_are_compared_as_json() -> None:
    first, second = asks(selected_catalog='{"a": [1, 2.0]}'), asks(selected_catalog='{"a":[1.0,2]}')
    assert first.key() == second.key()
    assert first.key() != asks(selected_catalog='{"a": [2, 1]}').key()


def test_the_first_of_two_fixtures_for_one_question_wins() -> None:
    first, second = (cast("Fixture", Named(path)) for path in ("first", "second"))
    assert FixtureIndex(((QUESTION, first), (QUESTION, second))).find(QUESTION) is first


class Named:
    """What matching needs to know of a fixture."""

    def __init__(self, path: str) -> None:
        self.path = path


def test_a_library_finds_fixtures_whatever_the_spelling_of_their_queries(tmp_path: Path) -> None:
    library = Library.open([write_folder(tmp_path)])
    paths = {fixture.path for question, fixture in library.index.questions if library.index.find(question) is fixture}
    assert paths == {fixture.path for fixture in open_folder(tmp_path).fixtures}
    assert library.instruments == ["isgri", "polar"]


async def test_products_are_encoded_once(tmp_path: Path) -> None:
    library = Library.open([write_folder(tmp_path)])
    fixture = library.index.questions[0][1]
    assert await library.products(fixture, for_1_0=False) is await library.products(fixture, for_1_0=False)


async def test_a_file_that_was_changed_is_no_answer_even_when_asked_again(tmp_path: Path) -> None:
    library = Library.open([write_folder(tmp_path)])
    fixture = library.index.questions[0][1]
    file = tmp_path / fixture.path / "answer.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"an image", b"no image"))
    for _ in range(2):
        with pytest.raises(FixtureError, match="was changed"):
            await library.products(fixture, for_1_0=False)
    file.write_bytes(content)
    assert b"an image" in await library.products(fixture, for_1_0=False)


def test_a_fixture_of_an_instrument_that_nothing_describes_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "polar" / "instrument.json").unlink()
    manifest = folder / "manifest.json"
    document = json.loads(manifest.read_text())
    document["instruments"] = [entry for entry in document["instruments"] if not entry["path"].startswith("polar")]
    manifest.write_text(json.dumps(document))
    with pytest.raises(FixtureError, match=r"no instrument\.json describes polar polar_lc"):
        Library.open([folder])
