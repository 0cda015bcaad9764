"""Writing a capsule to its place: what it replaces stays whole until the new one is."""

from __future__ import annotations

import errno
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule import output
from oda_proxy.capsule.capsule import open_capsule, verify
from oda_proxy.capsule.errors import CapsuleError, NotACapsuleError
from oda_proxy.capsule.output import capsule_output, run_output
from oda_proxy.capsule.writer import CapsuleWriter
from oda_proxy.errors import UsageError
from tests.support import capsules

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

OUTPUTS = [run_output, capsule_output]


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


def no_space(*_: object) -> None:
    """Write nothing: the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")


def recordings(path: Path) -> int:
    """Return the number of recordings in a sound capsule."""
    assert verify(path) == []
    with closing(open_capsule(path)) as opened:
        return sum(len(one.fixtures) for one in opened.dispatchers)


def write_small(folder: Path) -> None:
    """Write a capsule with one recording."""
    writer, dispatcher = capsules.begun(folder)
    assert dispatcher.save_recording(capsules.with_arrays())
    writer.finish(0)


@pytest.fixture(params=["paper", "paper.zip"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a capsule with two recordings, beside another file or with one in it."""
    path: Path = tmp_path / request.param
    with capsule_output(path) as folder:
        capsules.write_capsule(folder)
    (path / "notebook.ipynb" if path.is_dir() else tmp_path / "notebook.ipynb").write_text("{}")
    return path


def left_over(target: Path) -> list[str]:
    """Return the names of temporary files and folders beside a capsule and in its folder."""
    names = [one.name for folder in (target.parent, target) if folder.is_dir() for one in folder.iterdir()]
    return [name for name in names if name.startswith((f"{target.name}-", ".")) and name != ".gitattributes"]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("output_of", OUTPUTS)
def test_a_folder_with_other_things_is_not_written_to(tmp_path: Path, output_of: Any) -> None:
    (tmp_path / "paper.tex").touch()
    for replacing in (False, True):
        with pytest.raises(NotACapsuleError, match="is not empty, and holds no capsule"):
            output_of(tmp_path, replace=replacing).__enter__()
    with pytest.raises(NotACapsuleError, match="is not a folder"):
        output_of(tmp_path / "paper.tex").__enter__()
    assert [file.name for file in tmp_path.iterdir()] == ["paper.tex"]


@pytest.mark.parametrize("output_of", OUTPUTS)
def test_a_capsule_is_replaced_only_on_request(target: Path, output_of: Any) -> None:
    with pytest.raises(NotACapsuleError, match=r"or replace it \(--replace"):
        output_of(target).__enter__()
    assert recordings(target) == 2

    with output_of(target, replace=True) as folder:
        write_small(folder)
        assert recordings(target) == 2

    assert recordings(target) == 1
    assert left_over(target) == []
    assert sorted(file.name for file in (target if target.is_dir() else target.parent).iterdir()) == (
        [".gitattributes", "README.md", "capsule.json", "dispatchers", "notebook.ipynb", "ro-crate-metadata.json"]
        if target.is_dir()
        else ["notebook.ipynb", "paper.zip"]
    )


def test_a_capsule_of_an_unfinished_run_is_not_replaced(tmp_path: Path) -> None:
    CapsuleWriter(tmp_path)
    for output_of in OUTPUTS:
        with pytest.raises(NotACapsuleError, match="holds a capsule"):
            output_of(tmp_path).__enter__()
    with pytest.raises(NotACapsuleError, match="is not empty"):
        CapsuleWriter(tmp_path)


def test_a_capsule_without_results_is_replaced(tmp_path: Path) -> None:
    writer = CapsuleWriter(tmp_path)
    described = writer.dispatcher("https://a.example").folder / "descriptions" / "isgri.json"
    described.parent.mkdir(parents=True)
    described.write_text('{"format": 1}')
    writer.finish(1)

    with run_output(tmp_path) as folder:
        CapsuleWriter(folder, command=["again"]).finish(0)

    assert open_capsule(tmp_path).command == ("again",)
    assert not described.exists()


@pytest.mark.parametrize("path", ["dispatchers/notes.txt", "exchanges/notes.txt"])
def test_other_files_in_a_capsule_without_results_are_not_removed(tmp_path: Path, path: str) -> None:
    CapsuleWriter(tmp_path).finish(0)
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).touch()

    with pytest.raises(NotACapsuleError, match="holds a capsule"), run_output(tmp_path):
        pass
    assert (tmp_path / path).exists()


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": 3}', "{"])
def test_what_only_looks_like_a_capsule_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "capsule.json").write_text(content)

    with pytest.raises(NotACapsuleError, match="no capsule of a known format"), run_output(tmp_path, replace=True):
        pass
    assert (tmp_path / "capsule.json").read_text() == content


def test_other_files_are_not_replaced_and_tar_files_not_written(tmp_path: Path) -> None:
    (tmp_path / "paper.zip").write_text("mine")
    with pytest.raises(NotACapsuleError, match="no capsule"), run_output(tmp_path / "paper.zip", replace=True):
        pass
    with pytest.raises(UsageError, match=r"as a folder or as a \.zip file"), run_output(tmp_path / "paper.tar.gz"):
        pass
    assert (tmp_path / "paper.zip").read_text() == "mine"


