"""The command `fixture`: makes a fixture from a person's own files, or checks a folder of fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oda_proxy.commands.output import print_lines
from oda_proxy.commands.verify_files import verify
from oda_proxy.errors import UsageError
from oda_proxy.fixture.authoring import NewFixture, parse_query, safe_name, write_new
from oda_proxy.fixture.own_files import KINDS, Origin, product, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ACTIONS = ("new", "check")


def fixture(*, action: str, folder: Path, **settings: Any) -> int:
    """Make a fixture, or check a folder; the exit status is 1 if the folder is not sound."""
    if action == "check":
        given = [name for name, value in settings.items() if value not in (None, False, [], 0.0)]
        if given:
            raise UsageError(f"fixture check takes a folder only, and not --{given[0].replace('_', '-')}")
        return verify(folder, fix=False, as_json=False)
    return _new(folder, **settings)


def _new(
    folder: Path,
    *,
    from_query: str | None,
    name: str | None,
    slug: str | None,
    seconds: float,
    replace: bool,
    **files: list[Path] | None,
) -> int:
    if from_query is None:
        raise UsageError("fixture new needs --from-query 'instrument=...&product_type=...': the query to be answered")
    query = parse_query(from_query)
    source = str(query.parameters.get("src_name", ""))
    products, names = [], []
    for kind in KINDS:
        for file in files[kind.replace("-", "_")] or []:
            own = name or safe_name(file.name.partition(".")[0])
            products.append(product(kind, Origin(file, own, source), read_file(file)))
            names.append(file.name)
    if not products:
        options = ", ".join(f"--{kind}" for kind in KINDS)
        raise UsageError(f"fixture new needs a file: give one of {options}")
    new = NewFixture(query, products, seconds, slug or "", f"own files: {', '.join(names)}")
    path = write_new(folder, new, _shipped(query.instrument), replaces=replace)
    status = verify(folder, fix=False, as_json=False)
    print_lines([f"{folder / path}: written; to serve it: oda-proxy mock --fixtures {folder}"])
    return status


def _shipped(instrument: str) -> Mapping[str, Any] | None:
    from oda_proxy.servers.mock import shipped_description  # imports the mock

    return shipped_description(instrument)
