"""Folders of fixtures are read strictly, and what is written is read again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import images, same_bits, tables

from oda_proxy.codec import fits, wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.errors import CodecError, FixtureError
from oda_proxy.fixture import (
    FixtureAnswer,
    FixtureQuery,
    Limits,
    ParameterDescription,
    QueryDescription,
    open_folder,
    verify,
    write_fixture,
    write_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHIPPED = Path(__file__).parents[1] / "fixtures"
PATH = "isgri/isgri_image/gx349"
ORIGIN = {"kind": "synthetic", "source": "a test", "modelled": ["everything"]}
QUERY = FixtureQuery(
    "isgri",
    "isgri_image",
    "Real",
    {"RA": 255.9, "scw_list": ["010200230010.001"], "T1": "2003"},
    files={"list.txt": "0" * 64},
)
DESCRIPTION = {
    "format": 1,
    "instrument": "isgri",
    "prod_dict": {"isgri_image": "isgri_image_query"},
    "queries": [
        {
            "query_name": "isgri_image_query",
            "product_name": "isgri_image",
            "synchronous": True,
            "parameters": [
                {"name": "radius", "units": "deg", "value": 5.0, "kind": "angle", "restrictions": {"min_value": 0}}
            ],
        }
    ],
}


def answer(**products: Any) -> FixtureAnswer:
    """Make an answer with these products."""
    exit_status: dict[str, str | int] = {"status": 0, "message": ""}
    return FixtureAnswer("done", exit_status, (("submitted", 0.0), ("ready", 6.5)), products)


def product(data: Any, *cards: Card, name: str = "mosaic_image", **unit: Any) -> DataProduct:
    """Make a product of a primary and another data unit."""
    if data is not None and data.dtype.names:
        second = DataUnit("DATA", cards, data, "bintable", **unit)
    else:
        second = DataUnit("DATA", cards, data, "image", **unit)
    return DataProduct(name, {"src_name": "", "time_bin": None}, (DataUnit("PRIMARY", hdu_type="primary"), second))


def small() -> DataProduct:
    return product(np.arange(6, dtype=">f4").reshape(2, 3), Card("BUNIT", "counts", "unit"))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def put(folder: Path, name: str, document: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with an instrument and a fixture."""
    root = tmp_path / "fixtures"
    put(root, "isgri/instrument.json", DESCRIPTION)
    products = {"numpy_data_product_list": [small()], "binary_data_product_list": [wire.encode_binary(b"root")]}
    write_fixture(root, PATH, QUERY, answer(**products, catalog={"cat_frame": "fk5"}))
    write_manifest(root, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})
    return root


