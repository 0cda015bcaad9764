"""Repairs of products: arrays, tables, files, pictures and texts."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from oda_proxy.codec.json_steps import compact
from oda_proxy.codec.pickle_operations import with_renamed_modules
from oda_proxy.compat.json_changes import mapped, with_members
from oda_proxy.compat.text_repairs import escaped, interrupted_base64, parsed_object, valid_python
from oda_proxy.errors import CodecError

_BASE64: Final = ("data", "b64data", "binary")
"""Members of files, pictures and tables that contain base64."""

PORTABLE_MODULES: Final = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.defchararray": "numpy.core.defchararray",
    "numpy.char": "numpy.core.defchararray",
    "astropy.utils.compat.numpycompat": "numpy.core.defchararray",
}
"""Modules of numpy 2 and astropy 8, with the names that every numpy has for the same content."""


def with_name(product: Any) -> Any:
    """Replace a missing name by an empty one."""
    return with_members(product, name="") if product.get("name") is None else product


def with_meta_data_text(product: Any) -> Any:
    """Write the `meta_data` of a product as text that is both JSON and Python."""
    meta_data = product.get("meta_data")
    if meta_data is None:
        return with_members(product, meta_data="{}")
    if isinstance(meta_data, dict):
        meta_data = compact(meta_data)
    if not isinstance(meta_data, str) or not isinstance(parsed_object(meta_data), dict):
        return product
    return with_members(product, meta_data=valid_python(meta_data))


def with_portable_pickle(text: Any) -> Any:
    """Rename the modules in a pickle in base64 to names that every numpy has."""
    if not isinstance(text, str):
        return text
    try:
        data = binascii.a2b_base64(text)
        if not any(name.encode() in data for name in PORTABLE_MODULES):
            return text
        portable = with_renamed_modules(data, PORTABLE_MODULES)
    except (ValueError, CodecError):
        return text  # reported by the screening
    return text if portable == data else base64.b64encode(portable).decode("ascii")


def unit_with_portable_pickle(unit: Any) -> Any:
    """Apply `with_portable_pickle` to a data unit."""
    return with_members(unit, binarys=with_portable_pickle(unit["binarys"])) if "binarys" in unit else unit


def unit_with_interrupted_base64(unit: Any) -> Any:
    """Apply `interrupted_base64` to the pickle of a data unit."""
    return with_members(unit, binarys=interrupted_base64(unit["binarys"])) if "binarys" in unit else unit


def unit_as_text(unit: Any) -> Any:
    """Send a unit as JSON text if a text in it contains `null`: there the letters can be escaped.

    Every client reads a unit in both forms. The text must not contain a null itself: `data`, which a unit with a pickle
    does not have, becomes an empty text. A unit with other nulls is unchanged.
    """
    if not isinstance(unit.get("binarys"), str):
        return unit
    complete = {**unit, "data": "", "dt": unit.get("dt") or ""}
    if complete.get("units_dict") is None:
        complete.pop("units_dict", None)
    text = compact(complete)
    if "null" not in text:
        return unit
    text = escaped(text)
    return unit if "null" in text else text


def table_as_object(table: Any) -> Any:
    """Turn a table into an object, and its `meta_data`, too; 1.0 gets the bare text in the end (`generations`)."""
    described = parsed_object(table)
    if isinstance(described, str):
        return {"name": "", "meta_data": {}, "ascii": described, "binary": None}
    if not isinstance(described, dict):
        return table
    meta_data = parsed_object(described.get("meta_data"))
    if meta_data is None:
        meta_data = {}
    if isinstance(meta_data, dict):
        empty = {name: "" for name in ("src_name", "product") if name in meta_data and meta_data[name] is None}
        meta_data = with_members(meta_data, **empty)
    return with_members(described, meta_data=meta_data)


def binary_with_interrupted_base64(product: Any) -> Any:
    """Apply `interrupted_base64` to a file, picture or table."""
    described = parsed_object(product)
    if not isinstance(described, dict):
        return interrupted_base64(described)
    return with_members(
        described, **{name: interrupted_base64(described[name]) for name in _BASE64 if name in described}
    )


def table_with_portable_pickle(table: Any) -> Any:
    """Apply `with_portable_pickle` to a table."""
    if not isinstance(table, dict) or "binary" not in table:
        return table
    return with_members(table, binary=with_portable_pickle(table["binary"]))


def escaped_texts(texts: Any) -> Any:
    """Send texts with `null` as escaped JSON text, if all are objects: otherwise clients parse none of them."""
    described = mapped(texts, parsed_object)
    if not all(isinstance(text, dict) and "value" in text for text in described):
        return texts
    return mapped(described, _escaped_text)


def _escaped_text(text: Any) -> Any:
    written = compact(_without_nulls(text))
    changed = escaped(written)
    return text if written == changed or "null" in changed else changed


def _without_nulls(text: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in text.items() if value is not None}