# -- what fails, and what is killed ----------------------------------------------------------------


def failing(output_of: Callable[..., AbstractContextManager[Path]], target: Path, error: BaseException) -> None:
    """Write a recording in place of a capsule, and fail."""
    with output_of(target, replace=True) as folder:
        _, dispatcher = capsules.begun(folder)
        dispatcher.save_recording(capsules.with_arrays())
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CapsuleError(Path("file"), "cannot be written"), SystemExit(1)])
def test_an_export_that_fails_leaves_what_was_there_and_nothing_else(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        failing(capsule_output, target, error)

    assert recordings(target) == 2
    assert left_over(target) == []


def test_a_run_that_fails_leaves_what_was_there_and_names_what_it_recorded(
    target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(run_output, target, KeyboardInterrupt())

    assert recordings(target) == 2
    (recorded,) = left_over(target)
    assert f"{target} stays as it was; what was recorded until then is in " in caplog.text
    assert recorded in caplog.text
    assert recordings((target if target.is_dir() else target.parent) / recorded) == 1


def test_a_run_that_fails_leaves_a_new_zip_file_of_what_it_recorded(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), run_output(tmp_path / "paper.zip"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(KeyboardInterrupt):
        failing(run_output, tmp_path / "paper.zip", KeyboardInterrupt())
    with closing(open_capsule(tmp_path / "paper.zip")) as opened:
        assert opened.ended is None
        assert len(list(opened.dispatchers[0].recordings())) == 1


def test_a_zip_file_that_cannot_be_written_leaves_the_folder(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "write_zip_file", no_space)
    other = target.with_name("other.zip")
    with (
        pytest.raises(CapsuleError, match="No space left on device; what it would hold is in") as error,
        run_output(other) as folder,
    ):
        capsules.write_capsule(folder)
    assert str(folder) in str(error.value)
    assert verify(folder) == []


@pytest.mark.parametrize("moves", range(8))
def test_an_export_that_cannot_replace_a_part_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    target, rename, left = tmp_path / "paper", Path.rename, moves
    write_small(target)
    before = sorted(one.name for one in target.iterdir())

    def fail(path: Path, to: Path) -> Path:
        nonlocal left
        left -= 1
        if left == -1:
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(path, to)

    export = capsule_output(target, replace=True)
    capsules.write_capsule(export.__enter__())
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(CapsuleError, match="Permission denied"):
        export.__exit__(None, None, None)

    assert recordings(target) == 1
    assert sorted(one.name for one in target.iterdir()) == before


@pytest.mark.parametrize("moves", range(6))
def test_an_export_that_is_killed_while_it_replaces_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    target, rename, left = tmp_path / "paper", Path.rename, moves
    write_small(target)

    def count_down(path: Path, to: Path) -> Path:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        return rename(path, to)

    export = capsule_output(target, replace=True)
    capsules.write_capsule(export.__enter__())
    monkeypatch.setattr(Path, "rename", count_down)
    with pytest.raises(KilledError):
        export.__exit__(None, None, None)

    staged = sorted(target.glob("paper-????????"))
    replaced = sorted(target.glob("paper-*-replaced"))
    assert len(staged) == 1
    if moves == 0:
        assert recordings(target) == 1
        assert recordings(staged[0]) == 2
        return
    assert not (target / "capsule.json").exists() or recordings(target) == 2, "no mixture is taken for a capsule"
    for name in ("capsule.json", "ro-crate-metadata.json", "dispatchers"):
        places = [folder / name for folder in (target, *replaced, *staged) if (folder / name).exists()]
        assert len(places) == 2, name


@pytest.mark.parametrize("name", ["paper", "paper.zip"])
def test_of_two_exports_at_once_to_one_place_the_later_one_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    later = capsule_output(target)
    write_small(later.__enter__())
    with capsule_output(target) as folder:
        capsules.write_capsule(folder)

    with pytest.raises(CapsuleError, match="exists meanwhile"):
        later.__exit__(None, None, None)
    assert recordings(target) == 2
    assert left_over(target) == []


def test_of_two_exports_at_once_in_place_of_one_the_last_stays_whole(target: Path) -> None:
    barrier, failures = threading.Barrier(2), list[BaseException]()

    def export(write: Callable[[Path], object]) -> None:
        try:
            with capsule_output(target, replace=True) as folder:
                write(folder)
                barrier.wait(60)
        except BaseException as error:  # noqa: BLE001 - of a thread
            failures.append(error)

    threads = [threading.Thread(target=export, args=(write,)) for write in (write_small, capsules.write_capsule)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert recordings(target) in {1, 2}
    assert left_over(target) == []


def test_a_second_run_into_one_folder_is_refused(tmp_path: Path) -> None:
    with run_output(tmp_path / "paper") as first, run_output(tmp_path / "paper") as second:
        CapsuleWriter(first)
        with pytest.raises(NotACapsuleError):
            CapsuleWriter(second)


def test_the_current_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = tmp_path / "paper"
    capsules.write_capsule(current)
    monkeypatch.chdir(current)
    with run_output(Path(), replace=True) as folder:
        write_small(folder)
    assert recordings(current) == 1
    assert left_over(current) == []
