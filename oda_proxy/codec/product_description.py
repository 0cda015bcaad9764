"""Data products as JSON beside a FITS file, as a fixture stores them (format: fixtures/README.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from oda_proxy.codec import fits, recast, wire
from oda_proxy.codec.dtype_json import dtype_from_json, dtype_to_json
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.codec.product import Card, DataProduct
from oda_proxy.errors import CodecError, ForbiddenPickleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.codec.product import Array, DataUnit, HduType


def read_product(entry: JsonObject, units_of: Callable[[str], tuple[DataUnit, ...]]) -> DataProduct:
    """Return the product of a description; `units_of` returns the data units of a FITS file by its name.

    Raises
    ------
    CodecError
        The description does not follow the format, or contradicts the file.
    """
    units = units_of(entry.text("file"))
    described = [_read_unit(unit, units) for unit in entry.objects("units")]
    return DataProduct(entry.text("name"), entry.mapping("meta_data", default={}), tuple(described))


def describe(product: DataProduct) -> tuple[dict[str, Any], bytes]:
    """Return the description of a product without the name of its file, and the content of that FITS file.

    `read_product` of both has the same wire form as `product`.

    Raises
    ------
    CodecError
        FITS cannot store one of its arrays.
    """
    content = fits.write([_without_invalid_cards(unit) for unit in product.units])
    stored = fits.read(content)
    first = 0 if product.units and fits.can_be_first(product.units[0]) else 1
    units = [
        {"name": unit.name, "hdu": number, "hdu_type": unit.hdu_type, "meta_data": dict(unit.meta_data)}
        | _differences(unit, stored[number])
        for number, unit in enumerate(product.units, first)
    ]
    return {"name": product.name, "meta_data": dict(product.meta_data), "units": units}, content


def describe_wire(wire_form: Any) -> tuple[dict[str, Any], bytes] | None:
    """Describe a product so that `wire_product` restores its wire form; None if FITS would change one of its arrays.

    Members that our own encoding would write differently (cards that contradict the array, for instance) are stored
    under `sent`.

    Raises
    ------
    CodecError
        It is not a product.
    ForbiddenPickleError
        One of its pickles names something that is not on the allow-list.
    """
    try:
        product = wire.decode_product(wire_form)
        description, content = describe(product)
        encoded = wire.encode_product(_restored(description, content))
    except ForbiddenPickleError:
        raise
    except CodecError:
        if not isinstance(wire_form, dict):
            raise
        return None
    restored = wire.decode_product(encoded)
    if not all(_is_same(one.data, other.data) for one, other in zip(product.units, restored.units, strict=True)):
        return None
    sent = _parsed(wire_form)
    description |= _differing_members(sent, encoded)
    for entry, unit, encoded_unit in zip(
        description["units"], sent["data_unit_list"], encoded["data_unit_list"], strict=True
    ):
        entry.update(_differing_members(_parsed(unit), encoded_unit))
    return description, content


def wire_product(
    entry: JsonObject, units_of: Callable[[str], tuple[DataUnit, ...]], *, form: wire.Form = "pickle"
) -> dict[str, Any]:
    """Return the wire form of a described product; `units_of` as for `read_product`.

    Raises
    ------
    CodecError
        The description does not follow the format, contradicts the file, or the form cannot hold an array.
    """
    encoded = wire.encode_product(read_product(entry, units_of), form=form)
    encoded |= _sent_members(entry)
    for unit, described in zip(encoded["data_unit_list"], entry.objects("units"), strict=True):
        text_dtype = {"dt": unit["dt"]} if form == "json" else {}  # clients parse the text with it
        unit.update(_sent_members(described) | text_dtype)
    return encoded


_ARRAYS: Final = frozenset({"data", "binarys", "data_unit_list"})
"""Members that contain arrays, which are stored in the file."""


def _differing_members(sent: dict[str, Any], encoded: dict[str, Any]) -> dict[str, Any]:
    """Return under `sent` the members that differ from our own encoding, without the arrays."""
    differing = {
        name: value for name, value in sent.items() if name not in _ARRAYS and not _is_equal(value, encoded, name)
    }
    return {"sent": differing} if differing else {}


def _is_equal(value: Any, encoded: dict[str, Any], name: str) -> bool:
    return name in encoded and json.dumps(value) == json.dumps(encoded[name])  # 1, 1.0 and true differ


def _sent_members(entry: JsonObject) -> dict[str, Any]:
    sent = entry.mapping("sent", default={})
    if sent.keys() & _ARRAYS:
        raise CodecError("'sent' contains an array, which should be in the file")
    return sent


def _restored(description: dict[str, Any], content: bytes) -> DataProduct:
    return read_product(JsonObject({**description, "file": ""}), lambda _: fits.read(content))


def _is_same(one: Array | None, other: Array | None) -> bool:
    """Return whether two arrays are equal in type, shape and every bit."""
    if one is None or other is None:
        return one is other
    same_type = one.dtype == other.dtype and recast.is_records(one) == recast.is_records(other)
    same_type = same_type and not one.dtype.hasobject
    return same_type and one.shape == other.shape and one.tobytes() == other.tobytes()


def _parsed(value: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return parsed


def _read_unit(entry: JsonObject, units: tuple[DataUnit, ...]) -> DataUnit:
    number = entry.count("hdu")
    if number >= len(units):
        raise CodecError(f"the data unit {entry.text('name')!r} is HDU {number} of a file that has {len(units)}")
    hdu_type = entry.text_or_none("hdu_type")
    if hdu_type not in {None, *wire.HDU_TYPES}:
        raise CodecError(f"the data unit {entry.text('name')!r} is of the unknown type {hdu_type!r}")
    data = units[number].data
    try:
        if data is not None and "dtype" in entry.members:
            data = recast.recast(wire.portable(data), dtype_from_json(entry.members["dtype"]))
        if data is not None and entry.boolean("record", default=False):
            data = recast.as_records(data)
    except CodecError as error:
        raise CodecError(f"the data unit {entry.text('name')!r}: {error}") from None
    return replace(
        units[number],
        name=entry.text("name"),
        header=_with_changes(units[number].header, entry.mapping("header", default={})),
        data=data,
        hdu_type=cast("HduType | None", hdu_type),
        meta_data=entry.mapping("meta_data", default={}),
        units_dict=entry.mapping("units_dict") if entry.members.get("units_dict") is not None else None,
    )


def _with_changes(header: tuple[Card, ...], changes: Mapping[str, Any]) -> tuple[Card, ...]:
    if any(isinstance(value, dict | list) for value in changes.values()):
        raise CodecError("the value of a header card is a list or an object")
    keywords = {card.keyword for card in header}
    changed = [card._replace(value=changes.get(card.keyword, card.value)) for card in header]
    remaining = [card for card in changed if card.keyword not in changes or card.value is not None]
    return (*remaining, *(Card(keyword, value) for keyword, value in changes.items() if keyword not in keywords))


def _without_invalid_cards(unit: DataUnit) -> DataUnit:
    return replace(unit, header=tuple(card for card in unit.header if fits.can_store(card)))


def _differences(unit: DataUnit, stored: DataUnit) -> dict[str, Any]:
    """Return the properties of a data unit that its HDU in the file does not have."""
    differences: dict[str, Any] = {}
    if unit.units_dict is not None:
        differences["units_dict"] = dict(unit.units_dict)
    if unit.data is not None:
        differences |= _differing_type(unit.name, wire.portable(unit.data), stored.data)
    if "dtype" in differences and stored.data is not None:
        dtype = dtype_from_json(differences["dtype"])
        stored = replace(stored, data=recast.recast(wire.portable(stored.data), dtype))
    expected, actual = wire.header(unit), wire.header(stored)
    changes = {keyword: value for keyword, value in expected.items() if (keyword, value) not in actual.items()}
    changes |= dict.fromkeys(keyword for keyword in actual if keyword not in expected)
    return differences | ({"header": changes} if changes else {})


def _differing_type(name: str, data: Array, stored: Array | None) -> dict[str, Any]:
    if stored is None:
        raise CodecError(f"the data unit {name!r} is empty, which a FITS file cannot tell from no data")
    restored = wire.portable(stored)
    records = {"record": True} if recast.is_records(data) else {}
    if dtype_to_json(data.dtype) == dtype_to_json(restored.dtype):
        return records
    dtype = dtype_to_json(data.dtype)
    if recast.recast(restored, dtype_from_json(dtype)).tobytes() != data.tobytes():
        raise CodecError(f"the data unit {name!r} is of type {data.dtype}, which FITS cannot store")
    return {"dtype": dtype, **records}
