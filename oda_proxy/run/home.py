"""What in the home folder would make a run differ: caches are replaced by empty ones, other files are named.

A client that finds an answer in its own cache sends no request: a recording would miss it, and a replay would work on
the author's machine only.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from oda_proxy.files.temporary import TemporaryFolder
from oda_proxy.run import client_cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_ENTRIES: Final = 10_000
"""Entries of a cache folder that are linked; whatever is beyond is built again by the programs that use it."""

_DOWNLOADS: Final = ("astropy", "astroquery")
"""Programs whose caches hold downloads."""

_FILES: Final = (
    "~/.oda-token",
    "~/.netrc",
    "~/.curlrc",
    "~/.wgetrc",
    "~/.config/matplotlib/matplotlibrc",
    "~/.config/astropy/astropy.cfg",
    "~/.astropy/config/astropy.cfg",
    "~/.config/astroquery/astroquery.cfg",
    "~/.astropy/config/astroquery.cfg",
    "~/.ipython/profile_default/startup/*.py",
    "~/.ipython/profile_default/startup/*.ipy",
    "~/.ipython/profile_default/ipython_config.py",
    "~/.ipython/profile_default/ipython_kernel_config.py",
    "~/.jupyter/*_config.py",
    "~/.jupyter/*_config.json",
    "~/.local/lib/python3*/site-packages/usercustomize.py",
    "~/.cache/http_cache.sqlite",
)
"""Files by which programs of this field behave differently."""


@dataclass(frozen=True, slots=True)
class RunHome:
    """The replaced caches of a run, and what else it may depend on."""

    variables: Mapping[str, str]
    """Variables that lead programs to empty caches."""
    replaced: tuple[str, ...]
    """Caches of the user that have entries, which the run does not use."""
    files: tuple[str, ...]
    """Files of the user that may change what the run does."""


@contextmanager
def empty_caches(environ: Mapping[str, str]) -> Iterator[RunHome]:
    """Make empty caches for the programs of a run, until the block ends.

    The client (`oda_api`) has its cache in ODA_CACHE. The one of astropy and astroquery is in ASTROPY_CACHE_DIR, since
    astropy 7.1, and before in a folder of XDG_CACHE_HOME, which gets links to the caches of other programs.
    """
    home = Path(environ.get("HOME") or "~").expanduser()
    base = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    with TemporaryFolder("home") as name:
        folder = Path(name)
        (folder / "oda-api").mkdir()
        for program in _DOWNLOADS:
            (folder / "xdg" / program).mkdir(parents=True)
        _link_others(base, folder / "xdg")
        yield RunHome(
            variables={
                client_cache.VARIABLE: str(folder / "oda-api"),
                "XDG_CACHE_HOME": str(folder / "xdg"),
                "ASTROPY_CACHE_DIR": str(folder / "xdg" / "astropy"),
            },
            replaced=tuple(_with_entries(environ, home, base)),
            files=tuple(_existing_files(home)),
        )


def _link_others(base: Path, folder: Path) -> None:
    """Link the caches of other programs, so that they need not build them again."""
    try:
        with os.scandir(base) as entries:
            for entry in islice(entries, MAX_ENTRIES):
                if entry.name not in {*_DOWNLOADS, "oda-api"}:
                    (folder / entry.name).symlink_to(Path(entry.path).absolute())
    except OSError:  # there is none, or none that the programs could read
        return


def _with_entries(environ: Mapping[str, str], home: Path, base: Path) -> Iterator[str]:
    folders = (
        ("oda_api", client_cache.folder_of(environ)),
        ("astropy", Path(environ.get("ASTROPY_CACHE_DIR") or base / "astropy")),
        ("astropy", home / ".astropy" / "cache"),
        ("astroquery", base / "astroquery"),
        ("astroquery", home / ".astroquery" / "cache"),
    )
    for program, folder in folders:
        if client_cache.has_files(folder):
            yield f"the cache of {program} in {_short(folder, home)}"


def _existing_files(home: Path) -> Iterator[str]:
    for pattern in _FILES:
        for file in sorted(home.glob(pattern.removeprefix("~/"))):
            if file.is_file():
                yield _short(file, home)


def _short(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
