"""Explain a cache key to a person: what is in it, and in what two keys differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from oda_proxy.query.cache_key import KEY_VERSION, key_of_normalised

if TYPE_CHECKING:
    from oda_proxy.query.normalised import NormalisedQuery, Value

_DEFAULTED: Final = " (default)"
_ABSENT: Final = "absent"


def explain(normalised: NormalisedQuery) -> str:
    """Return the key of a query and everything that is in it, one item in a line."""
    lines = [f"key {key_of_normalised(normalised)}  (version {KEY_VERSION})"]
    lines += [f"{name} = {value}" for name, value in _items(normalised).items()]
    return "\n".join(lines)


def differences(one: NormalisedQuery, other: NormalisedQuery) -> list[str]:
    """Return a line for each item in which two queries differ; none where they have one key."""
    ours, theirs = _items(one), _items(other)
    return [
        f"{name}: {ours.get(name, _ABSENT)} | {theirs.get(name, _ABSENT)}"
        for name in dict.fromkeys((*ours, *theirs))
        if _value(ours.get(name)) != _value(theirs.get(name))
    ]


def _items(normalised: NormalisedQuery) -> dict[str, str]:
    """Return everything that is in a key, by its name, as a person reads it."""
    return {
        "instrument": normalised.instrument,
        "product_type": normalised.product_type,
        "query_type": normalised.query_type,
        "api": "present" if normalised.api else _ABSENT,
        **{
            f"parameter {name}": _shown(value) + (_DEFAULTED if name in normalised.defaulted else "")
            for name, value in normalised.parameters.items()
        },
        **{f"file {name}": f"SHA-256 {digest}" for name, digest in normalised.files},
    }


def _value(shown: str | None) -> str | None:
    """Return a shown value without the remark that it is a default."""
    return shown and shown.removesuffix(_DEFAULTED)


def _shown(value: Value) -> str:
    tag, *texts = value
    if tag == "default":
        return f"{_shown(tuple(texts))}, not converted"
    if tag == "number":
        return " ".join(texts)
    named = "as sent" if tag == "words" else tag
    return f"{' '.join(json.dumps(text) for text in texts)} ({named})" if texts else tag
