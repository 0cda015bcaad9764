"""Capsules are read from zip files and compressed tar files as from folders; hostile archives are refused in a line."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.capsule import open_capsule, verify
from oda_proxy.cli import main
from oda_proxy.errors import FixtureError
from oda_proxy.files.archives import LIMITS, open_tree
from oda_proxy.files.trees import FolderTree
from oda_proxy.files.zip_writing import write_zip_file
from tests.support import capsules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oda_proxy.capsule.capsule import Capsule


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "capsule"
    capsules.write_capsule(folder)
    return folder


def zipped(made: Path, target: Path, *, below: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(made.rglob("*")):
            archive.write(file, below + file.relative_to(made).as_posix())
    return target


def tarred(made: Path, target: Path, *, below: str = ".") -> Path:
    with tarfile.open(target, "w:gz") as archive:
        archive.add(made, below)
    return target


def everything(capsule: Capsule) -> list[object]:
    """Return all that a capsule holds, apart from where it is."""
    (one,) = capsule.dispatchers
    heads = [(recording.key, b"".join(recording.head.pieces())) for recording in one.recordings()]
    described = {file.name: file.read_bytes() for file in (one.folder / "descriptions").iterdir()}
    return [capsule.manifest, sorted(heads), one.failures, described, list(capsule.exchanges()), one.addresses]


@pytest.mark.parametrize("below", ["", "paper/"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_holds_what_the_folder_holds(made: Path, tmp_path: Path, kind: str, below: str) -> None:
    file = tmp_path / f"paper.{kind}"
    zipped(made, file, below=below) if kind == "zip" else tarred(made, file, below=below or ".")

    with closing(open_capsule(made)) as expected, closing(open_capsule(file)) as opened:
        assert everything(opened) == everything(expected)
    assert verify(file) == []
    assert main(["verify", str(file)]) == 0


def test_closing_an_archive_removes_its_temporary_files(made: Path, tmp_path: Path) -> None:
    for file in (zipped(made, tmp_path / "a.zip"), tarred(made, tmp_path / "a.tar.gz")):
        opened = open_capsule(file)
        temporary = opened.dispatchers[0].folder
        assert temporary.is_dir()
        opened.close()
        assert not temporary.exists()


def test_a_written_zip_file_has_the_same_bytes_each_time(made: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    write_zip_file(FolderTree(made), first)
    (made / "capsule.json").touch()
    write_zip_file(FolderTree(made), second)

    assert first.read_bytes() == second.read_bytes()
    assert verify(first) == []
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.zip", "second.zip"]


def patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def with_member(name: str, content: bytes = b"x", *, mode: int = 0) -> Callable[[Path, Path], None]:
    def make(made: Path, target: Path) -> None:
        zipped(made, target)
        with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)

    return make


def with_method(number: int) -> Callable[[Path, Path], None]:
    """Pack a capsule, and claim another method of compression for its last file."""

    def make(made: Path, target: Path) -> None:
        zipped(made, target)
        content = bytearray(target.read_bytes())
        at = content.rfind(b"PK\x01\x02")
        content[at + 10 : at + 12] = struct.pack("<H", number)
        target.write_bytes(content)

    return make


def with_size(size: int) -> Callable[[Path, Path], None]:
    """Pack a capsule with a stored file of a size, whose content is a hole."""

    def make(made: Path, target: Path) -> None:
        zipped(made, target)
        with zipfile.ZipFile(target, "a") as archive:
            member = zipfile.ZipInfo("hole.bin")
            archive.writestr(member, b"")
            member.file_size = member.compress_size = size
            archive.fp.seek(size, 1)  # type: ignore[union-attr]
            archive.start_dir = archive.fp.tell()  # type: ignore[union-attr]

    return make


def of_zip(made: Path, target: Path) -> None:
    inner = zipped(made, target.with_name("inner.zip"))
    with zipfile.ZipFile(target, "w") as archive:
        archive.write(inner, inner.name)
    inner.unlink()


def duplicate(made: Path, target: Path) -> None:
    with_member("CAPSULE.json")(made, target)


def encrypted(made: Path, target: Path) -> None:
    zipped(made, target)
    content = bytearray(target.read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 8] |= 1
    target.write_bytes(content)


def wrong_crc(made: Path, target: Path) -> None:
    zipped(made, target)
    content = bytearray(target.read_bytes())
    at = content.find(b"PK\x01\x02")
    while not content[at + 46 :].startswith(b"capsule.json"):
        at = content.find(b"PK\x01\x02", at + 1)
    content[at + 16 : at + 20] = b"\0\0\0\0"
    target.write_bytes(content)


def cut(made: Path, target: Path) -> None:
    zipped(made, target)
    target.write_bytes(target.read_bytes()[:-200])


def cut_zip64(made: Path, target: Path) -> None:
    """Write a zip file whose ZIP64 record lies beyond its end, as in one of which the middle is missing."""
    zipped(made, target)
    content = target.read_bytes()
    at = content.rfind(b"PK\x05\x06")
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, 2**40, 1)
    end = content[at : at + 8] + b"\xff" * 4 + b"\xff" * 8 + b"\0\0"
    target.write_bytes(content[:at] + locator + end)


def bomb(made: Path, target: Path) -> None:
    with_member("zeros.bin", bytes(80 * 2**20))(made, target)


def overlapping(made: Path, target: Path) -> None:
    zipped(made, target)
    with zipfile.ZipFile(target, "a") as archive:
        member = archive.infolist()[-1]
        for number in range(400):
            other = zipfile.ZipInfo(f"copy-{number}")
            for name in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(other, name, getattr(member, name))
            archive.filelist.append(other)
        archive._didModify = True  # type: ignore[attr-defined]


def two_capsules(made: Path, target: Path) -> None:
    zipped(made, target, below="one/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("two/capsule.json", b"{}")


def nothing(made: Path, target: Path) -> None:
    del made
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("notes.txt", b"x")


def of_text(made: Path, target: Path) -> None:
    del made
    target.write_text("this is no archive")


ZIPS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a path that leads out": (with_member("../evil.txt"), "may not lead out"),
    "an absolute path": (with_member("/etc/evil.txt"), "may not lead out"),
    "a path of Windows": (with_member("..\\evil.txt"), "may not lead out"),
    "a path with a drive": (with_member("C:/evil.txt"), "without a drive"),
    "backslashes": (with_member("paper\\capsule.json"), "written with slashes"),
    "a name of control characters": (with_member("a\x1b[2Jb"), "may not lead out"),
    "bzip2": (with_method(zipfile.ZIP_BZIP2), "compressed with bzip2: pack it again, with deflate"),
    "LZMA": (with_method(zipfile.ZIP_LZMA), "compressed with LZMA: pack it again"),
    "Zstandard": (with_method(93), "compressed with Zstandard: pack it again"),
    "an unknown method": (with_method(77), "compressed with the method 77: pack it again"),
    "a device": (with_member("device", mode=0o020666), "no regular file"),
    "a member of 5 GiB": (with_size(5 * 2**30), "larger than allowed"),
    "a zip file in it": (of_zip, "holds no capsule"),
    "a link": (with_member("dispatchers/link", mode=0o120777), "no regular file"),
    "a name twice": (duplicate, "two files named"),
    "an encrypted file": (encrypted, "encrypted"),
    "a wrong checksum": (wrong_crc, "Bad CRC-32"),
    "its end missing": (cut, "incomplete"),
    "a cut ZIP64 record": (cut_zip64, "ZIP64"),
    "a bomb": (bomb, "times its size"),
    "files that overlap": (overlapping, "overlap"),
    "two capsules": (two_capsules, "several folders"),
    "no capsule": (nothing, "holds no capsule"),
    "no archive": (of_text, "no zip file"),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_file_that_may_not_be_read_is_refused_in_one_line(
    made: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = ZIPS[name]
    target = tmp_path / "paper.zip"
    make(made, target)
    cache = tmp_path / "cache"

    for words in (["verify", str(target)], ["import", str(target), "--cache-dir", str(cache)]):
        assert main(words) != 0
        output = capsys.readouterr()
        text = output.err + output.out
        assert reason in text
        assert text.count("\n") == 1
    assert not cache.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["paper.zip"]


def tar_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def long_header() -> bytes:
    """Return a tar file with a header of 64 MiB, which unpacks from a few KiB."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 64 * 2**20
    return gzip.compress(header.tobuf() + bytes(64 * 2**20))


