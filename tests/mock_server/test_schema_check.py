"""Checks against JSON schemas end, whatever the schema."""

from __future__ import annotations

from typing import Any

import pytest

from mock_server.schema_check import check_with_schema


@pytest.mark.parametrize(
    ("schema", "value", "result"),
    [
        ({"type": "array"}, [1], "valid"),
        ({"type": "array"}, {}, "invalid"),
        ({"type": "array", "items": {"pattern": "^a+$"}}, ["aa"], "valid"),
        ({"type": "array", "items": {"pattern": "^a+$"}}, ["b"], "invalid"),
        ({"type": "array", "items": {"$ref": "#"}}, [[[]]], "valid"),
        ({"$ref": "#"}, [1], "bad schema"),
        ({"$ref": "http://127.0.0.1:9/schema"}, [1], "bad schema"),
        ({"pattern": "("}, [1], "bad schema"),
        ([1, 2], [1], "bad schema"),
        (5, [1], "bad schema"),
        ({"$schema": 5}, [1], "bad schema"),
    ],
)
def test_a_value_is_valid_or_not_and_a_bad_schema_is_named(schema: Any, value: Any, result: str) -> None:
    assert check_with_schema(value, schema) == result


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"pattern": "^(a+)+$"}}, ["a" * 60 + "!"]),
        (
            {
                "$ref": "#/$defs/40",
                "$defs": {"0": {}} | {f"{n}": {"allOf": [{"$ref": f"#/$defs/{n - 1}"}] * 2} for n in range(1, 41)},
            },
            [1],
        ),
    ],
    ids=["pattern", "references"],
)
def test_a_check_that_would_take_years_is_given_up(schema: Any, value: Any) -> None:
    assert check_with_schema(value, schema, seconds=1.0) == "too long"
