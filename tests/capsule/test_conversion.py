"""A recording that became a fixture becomes the same recording again, whatever is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mock_server.app import RUNNER_OPTIONS, make_app
from mock_server.settings import MockSettings
from oda_proxy.capsule.conversion import ConversionError, check_safe, fixture_from_recording, recording_from_fixture
from oda_proxy.compat import screening
from oda_proxy.compat.answer_repairs import repaired
from oda_proxy.errors import CodecError, FixtureError
from oda_proxy.fixture.reading import Fixture, open_folder
from oda_proxy.fixture.verification import verify
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import KEY_VERSION, Key, key_of
from oda_proxy.query.query import Envelope, Query, split_query
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.recordings.recording import redact
from oda_proxy.recordings.redaction import NotStorableError
from tests.support import capsules
from tests.support.dispatcher_responses import SESSION
from tests.support.examples import examples
from tests.support.random_arrays import images, tables
from tests.support.recordings import recording
from tests.support.unreadable_responses import UNREADABLE, captured, product, unit

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.recordings.recording import Recording

ORIGIN = {"kind": "recorded", "source": "a test", "modelled": []}
PROGRAM = [["disp.get_product()"]]


def fixture_of(made: Recording, folder: Path) -> Fixture:
    """Write the fixture of a recording, and open it."""
    path, query, answer = fixture_from_recording(made)
    write_fixture(folder, path, query, answer)
    write_manifest(folder, {path: ORIGIN})
    (one,) = open_folder(folder).fixtures
    return one


def rewritten(made: Recording, factory: pytest.TempPathFactory) -> Recording:
    """Convert a recording to a fixture and back."""
    return recording_from_fixture(fixture_of(made, factory.mktemp("fixtures")), now=0.0)


def everything(made: Recording) -> tuple[Any, ...]:
    """Return all of a recording: its text as clients see it, all else unchanged."""
    row = replace(made, head=MemoryHead(b""), gaps=())
    return (
        row,
        json.dumps([made.parameters, made.exit_status]),
        [gap.cards for gap in made.gaps],
        capsules.client_view(made),
    )


# -- round trips -----------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["1", "1.0", "1e3", "nan", "-0.0", "\0"])
NAMES = st.text("abcRE_ é", min_size=1, max_size=5) | st.sampled_from(["verbose", "dry_run", "src_name", "T1"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab 1é", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=6,
)
DIGESTS = st.sampled_from(["0" * 64, "1" * 64])


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Make queries with any parameters."""
    pairs = draw(st.lists(st.tuples(NAMES, WORDS), max_size=6))
    named = [(name, draw(WORDS)) for name in ("instrument", "product_type", "query_type")]
    api = [("api", "True")] if draw(st.booleans()) else []
    return split_query([*named, *api, *pairs], draw(st.lists(st.tuples(NAMES, DIGESTS), max_size=3)))[0]


STATES = st.sampled_from(["submitted", "progress", "ready", "done", "post-processing"])
SECONDS = st.floats(0, 1e6)
STATUSES = st.dictionaries(
    st.sampled_from(["message", "comment", "warning", "job_status"]),
    st.none() | st.text("ab c", max_size=5) | st.integers(),
)
ECHOES = st.dictionaries(st.sampled_from(["RA", "instrument", "E1_keV", "flag", "scw_list"]), JSON, max_size=4)


@settings(max_examples=examples(150), deadline=None)
@given(
    query=queries(),
    timeline=st.lists(st.tuples(STATES, SECONDS), max_size=3).map(tuple),
    status=STATUSES,
    echo=ECHOES,
    spelled=st.sampled_from(["analysis_parameters", "analysis_paramters"]),
    echoed=st.lists(st.sampled_from(["session_id", "token", "oda_api_version"]), unique=True).map(tuple),
    cost=SECONDS,
    stored_at=st.floats(0, 2e9),
    private=st.booleans(),
    others=st.dictionaries(st.sampled_from(["something_new", "notes"]), JSON, max_size=2),
    ids=st.sampled_from([(), ("session_id",), ("job_id",), ("session_id", "job_id")]),
)
def test_query_and_metadata_survive(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    query: Query,
    timeline: tuple[tuple[str, float], ...],
    status: dict[str, Any],
    echo: dict[str, Any],
    spelled: str,
    echoed: tuple[str, ...],
    cost: float,
    stored_at: float,
    private: bool,
    others: dict[str, Any],
    ids: tuple[str, ...],
) -> None:
    made = recording(
        Key("ab" * 32),
        stored_at=stored_at,
        cost=cost,
        query=query,
        timeline=timeline,
        private=private,
        exit_status={"status": 0, **status},
        parameters={spelled: echo},
        echoed=echoed,
        client_members={"api_code": PROGRAM},
        other_members=others,
        product_ids=ids,
    )

    again = rewritten(made, tmp_path_factory)

    assert everything(again) == everything(made)
    assert again.query
    assert key_of(again.query) == key_of(query)