def edited(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON file, and the manifest with it."""
    document = json.loads((folder / name).read_text())
    change(document)
    put(folder, name, document)
    write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})


def read_all(folder: Path, limits: Limits | None = None) -> None:
    """Read everything there is."""
    opened = open_folder(folder, limits=limits or Limits())
    for fixture in opened.fixtures:
        fixture.query()
        fixture.wire_products()
    assert isinstance(opened.instruments, tuple)


# -- reading --------------------------------------------------------------------------------------


def test_a_fixture_is_read_as_it_was_written(folder: Path) -> None:
    opened = open_folder(folder)
    (fixture,) = opened.fixtures
    assert (fixture.path, fixture.origin) == (PATH, ORIGIN)
    assert fixture.query() == QUERY
    assert fixture.answer().timeline == (("submitted", 0.0), ("ready", 6.5))
    assert fixture.answer().products["catalog"] == {"cat_frame": "fk5"}
    assert sorted(fixture.members) == ["answer.json", "binary.bin", "mosaic_image.fits", "query.json"]


def test_arrays_and_files_come_on_the_wire_from_their_files(folder: Path) -> None:
    (fixture,) = open_folder(folder).fixtures
    on_the_wire = fixture.wire_products()
    assert list(on_the_wire) == ["numpy_data_product_list", "binary_data_product_list", "catalog"]
    assert on_the_wire["numpy_data_product_list"] == [wire.encode_product(small())]
    assert on_the_wire["binary_data_product_list"] == [wire.encode_binary(b"root")]
    as_text = fixture.wire_products(form="json")["numpy_data_product_list"][0]["data_unit_list"][1]
    assert json.loads(as_text["data"]) == [[0, 1, 2], [3, 4, 5]]


def test_an_instrument_is_described(folder: Path) -> None:
    instrument = open_folder(folder).instrument("isgri")
    parameter = ParameterDescription("radius", "deg", 5.0, "angle", {"min_value": 0})
    assert instrument.prod_dict == {"isgri_image": "isgri_image_query"}
    assert instrument.queries == (QueryDescription("isgri_image_query", "isgri_image", (parameter,), synchronous=True),)
    assert open_folder(folder).instruments == (instrument,)


def test_an_unknown_instrument_is_an_error(folder: Path) -> None:
    with pytest.raises(FixtureError, match="polar"):
        open_folder(folder).instrument("polar")


def test_opening_reads_the_manifest_only(folder: Path) -> None:
    shutil.rmtree(folder / "isgri")
    (fixture,) = open_folder(folder).fixtures
    with pytest.raises(FixtureError, match=r"query\.json"):
        fixture.query()


def test_importing_and_reading_json_needs_neither_numpy_nor_astropy(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from oda_proxy.fixture import open_folder\n"
        "o = open_folder(Path(sys.argv[1])); o.fixtures[0].query(); o.fixtures[0].answer(); o.instruments\n"
        "assert not {'numpy', 'astropy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


# -- what is refused ------------------------------------------------------------------------------


def manifest(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        document = json.loads((folder / "manifest.json").read_text())
        change(document)
        put(folder, "manifest.json", document)

    return spoil


def query(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edited(folder, f"{PATH}/query.json", change)


def answered(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edited(folder, f"{PATH}/answer.json", change)


def instrument(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edited(folder, "isgri/instrument.json", change)


def unit(**members: Any) -> Callable[[Path], None]:
    return answered(lambda document: document["products"]["numpy_data_product_list"][0]["units"][1].update(members))


def text(name: str, content: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        put(folder, name, content)
        if name != "manifest.json":
            write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})

    return spoil


def product_entry(**members: Any) -> Callable[[Path], None]:
    return answered(lambda document: document["products"]["numpy_data_product_list"][0].update(members))


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change a file, and not the manifest."""

    def rewrite(folder: Path) -> None:
        file = folder / PATH / name
        file.write_bytes(change(file.read_bytes()))

    return rewrite


def first(document: Any) -> Any:
    return document["fixtures"][0]


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json: cannot be read"),
    "bad JSON": (text("manifest.json", "{"), r"manifest\.json: not strict JSON"),
    "NaN": (text("manifest.json", '{"format": NaN}'), r"manifest\.json: not strict JSON: NaN"),
    "a repeated name": (text("manifest.json", '{"format": 1, "format": 1}'), "stands twice"),
    "no object": (text("manifest.json", "[]"), "expected an object"),
    "another format": (manifest(lambda m: m.update(format=2)), r"is of format 2; this release reads format 1"),
    "no format": (manifest(lambda m: m.pop("format")), "'format'"),
    "a truth for a format": (manifest(lambda m: m.update(format=True)), "'format'"),
    "up and out": (manifest(lambda m: first(m).update(path="../out/x")), "is not a path"),
    "absolute": (manifest(lambda m: first(m).update(path="/etc/x/y")), "is not a path"),
    "too deep": (manifest(lambda m: first(m).update(path=PATH + "/x")), "is not a path"),
    "a line break": (manifest(lambda m: first(m).update(path=PATH + "\n")), "is not a path"),
    "hidden": (manifest(lambda m: first(m).update(path="isgri/x/.y")), "is not a path"),
    "a file outside": (manifest(lambda m: first(m)["files"].update({"../x": {}})), "is not a path"),
    "no answer": (manifest(lambda m: first(m)["files"].pop("answer.json")), r"lists no query\.json or no answer\.json"),
    "a size of text": (manifest(lambda m: first(m)["files"]["answer.json"].update(size="1")), "'size'"),
    "no digest": (manifest(lambda m: first(m)["files"]["answer.json"].update(sha256="x")), "no SHA-256"),
    "an unknown origin": (manifest(lambda m: first(m)["origin"].update(kind="dream")), "unknown kind of origin"),
    "modelled of numbers": (manifest(lambda m: first(m)["origin"].update(modelled=[1])), "'modelled'"),
    "twice": (manifest(lambda m: m["fixtures"].append(first(m))), "in the order of their paths, each once"),
    "no instrument file": (manifest(lambda m: m["instruments"][0].update(path="isgri/x.json")), "only instrument.json"),
    "a missing file": (lambda folder: (folder / PATH / "query.json").unlink(), r"query\.json: cannot be read"),
    "a changed file": (rewritten("query.json", lambda content: content.replace(b"3", b"4")), "was changed"),
    "a longer file": (rewritten("query.json", lambda content: content + b" "), r"query\.json: was changed: it has"),
    "a shorter file": (rewritten("query.json", lambda _: b"{}"), r"query\.json: was changed: it has 2 bytes"),
    "a changed array": (rewritten("mosaic_image.fits", lambda content: b"x" * len(content)), r"mosaic_image\.fits"),
    "bad JSON in a query": (text(f"{PATH}/query.json", "{"), r"query\.json: not strict JSON"),
    "a token": (query(lambda q: q["parameters"].update({"token": "x"})), "hold 'token', which is none"),
    "a session": (query(lambda q: q["parameters"].update(session_id="x")), "hold 'session_id'"),
    "a truth as a parameter": (query(lambda q: q["parameters"].update(on=True)), "'on' is neither"),
    "an object as a parameter": (query(lambda q: q["parameters"].update(on={})), "'on' is neither"),
    "a list of lists": (query(lambda q: q["parameters"].update(on=[[1]])), "'on' is neither"),
    "a file without digest": (query(lambda q: q["files"].update(x="y")), "no SHA-256 for 'x'"),
    "no instrument": (query(lambda q: q.pop("instrument")), "'instrument' should be text"),
    "api of text": (query(lambda q: q.update(api="True")), "'api'"),
    "an unknown status": (answered(lambda a: a.update(query_status="aliased")), "no client knows"),
    "no exit status": (answered(lambda a: a["exit_status"].pop("status")), "exit_status has no status"),
    "a number as a message": (answered(lambda a: a["exit_status"].update(message=1)), "message is no text"),
    "a text as a status": (answered(lambda a: a["exit_status"].update(status="0")), r"exit_status\.status is no whole"),
    "back in time": (answered(lambda a: a["timeline"].reverse()), "runs backwards"),
    "an unknown state": (answered(lambda a: a["timeline"].append(["lost", 9])), "'lost'"),
    "before the question": (answered(lambda a: a["timeline"].insert(0, ["progress", -1])), "'progress'"),
    "an unlisted array": (product_entry(file="x.fits"), "'x.fits'"),
    "an array elsewhere": (product_entry(file="../x"), "is not a path"),
    "an array that is none": (product_entry(file="query.json"), "not a FITS"),
    "a list of texts": (answered(lambda a: a["products"].update(binary_data_product_list=["A"])), "expected an object"),
    "no such HDU": (unit(hdu=2), "is HDU 2 of a file that has 2"),
    "an unknown HDU": (unit(hdu_type="cube"), "unknown type 'cube'"),
    "a narrower type": (unit(dtype="<i2"), "not every value of it"),
    "no type": (unit(dtype="object"), "is no type of an array"),
    "a type of fields": (unit(dtype=[["a", "<f4"]]), "other columns"),
    "records of an image": (unit(record=True), "an image has no records"),
    "a list as a card": (unit(header={"A": []}), "a list or an object"),
    "another instrument": (instrument(lambda i: i.update(instrument="jemx")), "describes the instrument 'jemx'"),
    "a product without query": (instrument(lambda i: i["prod_dict"].update(x="y")), "'y', which is not described"),
    "an unknown kind": (instrument(lambda i: i["queries"][0]["parameters"][0].update(kind="x")), "unknown kind 'x'"),
    "no value": (instrument(lambda i: i["queries"][0]["parameters"][0].pop("value")), "has no value"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_not_as_the_format_says_is_refused_and_its_file_named(folder: Path, name: str) -> None:
    spoil, reason = SPOILT[name]
    spoil(folder)
    with pytest.raises(FixtureError, match=reason) as error:
        read_all(folder)
    assert str(error.value).startswith(str(folder))
    assert "\n" not in str(error.value)
    assert verify(folder)


def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    file = folder / PATH / "query.json"
    file.rename(tmp_path / "query.json")
    file.symlink_to(tmp_path / "query.json")
    with pytest.raises(FixtureError, match="outside the folder"):
        read_all(folder)


def test_a_link_of_a_folder_that_leaves_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "isgri").rename(tmp_path / "isgri")
    (folder / "isgri").symlink_to(tmp_path / "isgri")
    with pytest.raises(FixtureError, match="outside the folder"):
        read_all(folder)


def test_a_pipe_is_no_file(folder: Path) -> None:
    file = folder / PATH / "query.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(FixtureError, match="is no file"):
        read_all(folder)


@pytest.mark.parametrize("limits", [Limits(json_bytes=100), Limits(member_bytes=100), Limits(members=4)], ids=str)
def test_limits_hold(folder: Path, limits: Limits) -> None:
    read_all(folder)
    with pytest.raises(FixtureError, match=r"larger than|more than"):
        read_all(folder, limits)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_damage_makes_another_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    put(folder, "isgri/instrument.json", DESCRIPTION)
    write_fixture(folder, PATH, QUERY, answer(numpy_data_product_list=[small()]))
    name = data.draw(
        st.sampled_from(["manifest.json", f"{PATH}/query.json", f"{PATH}/answer.json", "isgri/instrument.json"])
    )
    if name == "manifest.json":
        write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b'{}[],:"\\01-.enul \xff\0'))
    (folder / name).write_bytes(content)
    if name != "manifest.json":
        write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})
    try:
        read_all(folder)
    except FixtureError:
        assert verify(folder)
    else:
        assert verify(folder) == []


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just(1)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_no_value_makes_another_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any value in the place of any other."""
    folder = tmp_path_factory.mktemp("spoilt")
    put(folder, "isgri/instrument.json", DESCRIPTION)
    write_fixture(folder, PATH, QUERY, answer(numpy_data_product_list=[small()]))
    write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})
    name = data.draw(
        st.sampled_from(["manifest.json", f"{PATH}/query.json", f"{PATH}/answer.json", "isgri/instrument.json"])
    )
    document = json.loads((folder / name).read_text())
    container, key = data.draw(st.sampled_from(list(places(document))))
    container[key] = data.draw(JSON)
    put(folder, name, document)
    if name != "manifest.json":
        write_manifest(folder, {PATH: ORIGIN, "isgri/instrument.json": ORIGIN})
    try:
        read_all(folder)
    except FixtureError:
        return
    assert not [error for error in verify(folder) if "is not in the manifest" not in str(error)]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give each place within a JSON value."""
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, member in items:
        yield value, key
        yield from places(member)


