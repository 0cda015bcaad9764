"""A dispatcher is asked anew for what was recorded, and what it answers otherwise is said."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest
from aiohttp.test_utils import TestServer

from mock_server.app import make_app
from mock_server.settings import MockSettings
from oda_proxy.capsule.capsule import Writer
from oda_proxy.cli import main
from oda_proxy.codec import wire
from oda_proxy.commands import diff
from oda_proxy.commands.diff import Drift, Outcome, Recorded, drifts
from oda_proxy.compat.repairs import repaired
from oda_proxy.drift.comparison import Compared, Verdict
from oda_proxy.drift.measure import EXACT, Difference, Tolerance
from oda_proxy.drift.rerun import FailedNowError, Rerun, why_not
from oda_proxy.errors import UpstreamUnreachableError
from oda_proxy.fixture.reading import open_folder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from oda_proxy.query.cache_key import key_of
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.recordings.recording import redact
from oda_proxy.upstream.dispatcher import Dispatcher
from tests.support.answers import answer, written
from tests.support.mock_folders import failure_of, write_folder, write_json, write_manifest_again
from tests.support.paths import FIXTURES
from tests.support.recordings import recording
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from oda_proxy.http.message import Headers, Request
    from oda_proxy.query.query import Query
    from oda_proxy.recordings.recording import Recording

IMAGE = "jemx/jemx_image/010200230010"
CURVES = "polar/polar_lc/2016-12-18"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder without a configuration."""
    monkeypatch.chdir(tmp_path)


def copied(folder: Path, *paths: str, source: str = "a test") -> Path:
    """Copy fixtures, and the descriptions of their instruments, into a folder of their own."""
    kind = "recorded" if source.startswith("http") else "synthetic"
    origins = {}
    for path in [*paths, *{f"{path.split('/')[0]}/instrument.json" for path in paths}]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (FIXTURES / path).is_dir() else shutil.copy)(FIXTURES / path, folder / path)
        origins[path] = {"kind": kind, "source": source, "modelled": []}
    write_manifest(folder, origins)
    return folder


def rewritten(folder: Path, path: str, **products: Any) -> None:
    """Change what a fixture of a folder answers; a product that is None is left out."""
    opened = open_folder(folder)
    [one] = [one for one in opened.fixtures if one.path == path]
    changed = {name: value for name, value in {**one.wire_products(), **products}.items() if value is not None}
    write_fixture(folder, path, one.query(), replace(one.answer(), products=changed))
    write_manifest(folder, {name: dict(origin) for name, origin in opened.origins.items()})


def products_of(folder: Path, path: str) -> dict[str, Any]:
    [one] = [one for one in open_folder(folder).fixtures if one.path == path]
    return one.wire_products()


async def no_time(seconds: float) -> None:
    """Do not wait."""


def nothing(text: str) -> None:
    """Say nothing."""


@asynccontextmanager
async def mock(folder: Path) -> AsyncIterator[str]:
    async with TestServer(make_app(MockSettings(fixtures=(folder,), time_scale=0.0))) as server:
        yield str(server.make_url("")).rstrip("/")


async def drift_of(
    recorded: Path | Iterable[Recorded | Drift], served: Path, tolerance: Tolerance = EXACT
) -> list[Drift]:
    """Ask a mock that serves one folder for what was recorded in another."""
    if isinstance(recorded, Path):
        [(_, recorded)] = diff.recorded_in(recorded)
    async with mock(served) as url:
        return [one async for one in drifts(recorded, url, tolerance, tell=nothing, sleep=no_time)]


# -- what is compared ------------------------------------------------------------------------------


async def test_a_dispatcher_that_answers_as_before_has_not_changed(tmp_path: Path) -> None:
    folder = copied(tmp_path / "recorded", IMAGE, CURVES)

    found = await drift_of(folder, folder)

    assert [(one.name, one.outcome) for one in found] == [(IMAGE, Outcome.SAME), (CURVES, Outcome.SAME)]
    assert all(product.verdict is Verdict.SAME for one in found for product in one.products)