def holds_complex_objects(table: Any) -> bool:
    """Tell whether a table would be pickled with complex numbers of Python's, which are not on the allow-list."""
    return bool(table.dtype.hasobject and any(dtype.kind == "c" for dtype, *_ in table.dtype.fields.values()))


@settings(max_examples=examples(100), deadline=None)
@given(
    array=images() | tables().filter(lambda table: not holds_complex_objects(table)),
    header=st.dictionaries(
        st.sampled_from(["A", "NAXIS1", "lower", "TFORM1"]),
        JSON.filter(lambda value: not isinstance(value, list | dict)),
        max_size=3,
    ),
)
@example(array=np.array([[True]]), header={})
@example(array=np.zeros(2, "f2"), header={"A": 1})
@example(array=np.zeros((1, 1), complex), header={})
@example(array=np.array([("é",)], [("a", "U1")]), header={})
@example(array=np.zeros(2, [("a", "i1")]), header={})
@example(array=np.zeros(2, np.dtype([("a", "i2"), ("b", "f8")], align=True)), header={})
@example(array=np.array([(np.zeros(2),), (np.zeros(1),)], [("a", object)]), header={"TFORM1": "PD(2)"})
@example(array=np.zeros(3, np.dtype((np.record, [("a", ">f4")]))), header={})
def test_any_array_is_preserved_bit_by_bit_with_its_header(
    tmp_path_factory: pytest.TempPathFactory, array: Any, header: dict[str, Any]
) -> None:
    made = capsules.recorded(
        capsules.query(), numpy_data_product_list=[product(unit(array, header=header), name="a")], catalog=None
    )

    assert everything(rewritten(made, tmp_path_factory)) == everything(made)


def test_cards_of_the_client_are_filled_for_each_client(tmp_path_factory: pytest.TempPathFactory) -> None:
    made = capsules.with_arrays()
    one = fixture_of(made, tmp_path_factory.mktemp("fixtures"))
    again = recording_from_fixture(one, now=0.0)

    header = capsules.client_view(again)["products"]["numpy_data_product_list"][0]["data_unit_list"][1]["header"]

    assert made.gaps
    assert everything(again) == everything(made)
    assert header["SESSION_ID"] == "ANOTHERSESSION00"
    assert header["url"] == "http://h/run_analysis?session_id=ANOTHERSESSION00&RA=83.0"
    assert SESSION not in "".join(one.read_file(name).decode("latin-1") for name in one.files)


