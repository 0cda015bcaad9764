"""The command `diff` prints what differs, and its exit status says so."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.cli import main
from oda_proxy.commands.diff import Progress
from oda_proxy.drift.comparison import ProductComparison, Verdict
from oda_proxy.drift.differences import Difference
from oda_proxy.drift.drifts import Drift, Outcome
from oda_proxy.drift.sources import NamedRecording, recordings_in
from oda_proxy.files.trees import FolderTree
from tests.support.fixture_folders import copy_fixtures, products_of_fixture, rewrite_fixture
from tests.support.reruns import recorded_from
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

IMAGE = "jemx/jemx_image/010200230010"
CURVES = "polar/polar_lc/2016-12-18"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a configuration."""
    monkeypatch.chdir(tmp_path)


def test_differences_are_printed_and_the_exit_status_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = copy_fixtures(tmp_path / "served", IMAGE, CURVES)
    with running(tmp_path / "log", "mock", "--fixtures", str(served), "--port", "0", "--time-scale", "0") as server:
        recorded = copy_fixtures(tmp_path / "recorded", IMAGE, CURVES, source=server.url)

        assert main(["diff", str(recorded)]) == 0
        assert capsys.readouterr().out == (
            f"arrays: all the same, in 2 recordings\nsame     {IMAGE}\nsame     {CURVES}\n2 recordings: 2 same\n"
        )

        catalog = products_of_fixture(recorded, IMAGE)["catalog"]
        rewrite_fixture(recorded, IMAGE, catalog={**catalog, "cat_frame": "icrs"})
        assert main(["diff", "--rtol", "0.1", "--ignore", "A", "--ignore", "B*", str(recorded)]) == 1
        out, err = capsys.readouterr()
        assert out == (
            "arrays: all the same, in 2 recordings\n"
            f"differs  {IMAGE}\n         catalog: cat_frame: was icrs, is fk5\n"
            f"same     {CURVES}\n2 recordings: 1 same, 1 differs\n"
        )
        assert err == ""

        assert main(["diff", str(recorded), "--upstream", server.url, "--json"]) == 1
        printed = json.loads(capsys.readouterr().out)
        assert {name: printed[name] for name in ("same", "differs", "failed", "skipped")} == {
            "same": 1,
            "differs": 1,
            "failed": 0,
            "skipped": 0,
        }
        [catalog] = [one for one in printed["recordings"][0]["products"] if one["name"] == "catalog"]
        assert catalog["differences"] == [
            {
                "where": "cat_frame",
                "said": "was icrs, is fk5",
                "absolute": None,
                "relative": None,
                "was": "icrs",
                "is": "fk5",
                "count": None,
                "of": None,
            }
        ]


def test_a_capsule_is_compared_with_its_dispatcher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = copy_fixtures(tmp_path / "served", IMAGE, CURVES)
    [(_, several)] = recordings_in(FolderTree(served))
    queries = [one.recording.query for one in several if isinstance(one, NamedRecording) and one.recording.query]
    with running(tmp_path / "log", "mock", "--fixtures", str(served), "--port", "0", "--time-scale", "0") as server:
        image, curves = (asyncio.run(recorded_from(server.url, query)) for query in queries)
        writer = CapsuleWriter(tmp_path / "capsule", include_private=True)
        dispatcher = writer.dispatcher(server.url)
        dispatcher.save_recording(image)
        dispatcher.save_recording(replace(curves, private=True))
        writer.finish(0)

        assert main(["diff", str(tmp_path / "capsule")]) == 0

    assert capsys.readouterr().out == (
        "arrays: all the same, in 1 recording\n"
        f"same     jemx jemx_image {image.key[:12]}\n"
        f"skipped  polar polar_lc {curves.key[:12]}: it was requested with a token, and no token is sent\n"
        "2 recordings: 1 same, 1 skipped\n"
    )


def drift(name: str, *products: ProductComparison, parameters: tuple[Difference, ...] = ()) -> Drift:
    return Drift(name, Outcome.DIFFERS, "", products, parameters)


