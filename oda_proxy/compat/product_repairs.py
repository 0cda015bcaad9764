"""Repairs of products: arrays, tables, files, pictures and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from oda_proxy.codec.json_steps import compact
from oda_proxy.compat.json_changes import mapped, with_members
from oda_proxy.compat.text_repairs import escaped, interrupted_base64, parsed_object, valid_python

if TYPE_CHECKING:
    from oda_proxy.compat.pickles import Pickles

_BASE64: Final = ("data", "b64data", "binary")
"""Members of files, pictures and tables that contain base64."""


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


def with_portable_pickle(text: Any, pickles: Pickles) -> Any:
    """Rename the modules in a pickle in base64 to names that every numpy has; others are reported by the screening."""
    return pickles.find(text).text if isinstance(text, str) else text


def unit_with_portable_pickle(unit: Any, pickles: Pickles) -> Any:
    """Apply `with_portable_pickle` to a data unit."""
    return with_members(unit, binarys=with_portable_pickle(unit["binarys"], pickles)) if "binarys" in unit else unit


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
    if "null" not in compact({**complete, "binarys": ""}):  # the base64 has none after its own repair
        return unit
    text = escaped(compact(complete))
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


def table_with_portable_pickle(table: Any, pickles: Pickles) -> Any:
    """Apply `with_portable_pickle` to a table."""
    if not isinstance(table, dict) or "binary" not in table:
        return table
    return with_members(table, binary=with_portable_pickle(table["binary"], pickles))


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