@pytest.mark.parametrize("name", ["isgri_lc", "isgri_image", "polar_lc", "spi_acs_lc"])
def test_answers_of_a_real_dispatcher_survive(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    envelope = Envelope("new", "SESSIONOFTHETEST", others={"oda_api_version": "1.3.5"})
    body = repaired(captured(f"{name}.200.json.gz"), 200, envelope)
    made = replace(redact(body, envelope, key=Key("0" * 64), stored_at=5.5), query=capsules.query(RA="83"))

    assert everything(rewritten(made, tmp_path_factory)) == everything(made)


@pytest.mark.parametrize("name", [name for name, one in UNREADABLE.items() if one.status == 200])
def test_answers_that_clients_could_not_read_survive_as_repaired(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    envelope = Envelope("new", SESSION)
    body = repaired(UNREADABLE[name].body, 200, envelope)
    if screening.forbidden_names(json.loads(body).get("products")):
        pytest.skip("it is not kept: a client would load what it holds")
    try:
        made = redact(body, envelope, key=Key("0" * 64), stored_at=5.5)
    except NotStorableError as reason:
        pytest.skip(f"it is not kept: {reason}")
    made = replace(made, query=capsules.query(RA="83"))

    assert everything(rewritten(made, tmp_path_factory)) == everything(made)


@pytest.mark.parametrize("generation", ["today", "2019"])
async def test_answers_of_the_mock_in_both_generations_survive(
    generation: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = {"instrument": "polar", "product_type": "polar_lc", "query_type": "Real", "time_bin": "0.5", "api": "True"}
    asked |= {"T1": "2016-12-18T08:32:21.000", "T2": "2016-12-18T08:34:01.000"}
    pairs = [*asked.items(), ("query_status", "new"), ("session_id", "SESSIONOFTHETEST"), ("off_line", "False")]
    server = TestServer(make_app(MockSettings(generation=generation)))
    await server.start_server(**RUNNER_OPTIONS)
    async with TestClient(server) as mock:
        body = await (await mock.get("/run_analysis", params=pairs)).read()
    query, envelope = split_query(pairs)
    made = replace(redact(repaired(body, 200, envelope), envelope, key=key_of(query), stored_at=1.0), query=query)

    assert bool(made.gaps) == (generation == "2019")
    assert everything(rewritten(made, tmp_path_factory)) == everything(made)


def test_a_recording_of_another_key_version_gets_the_current_key_of_its_query(tmp_path: Path) -> None:
    made = replace(capsules.with_arrays(), key=Key("0" * 64))
    path, query, answer = fixture_from_recording(made)
    for private in (False, True):
        recorded_member = {**(answer.recorded or {}), "key_version": KEY_VERSION + 1, "private": private}
        write_fixture(tmp_path, path, query, replace(answer, recorded=recorded_member))
        write_manifest(tmp_path, {path: ORIGIN})
        (one,) = open_folder(tmp_path).fixtures
        assert made.query
        assert recording_from_fixture(one, now=0.0).key == (made.key if private else key_of(made.query))


# -- readable --------------------------------------------------------------------------------------


def test_a_fixture_is_readable(tmp_path: Path) -> None:
    one = fixture_of(capsules.with_arrays(), tmp_path)

    assert one.path.rpartition("-")[0] == "isgri/isgri_image/crab"
    assert sorted(one.files) == ["Crab.lc.fits", "Crab.mosaic_image.fits", "answer.json", "query.json"]
    assert one.query().parameters["RA"] == 83.0
    assert one.query().parameters["DEC"] == "22.00"
    assert one.answer().timeline == (("submitted", 0.0), ("progress", 2.5), ("ready", 6.125))
    assert one.answer().exit_status["status"] == 0
    assert verify(tmp_path) == []


def test_nothing_in_the_fixture_is_repeated_in_recorded(tmp_path: Path) -> None:
    recorded = fixture_of(capsules.with_arrays(), tmp_path).answer().recorded

    assert recorded is not None
    assert not {"query", "timeline", "exit_status"} & recorded.keys()


def test_an_answer_at_once_has_no_timeline(tmp_path: Path) -> None:
    at_once = replace(capsules.with_arrays(), timeline=(("done", 0.25),), cost=0.25)

    one = fixture_of(at_once, tmp_path)

    assert one.answer().timeline == ()
    assert recording_from_fixture(one, now=0.0).timeline == at_once.timeline


# -- errors ----------------------------------------------------------------------------------------


def test_a_recording_without_its_query_is_not_converted() -> None:
    with pytest.raises(ConversionError, match="the query of the recording is not known"):
        fixture_from_recording(recording())
    with pytest.raises(CodecError, match="not JSON"):
        fixture_from_recording(recording(text=b"x", query=capsules.query()))


def test_a_fixture_without_recorded_is_converted(tmp_path: Path) -> None:
    path, query, answer = fixture_from_recording(capsules.with_arrays())
    write_fixture(tmp_path, path, query, replace(answer, recorded=None))
    write_manifest(tmp_path, {path: ORIGIN})
    (one,) = open_folder(tmp_path).fixtures

    made = recording_from_fixture(one, now=7.0)

    assert made.query
    assert (made.stored_at, made.key, made.cost) == (7.0, key_of(made.query), 6.125)
    assert made.echo["RA"] == 83.0


def test_unsafe_products_are_refused(tmp_path: Path) -> None:
    path, query, answer = fixture_from_recording(capsules.with_arrays())
    table = {"binary": "Y3Bvc2l4CnN5c3RlbQo=", "name": "x", "meta_data": None}
    hostile = replace(answer, products={"astropy_table_product_binary_list": [table]})
    write_fixture(tmp_path, path, query, hostile)
    write_manifest(tmp_path, {path: ORIGIN})
    (one,) = open_folder(tmp_path).fixtures

    with pytest.raises(ConversionError, match="would load"):
        check_safe(one)
    with pytest.raises(ConversionError, match="would load"):
        recording_from_fixture(one, now=0.0)


def test_a_recorded_member_that_is_damaged_is_an_error_of_its_file(tmp_path: Path) -> None:
    path, query, answer = fixture_from_recording(capsules.with_arrays())
    write_fixture(tmp_path, path, query, replace(answer, recorded={}))
    write_manifest(tmp_path, {path: ORIGIN})
    (one,) = open_folder(tmp_path).fixtures

    with pytest.raises(FixtureError, match=r"answer\.json: 'recorded': 'echo'"):
        recording_from_fixture(one, now=0.0)
