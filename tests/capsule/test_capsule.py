"""Capsules survive the round trip; files that are not in the format are refused by name."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oda_proxy.capsule.capsule import Capsule, DispatcherCapsule, open_capsule
from oda_proxy.capsule.capsule import verify as verify_capsule
from oda_proxy.capsule.errors import CapsuleError
from oda_proxy.capsule.output import capsule_output
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.files import digests
from oda_proxy.fixture import writing
from oda_proxy.fixture.verification import verify
from oda_proxy.query.cache_key import Key, keys_of
from oda_proxy.query.descriptions import Descriptions
from oda_proxy.query.query import Envelope, Token
from oda_proxy.query.schema import read_schema
from oda_proxy.recordings.head import MemoryHead
from oda_proxy.upstream.description_cache import DescriptionCache
from tests.support import capsules
from tests.support.dispatcher_responses import SESSION
from tests.support.examples import examples
from tests.support.paths import SAMPLES
from tests.support.unreadable_responses import product, unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.files.digests import FileDigest
    from oda_proxy.recordings.recording import Recording

SAMPLE = SAMPLES / "capsule-1"
LATEST = SAMPLES / "capsule-2"
HERE = "dispatchers/dispatcher.example"
IMAGE = f"{HERE}/fixtures/isgri/isgri_image/crab-b4a69e9a0291"
TOLD = f"{HERE}/descriptions/isgri.json"
ARRAY = f"{IMAGE}/Crab.lc.fits"
WIRED = f"{HERE}/fixtures/isgri/isgri_image/200c7be16ccf"
EXCHANGE = f"exchanges/{capsules.exchange().name}"
HOSTILE = base64.b64encode(b"\x80\x02cposix\nsystem\nX\x16\0\0\0touch run-by-a-capsule\x85R.").decode()
"""A pickle that makes a file where it is loaded."""


def only(capsule: Capsule) -> DispatcherCapsule:
    (dispatcher,) = capsule.dispatchers
    return dispatcher


def read(capsule: Capsule) -> dict[str, Recording]:
    return {recording.key: recording for recording in only(capsule).recordings()}


def saved(recording: Recording) -> tuple[Any, ...]:
    """Return all of a recording that must be preserved, except for the offsets of gaps."""
    row = replace(recording, head=capsules.with_arrays().head, gaps=())
    return row, [gap.cards for gap in recording.gaps], capsules.client_view(recording)


# -- round trips -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    capsules.write_capsule(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of a capsule that the test may damage."""
    return Path(shutil.copytree(made, tmp_path / "capsule"))


@pytest.mark.parametrize("recording", [capsules.with_arrays(), capsules.without_fits()], ids=["arrays", "others"])
def test_a_recording_survives_the_round_trip(made: Path, recording: Recording) -> None:
    found = read(open_capsule(made))[recording.key]

    assert saved(found) == saved(recording)
    assert found.query
    assert found.key == keys_of(found.query, [capsules.SCHEMA])[0]


def test_a_failure_survives_the_round_trip(made: Path) -> None:
    failure = capsules.failed("bad_RA.400", capsules.query(RA="a"))

    assert only(open_capsule(made)).failures[failure.key] == failure


def test_an_exchange_survives_the_round_trip(made: Path) -> None:
    exchanges = {page.name: page for page in [capsules.exchange(), *capsules.other_exchanges()]}

    assert {page.name: page for page in open_capsule(made).exchanges()} == exchanges


async def test_descriptions_can_be_read_by_their_writers(made: Path) -> None:
    folder = only(open_capsule(made)).folder

    (schema,) = await Descriptions(None, folder, ttl=1, clock=lambda: 0.0).schemas("isgri")
    description_cache = DescriptionCache(float("inf"), lambda: 0.0, folder)
    answer = await description_cache.get(("/api/instr-list",), pytest.fail)

    assert schema.products.keys() == capsules.SCHEMA.products.keys()
    assert answer.body == (b'["isgri"]',)


