"""Commands work on the recordings that keys or filters select; filters change nothing before they are confirmed."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.cli import main
from oda_proxy.commands import argument_types
from oda_proxy.config.folders import cache_folder
from oda_proxy.config.options import PRODUCTION
from oda_proxy.query.cache_key import Key
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.store.disk import DiskStore
from oda_proxy.store.index import Index
from tests.support.recordings import recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use an empty working folder, with the cache folder in it, at a fixed time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("time.time", lambda: NOW)


@pytest.fixture(autouse=True)
def _stored(_elsewhere: None) -> None:
    """Store four recordings, whose keys begin with a, b, c and d."""
    with closing(DiskStore(cache_folder(None, PRODUCTION), clock=lambda: NOW)) as store:
        for letter, product, source, age, text in (
            ("a", "isgri_image", "Crab", 40, b'"x":1'),
            ("b", "isgri_lc", "Cyg X-1", 20, b'"x":2'),
            ("c", "jemx_lc", "Crab", 10, b'"x":"%b"' % (b"y" * 5000)),
            ("d", "jemx_image", "", 0, b'"x":3'),
        ):
            parameters = f"&src_name={source}" if source else ""
            instrument = product.partition("_")[0]
            query = split_query(
                parse_fields(f"instrument={instrument}&product_type={product}&query_type=Real{parameters}")
            )[0]
            store.put(recording(Key(letter * 64), text, query=query, stored_at=NOW - age * DAY))


def run(capsys: pytest.CaptureFixture[str], *arguments: str, expect: int = 0) -> Any:
    assert main([*arguments, "--json"]) == expect
    return json.loads(capsys.readouterr().out)


def letters(keys: list[str]) -> str:
    return "".join(sorted(key[0] for key in keys))


def stored(capsys: pytest.CaptureFixture[str]) -> str:
    return letters([entry["key"] for entry in run(capsys, "ls")])


@pytest.mark.parametrize(
    ("filters", "selected"),
    [
        (["--instrument", "isgri"], "ab"),
        (["--instrument", "ISGRI"], "ab"),
        (["--instrument", "*"], "abcd"),
        (["--product", "*_lc"], "bc"),
        (["--source", "crab"], "ac"),
        (["--source", "Cyg*"], "b"),
        (["--stored-before", "30d"], "a"),
        (["--stored-before", "360h"], "ab"),
        (["--stored-before", datetime.fromtimestamp(NOW - 15 * DAY, UTC).isoformat()], "ab"),
        (["--used-before", "1w"], "abc"),
        (["--larger-than", "1kB"], "c"),
        (["--instrument", "jemx", "--source", "crab"], "c"),
        (["--instrument", "spi*"], ""),
    ],
)
def test_filters_select_recordings_of_each_command(
    capsys: pytest.CaptureFixture[str], filters: list[str], selected: str
) -> None:
    assert letters([entry["key"] for entry in run(capsys, "ls", *filters)]) == selected
    assert letters(run(capsys, "export", "out", *filters, "--dry-run")["would_be_written"]) == selected
    assert letters(run(capsys, "pin", *filters)["pinned"]) == selected
    assert letters(run(capsys, "unpin", *filters)["unpinned"]) == selected
    assert letters(run(capsys, "rm", *filters)["would_be_removed"]) == selected
    assert letters(run(capsys, "rm", *filters, "--yes")["removed"]) == selected
    assert stored(capsys) == letters([letter for letter in "abcd" if letter not in selected])


def test_a_filter_removes_nothing_before_it_is_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "--instrument", "isgri"]) == 0

    *_, last = capsys.readouterr().out.splitlines()
    assert last == "2 recordings, 10 B; nothing was removed: rm with --yes removes them"
    assert stored(capsys) == "abcd"


def test_a_dry_run_of_keys_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("rm", "pin", "unpin"):
        assert main([command, "a", "b", "--dry-run"]) == 0
        assert "2 recordings, 10 B; nothing was" in capsys.readouterr().out

    assert stored(capsys) == "abcd"
    assert not any(entry["pinned"] for entry in run(capsys, "ls"))
    assert main(["export", "out", "a", "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("1 recording; nothing was written\n")


@pytest.mark.parametrize("command", ["rm", "pin", "unpin"])
@pytest.mark.parametrize("arguments", [[], ["a", "--instrument", "isgri"]])
def test_keys_or_filters_are_needed_and_not_both(
    capsys: pytest.CaptureFixture[str], command: str, arguments: list[str]
) -> None:
    assert main([command, *arguments]) == 2
    assert "name keys, or filters such as --instrument, and not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--used-before", "soon"], ["--used-before", "2026-13-01"], ["--larger-than", "x"]]
)
def test_an_invalid_filter_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["ls", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"oda-proxy: argument {arguments[0]}: must be a ")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90min", NOW - 5400),
        ("1.5d", NOW - 1.5 * DAY),
        ("1970-01-02", DAY),
        ("1970-01-02T01:00:00+01:00", DAY),
    ],
)
def test_a_time_is_a_date_or_an_age(text: str, time: float) -> None:
    assert argument_types.time_before(text) == pytest.approx(time)


@pytest.mark.parametrize(
    "command", [["ls"], ["rm", "--yes"], ["rm"], ["pin"], ["unpin", "--dry-run"], ["export", "out"]]
)
def test_filters_that_select_nothing_are_named(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main([*command, "--instrument", "nosuch"]) == 0
    out, err = capsys.readouterr()
    assert err == f"oda-proxy: no recording of {PRODUCTION} meets the filters\n"
    assert "with --yes" not in out


def test_private_recordings_are_exported_only_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    with closing(DiskStore(cache_folder(None, PRODUCTION))) as store:
        store.put(recording(Key("e" * 64), private=True))

    assert letters(run(capsys, "export", "out", "--stored-before", "1min", "--dry-run")["would_be_written"]) == "abc"


def test_many_keys_are_removed_in_few_transactions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(DiskStore(cache_folder(None, PRODUCTION))) as store:
        for number in range(250):
            store.put(recording(Key(f"f{number:063x}"), b'"x":%d' % number))
    statements: list[str] = []
    original = Index._sql.fget

    def counted(self: Index) -> Callable[..., Any]:
        execute = original(self)

        def run_statement(statement: str, *arguments: Any) -> Any:
            statements.append(statement)
            return execute(statement, *arguments)

        return run_statement

    monkeypatch.setattr(Index, "_sql", property(counted))

    removed = run(capsys, "rm", *(f"f{number:063x}" for number in range(250)))["removed"]

    assert len(removed) == 250
    assert sum(statement.startswith("BEGIN") for statement in statements) < 20
    monkeypatch.undo()