def pax(name: str, value: str, *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a tar file whose next header has another value, such as a size of many exabytes."""
    record = f" {name}={value}\n".encode()
    length = len(record) + len(str(len(record) + 2))
    content = f"{length}".encode() + record
    header, plain = tarfile.TarInfo("pax"), tarfile.TarInfo("capsule.json")
    header.type, header.size = kind, len(content)
    blocks = [header.tobuf(tarfile.USTAR_FORMAT), content.ljust(512, b"\0"), plain.tobuf(tarfile.USTAR_FORMAT)]
    return gzip.compress(b"".join(blocks) + bytes(1024))


TARS: dict[str, tuple[bytes, str]] = {
    "a path that leads out": (tar_of(member("../evil.txt")), "may not lead out"),
    "an absolute path": (tar_of(member("/evil.txt")), "may not lead out"),
    "a link": (tar_of(member("capsule.json", tarfile.SYMTYPE, "/etc/passwd")), "no regular file"),
    "a hard link": (tar_of(member("capsule.json", tarfile.LNKTYPE, "/etc/passwd")), "no regular file"),
    "a device": (tar_of(member("capsule.json", tarfile.CHRTYPE)), "no regular file"),
    "a pipe": (tar_of(member("capsule.json", tarfile.FIFOTYPE)), "no regular file"),
    "a sparse file": (pax("GNU.sparse.map", "0,1"), "no regular file"),
    "a path with a drive": (tar_of(member("C:/evil.txt")), "without a drive"),
    "a path in a further header": (pax("path", "../evil.txt"), "may not lead out"),
    "a size in a further header": (pax("size", "9" * 20), "larger than allowed"),
    "a negative size": (pax("size", "-99"), "damaged"),
    "a name twice": (tar_of(member("a"), member("A")), "two files named"),
    "a bomb": (tar_of(member("zeros.bin"), content=bytes(80 * 2**20)), "times its size"),
    "a long header": (long_header(), "a header is longer"),
    "its end missing": (tar_of(member("capsule.json"), content=bytes(range(256)) * 99)[:-300], "damaged"),
    "no tar file inside": (gzip.compress(b"this is no tar file"), "damaged"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_tar_file_that_may_not_be_read_is_refused_in_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, reason = TARS[name]
    target, temporary = tmp_path / "paper.tar.gz", tmp_path / "temporary"
    target.write_bytes(content)
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    assert main(["verify", str(target)]) != 0

    text = "".join(capsys.readouterr())
    assert reason in text
    assert text.count("\n") == 1
    assert list(temporary.iterdir()) == []


# -- archives as programs write them ---------------------------------------------------------------


def by_finder(made: Path, target: Path) -> None:
    """Pack as macOS does: resource forks in a folder of their own, and a file for the view of each folder."""
    zipped(made, target, below="paper/")
    with zipfile.ZipFile(target, "a") as archive:
        for name in ("paper/.DS_Store", "paper/dispatchers/.DS_Store", "__MACOSX/._paper"):
            archive.writestr(name, b"\0\0\0\1Bud1")
        for name in archive.namelist():
            if name.startswith("paper/") and not name.endswith("/"):
                archive.writestr(f"__MACOSX/{name.rpartition('/')[0]}/._{name.rpartition('/')[2]}", b"\0\5\26\7")


def by_explorer(made: Path, target: Path) -> None:
    """Pack as Windows does: no modes, and the archive bit."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(made.rglob("*")):
            if file.is_file():
                member = zipfile.ZipInfo(f"paper/{file.relative_to(made).as_posix()}")
                member.create_system, member.external_attr = 0, 0x20
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, file.read_bytes())