def test_a_manifest_has_the_command_and_the_uses(made: Path) -> None:
    capsule = open_capsule(made)

    assert capsule.command == ("python", "analysis.py", "--token", "(removed)")
    assert (capsule.created, capsule.exit_status) == ("2023-11-14T22:13:20Z", 0)
    assert capsule.ended
    assert capsule.versions["oda_api"] == ["1.3.5"]
    assert only(capsule).addresses == ("http://127.0.0.1:8000/dispatch-data",)
    assert {use.count for use in capsule.uses.values()} == {1}
    assert len(capsule.uses) == 5
    assert capsule.unlisted == ()


def test_a_capsule_can_be_moved(folder: Path, tmp_path: Path) -> None:
    before = [saved(recording) for recording in read(open_capsule(folder)).values()]
    folder.rename(tmp_path / "elsewhere")

    assert [saved(recording) for recording in read(open_capsule(tmp_path / "elsewhere")).values()] == before
    assert str(tmp_path) not in "".join(file.read_text("latin-1") for file in tmp_path.rglob("*") if file.is_file())


def test_a_capsule_has_nothing_of_the_user(made: Path) -> None:
    everything = b"".join(file.read_bytes() for file in made.rglob("*") if file.is_file())

    for secret in (SESSION, "abcdefgh", "G4CCS8JT6J4YEBO8", "/PATH/", "dispatcher.yaml"):
        assert secret.encode() not in everything


def test_its_fixtures_are_a_sound_folder_of_fixtures(made: Path) -> None:
    assert verify(made / HERE / "fixtures") == []


def test_everyone_with_access_to_the_folder_may_read_it(made: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in made.rglob("*") if file.is_file()}

    assert modes == {made.stat().st_mode & 0o666}


# -- the sample ------------------------------------------------------------------------------------

ANSWERS = {
    "3560515f9ab34ff28dd2f31ec96e3504180fee71323fd4ba9cd8f31633573503",
    "cd33133868cc9697b8254b7385381a647ee239242f1a9bb9b9bf402c9ba4c52f",
}
REST = "23598da4e1eddcb968f235c253d8d3220a6402d0b2ab5a84de423b23925fca9b"


REST_OF_2 = "d51ecba660bcd2002af22fb60f81c3acd661b5529dd73d00507cb8729042253b"


def test_the_capsule_of_format_1_reads_as_always() -> None:
    """Never change the expected values: published capsules must stay readable."""
    capsule = open_capsule(SAMPLE)
    dispatcher, recordings = only(capsule), list(only(capsule).recordings())
    exchanges = sorted((SAMPLE / "exchanges").glob("*.json"))
    assert [page.url for page in capsule.exchanges()] == ["https://sites.example/list?name=Crab"]
    rest = [
        [[failure.status, failure.body, failure.gaps] for failure in dispatcher.failures.values()],
        [[json.loads(file.read_text()), file.with_suffix(".body").read_text()] for file in exchanges],
        [
            [one.stored_at, one.cost, one.timeline, one.private, one.parameters, one.client_members]
            for one in recordings
        ],
        [[one.query and [one.query.parameters, one.query.files], len(one.gaps)] for one in recordings],
        [dispatcher.url, dispatcher.addresses, capsule.command, capsule.created, capsule.ended],
    ]

    assert {capsules.digest(capsules.client_view(one)) for one in recordings} == ANSWERS
    assert capsules.digest(rest) == REST


def test_the_capsule_of_format_2_reads_as_always() -> None:
    """Never change the expected values: published capsules must stay readable."""
    capsule = open_capsule(LATEST)
    dispatcher, recordings = only(capsule), list(only(capsule).recordings())
    pages = sorted(capsule.exchanges(), key=lambda page: page.name)
    rest = [
        [[failure.status, failure.body, failure.gaps] for failure in dispatcher.failures.values()],
        [[p.method, p.url, p.status, p.headers, p.body.decode(), p.request_digest, p.occurrence] for p in pages],
        [
            [one.stored_at, one.cost, one.timeline, one.private, one.parameters, one.client_members]
            for one in recordings
        ],
        [[one.query and [one.query.parameters, one.query.files], len(one.gaps)] for one in recordings],
        [dispatcher.url, dispatcher.addresses, capsule.command, capsule.created, capsule.ended],
        [capsule.manifest.source_date_epoch, capsule.versions["packages"], capsule.versions["interpreters"]],
    ]

    assert {capsules.digest(capsules.client_view(one)) for one in recordings} == ANSWERS
    assert capsules.digest(rest) == REST_OF_2
    assert verify_capsule(LATEST) == []