# -- writing --------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(array=st.one_of(images(), tables()))
def test_what_came_by_wire_goes_by_wire_again_byte_for_byte(
    array: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    encoded = wire.encode_product(product(array, Card("EXTNAME", "DATA"), Card("RATE", 1.5)))
    write_fixture(folder, PATH, QUERY, answer(numpy_data_product_list=[encoded]))
    write_manifest(folder, {PATH: ORIGIN})
    (fixture,) = open_folder(folder).fixtures
    assert fixture.wire_products()["numpy_data_product_list"] == [encoded]


def test_what_no_fits_header_holds_stands_beside_it(tmp_path: Path) -> None:
    cards = (
        Card("url", "http://é/"),
        Card("SPACES", "a  "),
        Card("EXTNAME", "DATA"),
        Card("lower", 1),
        Card("LONG", "x" * 100),
    )
    unit = product(np.zeros(2, [("a", "<f4")]), *cards, units_dict={"a": "keV"}, meta_data={"b": [None, 1]})
    write_fixture(tmp_path, PATH, QUERY, answer(numpy_data_product=unit))
    write_manifest(tmp_path, {PATH: ORIGIN})
    (fixture,) = open_folder(tmp_path).fixtures
    wired = fixture.wire_products()["numpy_data_product"]
    assert {**wired["data_unit_list"][1]["header"]} == wire.header(unit.units[1])
    assert wired["data_unit_list"][1]["units_dict"] == {"a": "keV"}
    assert wired["data_unit_list"][1]["meta_data"] == {"b": [None, 1]}
    entry = fixture.answer().products["numpy_data_product"]["units"][1]
    assert entry["dtype"] == [["a", "<f4"]]
    assert {"url", "SPACES"} <= entry["header"].keys()
    assert "lower" not in entry["header"]


def test_records_and_text_stay_what_they_are(tmp_path: Path) -> None:
    table = np.array([("GX 1+4", 1.5), ("a ", 2)], np.dtype((np.record, [("NAME", "<U8"), ("RATE", "<f8")])))
    encoded = wire.encode_product(product(table, Card("EXTNAME", "DATA")))
    write_fixture(tmp_path, PATH, QUERY, answer(numpy_data_product_list=[encoded]))
    write_manifest(tmp_path, {PATH: ORIGIN})
    (fixture,) = open_folder(tmp_path).fixtures
    back = wire.decode_product(fixture.wire_products()["numpy_data_product_list"][0]).units[1].data
    assert back is not None
    assert back.dtype == table.dtype
    assert same_bits(back, table)
    stored = fits.read(fixture.read_file("mosaic_image.fits"))[1].data
    assert stored is not None
    assert stored["NAME"].tolist() == [b"GX 1+4", b"a "]


def test_products_with_the_same_content_share_a_file(tmp_path: Path) -> None:
    write_fixture(tmp_path, PATH, QUERY, answer(numpy_data_product_list=[small(), small(), product(np.zeros((1, 1)))]))
    assert sorted(file.name for file in (tmp_path / PATH).glob("*.fits")) == [
        "mosaic_image-2.fits",
        "mosaic_image.fits",
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "product.fits"),
        ("a b/../c", "a_b_.._c.fits"),
        ("..", "unnamed.fits"),
        ("é", "_.fits"),
        ("x" * 300, "x" * 100 + ".fits"),
    ],
)
def test_any_name_of_a_product_makes_a_name_of_a_file(tmp_path: Path, name: str, file: str) -> None:
    write_fixture(tmp_path, PATH, QUERY, answer(numpy_data_product_list=[product(np.zeros((1, 1)), name=name)]))
    assert (tmp_path / PATH / file).exists()
    write_manifest(tmp_path, {PATH: ORIGIN})
    assert verify(tmp_path) == []