def printed(
    results: list[Drift],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *flags: str,
) -> str:
    """Return what the command prints of these results."""

    async def rerun(*_: Any, **__: Any) -> AsyncIterator[Drift]:
        for one in results:
            yield one

    monkeypatch.setattr("oda_proxy.commands.diff.drifts", rerun)
    folder = copy_fixtures(tmp_path / "recorded", CURVES, source="http://127.0.0.1:1")
    assert main(["diff", str(folder), *flags]) == 1
    return capsys.readouterr().out


def test_what_repeats_in_many_products_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    creator = "was ii 5.4, is ii 6.0"
    curves = [
        ProductComparison(f"isgri_lc {source}", Verdict.DIFFERS, (Difference(f"LC-{source}, CREATOR", creator),))
        for source in ("Crab", "A", "B")
    ]
    version = Difference("osa_version", "was OSA10.2, is OSA11.2")
    once = ProductComparison("mosaic", Verdict.DIFFERS, (Difference("MAP, EXPOSURE", "was 10.0, is 10.5"),))
    results = [
        drift("one", *curves, once, parameters=(version,)),
        drift("two", parameters=(version,)),
        drift("three", parameters=(version,)),
    ]

    out = printed(results, tmp_path, monkeypatch, capsys)

    assert out.splitlines() == [
        "arrays: all the same, in 3 recordings",
        "differs  one",
        "         mosaic: MAP, EXPOSURE: was 10.0, is 10.5",
        "differs  two",
        "differs  three",
        "in 3 places: CREATOR: was ii 5.4, is ii 6.0",
        "in 3 places: parameter osa_version: was OSA10.2, is OSA11.2",
        "3 recordings: 3 differs",
    ]


def test_the_first_line_says_in_how_many_recordings_arrays_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = Difference("MAP", "1 of 4 values differ", 0.5, None, 1.0, float("nan"), 1, 4, of_array=True)
    one = ProductComparison("mosaic", Verdict.DIFFERS, (changed,), has_arrays=True)
    results = [drift("one", one), drift("two"), Drift("three", Outcome.FAILED, "no data")]

    assert printed(results, tmp_path, monkeypatch, capsys).startswith("arrays: different in 1 of 2 recordings\n")
    report = json.loads(printed(results, tmp_path / "again", monkeypatch, capsys, "--json"))
    assert report["same_arrays"] is False
    [difference] = report["recordings"][0]["products"][0]["differences"]
    assert {name: difference[name] for name in ("was", "is", "count", "of")} == {
        "was": 1.0,
        "is": "nan",
        "count": 1,
        "of": 4,
    }


def test_results_before_an_interruption_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def rerun(*_: Any, **__: Any) -> AsyncIterator[Drift]:
        yield drift("one")
        raise KeyboardInterrupt

    monkeypatch.setattr("oda_proxy.commands.diff.drifts", rerun)
    folder = copy_fixtures(tmp_path / "recorded", CURVES, source="http://127.0.0.1:1")

    assert main(["diff", str(folder)]) == 130
    assert "differs  one\n" in capsys.readouterr().out


def test_an_unreachable_dispatcher_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = copy_fixtures(tmp_path / "recorded", IMAGE)

    assert main(["diff", str(recorded), "--upstream", "http://127.0.0.1:1"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "oda-proxy: cannot reach the dispatcher http://127.0.0.1:1: Connection refused\n"


def test_a_folder_without_a_dispatcher_needs_an_upstream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = copy_fixtures(tmp_path / "recorded", IMAGE)

    assert main(["diff", str(recorded)]) == 2
    assert "use --upstream" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"oda-proxy: {tmp_path} is neither a capsule (it has no capsule.json) "
        "nor a folder of fixtures (no manifest.json)\n"
    )


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "much"])
def test_a_tolerance_is_a_number_from_zero(tolerance: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", ".", f"--rtol={tolerance}"]) == 2
    assert "argument --rtol: must be a number from 0, not" in capsys.readouterr().err


def test_progress_is_a_status_line_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress()

    progress.show("one: progress, 2 s\x1b")
    progress.clear()

    assert capsys.readouterr().err == "\r\x1b[Kone: progress, 2 s\\x1b\r\x1b[K"