async def test_what_a_dispatcher_answers_otherwise_is_measured(tmp_path: Path) -> None:
    recorded, served = (copied(tmp_path / name, IMAGE) for name in ("recorded", "served"))
    products = products_of(served, IMAGE)
    image = wire.decode_product(products["numpy_data_product_list"][0])
    number, unit = next((n, unit) for n, unit in enumerate(image.units) if unit.data is not None)
    data = unit.data.copy() if unit.data is not None else None
    assert data is not None
    data[10, 20] += 0.5
    units = (*image.units[:number], replace(unit, data=data), *image.units[number + 1 :])
    catalog = json.loads(json.dumps(products["catalog"]))
    column = catalog["cat_column_names"].index("src_names")
    catalog["cat_column_list"][column][0] = "another"
    rewritten(
        served,
        IMAGE,
        numpy_data_product_list=[wire.encode_product(replace(image, units=units))],
        catalog=catalog,
        text_product_list=[{"name": "log", "value": "new", "meta_data": {}}],
    )

    [found] = await drift_of(recorded, served)

    assert found.outcome is Outcome.DIFFERS
    changed, names, text = found.products
    [difference] = changed.differences
    assert f"1 of {data.size} values differ, by up to 0.5 (at pixel (21, 11): was " in difference.said
    assert difference.absolute == pytest.approx(0.5)
    assert names.differences[0].where == "column src_names, row 1"
    assert text == Compared("text_product log", Verdict.NEW)
    assert (await drift_of(recorded, served, Tolerance(atol=0.6)))[0].products[0].verdict is Verdict.SAME


async def test_a_product_that_is_gone_is_named(tmp_path: Path) -> None:
    recorded, served = (copied(tmp_path / name, CURVES) for name in ("recorded", "served"))
    rewritten(served, CURVES, binary_data_product_list=None)

    [found] = await drift_of(recorded, served)

    assert found.outcome is Outcome.DIFFERS
    assert [one.name for one in found.products if one.verdict is Verdict.GONE] == ["binary_data_product"]


async def test_a_job_that_fails_now_is_told_in_the_dispatchers_words(tmp_path: Path) -> None:
    recorded, served = write_folder(tmp_path / "recorded"), write_folder(tmp_path / "served")
    write_json(served / "polar/polar_lc/one/answer.json", failure_of("no such time", []))
    write_manifest_again(served)

    found = {one.name: one for one in await drift_of(recorded, served)}

    assert found["polar/polar_lc/one"] == Drift("polar/polar_lc/one", Outcome.FAILED, "no such time")
    assert found["isgri/isgri_image/one"].outcome is Outcome.SAME


async def test_a_fixture_of_a_failure_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "recorded")

    found = {one.name: one for one in await drift_of(folder, folder)}

    assert found["isgri/isgri_lc/one"].outcome is Outcome.SKIPPED
    assert "failures are not kept" in found["isgri/isgri_lc/one"].reason


def query(words: str = "RA=83.0") -> Query:
    return split_query(parse_fields(f"instrument=polar&product_type=polar_lc&query_type=Real&api=True&{words}"))[0]


def recorded_of(folder: Path, **changes: Any) -> Recorded:
    """Give the light curve of `mock_folders` as it was recorded."""
    [(_, several)] = diff.recorded_in(folder)
    [one] = [one for one in several if isinstance(one, Recorded) and one.name == "polar/polar_lc/one"]
    return replace(one, **changes)


async def test_what_was_asked_for_with_a_token_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    one = recorded_of(folder)

    [found] = await drift_of([replace(one, recording=replace(one.recording, private=True))], folder)

    assert (found.outcome, found.reason) == (Outcome.SKIPPED, "it was asked for with a token, and none is sent")


async def test_what_cannot_be_asked_again_is_skipped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    uploaded = replace(query(), files=(("user_catalog_file", "0" * 64),))
    several = [Recorded(str(n), recording(query=one), has_echo=False) for n, one in enumerate((None, uploaded))]

    found = await drift_of(several, folder)

    assert [one.outcome for one in found] == [Outcome.SKIPPED, Outcome.SKIPPED]
    assert why_not(query("src_name=(removed)")) == "an address was taken out of what was asked"
    assert why_not(query()) == ""


async def test_parameters_that_the_dispatcher_used_otherwise_are_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "served")
    one = recorded_of(folder)
    echo = {"time_bin": 0.25, "verbose": "False", "instrument": "polar", "product_type": "polar_lc"}
    recorded = replace(one.recording, parameters={"analysis_parameters": echo})

    [found] = await drift_of([replace(one, recording=recorded, has_echo=True)], folder)

    assert found.outcome is Outcome.DIFFERS
    assert Difference("time_bin", "was 0.25, is 0.5", 0.25, 1.0) in found.parameters
    assert all(difference.where != "verbose" for difference in found.parameters)


async def test_an_answer_to_another_question_is_told_where_no_echo_was_recorded(tmp_path: Path) -> None:
    products = {"text_product_list": [], "analysis_parameters": {"time_bin": 0.5}}
    upstream = Scripted([{**state("done"), "products": products}])
    one = Recorded("one", recording(query=query("time_bin=2")), has_echo=False)

    found = await diff.drift_of(one, asking(upstream), EXACT, nothing)

    assert found.parameters == (Difference("time_bin", "asked for 2, used 0.5"),)


