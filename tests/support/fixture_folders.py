"""Folders with copies of shipped fixtures, and changes of them."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oda_proxy.fixture.reading import open_folder
from oda_proxy.fixture.writing import write_fixture, write_manifest
from tests.support.paths import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def copy_fixtures(folder: Path, *paths: str, source: str = "a test") -> Path:
    """Copy fixtures, and the descriptions of their instruments, into a folder of their own."""
    kind = "recorded" if source.startswith("http") else "synthetic"
    origins = {}
    for path in [*paths, *{f"{path.split('/')[0]}/instrument.json" for path in paths}]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (FIXTURES / path).is_dir() else shutil.copy)(FIXTURES / path, folder / path)
        origins[path] = {"kind": kind, "source": source, "modelled": []}
    write_manifest(folder, origins)
    return folder


def rewrite_fixture(folder: Path, path: str, **products: Any) -> None:
    """Change what a fixture of a folder answers; a product that is None is left out."""
    opened = open_folder(folder)
    [one] = [one for one in opened.fixtures if one.path == path]
    changed = {name: value for name, value in {**one.wire_products(), **products}.items() if value is not None}
    write_fixture(folder, path, one.query(), replace(one.answer(), products=changed))
    write_manifest(folder, {name: dict(origin) for name, origin in opened.origins.items()})


def products_of_fixture(folder: Path, path: str) -> dict[str, Any]:
    [one] = [one for one in open_folder(folder).fixtures if one.path == path]
    return one.wire_products()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file with these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()
