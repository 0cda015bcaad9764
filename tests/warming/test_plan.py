"""Plans: files of queries, and capsules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oda_proxy.errors import UsageError
from oda_proxy.warming.plan import PlannedQuery, Skipped, read_plan
from tests.support import capsules

if TYPE_CHECKING:
    from pathlib import Path

    from oda_proxy.query.query import Query

SENT = {"instrument": "isgri", "product_type": "isgri_image", "query_type": "Real", "RA": 83.6, "E1_keV": "20.0"}
ARGUMENTS = {"instrument": "isgri", "product": "isgri_image", "product_type": "Real", "RA": 83.6, "E1_keV": "20.0"}


def queries(file: Path, text: str) -> list[Query]:
    file.write_text(text)
    planned = read_plan(file)
    assert all(isinstance(one, PlannedQuery) for one in planned)
    return [one.query for one in planned if isinstance(one, PlannedQuery)]


def test_a_line_has_the_fields_of_a_query_or_the_arguments_of_get_product(tmp_path: Path) -> None:
    text = f"# comment\n\n{json.dumps(SENT)}\n  {json.dumps({**ARGUMENTS, 'RA': 84})}\n"

    first, second = queries(tmp_path / "plan", text)

    assert (first.instrument, first.product_type, first.query_type, first.api) == ("isgri", "isgri_image", "Real", True)
    assert first.parameters == (("E1_keV", ("20.0",)), ("RA", ("83.6",)))
    assert (second.product_type, second.query_type) == ("isgri_image", "Real")


def test_a_query_that_comes_twice_is_run_once(tmp_path: Path) -> None:
    assert len(queries(tmp_path / "plan", f"{json.dumps(SENT)}\n{json.dumps(ARGUMENTS)}\n")) == 1


def test_a_list_has_several_values_and_a_catalogue_is_sent_as_json(tmp_path: Path) -> None:
    catalogue = {"cat_frame": "fk5"}
    more = {**SENT, "scw_list": ["1", "2"], "selected_catalog": catalogue, "dry_run": False}

    (query,) = queries(tmp_path / "plan", json.dumps(more))

    assert dict(query.parameters)["scw_list"] == ("1", "2")
    assert dict(query.parameters)["selected_catalog"] == (json.dumps(catalogue),)
    assert "dry_run" not in dict(query.parameters)  # clients of today leave it out


def test_a_toml_file_has_a_table_for_each_query(tmp_path: Path) -> None:
    text = '[[query]]\ninstrument = "isgri"\nproduct = "isgri_image"\nT1 = 2003-03-15T23:27:40\n[[query]]\n'
    text += 'instrument = "polar"\nproduct_type = "polar_lc"\nquery_type = "Real"\n'

    first, second = queries(tmp_path / "plan.toml", text)

    assert first.parameters == (("T1", ("2003-03-15T23:27:40",)),)
    assert second.instrument == "polar"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("plan", "{", "line 1 of .* is not a query as JSON in one line"),
        ("plan", f"{json.dumps(SENT)}\n[1]", "line 2 of .* is not an object"),
        ("plan", '{"instrument": "isgri"}', "the request must have one product_type, it has 0"),
        ("plan", json.dumps({**SENT, "token": "abc"}), "the field 'token', which belongs to the client: --with-token"),
        ("plan", json.dumps({**SENT, "session_id": "abc"}), "the field 'session_id', which belongs to the client$"),
        ("plan", json.dumps({**SENT, "RA": None}), "has no value for 'RA'"),
        ("plan", "[" * 100_000, "is not a query as JSON"),
        ("plan.toml", "x = 1", r"has no tables \[\[query\]\]"),
        ("plan.toml", "x", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(UsageError, match=reason) as raised:
        read_plan(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert "abc" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")

    with pytest.raises(UsageError, match=r"binary is not UTF-8"):
        read_plan(tmp_path / "binary")
    with pytest.raises(UsageError, match=r"cannot read the plan .*missing: No such file"):
        read_plan(tmp_path / "missing")


def test_the_queries_of_a_capsule_are_planned_without_private_ones_and_uploads(tmp_path: Path) -> None:
    capsules.write_capsule(tmp_path / "capsule")

    planned = read_plan(tmp_path / "capsule")

    assert any(isinstance(one, PlannedQuery) for one in planned)
    assert all(one.reason for one in planned if isinstance(one, Skipped))
