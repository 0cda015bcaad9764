"""Pairs of different queries, made without the rules of the program."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from hypothesis import assume
from hypothesis import strategies as st

from tests.support.sample_descriptions import IMAGE_ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

Words = dict[str, str]
Draw = st.DrawFn

NUMBERS = ("RA", "DEC", "radius", "E1_keV", "E2_keV", "detection_threshold")
NAMES = ("src_name", "osa_version", "scw_list", "undescribed")

_decimals = st.decimals(-999, 999, places=4).map(str)
_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9+. -]{0,14}[A-Za-z0-9]", fullmatch=True)
_windows = st.integers(0, 499)
_cells = st.tuples(st.integers(0, 19), st.integers(0, 19))


def digits_swapped(draw: Draw, words: Words) -> Words:
    """Permute the digits of a number: the dispatcher has one id for all permutations."""
    name = draw(st.sampled_from(NUMBERS))
    value = words.setdefault(name, draw(_decimals))
    swapped = "".join(draw(st.permutations(value.lstrip("-"))))
    assume(swapped[0] != "." and Decimal(swapped) != Decimal(value))
    return {**words, name: swapped}


def coordinates_exchanged(draw: Draw, words: Words) -> Words:
    assume(Decimal(words["RA"]) != Decimal(words["DEC"]))
    return {**words, "RA": words["DEC"], "DEC": words["RA"]}


def list_reordered(draw: Draw, words: Words) -> Words:
    names = draw(st.lists(st.from_regex(r"[0-9]{12}\.00[0-9]", fullmatch=True), min_size=2, max_size=8, unique=True))
    words["scw_list"] = ",".join(names)
    other = draw(st.permutations(names))
    assume(other != names)
    return {**words, "scw_list": ",".join(other)}


def another_window(draw: Draw, words: Words) -> Words:
    one, other = draw(_windows), draw(_windows)
    assume(one != other)
    words.update(window(one))
    return {**words, **window(other)}


def another_cell(draw: Draw, words: Words) -> Words:
    one, other = draw(_cells), draw(_cells)
    assume(one != other)
    words.update(cell(*one))
    return {**words, **cell(*other)}


def neighbouring_float(draw: Draw, words: Words) -> Words:
    name = draw(st.sampled_from(NUMBERS))
    value = draw(st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: abs(value) > 0))
    words[name] = repr(value)
    other = math.nextafter(value, draw(st.sampled_from([-math.inf, math.inf])))
    assume(math.isfinite(other))
    return {**words, name: repr(other)}


def near_equal_text(draw: Draw, words: Words) -> Words:
    name = draw(st.sampled_from(NAMES))
    value = words.setdefault(name, draw(_names))
    at = draw(st.integers(0, len(value) - 1))
    other = draw(
        st.sampled_from(
            [
                f"{value}0",
                f"0{value}",
                value.swapcase(),
                value[:at] + value[at + 1 :],
                f"{value[:at]}0{value[at + 1 :]}",
            ]
        )
    )
    assume(other.strip() != value.strip() and other.strip())
    return {**words, name: other}


def another_flag(draw: Draw, words: Words) -> Words:
    return {**words, **draw(st.sampled_from([{"dry_run": "True"}, {"run_asynch": "False"}, {"undescribed2": "1"}]))}


MUTATIONS: tuple[Callable[[Draw, Words], Words], ...] = (
    digits_swapped,
    coordinates_exchanged,
    list_reordered,
    another_window,
    another_cell,
    neighbouring_float,
    near_equal_text,
    another_flag,
)


def window(number: int) -> Words:
    """Return one of 500 windows of one day in MJD."""
    return {"T1": str(58000 + number), "T2": str(58001 + number), "T_format": "mjd"}


def cell(row: int, column: int) -> Words:
    """Return one of 20 x 20 cells of the sky, 0.1 degree apart."""
    return {"RA": f"{83 + row / 10:.1f}", "DEC": f"{21 + column / 10:.1f}"}


@st.composite
def pairs_of_different_queries(draw: Draw) -> tuple[str, str]:
    """Draw the query strings of two different queries."""
    one: Words = {"RA": draw(_decimals), "DEC": draw(_decimals)}
    if draw(st.booleans()):
        one["src_name"] = draw(_names)
    if draw(st.booleans()):
        one["T1"] = draw(st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds")))
    mutate = draw(st.sampled_from(MUTATIONS))
    other = mutate(draw, one)
    return f"{IMAGE_ARGUMENTS}&{urlencode(one)}", f"{IMAGE_ARGUMENTS}&{urlencode(other)}"
