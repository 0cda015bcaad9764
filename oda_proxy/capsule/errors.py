"""Errors of capsules."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from oda_proxy.capsule.layout import MANIFEST
from oda_proxy.errors import FixtureError, OdaProxyError, StoreUnusableError, UnwritableFixtureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NotACapsuleError(UsageError):
    """A folder in which no capsule can be written."""


class CapsuleError(FixtureError):
    """A file of a capsule is missing, changed, or not in the format; the message begins with the name of the file."""


class UnwritableCapsuleError(CapsuleError):
    """A file of a capsule cannot be written: the disk is full, or what it would hold cannot be read from a store."""


class NoCapsuleError(CapsuleError):
    """A folder without a capsule."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / MANIFEST, "is not there")
        is_other = folder.is_file()
        text = "{} is neither a folder nor a .zip or .tar.gz file of one" if is_other else "there is no capsule in {}"
        self.args = (text.format(folder),)


@contextmanager
def capsule_errors(file: Path) -> Iterator[None]:
    """Turn errors of the block into a CapsuleError that names the file."""
    try:
        yield
    except (CapsuleError, NotACapsuleError):
        raise
    except UnwritableFixtureError as error:
        raise UnwritableCapsuleError(error.file, str(error).removeprefix(f"{error.file}: ")) from None
    except StoreUnusableError as error:
        raise UnwritableCapsuleError(file, str(error)) from None
    except FixtureError as error:
        raise CapsuleError(error.file, str(error).removeprefix(f"{error.file}: ")) from None
    except OdaProxyError as error:
        raise CapsuleError(file, str(error)) from None
    except OSError as error:
        raise UnwritableCapsuleError(file, f"cannot be written: {error.strerror or error}") from None
