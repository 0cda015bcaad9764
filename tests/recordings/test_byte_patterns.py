"""Patterns are found in small data with regular expressions, and in large data with numpy."""

from __future__ import annotations

import re

import numpy as np
import pytest

from oda_proxy.recordings.byte_patterns import _STEP as STEP
from oda_proxy.recordings.byte_patterns import BytePattern, PatternScan

PATTERNS = (
    BytePattern("hash", (b"&#",), re.compile(rb"&#\w{1,7};")),
    BytePattern("percent", tuple(b"%%%c" % digit for digit in b"0123456789ABCDEF"), re.compile(rb"%[0-9A-F]{2}")),
    BytePattern("escape", (b"\\u",), re.compile(rb"\\u[0-9a-f]{4}")),
)
TEXTS = (b"&#x41;", b"%41", b"\\u0041")


def find_starts(data: bytes, patterns: tuple[BytePattern, ...] = PATTERNS) -> list[tuple[int, str]]:
    return list(PatternScan(data, patterns).starts(patterns))


def expected(data: bytes, patterns: tuple[BytePattern, ...] = PATTERNS) -> list[tuple[int, str]]:
    return sorted((found.start(), pattern.name) for pattern in patterns for found in pattern.regex.finditer(data))


@pytest.mark.parametrize("size", [0, 1, 2, 50, 16 * 1024 - 1, 16 * 1024, STEP, STEP + 1, 2 * STEP + 2])
def test_the_starts_are_those_that_regular_expressions_find(size: int) -> None:
    data = np.random.default_rng(size).choice(np.frombuffer(b"&#%\\u0041; ", np.uint8), size).tobytes()

    assert find_starts(data) == expected(data)
    for pattern in PATTERNS:
        assert find_starts(data, (pattern,)) == expected(data, (pattern,))
        assert list(PatternScan(data, PATTERNS).starts((pattern,))) == expected(data, (pattern,))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("size", [20 * 1024, STEP, 2 * STEP])
def test_a_pattern_is_found_at_the_end_of_a_step_and_of_the_data(text: bytes, size: int) -> None:
    for at in (0, *range(size - len(text) - 1, size + 2), size + 100):
        data = b"-" * at + text + b"-" * (size + 100 - at)

        assert [start for start, _ in find_starts(data)] == [at]
        assert [start for start, _ in find_starts(data[: at + len(text)])] == [at]


def test_the_begin_of_a_pattern_alone_is_not_found() -> None:
    assert not find_starts(b"&#% \\u00" * 10_000 + b"&")
