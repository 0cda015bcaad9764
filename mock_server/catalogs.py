"""Checks the catalogue in an argument of a query, and returns its sources as products have them (dispatcher 1.3.6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import BadQueryError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEMBERS: Final = frozenset({"cat_frame", "cat_coord_units", "cat_column_list", "cat_column_names"})
_UNREADABLE: Final = "Error while setting catalog object , content of the temporary directory is []"
_ERROR: Final = "Error while setting catalog object : "
_BAD_SELECTION: Final = f"{_ERROR}the selected catalog is wrongly formatted, please check your inputs"
SELECTION: Final = "catalog_selected_objects"
_NUMBER_OF_SOURCE: Final = "meta_ID"


class CatalogError(BadQueryError):
    """A text that is not a catalogue, or not a list of its sources; the message is the dispatcher's."""


def check_catalog(text: Any) -> None:
    """Raise CatalogError unless a text is a catalogue."""
    try:
        catalog = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        catalog = None
    if not isinstance(catalog, dict) or not catalog.keys() >= _MEMBERS:
        raise CatalogError(_UNREADABLE)
    columns = catalog["cat_column_list"]
    if not isinstance(columns, list) or not all(isinstance(column, list) for column in columns):
        raise CatalogError(_UNREADABLE)
    lengths = set(map(len, columns))
    if len(lengths) > 1:
        raise CatalogError(f"{_ERROR}Inconsistent data column lengths: {lengths}")


def read_selection(text: Any) -> tuple[int, ...]:
    """Return the numbers of the sources in `catalog_selected_objects`; raises CatalogError."""
    try:
        return tuple(map(int, text.split(",")))
    except (AttributeError, ValueError):
        raise CatalogError(_BAD_SELECTION) from None


def catalog_dictionary(text: str, selection: str | None) -> dict[str, Any]:
    """Return a valid catalogue as it is in products: the selected sources, and the types of its columns."""
    catalog: dict[str, Any] = json.loads(text)
    names, columns = catalog["cat_column_names"], catalog["cat_column_list"]
    if selection is not None and _NUMBER_OF_SOURCE in names:
        selected = set(read_selection(selection))
        rows = [row for row, number in enumerate(columns[names.index(_NUMBER_OF_SOURCE)]) if number in selected]
        columns = [[column[row] for row in rows] for column in columns]
    types = [[name, _type(column)] for name, column in zip(names, catalog["cat_column_list"], strict=False)]
    return {**catalog, "cat_column_list": columns, "cat_column_descr": types}


def _type(column: Sequence[Any]) -> str:
    """Return the type of a column as numpy writes it."""
    if any(isinstance(value, str) for value in column):
        return f"<U{max(len(str(value)) for value in column)}"
    if all(isinstance(value, bool) for value in column):
        return "|b1"
    return "<i8" if all(isinstance(value, int) for value in column) else "<f8"
