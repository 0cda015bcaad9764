"""Commands with --server work through the HTTP API of a running proxy, in the words of the local ones."""

from __future__ import annotations

import json
import re
import shutil
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

import oda_proxy
from oda_proxy.cli import main
from oda_proxy.config.folders import cache_folder
from oda_proxy.fixture.writing import write_manifest
from oda_proxy.query.query import Query, split_query
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.entry_json import entry_json, read_entry
from oda_proxy.store.memory import MemoryStore
from oda_proxy.store.selection import Filters
from tests.support import capsules
from tests.support.image_query import IMAGE, get_image, mock_status
from tests.support.paths import FIXTURES
from tests.support.recordings import KEYS, recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ADMIN = "the administration token"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty working folder, and no variables of the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of this machine"))
    for name in ("SERVER", "ADMIN_TOKEN", "READ_TOKEN"):
        monkeypatch.delenv(f"ODA_PROXY_{name}", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Run a proxy with three recordings."""
    with oda_proxy.mocking() as mock:
        with closing(DiskStore(cache_folder(tmp_path / "c", mock))) as store:
            for key, name in zip(KEYS, ("Crab", "Vela", "Vega"), strict=False):
                query, _ = split_query([*{**IMAGE, "src_name": name}.items()])
                store.put(recording(key, b"x" * 2000, query=query))
        with oda_proxy.serving(mock, cache_dir=tmp_path / "c", admin_token=ADMIN) as url:
            yield url


@pytest.fixture
def _admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ODA_PROXY_ADMIN_TOKEN", ADMIN)


def output(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> Any:
    assert main([*arguments, "--json"]) == expect, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) in {1, 2}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def names(entries: list[Any]) -> list[str]:
    return sorted(entry["query"]["parameters"]["src_name"][0] for entry in entries)


def test_recordings_are_listed_as_on_the_machine_of_the_server(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = mock_status(server)["upstream"]
    remote = output(capsys, "--server", server, "ls")
    local = output(capsys, "ls", "--upstream", upstream, "--cache-dir", str(tmp_path / "c"))

    assert names(remote) == ["Crab", "Vega", "Vela"]
    assert [entry["key"] for entry in remote] == [entry["key"] for entry in local]
    assert names(output(capsys, "ls", "--server", server, "--source", "ve*")) == ["Vega", "Vela"]
    assert output(capsys, "--server", server, "ls", "--stored-before", "2020-01-31", "--larger-than", "1MB") == []

    assert main(["--server", server, "ls", "--source", "crab"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:2] == ["KEY", "SIZE"]
    assert "src_name=Crab" in line


@pytest.mark.usefixtures("_admin")
def test_recordings_are_shown_pinned_refreshed_and_removed(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = [one["key"] for one in output(capsys, "--server", server, "ls", "--source", "Crab")]

    assert output(capsys, "--server", server, "show", key[:10])["key"] == key
    assert main(["--server", server, "show", key[:10]]) == 0
    shown = capsys.readouterr().out
    assert "src_name             Crab" in shown
    assert shown.endswith(f"products: {server}/-/recordings/{key}\n")

    assert output(capsys, "--server", server, "pin", key[:10]) == {"pinned": [key]}
    assert [one["pinned"] for one in output(capsys, "--server", server, "ls", "--source", "Crab")] == [True]
    assert output(capsys, "--server", server, "unpin", "--source", "Cra?*") == {"unpinned": [key]}
    assert output(capsys, "--server", server, "rm", key[:10]) == {"removed": [key]}
    assert names(output(capsys, "--server", server, "ls")) == ["Vega", "Vela"]
    assert set(output(capsys, "--server", server, "refresh", KEYS[1][:10])["refreshed"]) == {KEYS[1]}


@pytest.mark.usefixtures("_admin")
def test_versions_are_listed_and_removed(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = KEYS[0]
    with closing(DiskStore(cache_folder(tmp_path / "c", mock_status(server)["upstream"]))) as store:
        first = store.versions(key)[0].valid_from
        for day in (1, 2, 3):
            store.put(recording(key, b"y" * day, stored_at=first + day * 86400.0))
    dates = [f"{datetime.fromtimestamp(first + day * 86400.0, UTC):%Y-%m-%dT%H:%M:%S}" for day in range(4)]

    assert main(["--server", server, "history", key[:10]]) == 0
    shown = capsys.readouterr()
    assert [line.partition("Z until ")[0] for line in shown.out.splitlines()[1:5]] == dates
    assert "compared on the machine of the server" in shown.err
    assert len(output(capsys, "--server", server, "history", key[:10])["versions"]) == 4

    rm = ("--server", server, "rm")
    assert "today's answer" in error(capsys, *rm, f"{key}@{dates[0]}", f"{key}@{dates[3]}")
    assert "is not a date" in error(capsys, *rm, f"{key}@May")
    assert "--all-versions takes keys" in error(capsys, *rm, "--all-versions", "--source", "Crab")
    assert len(output(capsys, *rm, "--all-versions", "--dry-run", key)["would_be_removed"]) == 4
    assert output(capsys, *rm, f"{key}@{dates[1]}") == {"removed": [f"{key}@{dates[1]}Z"]}
    assert len(output(capsys, "--server", server, "history", key)["versions"]) == 3
    assert len(output(capsys, *rm, "--all-versions", key)["removed"]) == 3
    assert "no recording has the key" in error(capsys, "--server", server, "history", key)


@pytest.mark.usefixtures("_admin")
def test_filters_remove_only_what_is_confirmed(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--server", server, "rm", "--source", "Ve*"]) == 0
    assert "2 recordings, " in (out := capsys.readouterr().out)
    assert out.endswith("nothing was removed: rm with --yes removes them\n")
    assert len(output(capsys, "--server", server, "rm", "--source", "Ve*")["would_be_removed"]) == 2
    assert len(output(capsys, "--server", server, "rm", "--source", "Ve*", "--yes", "--dry-run")["removed"]) == 0
    assert len(output(capsys, "--server", server, "ls")) == 3

    assert len(output(capsys, "--server", server, "rm", "--source", "Ve*", "--yes")["removed"]) == 2
    assert names(output(capsys, "--server", server, "ls")) == ["Crab"]


@pytest.mark.usefixtures("_admin")
def test_nothing_is_removed_where_a_key_is_unknown(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = [one["key"] for one in output(capsys, "--server", server, "ls", "--source", "Crab")]

    assert "no recording has a key that begins with '0000'" in error(capsys, "--server", server, "rm", key, "0000")
    assert "'../x' is not the key of a recording" in error(capsys, "--server", server, "rm", key, "../x")

    assert len(output(capsys, "--server", server, "ls")) == 3


def test_the_token_comes_from_a_file_or_the_environment_and_is_needed_to_change_anything(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{ADMIN}\n")
    remove = ("--server", server, "rm", "--source", "Crab", "--yes")

    assert "to change what is stored, send a token" in error(capsys, *remove)
    monkeypatch.setenv("ODA_PROXY_ADMIN_TOKEN", "another token")
    assert "another token" not in (refusal := error(capsys, *remove))
    assert "commands send the token in ODA_PROXY_ADMIN_TOKEN, or in --admin-token-file FILE" in refusal
    file.chmod(0o644)
    assert "can be read by other users" in error(capsys, *remove, "--admin-token-file", str(file))
    file.chmod(0o600)
    assert len(output(capsys, *remove, "--admin-token-file", str(file))["removed"]) == 1


@pytest.mark.usefixtures("_admin")
@pytest.mark.parametrize("is_capsule", [False, True])
def test_fixtures_and_capsules_are_sent_to_the_server(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_capsule: bool
) -> None:
    folder = tmp_path / "sent"
    if is_capsule:
        with oda_proxy.recording(folder, upstream=mock_status(server)["upstream"]) as url:
            get_image(url, src_name="Deneb")
    else:
        path = "spi_acs/spi_acs_lc/2003-03-15"
        shutil.copytree(FIXTURES / path, folder / path)
        write_manifest(folder, {path: {"kind": "synthetic", "source": "a test", "modelled": []}})

    imported = output(capsys, "--server", server, "import", str(folder))

    assert imported["failed"] == {}
    assert len(imported["kept"]) == 1
    assert len(output(capsys, "--server", server, "ls")) == 4


@pytest.mark.usefixtures("_admin")
def test_what_cannot_be_imported_is_named(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsules.write_capsule(tmp_path / "capsule")

    assert "is neither a capsule" in error(capsys, "--server", server, "import", str(tmp_path))
    assert "is from https://" in error(capsys, "--server", server, "import", str(tmp_path / "capsule"))


def test_jobs_take_the_same_option_and_the_former_one(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--server", server, "jobs") == output(capsys, "jobs", "--proxy", server) == []
    assert "name two proxies" in error(capsys, "jobs", "--server", server, "--proxy", "http://other.example")


def test_the_server_is_named_in_the_environment_too(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODA_PROXY_SERVER", server)

    assert len(output(capsys, "ls")) == 3


@pytest.mark.parametrize("command", ["stats", "verify", "prune", "serve"])
def test_a_command_that_reads_this_machine_says_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = error(capsys, "--server", "http://proxy.example", command)

    assert message == f"oda-proxy: {command} works on this machine, and not with --server\n"


def test_the_export_of_a_collection_of_a_server_names_its_download(capsys: pytest.CaptureFixture[str]) -> None:
    message = error(capsys, "--server", "http://proxy.example/", "export", "--collection", "my-paper", "paper.zip")

    assert message.endswith("; download http://proxy.example/-/collections/my-paper/capsule.zip instead\n")


@contextmanager
def another_program(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as program:
        thread = threading.Thread(target=program.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{program.server_port}"
        program.shutdown()
        thread.join()


OWN = {"Cache-Status": "oda-proxy"}
ENTRY = {
    **dict.fromkeys(("stored_at", "used_at", "size", "occupies", "cost"), 1),
    "key": KEYS[0],
    "place": "x",
    "private": False,
    "pinned": False,
    "query": None,
}


@pytest.mark.parametrize(
    ("status", "headers", "body", "reason"),
    [
        (200, {}, b"{}", "another program does; name its address with --server"),
        (502, {}, b"<html>\n<b>", "another program does"),
        (200, OWN, b"<html>", "the response is not JSON"),
        (200, OWN, b"[1]", "the response of http://127.0.0.1:.* is not that of oda-proxy"),
        (200, OWN, b'{"recordings": [{"key": 1}]}', "is not that of oda-proxy"),
        (200, OWN, json.dumps({"recordings": [ENTRY | {"key": "\x1b[31m"}], "next": None}).encode(), "is not that of"),
        (307, {**OWN, "Location": "https://other.example"}, b"", "redirects to https://other.example: name that"),
        (500, OWN, b"a\nb\x1b[31m", r"responds 500: a\\nb\\x1b\[31m"),
        (400, OWN, b'{"detail": "it is wrong"}', "^oda-proxy: it is wrong\n$"),
    ],
)
def test_what_is_no_proxy_is_said_in_one_line(
    status: int, headers: dict[str, str], body: bytes, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_program(status, headers, body) as url:
        assert re.search(reason, error(capsys, "--server", url, "ls"))


def test_a_server_whose_pages_do_not_end_does_not_hold_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    page = json.dumps({"recordings": [ENTRY], "next": "?offset=1"}).encode()

    with another_program(200, OWN, page) as url:
        assert len(output(capsys, "--server", url, "ls")) == 1


def test_where_nobody_listens_the_reason_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert error(capsys, "--server", "http://127.0.0.1:9", "ls") == (
        "oda-proxy: no oda-proxy answers at http://127.0.0.1:9: Connection refused; name its address with --server\n"
    )


def test_the_metadata_of_a_recording_survive_json() -> None:
    query = Query("isgri", "isgri_image", "Real", (("RA", ("83.0", "84")),), api=True, files=(("f", "0" * 64),))
    store = MemoryStore()
    for key, one in zip(KEYS, (query, None), strict=False):
        store.put(recording(key, query=one, private=one is None))

    for entry in store.entries():
        assert read_entry(json.loads(json.dumps(entry_json(entry)))) == entry


def test_filters_survive_their_words() -> None:
    filters = Filters("is*", "image", "Cr b", 1795470652.25, 0.0, 12)

    assert Filters.parse(filters.texts(), now=0.0) == filters
    assert Filters().texts() == {}
