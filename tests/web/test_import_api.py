"""Recordings are imported from a zip file, which nobody trusts."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.files.zip_members import ZipLimits
from oda_proxy.web import import_api
from tests.support.access_servers import ADMIN, AccessServer, api_server, bearer
from tests.support.capsules import write_capsule
from tests.support.fixture_folders import zipped
from tests.support.paths import FIXTURES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

ZIP = bearer(ADMIN) | {"Content-Type": "application/zip"}


@pytest.fixture
async def server() -> AsyncIterator[AccessServer]:
    async with api_server() as server:
        yield server


def fixture_files(prefix: str = "") -> dict[str, bytes]:
    """Return the files of a folder with the fixtures of one instrument."""
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    manifest["fixtures"] = [one for one in manifest["fixtures"] if one["path"].startswith("polar")]
    manifest["instruments"] = []
    files = {f"{prefix}manifest.json": json.dumps(manifest).encode()}
    for one in manifest["fixtures"]:
        for name in one["files"]:
            files[f"{prefix}{one['path']}/{name}"] = (FIXTURES / one["path"] / name).read_bytes()
    return files


async def upload(server: AccessServer, data: bytes, headers: Mapping[str, str] = ZIP) -> tuple[int, Any]:
    status, text = await server.send("POST", "/-/api/import", headers, data=data)
    return status, json.loads(text)


@pytest.mark.parametrize("prefix", ["", "my-fixtures/"])
async def test_fixtures_are_stored_as_recordings(server: AccessServer, prefix: str) -> None:
    status, answer = await upload(server, zipped(fixture_files(prefix)))

    assert (status, answer["failed"]) == (200, {})
    (key,) = answer["stored"].values()
    assert [entry.key for entry in server.store.entries()] == [key]
    assert (await server.send("GET", f"/-/api/recordings/{key}", bearer(ADMIN)))[0] == 200


async def test_a_fixture_that_was_changed_is_named_and_the_others_are_stored(server: AccessServer) -> None:
    files = fixture_files()
    name = next(name for name in files if name.endswith("answer.json"))
    files[name] = files[name].replace(b"done", b"DONE")

    status, answer = await upload(server, zipped(files))

    assert (status, answer["stored"]) == (200, {})
    assert "/tmp" not in json.dumps(answer)  # noqa: S108 - not a file
    assert list(answer["failed"]) == [name.rpartition("/")[0]]


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "/etc/evil", "a/../../evil", "a\\b", "a//b", "caf\u00e9.json", "x" * 101, "a/" * 9, "."],
)
async def test_a_name_that_leads_elsewhere_is_refused(server: AccessServer, name: str) -> None:
    status, answer = await upload(server, zipped({name: b"x"}))

    assert (status, "the zip file has a file" in answer["detail"]) == (400, True)


def symlink() -> bytes:
    entry = zipfile.ZipInfo("manifest.json")
    entry.external_attr = 0o120777 << 16
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    return content.getvalue()


def larger_than_it_claims() -> bytes:
    data = bytearray(zipped({"manifest.json": b"x" * 100_000}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "this is no zip file"),
        (b"x" * 1000, "this is no zip file"),
        (zipped({"a": b"x"})[:-5], "this is no zip file"),
        (zipped({"a": b"x"})[:20] + b"\xff" * 20 + zipped({"a": b"x"})[40:], "the zip file is damaged"),
        (zipped({"a": b"x"}), "the zip file"),
        (zipped({"manifest.json": b"{}"}), "manifest.json"),
        (symlink(), "no regular file"),
        (larger_than_it_claims(), "the zip file"),
        (zipped({"manifest.json": b"x", "MANIFEST.json": b"y"}), "two files named"),
    ],
    ids=["empty", "noise", "cut", "damaged", "no fixtures", "bad manifest", "symlink", "lie", "twice"],
)
async def test_what_is_no_folder_of_fixtures_is_refused(server: AccessServer, data: bytes, detail: str) -> None:
    status, answer = await upload(server, data)

    assert (status, answer["title"]) == (400, "Bad Request")
    assert detail in answer["detail"]
    assert "oda-proxy-import" not in answer["detail"]


@pytest.mark.parametrize(
    "limits", [ZipLimits(files=2), ZipLimits(file_bytes=999), ZipLimits(total_bytes=2999), ZipLimits(depth=1)]
)
async def test_a_zip_file_beyond_a_limit_is_refused(
    server: AccessServer, limits: ZipLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_api, "LIMITS", limits)

    status, _ = await upload(server, zipped({f"a/{number}": b"x" * 1000 for number in range(3)}))

    assert status == 400


async def test_an_upload_beyond_the_limit_is_refused_whether_or_not_it_names_its_length(
    server: AccessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    monkeypatch.setattr(import_api, "MAX_UPLOAD", 5000)

    assert (await upload(server, b"x" * 6000))[0] == 413
    assert (await server.send("POST", "/-/api/import", ZIP, data=pieces()))[0] == 413


async def test_a_form_is_refused(server: AccessServer) -> None:
    form = bearer(ADMIN) | {"Content-Type": "application/x-www-form-urlencoded"}

    assert (await upload(server, zipped(fixture_files()), form))[0] == 415


async def test_nothing_is_left_of_an_upload(
    server: AccessServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    await upload(server, zipped(fixture_files()))
    await upload(server, b"nothing")

    assert list(folder.iterdir()) == []


async def test_a_capsule_is_imported_if_it_is_of_the_dispatcher(server: AccessServer, tmp_path: Path) -> None:
    write_capsule(tmp_path / "capsule")
    files = {
        str(file.relative_to(tmp_path)): file.read_bytes()
        for file in (tmp_path / "capsule").rglob("*")
        if file.is_file()
    }

    status, answer = await upload(server, zipped(files))

    assert (status, answer["failed"]) == (200, {})
    assert len(answer["stored"]) == len(list(server.store.entries())) > 0
