"""The commands on versions of recordings: `history`, `diff KEY@DATE KEY@DATE`, `rm --all-versions`."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from oda_proxy.cli import main
from oda_proxy.codec import wire
from oda_proxy.codec.product import Card, DataProduct, DataUnit
from oda_proxy.config.folders import cache_folder
from oda_proxy.query.query import Query
from oda_proxy.store.disk import DiskStore
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from pathlib import Path

KEY, UPSTREAM = KEYS[0], "http://dispatcher.example"
QUERY = Query("isgri", "isgri_lc", "Real", (("src_name", ("Crab",)),), api=True)
SHORT = KEY[:12]


def head(flux: float) -> bytes:
    import numpy as np

    unit = DataUnit("RATE", (Card("OBJECT", "Crab"),), np.array([1.0, flux]), "image")
    products = {"numpy_data_product_list": [wire.encode_product(DataProduct("lc", {}, (unit,)))]}
    return json.dumps(products)[1:-1].encode()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fill a store: an answer that changed in March and June."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODA_PROXY_UPSTREAM", UPSTREAM)
    monkeypatch.setenv("ODA_PROXY_CACHE_DIR", str(tmp_path / "caches"))
    folder = cache_folder(tmp_path / "caches", UPSTREAM)
    with closing(DiskStore(folder)) as store:
        for date, flux in (("2026-01-10T12:00:00", 5.0), ("2026-03-10T12:00:00", 6.0), ("2026-06-10T12:00:00", 6.0)):
            one = recording(KEY, head(flux), stored_at=at(date), query=QUERY)
            is_last = date.startswith("2026-06")
            store.put(replace(one, parameters={"analysis_parameters": {"RA": 1}}) if is_last else one)
        store.put(recording(KEYS[1], head(1.0), stored_at=at("2026-02-01T00:00:00"), query=QUERY))
    return folder


def versions(folder: Path) -> list[float]:
    with closing(DiskStore(folder)) as store:
        return [one.valid_from for one in store.versions(KEY)]


def test_history_lists_versions_with_what_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "aaa"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{SHORT} isgri isgri_lc Crab: 3 versions"
    assert lines[1].startswith("2026-01-10T12:00:00Z until 2026-03-10T12:00:00Z, ")
    assert lines[2].startswith("2026-03-10T12:00:00Z until 2026-06-10T12:00:00Z, ")
    assert lines[3].startswith("    lc: RATE: 1 of 2 values differ")
    assert "was 5.0, is 6.0" in lines[3]
    assert lines[4].startswith("2026-06-10T12:00:00Z until now, ")
    assert lines[5].startswith("    parameter RA: ")
    assert lines[-2:] == [
        "two of them are compared by",
        f"    oda-proxy diff {SHORT}@2026-01-10 {SHORT}@2026-06-10",
    ]
    assert len(lines[-1]) < 80
    assert main(lines[-1].split()[1:]) == 1


def test_versions_of_a_day_or_of_a_second_are_named_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(DiskStore(folder)) as store:
        for flux, seconds in ((7.0, 10.0), (8.0, 10.25)):
            store.put(recording(KEY, head(flux), stored_at=at("2026-06-10T12:00:00") + seconds, query=QUERY))
    main(["history", "aaa"])
    lines = capsys.readouterr().out.splitlines()
    dates = [line.partition(" ")[0] for line in lines if line.startswith("2026")]

    assert dates[2:] == ["2026-06-10T12:00:00Z", "2026-06-10T12:00:10.000000Z", "2026-06-10T12:00:10.250000Z"]
    assert lines[-1].endswith(f"diff {SHORT}@2026-01-10 {SHORT}@2026-06-10T12:00:10.250000Z")
    assert main(["diff", *(f"{KEY}@{date}" for date in dates[3:])]) == 1
    assert "was 7.0, is 8.0" in capsys.readouterr().out


def test_changed_values_come_before_changed_cards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image of six HDUs whose cards all changed: what changed by how much is among the first lines."""
    import numpy as np

    names = ("INTENSITY", "VARIANCE", "RESIDUAL", "SIGNIFICANCE", "EXPOSURE")
    with closing(DiskStore(folder)) as store:
        for number in range(2):
            units = [
                DataUnit(
                    name,
                    (Card("TELAPSE", 100.0 + number),),
                    np.full((3, 4), float(name == "EXPOSURE") * number),
                    "image",
                )
                for name in names
            ]
            rows = np.array([(b"Crab", 83.5 + number)], dtype=[("NAME", "S8"), ("RA", ">f8")])
            product = DataProduct("mosaic", {}, (*units, DataUnit("SOURCES", (), rows, "bintable")))
            products = {
                "numpy_data_product_list": [wire.encode_product(product)],
                "text_product_list": [{"name": "log", "value": f"same\nline {number}", "meta_data": {}}],
            }
            text = json.dumps(products)[1:-1].encode()
            store.put(recording(KEYS[2], text, stored_at=at("2026-02-01T00:00:00") + number, query=QUERY))
    main(["history", KEYS[2]])
    lines = capsys.readouterr().out.splitlines()[3:10]

    assert lines[0] == ("    mosaic: EXPOSURE: 12 of 12 values differ, by up to 1 (at pixel (1, 1): was 0.0, is 1.0)")
    assert lines[1].startswith("    mosaic: SOURCES, column RA: 1 of 1 values differ, by up to 1 (at row 1: was 83.5,")
    assert lines[2].startswith("    text_product log: ")
    assert lines[3] == "    mosaic: INTENSITY, TELAPSE: was 100.0, is 101.0"
    assert lines[-1] == "    and 2 more differences"


