"""The command `fixture`: fixtures from a person's own files, which the mock then serves."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from astropy.io import fits

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.cli import main
from oda_proxy.codec import wire
from oda_proxy.fixture.authoring import NewFixture, parse_query, write_new
from oda_proxy.fixture.own_files import KINDS, Origin, product

if TYPE_CHECKING:
    from pathlib import Path

QUERY = "instrument=survey&product_type=sky&src_name=GX+1%2B4&n=3"
REQUEST = {"src_name": "GX 1+4", "n": "3.0", "query_type": "Real", "query_status": "new", "api": "True"}
CURVE = "TIME,RATE,ERROR\n1.0,5.0,0.1\n1.5,6.0,0.1\n2.0,7.0,0.1\n"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20) + b"IEND" + bytes(4)


def fits_bytes(*hdus: Any) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


IMAGE = fits_bytes(fits.PrimaryHDU(), fits.ImageHDU(np.arange(6, dtype=">f4").reshape(2, 3), name="SKY"))
TABLE = fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("E", "D", "keV", array=[1.0, 2.0])]))
FILES = {
    "image": ("my.fits", IMAGE),
    "light-curve": ("lc.csv", CURVE.encode()),
    "spectrum": ("spec.fits.gz", gzip.compress(TABLE)),
    "table": ("t.csv", b"a,b\n1,x\n"),
    "picture": ("p.png", PNG),
    "text": ("x.txt", "Č".encode()),
    "binary": ("b.root", bytes(range(256))),
}
EMPTY_CURVE = [fits.Column(name, "D", array=[]) for name in ("TIME", "RATE", "ERROR")]
BAD_FILES = {
    "words.csv": b"TIME,RATE,ERROR\n1.0,5.0,0.1\n1.5,high,0.1\n",
    "empty_lc.fits": fits_bytes(fits.PrimaryHDU(), fits.BinTableHDU.from_columns(EMPTY_CURVE)),
    "cut.png": PNG[:20],
    "cut.fits": IMAGE[:5800],
    "names.csv": "Größe,Flux\n1,2\n".encode(),
    "no_names.csv": b"# TIME,RATE,ERROR\n1.0,5.0,0.1\n1.5,6.0,0.1\n",
    "words.ecsv": "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: string}\na\nü\n".encode(),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (*FILES.values(), *BAD_FILES.items()):
        (tmp_path / name).write_bytes(content)


def new(*arguments: str, query: str = QUERY) -> int:
    return main(["fixture", "new", "mine", "--from-query", query, *arguments])


async def served(folder: Path, **changes: str) -> Any:
    app = make_app(MockSettings(fixtures=(folder,), time_scale=0))
    async with TestClient(TestServer(app)) as client:
        query = {"instrument": "survey", "product_type": "sky", **REQUEST, **changes}
        sent = {name: text for name, text in query.items() if text}
        async with client.get("/run_analysis", params=sent) as response:
            return await response.json()


async def test_a_fixture_with_a_file_of_each_kind_is_served(tmp_path: Path) -> None:
    assert new(*(word for kind in KINDS for word in (f"--{kind}", FILES[kind][0]))) == 0
    assert main(["fixture", "check", "mine"]) == 0
    products = (await served(tmp_path / "mine"))["products"]
    image, curve, spectrum = (wire.decode_product(one) for one in products["numpy_data_product_list"])
    assert (image.name, image.units[1].name) == ("my", "SKY")
    np.testing.assert_array_equal(image.units[1].data, np.arange(6.0).reshape(2, 3))
    assert curve.meta_data == {
        "src_name": "GX 1+4",
        "time_bin": 0.5,
        "time": "TIME",
        "rate": "RATE",
        "rate_err": "ERROR",
    }
    assert curve.units[1].data is not None
    assert curve.units[1].data["RATE"].tolist() == [5.0, 6.0, 7.0]
    assert spectrum.units[1].data is not None
    assert spectrum.units[1].data["E"].tolist() == [1.0, 2.0]
    table = wire.decode_ascii_table(products["astropy_table_product_ascii_list"][0])
    assert table.text.startswith("# %ECSV")
    assert wire.decode_picture(products["binary_image_product_list"][0]).data == PNG
    assert wire.decode_text(products["text_product_list"][0]).value == "Č"
    assert wire.decode_binary(products["binary_data_product_list"][0]).data == bytes(range(256))


@pytest.mark.parametrize("before", ["\ufeff", "# by hand\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_file_can_have_another_separator_a_byte_order_mark_and_comments(
    tmp_path: Path, before: str, separator: str
) -> None:
    (tmp_path / "lc.csv").write_text(before + CURVE.replace(",", separator), encoding="utf-8")
    content = (tmp_path / "lc.csv").read_bytes()
    _, curve = product("light-curve", Origin(tmp_path / "lc.csv", "lc", ""), content)
    assert curve.units[1].data["RATE"].tolist() == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
async def test_a_parameter_that_is_no_finite_number_is_a_text(tmp_path: Path, value: str) -> None:
    assert new("--text", "x.txt", query=f"{QUERY}&m={value}") == 0
    assert (await served(tmp_path / "mine", m=value))["query_status"] == "done"


async def test_an_instrument_that_is_shipped_has_its_own_description_and_defaults(tmp_path: Path) -> None:
    query = "http://x/run_analysis?instrument=isgri&product_type=isgri_image&src_name=Crab&token=secret&session_id=S"
    assert new("--image", "my.fits", query=query) == 0
    answer = await served(tmp_path / "mine", instrument="isgri", product_type="isgri_image", src_name="Crab")
    assert answer["query_status"] == "done"
    assert "secret" not in (tmp_path / "mine/isgri/isgri_image/Crab/query.json").read_text()


async def test_a_second_fixture_is_added_with_its_product_and_parameters(tmp_path: Path) -> None:
    assert new("--text", "x.txt") == 0
    assert new("--text", "x.txt", query="instrument=survey&product_type=notes&colour=red") == 0
    document = json.loads((tmp_path / "mine/survey/instrument.json").read_text())
    assert document["prod_dict"] == {"sky": "sky_query", "notes": "notes_query"}
    assert [one["name"] for one in document["queries"][2]["parameters"]] == ["colour"]
    assert (await served(tmp_path / "mine"))["query_status"] == "done"
    assert (await served(tmp_path / "mine", product_type="notes", src_name="", colour="red"))["query_status"] == "done"


def test_a_job_takes_the_given_time(tmp_path: Path) -> None:
    assert new("--text", "x.txt", "--seconds", "6", "--slug", "slow") == 0
    answer = json.loads((tmp_path / "mine/survey/sky/slow/answer.json").read_text())
    assert answer["timeline"] == [["submitted", 0.0], ["progress", 2.0], ["ready", 6.0]]


def test_an_existing_fixture_is_replaced_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert new("--text", "x.txt") == 0
    assert new("--picture", "p.png") == 2
    assert "exists already: use --replace, or another --slug" in capsys.readouterr().err
    assert new("--picture", "p.png", "--replace") == 0
    assert main(["fixture", "check", "mine"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "lc.csv"], "an image has to be a FITS file"),
        (["--image", "spec.fits.gz"], "the FITS file has no image"),
        (["--light-curve", "t.csv"], "needs a column TIME, MJD or T; it has a, b"),
        (["--spectrum", "my.fits"], "the file has no table"),
        (["--table", "b.root"], "is no table that can be read"),
        (["--picture", "my.fits"], "is not a picture"),
        (["--light-curve", "words.csv"], "the column RATE of a light curve has to be numbers"),
        (["--light-curve", "empty_lc.fits"], "the table has no rows"),
        (["--image", "cut.fits"], "not a valid FITS file: File may have been truncated"),
        (["--spectrum", "names.csv"], "whose names and texts are ASCII"),
        (["--spectrum", "words.ecsv"], "whose names and texts are ASCII"),
        (["--table", "no_names.csv"], "has to be the names of its columns"),
        (["--picture", "cut.png"], "is cut off: the end of the PNG is missing"),
        (["--text", "b.root"], "is not a text in UTF-8"),
        (["--text", "nosuch.txt"], "nosuch.txt: cannot be read: No such file or directory"),
        (["--text", "."], "cannot be read: Is a directory"),
        (["--text", "x.txt", "--seconds", "-1"], "must be a number of seconds"),
        ([], "needs a file: give one of --image"),
    ],
)
def test_wrong_files_are_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert new(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (gzip.compress(bytes(2000)), "too large"), (bytes(2000), "too large"), (b"\x1f\x8bx", "read")],
)
def test_empty_huge_and_damaged_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    monkeypatch.setattr("oda_proxy.fixture.own_files.MAX_SIZE", 1000)
    (tmp_path / "file").write_bytes(content)
    assert new("--binary", "file") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("instrument=survey", "the query has no product_type"),
        ("", "the query has no instrument"),
        ("instrument=../up&product_type=sky", "instrument cannot be '../up'"),
    ],
)
def test_a_query_without_instrument_or_product_is_refused(
    capsys: pytest.CaptureFixture[str], query: str, message: str
) -> None:
    assert new("--text", "x.txt", query=query) == 2
    assert message in capsys.readouterr().err


def test_of_two_at_once_each_adds_its_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_another_process(*_: Any, **__: Any) -> None:
        with (tmp_path / ".mine.lock").open("w") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        checked.append(True)

    checked: list[bool] = []
    monkeypatch.setattr("oda_proxy.fixture.authoring.write_fixture", in_another_process)
    monkeypatch.setattr("oda_proxy.fixture.authoring.write_manifest", in_another_process)
    (tmp_path / "mine" / "survey").mkdir(parents=True)
    (tmp_path / "mine" / "manifest.json").write_text('{"format": 1, "fixtures": [], "instruments": []}')
    new("--picture", "p.png")
    assert checked == [True, True]
    assert not (tmp_path / ".mine.lock").exists()


@pytest.mark.parametrize("stopped_in", ["write_fixture", "replace_file"])
def test_a_command_that_was_stopped_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"oda_proxy.fixture.authoring.{stopped_in}", stop)
        with pytest.raises(KeyboardInterrupt):
            write_new(tmp_path / "mine", NewFixture(parse_query(QUERY), []), None)
    assert new("--text", "x.txt") == 0
    assert main(["fixture", "check", "mine"]) == 0


def test_a_folder_that_cannot_be_made_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fixture", "new", "x.txt/mine", "--from-query", QUERY, "--picture", "p.png"]) == 1
    assert "x.txt/mine: cannot be written: " in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert new("--text", "x.txt") == 2
    assert "holds other files" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_check_names_what_is_wrong_and_takes_no_options_of_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new("--text", "x.txt") == 0
    (tmp_path / "mine/survey/sky/GX_1+4/query.json").write_text("{}")
    assert main(["fixture", "check", "mine"]) == 1
    assert "query.json" in capsys.readouterr().out
    assert main(["fixture", "check", "mine", "--text", "x.txt"]) == 2
    assert "fixture check takes a folder only, and not --text" in capsys.readouterr().err