def test_the_sample_is_found_by_an_equivalent_query() -> None:
    dispatcher = only(open_capsule(SAMPLE))
    (text,) = json.loads((dispatcher.folder / "descriptions" / "isgri.json").read_text())["meta_data"]

    query = capsules.query(RA="83", dry_run="yes", radius="15")

    assert keys_of(query, [read_schema(text)])[0] in {one.key for one in dispatcher.recordings()}


# -- writing ----------------------------------------------------------------------------------------


def test_an_interrupted_run_leaves_its_answers(tmp_path: Path) -> None:
    _, dispatcher = capsules.begun(tmp_path / "c")
    dispatcher.save_recording(capsules.with_arrays())
    capsules.write_descriptions(dispatcher.folder)

    capsule = open_capsule(tmp_path / "c")

    assert capsule.ended is None
    assert set(read(capsule)) == {capsules.with_arrays().key}
    assert [Path(path).name[:5] for path in capsule.unlisted] == ["api_i", "isgri", "manif"]


@pytest.mark.parametrize("number", range(1, 12))
def test_a_run_that_ends_between_two_files_leaves_a_capsule_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Whichever file is written last, also while a recording replaces another."""
    _, dispatcher = capsules.begun(tmp_path / "c")
    kept = capsules.with_arrays()
    dispatcher.save_recording(kept)
    left = number
    fsync = os.fsync

    def until_then(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", until_then)
    try:
        dispatcher.save_recording(replace(kept, stored_at=99.0))
        dispatcher.save_failure(capsules.failed("bad_RA.400", capsules.query(RA="a")))
        dispatcher.save_failure(capsules.failed("bad_RA.400", capsules.query(RA="a")))
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()

    found = read(open_capsule(tmp_path / "c"))

    assert found.keys() == {kept.key}
    assert saved(replace(found[kept.key], stored_at=kept.stored_at)) == saved(kept)


def test_a_newer_answer_replaces_the_earlier_one(tmp_path: Path) -> None:
    writer, dispatcher = capsules.begun(tmp_path / "c")
    recording, failure = capsules.with_arrays(), capsules.failed("bad_RA.400", capsules.query(RA="a"))
    for stored_at in (1.0, 2.0, 3.0):
        dispatcher.save_recording(replace(recording, stored_at=stored_at))
        dispatcher.count_use(recording.key)
        dispatcher.save_failure(replace(failure, failed_at=stored_at))
        dispatcher.count_use(failure.key)
    writer.finish(1)

    capsule = open_capsule(tmp_path / "c")

    assert [one.stored_at for one in only(capsule).recordings()] == [3.0]
    assert [one.failed_at for one in only(capsule).failures.values()] == [3.0]
    assert [use.count for use in capsule.uses.values()] == [3, 3]
    assert capsule.unlisted == ()
    assert verify(tmp_path / "c" / HERE / "fixtures") == []


def test_many_threads_may_write(tmp_path: Path) -> None:
    writer, dispatcher = capsules.begun(tmp_path / "c")
    recordings = [replace(capsules.without_fits(), key=Key(f"{number:064x}")) for number in range(12)]
    start = threading.Barrier(4)

    def save(some: list[Recording]) -> None:
        start.wait()
        for recording in some:
            dispatcher.save_recording(recording)
            dispatcher.count_use(recording.key)
            writer.save_exchange(replace(capsules.exchange(), url=f"https://example.org/{recording.key}"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(save, [recordings[number::4] for number in range(4)]))
    writer.finish(0)

    capsule = open_capsule(tmp_path / "c")
    assert set(read(capsule)) == {recording.key for recording in recordings}
    assert len(list(capsule.exchanges())) == 12


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, dispatcher = capsules.begun(tmp_path / "c")
    dispatcher.save_recording(capsules.with_arrays())
    measured: list[str] = []

    def noting(root: Path, path: str) -> FileDigest:
        measured.append(path)
        return digests.compute_digest(root, path)

    monkeypatch.setattr(writing, "compute_digest", noting)

    dispatcher.save_recording(capsules.without_fits())

    assert len(measured) == len(set(measured)) == 6
    assert not any("crab" in path for path in measured)


PRIVATE = Envelope("new", SESSION, token=Token("eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"), others=capsules.ENVELOPE.others)


@pytest.mark.parametrize("include", [False, True])
def test_private_answers_are_saved_only_if_included(tmp_path: Path, include: bool) -> None:
    writer, dispatcher = capsules.begun(tmp_path / "c", include_private=include)
    recording = capsules.recorded(capsules.query(RA="1"), envelope=PRIVATE)
    failure = capsules.failed("bad_RA.400", capsules.query(RA="a"), PRIVATE)

    kept = dispatcher.save_recording(recording), dispatcher.save_failure(failure)
    dispatcher.count_use(recording.key)
    writer.finish(0)

    capsule = open_capsule(tmp_path / "c")
    assert kept == (include, include)
    assert writer.private_left_out == (0 if include else 2)
    assert [one.private for one in only(capsule).recordings()] == [True] * include
    assert [one.private for one in only(capsule).failures.values()] == [True] * include
    assert len(capsule.uses) == include


def test_what_cannot_be_saved_is_an_error_and_damages_nothing(tmp_path: Path) -> None:
    writer, dispatcher = capsules.begun(tmp_path / "c")
    recording = capsules.with_arrays()
    for bad in (replace(recording, query=None), replace(recording, head=MemoryHead(b"no JSON"), gaps=())):
        with pytest.raises(CapsuleError, match=r"the query of the recording is not known|not JSON"):
            dispatcher.save_recording(bad)
    dispatcher.save_recording(recording)
    writer.finish(0)

    assert set(read(open_capsule(tmp_path / "c"))) == {recording.key}


def test_a_full_disk_is_an_error_of_the_capsule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, dispatcher = capsules.begun(tmp_path / "c")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for save in (
        lambda: dispatcher.save_recording(capsules.with_arrays()),
        lambda: dispatcher.save_failure(capsules.failed("bad_RA.400", capsules.query(RA="a"))),
        lambda: writer.save_exchange(capsules.exchange()),
        lambda: writer.finish(0),
    ):
        with pytest.raises(CapsuleError, match="No space left"):
            save()


def test_nothing_is_added_to_a_finished_capsule(tmp_path: Path) -> None:
    writer = capsules.write_capsule(tmp_path / "c")

    with pytest.raises(CapsuleError, match="finished"):
        writer.dispatcher(capsules.URL).save_recording(capsules.with_arrays())
    with pytest.raises(CapsuleError, match="finished"):
        writer.finish(0)


def test_two_dispatchers_have_folders_of_their_own(tmp_path: Path) -> None:
    writer = CapsuleWriter(tmp_path / "c")
    for url in ("https://u:secret@a.example/x", "https://a.example_x", "https://[::1]:80/..", "://"):
        writer.dispatcher(url).save_recording(capsules.without_fits())
    assert writer.dispatcher("https://a.example/x") is writer.dispatcher("https://u:p@a.example/x")
    writer.finish(0)

    dispatchers = open_capsule(tmp_path / "c").dispatchers

    assert [one.name for one in dispatchers] == ["a.example", "a.example_x", "1_80", "unnamed"]
    assert "secret" not in (tmp_path / "c" / "capsule.json").read_text()


# -- for people, and for git -----------------------------------------------------------------------


def test_every_text_ends_with_a_newline_and_git_leaves_it_alone(made: Path) -> None:
    texts = [file for file in made.rglob("*") if file.suffix in {"", ".json", ".md", ".body"} and file.is_file()]

    assert [file.name for file in texts if not file.read_bytes().endswith(b"\n") and file.stat().st_size] == []
    assert "\n* -text\n" in (made / ".gitattributes").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.rstrip(b"\n"),
        lambda content: content + b"\n",
        lambda content: content.replace(b"\n", b"\r\n").rstrip(b"\r\n"),
    ],
    ids=["autocrlf", "no-newline", "another-newline", "both"],
)
@pytest.mark.parametrize("path", [TOLD, f"{IMAGE}/answer.json"])
def test_a_file_with_other_line_ends_is_explained(folder: Path, change: Callable[[bytes], bytes], path: str) -> None:
    (folder / path).write_bytes(change((folder / path).read_bytes()))

    with pytest.raises(CapsuleError, match=r"was changed in its line ends only, as git does with core.autocrlf"):
        open_capsule(folder)


def test_another_change_is_not_taken_for_one_of_line_ends(folder: Path) -> None:
    (folder / TOLD).write_bytes((folder / TOLD).read_bytes().replace(b"isgri", b"ISGRI"))

    with pytest.raises(CapsuleError, match="its SHA-256 differs from the manifest"):
        open_capsule(folder)


def test_a_readme_says_what_is_where_and_how_to_run_it_again(made: Path) -> None:
    text = (made / "README.md").read_text()

    assert "- Run: 2023-11-14T22:13:20Z to " in text
    assert f"src_name=Crab) | `{IMAGE}` | {capsules.URL} | 21.9 kB |" in text
    assert "| GET https://sites.example/list?name=Crab | `exchanges/sites.example_list-" in text
    assert "oda-proxy replay path/to/this/folder -- COMMAND" in text
    assert "| numpy | 2.4.6 |" in text


@pytest.mark.parametrize(("own", "text"), [(True, "# Mine"), (False, "<!-- written by oda-proxy")])
def test_a_readme_of_the_author_stays(tmp_path: Path, own: bool, text: str) -> None:
    capsules.write_capsule(tmp_path / "c")
    if own:
        (tmp_path / "c" / "README.md").write_text("# Mine\n")

    with capsule_output(tmp_path / "c", replace=True) as folder:
        capsules.write_capsule(folder)

    assert (tmp_path / "c" / "README.md").read_text().startswith(text)


def test_no_path_is_longer_than_120_characters(tmp_path: Path) -> None:
    writer = CapsuleWriter(tmp_path / "c")
    long = "x" * 200
    for url in (f"https://{long}.example/1", f"https://{long}.example/2"):
        dispatcher = writer.dispatcher(url)
        asked = replace(capsules.query(src_name=long), instrument=long, product_type=long)
        names = [product(unit(capsules.IMAGE), name=f"{long}{number}") for number in range(12)]
        dispatcher.save_recording(replace(capsules.recorded(asked, numpy_data_product_list=names), query=asked))
        failure = capsules.failed("bad_RA.400", capsules.query(RA="a"))
        dispatcher.save_failure(replace(failure, query=asked))
    writer.save_exchange(replace(capsules.exchange(), url=f"https://{long}.example/{long}"))
    writer.finish(0)

    assert max(len(path) for path in open_capsule(tmp_path / "c").files) <= 120


# -- refusals --------------------------------------------------------------------------------------


def read_all(folder: Path) -> list[Any]:
    """Read everything."""
    capsule = open_capsule(folder)
    return [one for dispatcher in capsule.dispatchers for one in dispatcher.recordings()]


def listed_anew(folder: Path, name: str, content: bytes) -> None:
    """Write a file, and its digest into the manifest, as an attacker would."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    manifest(lambda m: m["files"].update({name: {"size": len(content), "sha256": sha256(content)}}))(folder)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        document = json.loads((folder / "capsule.json").read_text())
        change(document)
        (folder / "capsule.json").write_text(json.dumps(document))

    return damage


