"""The table of repairs: what some release of the client cannot read within an answer, and where each repair applies.

Clients after 1.0 turn an answer into Python text, replace the letters `null` in it by `None`, wherever they occur, and
evaluate it; all up to 1.2.42 evaluate a product's `meta_data` as Python, too. Each repair (`REPAIRS`) expresses the
same in another form. None changes a number, and values that need none keep their bytes. docs/repairs.md describes each,
and what cannot be repaired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.compat.json_changes import Change, mapped, same_if_equal, with_members
from oda_proxy.compat.product_repairs import (
    binary_with_interrupted_base64,
    escaped_texts,
    table_as_object,
    table_with_portable_pickle,
    unit_as_text,
    unit_with_interrupted_base64,
    unit_with_portable_pickle,
    with_meta_data_text,
    with_name,
)
from oda_proxy.compat.text_repairs import null_for_nan, parsed_object, separated_null_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from oda_proxy.compat.pickles import Pickles


@dataclass(frozen=True, slots=True)
class Repair:
    """A fault that breaks or misleads some client: its name in docs/repairs.md, its description, and its repair."""

    name: str
    description: str
    change: Change


@dataclass(frozen=True, slots=True)
class PickleRepair:
    """A repair of a pickle, which is decoded once for all that is done with it."""

    name: str
    description: str
    change: Callable[[Any, Pickles], Any]


_ANYWHERE = (
    Repair("nan", "NaN and infinities outside arrays", null_for_nan),
    Repair("broken-line", "a line that begins with `ull`", separated_null_line),
)
_PRODUCT = (
    Repair("null-name", "a product without a name", with_name),
    Repair("meta-data", "null, true, false, NaN in the text of meta_data", with_meta_data_text),
)
_UNIT = (
    PickleRepair(
        "pickle-names", "pickles that name the internals of a newer numpy or astropy", unit_with_portable_pickle
    ),
    Repair("null-in-base64", "the letters `null` in base64", unit_with_interrupted_base64),
    Repair("null-in-unit", "the word `null` in a header, a name or a unit", unit_as_text),
)
_TABLE = (
    Repair("table-form", "tables as text, or with meta_data as text", table_as_object),
    PickleRepair("pickle-names", "as above, in a table", table_with_portable_pickle),
    Repair("null-in-base64", "as above, in a table", binary_with_interrupted_base64),
)
_BINARY = (Repair("null-in-base64", "as above, in files and pictures", binary_with_interrupted_base64),)
_TEXTS = (Repair("null-in-text", "the word `null` in a text product", escaped_texts),)

REPAIRS: Final = (*_ANYWHERE, *_PRODUCT, *_UNIT, *_TABLE, *_BINARY, *_TEXTS)
"""Every repair of values and products; failures and jobs are completed in `answer_repairs`."""


def _applied(repairs: tuple[Repair | PickleRepair, ...], value: Any, pickles: Pickles) -> Any:
    for repair in repairs:
        value = repair.change(value) if isinstance(repair, Repair) else repair.change(value, pickles)
    return value


def repaired_member(name: str, value: Any, pickles: Pickles) -> Any:
    """Repair a member of `products`."""
    value = repaired_value(value)
    match name:
        case "numpy_data_product":
            return _repaired_product(value, pickles)
        case "gw_skymap_product" if isinstance(value, dict) and isinstance(value.get("skymaps"), dict):
            skymaps = value["skymaps"]
            repaired = {event: _repaired_product(skymap, pickles) for event, skymap in skymaps.items()}
            return with_members(value, skymaps=same_if_equal(skymaps, repaired))
        case "catalog":
            return parsed_object(value)
        case _ if isinstance(value, list):
            return _repaired_list(name, value, pickles)
    return value


def _repaired_list(name: str, items: list[Any], pickles: Pickles) -> list[Any]:
    match name:
        case "numpy_data_product_list":
            return mapped(items, lambda item: _repaired_product(item, pickles))
        case "astropy_table_product_ascii_list" | "astropy_table_product_binary_list":
            return mapped(items, lambda item: _applied(_TABLE, item, pickles))
        case "binary_data_product_list" | "binary_image_product_list":
            return mapped(items, lambda item: _applied(_BINARY, item, pickles))
        case "text_product_list":
            repaired_texts: list[Any] = _applied(_TEXTS, items, pickles)
            return repaired_texts
    return items


def repaired_product(value: Any, pickles: Pickles) -> Any:
    """Repair an element of `numpy_data_product_list`."""
    return _repaired_product(repaired_value(value), pickles)


def _repaired_product(value: Any, pickles: Pickles) -> Any:
    product = parsed_object(value)
    if not isinstance(product, dict):
        return value
    if isinstance(units := product.get("data_unit_list"), list):
        product = with_members(product, data_unit_list=mapped(units, lambda unit: _repaired_unit(unit, pickles)))
    return _applied(_PRODUCT, product, pickles)


def _repaired_unit(value: Any, pickles: Pickles) -> Any:
    unit = parsed_object(value)
    return _applied(_UNIT, unit, pickles) if isinstance(unit, dict) else value


def repaired_value(value: Any) -> Any:
    """Apply the repairs of values that may occur anywhere in an answer."""
    if isinstance(value, dict):
        return same_if_equal(value, {name: repaired_value(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return mapped(value, repaired_value)
    for repair in _ANYWHERE:
        value = repair.change(value)
    return value