async def test_a_recording_that_cannot_be_decoded_is_told() -> None:
    one = Recorded("one", recording(text=b'"numpy_data_product_list":[1]', query=query()), has_echo=False)
    upstream = Scripted([answer()])

    found = await diff.drift_of(one, asking(upstream), EXACT, nothing)

    assert found == Drift("one", Outcome.FAILED, "a product is not an object")


# -- asking ----------------------------------------------------------------------------------------


@dataclass
class Body:
    content: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content

    async def aclose(self) -> None:
        pass


@dataclass
class Reply:
    status: int
    body: Body
    headers: Headers = ()


@dataclass
class Scripted:
    """An upstream that gives these answers, one after the other: a document, a status and a text, or an error."""

    answers: list[Any]
    asked: list[Request] = field(default_factory=list)
    url: str = "http://dispatcher.example"

    async def send(self, ask: Request) -> Reply:
        self.asked.append(ask)
        said = self.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        status, content = said if isinstance(said, tuple) else (200, written(said))
        return Reply(status, Body(content))


@dataclass
class Time:
    """A clock that goes on only while somebody sleeps."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def asking(upstream: Scripted, time: Time | None = None) -> Rerun:
    time = time or Time()
    return Rerun(upstream, "S" * 16, clock=time, sleep=time.sleep)


def state(word: str) -> dict[str, Any]:
    return {"query_status": word, "job_monitor": {"job_id": "j1"}, "products": {}, "exit_status": {"status": 0}}


AWAY = UpstreamUnreachableError("http://dispatcher.example", "no answer in time")


async def test_a_job_is_asked_for_until_its_products_are_there() -> None:
    upstream = Scripted([state("submitted"), state("progress"), AWAY, (502, b""), state("ready"), answer(n=1)])
    time, told = Time(), list[str]()

    body = await asking(upstream, time).ask(query("RA=83&RA=84"), tell=told.append)

    assert json.loads(body)["n"] == 1
    sent = [parse_qs(ask.query_string) for ask in upstream.asked]
    assert [one["query_status"][0] for one in sent] == ["new", "submitted", "progress", "progress", "progress", "ready"]
    assert [one.get("job_id") for one in sent] == [None, *[["j1"]] * 5]
    assert all(one["session_id"] == ["S" * 16] and one["RA"] == ["83", "84"] and "token" not in one for one in sent)
    assert [ask.at_most_once for ask in upstream.asked] == [True, False, False, False, False, True]
    assert told[0].startswith("submitted, ")
    assert sum(time.pauses) > 0


async def test_nobody_who_answers_at_all_is_an_error_of_its_own() -> None:
    with pytest.raises(UpstreamUnreachableError):
        await asking(Scripted([AWAY])).ask(query(), tell=nothing)


async def test_a_dispatcher_that_goes_away_later_fails_the_job() -> None:
    anew = asking(Scripted([answer(), AWAY]))
    await anew.ask(query(), tell=nothing)

    with pytest.raises(FailedNowError, match="cannot reach the dispatcher"):
        await anew.ask(query(), tell=nothing)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({**state("failed"), "exit_status": {"status": 1, "message": "no\ndata"}}, "no\\ndata"),
        ({**state("failed"), "exit_status": {}}, "the dispatcher gives no reason"),
        ((400, b'{"error": "RA is no number"}'), "RA is no number"),
        ((403, b"go away"), "the dispatcher answers 403: go away"),
        ((500, b""), "the dispatcher answers 500: nothing"),
    ],
)
async def test_a_failure_is_told_in_one_line(said: Any, reason: str) -> None:
    with pytest.raises(FailedNowError) as raised:
        await asking(Scripted([said])).ask(query(), tell=nothing)

    assert str(raised.value) == reason


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oda_proxy.drift.rerun.MAX_ANSWER", 10)

    with pytest.raises(FailedNowError, match="more than 10 bytes"):
        await asking(Scripted([answer()])).ask(query(), tell=nothing)


async def test_a_long_query_is_sent_as_a_form() -> None:
    upstream = Scripted([answer()])

    await asking(upstream).ask(query(f"scw_list={'a' * 9000}"), tell=nothing)

    [ask] = upstream.asked
    assert (ask.method, ask.query_string) == ("POST", "")
    assert isinstance(ask.body, bytes)
    assert parse_qs(ask.body.decode())["scw_list"] == ["a" * 9000]
    assert ("Content-Type", "application/x-www-form-urlencoded") in ask.headers


# -- the command -----------------------------------------------------------------------------------


def test_what_differs_is_said_and_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = copied(tmp_path / "served", IMAGE, CURVES)
    with running(tmp_path / "log", "mock", "--fixtures", str(served), "--port", "0", "--time-scale", "0") as server:
        recorded = copied(tmp_path / "recorded", IMAGE, CURVES, source=server.url)

        assert main(["diff", str(recorded)]) == 0
        assert capsys.readouterr().out == f"same     {IMAGE}\nsame     {CURVES}\n2 recordings: 2 same\n"

        catalog = products_of(recorded, IMAGE)["catalog"]
        rewritten(recorded, IMAGE, catalog={**catalog, "cat_frame": "icrs"})
        assert main(["diff", "--rtol", "0.1", "--ignore", "A", "--ignore", "B*", str(recorded)]) == 1
        out, err = capsys.readouterr()
        assert out == (
            f"differs  {IMAGE}\n         catalog: cat_frame: was icrs, is fk5\n"
            f"same     {CURVES}\n2 recordings: 1 same, 1 differs\n"
        )
        assert err == ""

        assert main(["diff", str(recorded), "--upstream", server.url, "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert {name: told[name] for name in ("same", "differs", "failed", "skipped")} == {
            "same": 1,
            "differs": 1,
            "failed": 0,
            "skipped": 0,
        }
        [catalog] = [one for one in told["recordings"][0]["products"] if one["name"] == "catalog"]
        assert catalog["differences"] == [
            {"where": "cat_frame", "said": "was icrs, is fk5", "absolute": None, "relative": None}
        ]


async def recorded_from(url: str, query: Query) -> Recording:
    """Record what a dispatcher answers to a query."""
    async with Dispatcher(url) as dispatcher:
        anew = Rerun(dispatcher, "S" * 16, clock=lambda: 0.0, sleep=no_time)
        body = repaired(await anew.ask(query, tell=nothing), 200, anew.envelope)
    return replace(redact(body, anew.envelope, key=key_of(query), stored_at=1.0), query=query)


def test_a_capsule_is_compared_with_the_dispatcher_that_it_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = copied(tmp_path / "served", IMAGE, CURVES)
    [(_, several)] = diff.recorded_in(served)
    queries = [one.recording.query for one in several if isinstance(one, Recorded) and one.recording.query]
    with running(tmp_path / "log", "mock", "--fixtures", str(served), "--port", "0", "--time-scale", "0") as server:
        image, curves = (asyncio.run(recorded_from(server.url, query)) for query in queries)
        writer = Writer(tmp_path / "capsule", include_private=True)
        dispatcher = writer.dispatcher(server.url)
        dispatcher.save_recording(image)
        dispatcher.save_recording(replace(curves, private=True))
        writer.finish(0)

        assert main(["diff", str(tmp_path / "capsule")]) == 0

    assert capsys.readouterr().out == (
        f"same     jemx jemx_image {image.key[:12]}\n"
        f"skipped  polar polar_lc {curves.key[:12]}: it was asked for with a token, and none is sent\n"
        "2 recordings: 1 same, 1 skipped\n"
    )


def test_a_dispatcher_that_is_not_there_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = copied(tmp_path / "recorded", IMAGE)

    assert main(["diff", str(recorded), "--upstream", "http://127.0.0.1:1"]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "oda-proxy: cannot reach the dispatcher http://127.0.0.1:1: Connection refused\n"


def test_a_folder_that_names_no_dispatcher_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = copied(tmp_path / "recorded", IMAGE)

    assert main(["diff", str(recorded)]) == 2
    assert "name one by --upstream" in capsys.readouterr().err


def test_a_folder_with_nothing_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"oda-proxy: there is no capsule in {tmp_path}\n"


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "much"])
def test_a_tolerance_is_a_number_from_nought(tolerance: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", ".", f"--rtol={tolerance}"]) == 2
    assert "is no number from 0" in capsys.readouterr().err


def test_progress_is_one_line_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = diff.Progress()

    progress.tell("one: progress, 2 s\x1b")
    progress.clear()

    assert capsys.readouterr().err == "\r\x1b[Kone: progress, 2 s\\x1b\r\x1b[K"


@pytest.mark.real
@pytest.mark.parametrize("product", ["dummy", "parametrical"])
async def test_a_real_dispatcher_that_was_not_changed_answers_as_before(dispatcher_url: str, product: str) -> None:
    words = f"instrument=empty&product_type={product}&query_type=Dummy&api=True&RA=83.63"
    recorded = await recorded_from(dispatcher_url, split_query(parse_fields(words))[0])

    found = [
        one async for one in drifts([Recorded("one", recorded, has_echo=True)], dispatcher_url, EXACT, tell=nothing)
    ]

    assert found[0].outcome is Outcome.SAME
    assert found[0].products
    assert all(product.verdict is Verdict.SAME for product in found[0].products)
