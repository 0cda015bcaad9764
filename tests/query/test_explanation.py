"""What is in a key, and in what two keys differ, for a person."""

from __future__ import annotations

from oda_proxy.query.cache_key import key_of
from oda_proxy.query.explanation import differences, explain
from oda_proxy.query.query import parse_fields, split_query
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, SCHEMA, normalised


def test_a_key_explains_itself() -> None:
    lines = explain(normalised("RA=083.630&x=1")).splitlines()

    assert lines[0].startswith(
        f"key {key_of(split_query(parse_fields(f'{IMAGE_ARGUMENTS}&RA=083.630&x=1'))[0], SCHEMA)}"
    )
    assert "parameter RA = 83.63 deg" in lines
    assert "parameter DEC = -29.74516667 deg (default)" in lines
    assert 'parameter x = "1" (as sent)' in lines


def test_a_difference_names_both_values() -> None:
    assert differences(normalised("RA=83.63"), normalised("RA=38.63&DEC=-29.74516667")) == [
        "parameter RA: 83.63 deg | 38.63 deg"
    ]