def test_a_named_file_keeps_its_name(tmp_path: Path) -> None:
    encoded = wire.encode_binary(b"root", name="lc.root", form="object")
    write_fixture(tmp_path, PATH, QUERY, answer(binary_data_product_list=[encoded, encoded]))
    write_manifest(tmp_path, {PATH: ORIGIN})
    (fixture,) = open_folder(tmp_path).fixtures
    assert sorted(fixture.members) == ["answer.json", "lc-2.root", "lc.root", "query.json"]
    assert fixture.wire_products()["binary_data_product_list"] == [encoded, encoded]


@pytest.mark.parametrize(
    ("path", "asked", "answered"),
    [
        ("isgri/../out", QUERY, answer()),
        ("isgri/x", QUERY, answer()),
        (PATH, dataclasses.replace(QUERY, parameters={"token": "secret"}), answer()),
        (PATH, dataclasses.replace(QUERY, parameters={"RA": float("nan")}), answer()),
        (PATH, QUERY, dataclasses.replace(answer(), query_status="aliased")),
        (PATH, QUERY, answer(catalog={"x": float("inf")})),
        (PATH, QUERY, answer(numpy_data_product_list={})),
        (PATH, QUERY, answer(numpy_data_product_list=[product(np.zeros((1, 1), complex))])),
        (PATH, QUERY, answer(numpy_data_product_list=[product(np.array([("é",)], [("a", "U1")]))])),
        (PATH, QUERY, answer(numpy_data_product=5)),
        (PATH, QUERY, answer(binary_data_product_list=["é"])),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path: Path, path: str, asked: Any, answered: Any) -> None:
    with pytest.raises(FixtureError):
        write_fixture(tmp_path / "fixtures", path, asked, answered)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_fixture_is_replaced_whole(folder: Path) -> None:
    write_fixture(folder, PATH, QUERY, answer())
    assert names(folder / PATH) == ["answer.json", "query.json"]
    assert names(folder / PATH / "..") == ["gx349"]


def test_a_failure_leaves_what_was_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / PATH / "answer.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FixtureError, match="No space left"):
        write_fixture(folder, PATH, QUERY, answer())
    assert (folder / PATH / "answer.json").read_bytes() == before
    with pytest.raises(FixtureError, match="No space left"):
        write_manifest(folder, {PATH: ORIGIN})
    assert verify(folder) == []
    assert names(folder) == ["isgri", "manifest.json"]


# -- the manifest and its check -------------------------------------------------------------------


def test_the_manifest_is_the_same_each_time(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    write_manifest(folder, {"isgri/instrument.json": ORIGIN, PATH: ORIGIN})
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("path", ["isgri/isgri_image/missing", "jemx/instrument.json"])
def test_a_manifest_of_what_is_not_there_is_not_written(folder: Path, path: str) -> None:
    with pytest.raises(FixtureError, match=path):
        write_manifest(folder, {path: ORIGIN})


def test_a_file_with_a_name_that_the_format_does_not_allow_is_not_listed(folder: Path) -> None:
    (folder / PATH / ".hidden").touch()
    with pytest.raises(FixtureError, match="no dot in front"):
        write_manifest(folder, {PATH: ORIGIN})


def test_a_good_folder_verifies(folder: Path) -> None:
    (folder / "README.md").write_text("beside the manifest lies what wants to")
    assert verify(folder) == []


def test_what_the_manifest_does_not_list_is_found(folder: Path) -> None:
    (folder / PATH / "notes.txt").touch()
    put(folder, "isgri/isgri_lc/forgotten/query.json", "{}")
    assert [str(error).removeprefix(f"{folder}/") for error in verify(folder)] == [
        "isgri/isgri_image/gx349/notes.txt: is not in the manifest",
        "isgri/isgri_lc/forgotten/query.json: is not in the manifest",
    ]


def test_all_errors_are_found_each_once(folder: Path) -> None:
    (folder / PATH / "query.json").unlink()
    (folder / PATH / "mosaic_image.fits").write_bytes(b"")
    (folder / "isgri/instrument.json").write_text("{}")
    assert [Path(error.file).name for error in verify(folder)] == ["mosaic_image.fits", "query.json", "instrument.json"]


def test_the_shipped_fixtures_verify() -> None:
    assert verify(SHIPPED) == []


def test_a_codec_error_is_no_way_out(folder: Path) -> None:
    """What the wire form cannot carry is an error of the fixture, too."""
    write_fixture(folder, PATH, QUERY, answer(numpy_data_product_list=[product(np.array([[np.nan]]))]))
    write_manifest(folder, {PATH: ORIGIN})
    (fixture,) = open_folder(folder).fixtures
    assert not issubclass(FixtureError, CodecError)
    with pytest.raises(FixtureError, match="NaN"):
        fixture.wire_products(form="json")
