"""Two spellings of one query are equal once normalised, two queries are not."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda_proxy.query.cache_key import key_of_normalised
from oda_proxy.query.explanation import differences
from oda_proxy.query.normalised import normalise
from oda_proxy.query.query import parse_fields, split_query
from oda_proxy.query.schema import Schema
from tests.support.sample_descriptions import IMAGE_ARGUMENTS, OLD_SCHEMA, SCHEMA, normalised

both = pytest.mark.parametrize("schema", [SCHEMA, OLD_SCHEMA], ids=["today", "old"])

CATALOGUE = '{"cat_frame": "fk5", "cat_column_list": [[1], ["a"], [7.5]]}'


@both
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RA=83", "RA=83.000"),
        ("RA=83", "RA=8.3e1"),
        ("RA=83.63333333333331", "RA=05h34m32s"),
        ("T1=2003-03-15T23:27:40&T2=2003-03-16T00:00:00", "T1=52713.97754629630&T2=52714&T_format=mjd"),
        ("T1=2003-03-15T23:27:40", "T1=2003-03-15T23:27:40.000&T_format=isot"),
        ("", "RA=265.97845833"),  # a default left out and written out
        ("", "DEC=-29.745166670"),
        ("", "T1=2017-03-06T13:26:48"),
        ("", "src_name=1E 1740.7-2942"),
        ("E1_keV=20&E2_keV=40", ""),
        ("osa_version=OSA11.2", "osa_version= OSA11.2 "),
        ("scw_list=a&scw_list=b", "scw_list=a,b"),
        (f"selected_catalog={quote(CATALOGUE)}", f"selected_catalog={quote(CATALOGUE.replace(' ', ''))}"),
        ("RA=1&RA=2", "RA=1"),  # dispatchers read the first
        ("use_scws=no", ""),
        ("detection_threshold=7", ""),
        ("verbose=False&dry_run=False&off_line=False&oda_api_version=1.0&session_id=S", ""),
        ("verbose=True", ""),
        ("scw_list=a&use_scws=form_list", "scw_list=a"),
    ],
)
def test_two_spellings_of_one_query_have_one_key(schema: Schema, one: str, other: str) -> None:
    assert differences(normalised(one, schema), normalised(other, schema)) == []
    assert key_of_normalised(normalised(one, schema)) == key_of_normalised(normalised(other, schema))


@both
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("RA=83", "RA=38"),
        ("RA=1&DEC=2", "RA=2&DEC=1"),
        ("RA=83.63", "RA=83.630000000000001"),
        ("T1=2003-01-12T00:00:00", "T1=2003-01-21T00:00:00"),
        ("T1=2003-03-15T23:27:40&T_format=isot", "T1=2003-03-15T23:27:40&T_format=mjd"),
        ("scw_list=a,b", "scw_list=b,a"),
        ("scw_list=", ""),
        ("scw_list=010200230010.001", "scw_list=010200230010.0010"),
        ("src_name=1E1740.7-2942", "src_name=1E1740.70-2942"),
        ("osa_version=OSA10.2", "osa_version=OSA10.20"),
        ("src_name=a b", "src_name=a  b"),
        ("RA=", "RA=0"),
        ("time_bin=70", "time_bin=70.0"),  # a parameter of another product: the dispatcher takes it as it is
        ("x=1", "x=1.0"),
        ("x=1", ""),
        ("dry_run=True", ""),
        ("use_scws=form_list", ""),
        ("use_scws=user_file", ""),
        ("use_scws=bogus", ""),
        ("use_scws=", "use_scws=no"),
        ("scw_list=a&use_scws=no", "scw_list=a"),
        ("scw_list=a&use_scws=user_file", "scw_list=a"),
        ("scw_list=a&use_scws=bogus", "scw_list=a"),
        ("selected_catalog=%00", ""),
        ("RA=%00", ""),
        ("RA=%00", "RA="),
        ("return_progress=True", ""),
        ("run_asynch=False", ""),
        (f"selected_catalog={quote(CATALOGUE)}", f"selected_catalog={quote(CATALOGUE.replace('7.5', '7.6'))}"),
        (f"selected_catalog={quote(CATALOGUE)}", ""),
    ],
)
def test_another_query_has_another_key(schema: Schema, one: str, other: str) -> None:
    assert differences(normalised(one, schema), normalised(other, schema)) != []
    assert key_of_normalised(normalised(one, schema)) != key_of_normalised(normalised(other, schema))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("image_scale_min=5", "image_scale_min=5.0"),
        ("image_scale_min=", "image_scale_min=%00"),
        ("flag=True", "flag=yes"),
        ("flag=0", ""),
        ('table={"a":1,"b":[1.50]}', ""),
        ('sources=["a", "b"]', "sources=a,b"),
        ("band=2", "band=2000&band_units=keV"),
        ("band=2&band_units=MeV", "band=2"),
        ("x=[1, 2]", "x=[1,2]"),
        ("max_pointings=50", ""),
    ],
)
def test_todays_descriptions_tell_more(one: str, other: str) -> None:
    assert differences(normalised(one), normalised(other)) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("band=2", "band=2&band_units=keV"),
        ("band=1", ""),  # the dispatcher converts what was sent, and not its default
        ("band=1.001", "band=1001&band_units=keV"),
        ("band_units=MeV", ""),
        ("flag=maybe", "flag=no"),
    ],
)
def test_values_not_known_to_be_the_same_have_different_keys(one: str, other: str) -> None:
    assert differences(normalised(one), normalised(other)) != []


@pytest.mark.parametrize(("one", "other"), [("RA=83", "RA=83.0"), ("RA=265.97845833", ""), ("x=a&x=b", "x=a")])
def test_without_a_description_values_are_compared_as_sent(one: str, other: str) -> None:
    assert differences(normalised(one, None), normalised(other, None)) != []


def test_a_product_that_the_description_lacks_is_compared_as_sent() -> None:
    query, _ = split_query(parse_fields(f"{IMAGE_ARGUMENTS.replace('isgri_image', 'nosuch')}&RA=83.0"))

    assert normalise(query, SCHEMA) == normalise(query, None)


def test_the_default_is_in_the_key_as_it_was() -> None:
    changed = {**SCHEMA.products["isgri_image"]}
    changed["E1_keV"] = replace(changed["E1_keV"], default="15.0")
    later = Schema("isgri", {"isgri_image": changed}, SCHEMA.reads_json)

    assert key_of_normalised(normalised("", SCHEMA)) != key_of_normalised(normalised("", later))
    assert key_of_normalised(normalised("", SCHEMA)) == key_of_normalised(normalised("E1_keV=20", later))


def test_another_unit_is_another_value_whatever_the_number() -> None:
    counted = {**SCHEMA.products["isgri_image"]}
    counted["E1_keV"] = replace(counted["E1_keV"], unit="MeV")
    later = Schema("isgri", {"isgri_image": counted}, SCHEMA.reads_json)

    assert key_of_normalised(normalised("E1_keV=20", SCHEMA)) != key_of_normalised(normalised("E1_keV=20", later))


names = st.sampled_from(["RA", "T1", "T_format", "scw_list", "selected_catalog", "flag", "band", "band_units", "x"])
values = st.text() | st.sampled_from(["", "\x00", "mjd", "5", "[", "keV", "1e400", "nan", "[1]", "a,b", "-0"])


@given(st.lists(st.tuples(names, values)), st.sampled_from([SCHEMA, OLD_SCHEMA, None]))
def test_any_fields_are_a_query(pairs: list[tuple[str, str]], schema: Schema | None) -> None:
    query, _ = split_query([*parse_fields(IMAGE_ARGUMENTS), *pairs])

    assert len(key_of_normalised(normalise(query, schema))) == 64