def by_stream(made: Path, target: Path) -> None:
    """Pack to a pipe: sizes follow each file, in a data descriptor."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, content: Any) -> int:
            self.content += bytes(content)
            return len(content)

    with Pipe() as pipe:
        with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(made.rglob("*")):
                archive.write(file, file.relative_to(made).as_posix())
        target.write_bytes(pipe.content)


def by_github(made: Path, target: Path) -> None:
    """Pack as GitHub and Zenodo do: one folder named after the release, and the commit as a comment."""
    zipped(made, target, below="owner-paper-0123abc/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.comment = b"0123456789abcdef0123456789abcdef01234567"
        archive.writestr("owner-paper-0123abc/donn\u00e9es \u2013 notes.txt", b"beside the capsule")


def by_zip64(made: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (file for file in sorted(made.rglob("*")) if file.is_file()):
            with archive.open(file.relative_to(made).as_posix(), "w", force_zip64=True) as written:
                written.write(file.read_bytes())


def by_git(made: Path, target: Path) -> None:
    """Pack as `git archive` does: a header for all files has the commit."""
    with tarfile.open(target, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0123abc"}) as archive:
        archive.add(made, "paper-1.0")


def by_bsd_tar(made: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        archive.add(made, ".")
        archive.addfile(member("./._capsule.json"))


def by_two_gzips(made: Path, target: Path) -> None:
    tarred(made, target)
    content = gzip.decompress(target.read_bytes())
    target.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]) + bytes(512))


@pytest.mark.parametrize(
    "pack",
    [by_finder, by_explorer, by_stream, by_github, by_zip64, by_git, by_bsd_tar, by_two_gzips],
)
def test_archives_are_read_as_programs_write_them(
    made: Path, tmp_path: Path, pack: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / ("paper.tar.gz" if pack in {by_git, by_bsd_tar, by_two_gzips} else "paper.zip")
    pack(made, target)

    assert verify(target) == []
    with closing(open_capsule(target)) as opened, closing(open_capsule(made)) as folder:
        assert everything(opened) == everything(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [("paper.tar", b""), ("paper.tar.bz2", b"BZh9"), ("paper.7z", b"7z\xbc\xaf"), ("p.rar", b"Rar!")],
)
def test_other_archives_are_refused_with_those_that_are_read(
    tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    for words in (["verify"], ["replay"], ["import"]):
        end = ["--", "true"] if words == ["replay"] else []
        assert main([*words, str(tmp_path / name), *end]) != 0
        text = "".join(capsys.readouterr())
        assert ".zip" in text
        assert text.count("\n") == 1


def test_a_zip_file_may_have_as_many_files_as_a_folder(made: Path, tmp_path: Path) -> None:
    file = zipped(made, tmp_path / "paper.zip")
    with zipfile.ZipFile(file, "a") as archive:  # needs ZIP64
        for number in range(66_000):
            archive.writestr(f"other/{number}", b"")

    with closing(open_capsule(file)) as opened:
        assert len(opened.dispatchers) == 1


def test_limits_on_number_and_size_hold(made: Path, tmp_path: Path) -> None:
    file = zipped(made, tmp_path / "paper.zip")
    for changed in (replace(LIMITS, files=2), replace(LIMITS, file_bytes=9), replace(LIMITS, total_bytes=99)):
        with pytest.raises(FixtureError, match=r"larger than allowed|more than 2 files"):
            open_tree(file, limits=changed)


def test_a_file_that_was_changed_in_an_archive_is_named(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "paper.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(made.rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                archive.writestr(
                    path.relative_to(made).as_posix(), content + b" " if path.suffix == ".fits" else content
                )

    (error,) = verify(file)
    assert "paper.zip/dispatchers/" in str(error)
    assert "was changed" in str(error)