def document(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change a JSON file, and its digest in the manifest."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        change(value)
        listed_anew(folder, name, json.dumps(value).encode())

    return damage


def recorded(**members: Any) -> Callable[[Path], None]:
    return document(f"{IMAGE}/answer.json", lambda value: value["recorded"].update(members))


def linked(folder: Path) -> None:
    outside = folder.parent / "outside.json"
    (folder / IMAGE / "query.json").rename(outside)
    (folder / IMAGE / "query.json").symlink_to(outside)


def linked_folder(folder: Path) -> None:
    (folder / HERE).rename(folder.parent / "outside")
    (folder / HERE).symlink_to(folder.parent / "outside")


def piped(folder: Path) -> None:
    (folder / f"{EXCHANGE}.body").unlink()
    os.mkfifo(folder / f"{EXCHANGE}.body")


def hostile_product(value: Any) -> None:
    value["data_unit_list"][1]["binarys"] = HOSTILE


def hostile_table(value: Any) -> None:
    value["products"]["astropy_table_product_binary_list"] = [{"name": "t", "meta_data": None, "binary": HOSTILE}]


def hostile_failure(value: Any) -> None:
    value["body"]["products"] = {"numpy_data_product_list": [{"data_unit_list": [{"binarys": HOSTILE}]}]}


FAILURE = next(path.relative_to(LATEST).as_posix() for path in sorted(LATEST.glob(f"{HERE}/failures/*.json")))
CODE = "().__class__.__base__.__subclasses__()"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no JSON": (lambda f: (f / "capsule.json").write_text("{"), "capsule.json", "not strict JSON"),
    "no object": (lambda f: (f / "capsule.json").write_text("[]"), "capsule.json", "expected an object"),
    "a huge manifest": (lambda f: os.truncate(f / "capsule.json", 2**26 + 1), "capsule.json", "larger than"),
    "too many files": (manifest(lambda m: m.update(files={f"{n}": 0 for n in range(100_001)})), "capsule.json", "more"),
    "another format": (manifest(lambda m: m.update(format=3)), "capsule.json", "format 3; this release reads"),
    "no files": (manifest(lambda m: m.pop("files")), "capsule.json", "'files'"),
    "no dispatchers": (manifest(lambda m: m.update(dispatchers={})), "capsule.json", "'dispatchers'"),
    "no valid name": (manifest(lambda m: m["dispatchers"][0].update(name="..")), "capsule.json", "not a valid name"),
    "a dispatcher twice": (manifest(lambda m: m["dispatchers"].append(m["dispatchers"][0])), "capsule.json", "twice"),
    "a stranger's file": (manifest(lambda m: m["dispatchers"][0].update(name="x")), HERE, "does not name"),
    "a status of text": (manifest(lambda m: m.update(exit_status="0")), "capsule.json", "'exit_status'"),
    "a command of numbers": (manifest(lambda m: m.update(command=[1])), "capsule.json", "'command'"),
    "a use of nothing": (manifest(lambda m: m["uses"].update(x={})), "capsule.json", "'count'"),
    "up and out": (manifest(lambda m: m["files"].update({"../x": {}})), "capsule.json", "not a path of the format"),
    "up within": (manifest(lambda m: m["files"].update({f"{HERE}/failures/../x.json": {}})), "capsule.json", "not a"),
    "absolute": (manifest(lambda m: m["files"].update({"/etc/passwd": {}})), "capsule.json", "not a path"),
    "elsewhere": (manifest(lambda m: m["files"].update({"notebook.ipynb": {}})), "capsule.json", "not a path of"),
    "no digest": (manifest(lambda m: m["files"][TOLD].update(sha256="x")), "capsule.json", "no SHA-256"),
    "an exchange without body": (manifest(lambda m: m["files"].pop(f"{EXCHANGE}.body")), "capsule.json", "a body"),
    "a missing file": (lambda f: (f / FAILURE).unlink(), FAILURE, "is missing, but listed"),
    "a changed file": (lambda f: (f / f"{EXCHANGE}.body").write_bytes(b"x" * 12), f"{EXCHANGE}.body", "was changed"),
    "a longer file": (
        lambda f: (f / FAILURE).write_bytes((f / FAILURE).read_bytes() + b" "),
        FAILURE,
        r"was changed: it has \d+ bytes, not \d+",
    ),
    "a shorter file": (lambda f: os.truncate(f / FAILURE, 7), FAILURE, r"was changed: it has 7 bytes, not \d+"),
    "a changed array": (lambda f: (f / ARRAY).write_bytes(b"x" * 8640), ARRAY, "was changed"),
    "a link out": (linked, f"{IMAGE}/query.json", "outside the folder"),
    "a folder out": (linked_folder, HERE, "outside the folder"),
    "a pipe": (piped, f"{EXCHANGE}.body", "is not a regular file"),
    "a hostile pickle": (document(f"{WIRED}/mask.json", hostile_product), WIRED, "would load posix.system"),
    "a hostile table": (document(f"{IMAGE}/answer.json", hostile_table), IMAGE, "would load posix.system"),
    "a hostile failure": (document(FAILURE, hostile_failure), FAILURE, "would load posix.system"),
    "a text that runs": (
        document(f"{WIRED}/mask.json", lambda p: p.update(meta_data=CODE)), WIRED, "a text that clients evaluate"
    ),
    "code beside an array": (
        document(
            f"{IMAGE}/answer.json",
            lambda a: a["products"]["numpy_data_product_list"][0].update(sent={"meta_data": CODE}),
        ),
        IMAGE,
        "a text that clients evaluate",
    ),
    "an array beside an array": (
        document(
            f"{IMAGE}/answer.json",
            lambda a: a["products"]["numpy_data_product_list"][0]["units"][1].update(sent={"binarys": HOSTILE}),
        ),
        IMAGE,
        "would load posix.system|holds an array",
    ),
    "an array that is none": (
        lambda f: listed_anew(f, f"{IMAGE}/Crab.lc.fits", b"SIMPLE"), f"{IMAGE}/Crab.lc.fits", "not a FITS|FITS"
    ),
    "not recorded": (document(f"{IMAGE}/answer.json", lambda a: a.pop("recorded")), IMAGE, "has no key"),
    "no key": (recorded(key="x"), IMAGE, "'key' is not a key"),
    "another's key": (recorded(key=capsules.without_fits().key), HERE, "which another file has"),
    "no time": (recorded(stored_at=-1), IMAGE, "'stored_at'"),
    "time without end": (recorded(cost=True), IMAGE, "'cost'"),
    "an echo of text": (recorded(echo={"analysis_parameters": "x"}), IMAGE, "expected an object"),
    "names of numbers": (recorded(echoed=[1]), IMAGE, "'echoed'"),
    "a program of numbers": (recorded(api_code=[[1]]), IMAGE, "'api_code'"),
    "a gap nowhere": (recorded(gaps=[{"at": ["x"], "cards": {}}]), IMAGE, "leads nowhere"),
    "a gap in no header": (
        recorded(gaps=[{"at": ["numpy_data_product_list", 0], "cards": {"token": "token"}}]), IMAGE, "not where"
    ),
    "not a card": (
        recorded(gaps=[{"at": ["numpy_data_product_list", 0, "data_unit_list", 1, "header"], "cards": {"a": 1}}]),
        IMAGE,
        "not a card",
    ),
    "a time line of numbers": (recorded(timeline=[1]), IMAGE, "'timeline'"),
    "words of numbers": (
        document(f"{WIRED}/answer.json", lambda a: a["recorded"]["query"].update(parameters=[["RA", [1]]])),
        WIRED,
        "'parameters'",
    ),
    "a failure of text": (document(FAILURE, lambda v: v.update(body="x")), FAILURE, "'body'"),
    "a failure of another format": (document(FAILURE, lambda v: v.update(format=2)), FAILURE, "format 2"),
    "a failure twice": (
        lambda f: listed_anew(f, FAILURE.replace(".json", "-2.json"), (f / FAILURE).read_bytes()), HERE, "another file"
    ),
    "a description of nothing": (lambda f: listed_anew(f, TOLD, b"[]"), TOLD, "expected an object"),
    "a description that is not listed": (
        lambda f: (f / HERE / "descriptions" / "jemx.json").write_text('{"format": 1}'), HERE, "not in the manifest"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_capsule_that_is_not_in_the_format_is_refused_with_the_name_of_the_file(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, file, reason = DAMAGES[name]
    monkeypatch.chdir(folder.parent)
    damage(folder)

    with pytest.raises(CapsuleError, match=reason) as error:
        read_all(folder)

    assert str(error.value).startswith(str(folder / file))
    assert "\n" not in str(error.value)
    assert not list(folder.parent.rglob("run-by-a-capsule"))


OPENED_AT_ONCE = {"a hostile pickle", "a hostile table", "a hostile failure", "no key", "a missing file"}


@pytest.mark.parametrize("name", sorted(OPENED_AT_ONCE))
def test_harmful_content_is_refused_before_anything_is_served(folder: Path, name: str) -> None:
    DAMAGES[name][0](folder)

    with pytest.raises(CapsuleError):
        open_capsule(folder)


@pytest.mark.parametrize("name", DAMAGES)
def test_verify_reports_the_same_error_as_opening(folder: Path, name: str) -> None:
    assert verify_capsule(folder) == []
    damage, file, reason = DAMAGES[name]
    damage(folder)

    errors = verify_capsule(folder)

    assert str(errors[0]).startswith(str(folder / file))
    assert re.search(reason, str(errors[0]))


def test_an_exchange_that_cannot_be_replayed_is_a_fault(folder: Path) -> None:
    document(f"{EXCHANGE}.json", lambda page: page.pop("url"))(folder)

    (fault,) = verify_capsule(folder)

    assert str(fault).startswith(str(folder / "exchanges"))


@pytest.mark.parametrize("name", ["nosuch", "empty", "file"])
def test_a_folder_without_a_capsule_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()

    with pytest.raises(CapsuleError) as error:
        open_capsule(tmp_path / name)
    other = f"{tmp_path / name} is neither a folder nor a .zip or .tar.gz file of one"
    assert str(error.value) == (other if name == "file" else f"there is no capsule in {tmp_path / name}")


def test_other_files_in_the_folder_are_not_part_of_the_capsule(folder: Path) -> None:
    (folder / "notebook.ipynb").write_text("{}")
    (folder / HERE / ".DS_Store").touch()

    assert open_capsule(folder).unlisted == (f"{HERE}/.DS_Store",)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return each path within a JSON value."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [(value, key) for key, _ in items] + [place for _, inner in items for place in places(inner)]


@pytest.fixture(scope="module")
def damaged_again(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("spoilt") / "capsule"))


@settings(max_examples=examples(300), deadline=None)
@given(data=st.data())
def test_garbage_anywhere_is_either_read_or_refused(made: Path, damaged_again: Path, data: st.DataObject) -> None:
    names = ["capsule.json", f"{IMAGE}/answer.json", f"{IMAGE}/query.json", f"{WIRED}/answer.json", FAILURE, TOLD]
    name = data.draw(st.sampled_from(names))
    value = json.loads((made / name).read_text())
    container, key = data.draw(st.sampled_from(places(value)))
    container[key] = data.draw(JSON)
    content = json.dumps(value).encode()
    shutil.copy(made / "capsule.json", damaged_again / "capsule.json")
    if name == "capsule.json":
        (damaged_again / name).write_bytes(content)
    else:
        listed_anew(damaged_again, name, content)
    try:
        read_all(damaged_again)
    except CapsuleError as error:
        assert str(error).startswith(str(damaged_again))  # noqa: PT017 - it may be raised or not
    finally:
        shutil.copy(made / name, damaged_again / name)


@settings(max_examples=examples(200), deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_a_manifest_of_garbage_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    (folder / "capsule.json").write_bytes(content)

    with pytest.raises(CapsuleError):
        open_capsule(folder)


def test_opening_runs_nothing_and_needs_no_network(folder: Path) -> None:
    """Even for a pickle that would only create a file; in a separate process."""
    document(f"{WIRED}/mask.json", hostile_product)(folder)
    code = "from pathlib import Path; from oda_proxy.capsule.capsule import open_capsule; open_capsule(Path('.'))"

    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)

    assert "CapsuleError" in ended.stderr
    assert not (folder / "run-by-a-capsule").exists()