def test_changes_are_broken_between_words_on_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["history", "aaa"])
    (piped,) = [line for line in capsys.readouterr().out.splitlines() if "values differ" in line]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    main(["history", "aaa"])
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if "values differ" in line)

    assert len(piped) > 60
    assert " ".join(line.strip() for line in lines[at : at + 3]).startswith(piped.strip())
    assert all(len(line) <= 60 for line in lines[1:-1])
    assert lines[at + 1].startswith(" " * 8)


def test_history_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", KEY, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)["versions"]
    assert [one["valid_from"] for one in found] == [at(f"2026-0{month}-10T12:00:00") for month in (1, 3, 6)]
    assert [one["valid_until"] for one in found] == [found[1]["valid_from"], found[2]["valid_from"], None]
    assert found[0]["change"] is None
    assert found[1]["change"]["products"][0]["differences"][0]["absolute"] == 1.0


def test_a_recording_of_an_earlier_release_is_its_first_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "bbb"]) == 0

    assert capsys.readouterr().out.splitlines()[0].endswith(": 1 version")


@pytest.mark.parametrize(
    ("names", "status", "text"),
    [
        (("aaa@2026-02-01", "aaa@2026-04-01"), 1, "1 of 2 values differ"),
        (("aaa@2026-02-01", "aaa"), 1, "1 of 2 values differ"),
        (("aaa@2026-04-01", "aaa"), 1, "parameter RA"),
        (("aaa", "aaa@2026-07-01"), 0, "same"),
        (("aaa", "aaa@2026-07-01", "--json"), 0, '"outcome": "same"'),
    ],
)
def test_two_versions_are_compared(
    names: tuple[str, ...], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", *names]) == status
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("diff", "aaa@2025-01-01", "aaa"), 1, "there is no version of aaa at 2025-01-01; there are versions since"),
        (("diff", "aaa@yesterday", "aaa"), 1, "'yesterday' is not a date"),
        (("diff", "aaa@2026-02-01"), 2, "two versions of recordings"),
        (("diff", "aaa", "bbb", "ccc"), 2, "two versions of recordings"),
        (("diff", "fff@2026-02-01", "aaa"), 1, "no recording has a key that begins with 'fff'"),
        (("history", "fff"), 1, "no recording has a key that begins with 'fff'"),
        (("rm", "aaa@2025-01-01"), 1, "there is no version of aaa at 2025-01-01"),
        (("rm", "aaa@2026-07-01"), 2, "is today's answer at that date"),
        (("rm", "aaa@2026-02-01", "aaa@2025-01-01"), 1, "there is no version"),
        (("rm", "--all-versions", "--source", "Crab"), 2, "--all-versions takes keys"),
        (("rm", "--all-versions", "aaa@2026-02-01"), 2, "--all-versions takes keys without a date"),
    ],
)
def test_other_words_are_refused_in_one_line_and_nothing_is_changed(
    words: tuple[str, ...], status: int, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) == status

    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert len(versions(folder)) == 3


def test_rm_leaves_earlier_versions_and_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "aaa"]) == 0

    output = capsys.readouterr()
    assert output.out == f"removed {SHORT}\n"
    assert "2 earlier versions of them stay; rm --all-versions removes them, too" in output.err
    assert len(versions(folder)) == 2
    assert main(["history", "aaa"]) == 0
    assert main(["rm", "--all-versions", "--dry-run", "aaa"]) == 0
    assert len(versions(folder)) == 2
    assert main(["rm", "--all-versions", "aaa"]) == 0
    assert versions(folder) == []
    assert main(["verify"]) == 0


def test_rm_removes_one_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "aaa@2026-02-01"]) == 0

    assert capsys.readouterr().out == f"removed {SHORT}@2026-01-10T12:00:00Z\n"
    assert versions(folder) == [at("2026-03-10T12:00:00"), at("2026-06-10T12:00:00")]
