"""Files of a folder or of a zip file, read by their paths relative to it.

Each file is read whole, up to a limit, and none from outside of the tree. What a file should hold is checked by the
readers, for both kinds of tree alike (`digests`).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from oda_proxy.errors import FixtureError
from oda_proxy.files import atomic
from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.files.zip_members import ZipError, zip_errors

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

MAX_WRITTEN: Final = 64 * 2**20
"""Bytes of a file that `FileTree.on_disk` writes."""


class FileTree(Protocol):
    """Files by their relative paths, such as `dispatchers/x/fixtures/manifest.json`."""

    @property
    def path(self) -> Path:
        """The folder or archive, for messages."""

    @property
    def size(self) -> int:
        """Bytes of all files."""

    def has(self, relative: str) -> bool:
        """Return whether there is a file, or anything else, of this name. Raises OSError, ValueError."""

    def files_below(self, folder: str) -> Iterator[str]:
        """Iterate over the paths below a folder in order: files, links and whatever else is no folder."""

    def is_link(self, relative: str) -> bool:
        """Return whether a path is a symbolic link."""

    def read_start(self, relative: str, limit: int, *, missing: str = "") -> tuple[bytes, int]:
        """Return the first `limit` bytes of a file, and its size; `missing` is the error text for a missing one.

        Raises FixtureError if it is missing, damaged, not a regular file, or outside the tree.
        """

    def below(self, folder: str) -> FileTree:
        """Return the files below a folder as a tree, which is closed with this one."""

    def on_disk(self, folder: str) -> Path:
        """Return a folder on disk with the files that lie directly in a folder; it exists until the tree is closed.

        Raises FixtureError.
        """

    def close(self) -> None:
        """Close what is open, and remove temporary files."""

    def __enter__(self) -> Self:
        """Return the tree."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the tree."""


class FolderTree:
    """The files of a folder; `shown` is its path for messages, and `temporary` is removed with the tree."""

    def __init__(
        self,
        folder: Path,
        *,
        shown: Path | None = None,
        temporary: TemporaryFolder | None = None,
    ) -> None:
        self._folder = folder
        self._temporary = temporary
        self.path = shown or folder

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())

    def has(self, relative: str) -> bool:
        """Return whether there is a file, or anything else, of this name. Raises OSError, ValueError."""
        try:
            (self._folder / relative).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def files_below(self, folder: str) -> Iterator[str]:
        """Iterate over the paths below a folder in order: files, links and whatever else is no folder."""
        for file in sorted((self._folder / folder).rglob("*")):
            if file.is_symlink() or not file.is_dir():
                yield file.relative_to(self._folder).as_posix()

    def is_link(self, relative: str) -> bool:
        """Return whether a path is a symbolic link."""
        return (self._folder / relative).is_symlink()

    def read_start(self, relative: str, limit: int, *, missing: str = "") -> tuple[bytes, int]:
        """Return the first `limit` bytes of a file, and its size; a link must lead to another file of the folder.

        Raises FixtureError, with the text `missing` for a missing file.
        """
        file, shown = self._folder / relative, self.path / relative
        try:
            real = file.resolve(strict=True)
            if not real.is_relative_to(self._folder.resolve()):
                raise FixtureError(shown, "is outside the folder of the manifest")
            if not stat.S_ISREG(real.stat().st_mode):  # before it is opened: a pipe would wait for a writer
                raise FixtureError(shown, "is not a regular file")
            with real.open("rb") as stream:
                return stream.read(limit), os.fstat(stream.fileno()).st_size
        except FileNotFoundError as error:
            raise FixtureError(shown, f"cannot be read: {missing or error.strerror}") from None
        except OSError as error:
            raise FixtureError(shown, f"cannot be read: {error.strerror or error}") from None
        except (RuntimeError, ValueError) as error:  # a loop of links before Python 3.13; a NUL in the folder's name
            raise FixtureError(shown, f"cannot be read: {error}") from None

    def below(self, folder: str) -> FolderTree:
        """Return the files below a folder as a tree."""
        return FolderTree(self._folder / folder, shown=self.path / folder)

    def on_disk(self, folder: str) -> Path:
        """Return the folder."""
        return self._folder / folder

    def close(self) -> None:
        """Remove the temporary folder, if there is one."""
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        """Return the tree."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the tree."""
        self.close()


class ZipTree:
    """The files of an open zip file, by paths relative to a folder in it; none of them is extracted."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]) -> None:
        """Take an archive, which is closed with the tree, and its members that were checked."""
        self.path = path
        self.size = sum(member.file_size for member in members.values())
        self._archive = archive
        self._members = members
        self._temporary: TemporaryFolder | None = None

    def has(self, relative: str) -> bool:
        """Return whether there is a file of this name."""
        return relative in self._members

    def files_below(self, folder: str) -> Iterator[str]:
        """Iterate over the paths below a folder in order."""
        return (path for path in sorted(self._members) if not folder or path.startswith(f"{folder}/"))

    def is_link(self, relative: str) -> bool:  # noqa: ARG002 - no file is one
        """Return False: an archive with links is not opened."""
        return False

    def read_start(self, relative: str, limit: int, *, missing: str = "") -> tuple[bytes, int]:
        """Return the first `limit` bytes of a file, and its size. Raises FixtureError."""
        if (member := self._members.get(relative)) is None:
            raise FixtureError(self.path / relative, f"cannot be read: {missing or 'it is not in the zip file'}")
        try:
            with zip_errors(), self._archive.open(member) as stream:
                return stream.read(limit), member.file_size
        except (OSError, ZipError) as error:
            raise FixtureError(self.path / relative, f"cannot be read: {error}") from None

    def below(self, folder: str) -> ZipTree:
        """Return the files below a folder as a tree."""
        begin = f"{folder}/"
        inside = {path.removeprefix(begin): one for path, one in self._members.items() if path.startswith(begin)}
        return ZipTree(self.path / folder, self._archive, inside)

    def on_disk(self, folder: str) -> Path:
        """Write the files that lie directly in a folder to a temporary one, and return that. Raises FixtureError."""
        if self._temporary is None:
            self._temporary = TemporaryFolder("descriptions")
        target = Path(self._temporary.name, folder)
        target.mkdir(parents=True, exist_ok=True)
        for path in self.files_below(folder):
            name = path.removeprefix(f"{folder}/")
            if "/" not in name:
                content, size = self.read_start(path, MAX_WRITTEN)
                if size > MAX_WRITTEN:
                    raise FixtureError(self.path / path, f"is larger than {MAX_WRITTEN} bytes")
                atomic.write(target / name, content, flush=False)
        return target

    def close(self) -> None:
        """Close the archive, and remove temporary files."""
        self._archive.close()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        """Return the tree."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the tree."""
        self.close()
