"""JSON of large answers, parsed and formatted in small steps, so that other threads run meanwhile.

The C code of `json` holds the interpreter lock until it has read or written a whole text: for 50 MB, nobody else is
answered for several tenths of a second. The results are the same as those of `json`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

STEP: Final = 256 * 1024
"""Characters that are parsed or formatted at once."""

_WINDOW: Final = 16 * 1024
"""Characters within which the end of a small value is searched."""
_SHORT: Final = 1024
"""Characters of a short text."""
_SPACE: Final = " \t\n\r"
_DECODER: Final = json.JSONDecoder()


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raises ValueError for a name that comes twice."""
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("an object has a name twice")
    return found


_UNIQUE_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


# -- parsing ---------------------------------------------------------------------------------------


def loads(content: bytes) -> Any:
    """Parse a JSON text; raises ValueError, and RecursionError for one that is nested too deeply."""
    text = content.decode(json.detect_encoding(content), "surrogatepass")
    at = skip_space(text, 0)
    value, end = decode(text, at)
    if skip_space(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def decode(text: str, at: int, *, unique_names: bool = False) -> tuple[Any, int]:
    """Return the value that begins at `at`, and its end, like `JSONDecoder.raw_decode`.

    Raises ValueError, with `unique_names` also for an object at any depth that has a name twice, and RecursionError
    for a value that is nested too deeply.
    """
    decoder = _UNIQUE_DECODER if unique_names else _DECODER
    first = text[at : at + 1]
    if len(text) - at <= STEP or first not in {'"', "{", "["}:
        return decoder.raw_decode(text, at)
    window = text[at : at + _WINDOW]
    try:
        value, end = decoder.raw_decode(window)
    except ValueError:  # it does not end within the window
        pass
    else:
        return value, at + end
    if first == '"':
        return _decode_string(text, at)
    decode_long = _decode_object if first == "{" else _decode_list
    return decode_long(text, at, unique_names=unique_names)


def skip_space(text: str, at: int) -> int:
    """Return the position of the first character from `at` that is no space."""
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _decode_string(text: str, at: int) -> tuple[str, int]:
    end = text.find('"', at + 1)
    if end < 0:
        raise ValueError(f"the text from character {at} on has no end")
    if text.find("\\", at + 1, end) >= 0 or not _is_printable(text, at + 1, end):
        value, end = _DECODER.raw_decode(text, at)
        return str(value), end
    return text[at + 1 : end], end + 1


def _decode_object(text: str, at: int, *, unique_names: bool) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    at = skip_space(text, at + 1)
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = decode(text, at)
        if unique_names and name in members:
            raise ValueError("an object has a name twice")
        at = _expect(text, at, ":")
        members[name], at = decode(text, skip_space(text, at), unique_names=unique_names)
        at = skip_space(text, at)
        if text[at : at + 1] == "}":
            return members, at + 1
        at = skip_space(text, _expect(text, at, ","))


def _decode_list(text: str, at: int, *, unique_names: bool) -> tuple[list[Any], int]:
    items: list[Any] = []
    at = skip_space(text, at + 1)
    if text[at : at + 1] == "]":
        return items, at + 1
    while True:
        plain, at = _decode_plain(text, at)
        items += plain
        item, at = decode(text, at, unique_names=unique_names)
        items.append(item)
        at = skip_space(text, at)
        if text[at : at + 1] == "]":
            return items, at + 1
        at = skip_space(text, _expect(text, at, ","))


def _decode_plain(text: str, at: int) -> tuple[list[Any], int]:
    """Return the elements of a list from `at` that are numbers, true, false or null, but for the last of a window."""
    window = text[at : at + _WINDOW]
    ends = [found for found in map(window.find, ('"', "{", "[", "]")) if found >= 0]
    end = window.rfind(",", 0, min(ends, default=len(window)))
    if end < 0 or not window[:end].strip(_SPACE):
        return [], at
    plain: list[Any] = _DECODER.decode(f"[{window[:end]}]")
    return plain, skip_space(text, at + end + 1)


def _expect(text: str, at: int, character: str) -> int:
    at = skip_space(text, at)
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"Expecting '{character}' delimiter", text, at)
    return at + 1


# -- formatting ------------------------------------------------------------------------------------


def compact(value: Any) -> str:
    """Return compact JSON, as the dispatcher writes it."""
    return "".join(compact_parts(value))


def compact_parts(value: Any) -> Iterator[str]:
    """Yield compact JSON in parts; large texts are parts of their own."""
    if isinstance(value, str):
        if _is_written_as_it_is(value):
            yield from ('"', value, '"')
        else:
            yield _ENCODER.encode(value)
    elif _is_small(value):
        yield _ENCODER.encode(value)
    elif isinstance(value, dict):
        separator = "{"
        for name, inner in value.items():
            yield f"{separator}{_ENCODER.encode({name: 0})[1:-2]}"  # a name that is no text becomes one
            yield from compact_parts(inner)
            separator = ","
        yield "}"
    else:
        separator = "["
        for at in range(0, len(value), _WINDOW):
            some = value[at : at + _WINDOW]
            if all(map(_is_scalar, some)):
                yield f"{separator}{_ENCODER.encode(some)[1:-1]}"
                separator = ","
                continue
            for inner in some:
                yield separator
                yield from compact_parts(inner)
                separator = ","
        yield "]"


def _is_written_as_it_is(value: str) -> bool:
    """Return whether a text is long, and has no character that JSON escapes."""
    return len(value) > STEP and '"' not in value and "\\" not in value and _is_printable(value, 0, len(value))


def _is_small(value: Any) -> bool:
    """Return whether a value is formatted at once: it has few values in all, and no long text among them."""
    return _is_scalar(value) or not value or _left_after(value, STEP // _SHORT) >= 0


def _left_after(value: Any, left: int) -> int:
    """Return how many of `left` values are left after those of a value, or -1 if it has more or a long text."""
    if isinstance(value, str):
        return left - 1 if len(value) < _SHORT else -1
    if isinstance(value, dict | list | tuple):
        if len(value) > left:
            return -1
        for inner in value.values() if isinstance(value, dict) else value:
            if (left := _left_after(inner, left)) < 0:
                return -1
    return left - 1


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, str | dict | list | tuple)


def _is_printable(text: str, begin: int, end: int) -> bool:
    """Return whether a part of a text is printable ASCII, which JSON does not escape but for quotes and backslashes."""
    import numpy as np  # compares sixteen bytes at once; `str.isprintable` takes forty times as long

    for at in range(begin, end, STEP):
        some = text[at : min(at + STEP, end)]
        if not some.isascii():
            return False
        codes = np.frombuffer(some.encode("ascii"), np.uint8)
        if codes.min() < _FIRST_PRINTABLE or codes.max() > _LAST_PRINTABLE:
            return False
    return True


_FIRST_PRINTABLE: Final = ord(" ")
_LAST_PRINTABLE: Final = ord("~")
