"""Strict JSON text: no NaN, no repeated names, nothing a second parser would read differently."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str | bytes) -> Any:
    """Read strict JSON.

    Raises
    ------
    CodecError
        Not JSON or not UTF-8; a name stands twice in an object; NaN, an infinity or a number beyond the range of a
        float; half of a surrogate pair; nested deeper, or a number longer, than Python reads.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value = json.loads(
            text, object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half a pair cannot be written again
    except UnicodeError as error:
        raise CodecError(
            f"not UTF-8 text: {error.reason if isinstance(error, UnicodeDecodeError) else error}"
        ) from None
    except ValueError as error:
        raise CodecError(f"not strict JSON: {error}") from None
    except RecursionError:
        raise CodecError("not strict JSON: nested too deeply") from None
    return value


def dumps(value: Any) -> str:
    """Write strict JSON for people: UTF-8, indented by two blanks, a newline at the end.

    Raises
    ------
    CodecError
        The value holds NaN, an infinity or something that JSON has no form for.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(f"cannot be written as strict JSON: {error}") from None


def _object_without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"the name {name!r} stands twice in one object")
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is beyond the range of a float")
    return number
