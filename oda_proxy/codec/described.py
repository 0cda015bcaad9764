"""Data products as JSON beside FITS files, as a fixture keeps them (format: fixtures/README.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from oda_proxy.codec import fits, recast, wire
from oda_proxy.codec.json_text import JsonObject
from oda_proxy.codec.product import Card, DataProduct
from oda_proxy.errors import CodecError, ForbiddenPickleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oda_proxy.codec.product import Array, DataUnit, HduType


def read_product(entry: JsonObject, units_of: Callable[[str], tuple[DataUnit, ...]]) -> DataProduct:
    """Put a product together from its description; `units_of` gives the data units of a FITS file by its name.

    Raises
    ------
    CodecError
        The description is not as the format says, or contradicts the file.
    """
    units = units_of(entry.text("file"))
    described = [_read_unit(unit, units) for unit in entry.objects("units")]
    return DataProduct(entry.text("name"), entry.mapping("meta_data", default={}), tuple(described))


def describe(product: DataProduct) -> tuple[dict[str, Any], bytes]:
    """Give the description of a product but for the name of its file, and the content of that FITS file.

    Whoever reads both encodes to the same form on the wire as `product` does.

    Raises
    ------
    CodecError
        FITS has no form for one of its arrays.
    """
    content = fits.write([_holdable(unit) for unit in product.units])
    stored = fits.read(content)
    first = 0 if product.units and fits.leads(product.units[0]) else 1
    units = [
        {"name": unit.name, "hdu": number, "hdu_type": unit.hdu_type, "meta_data": dict(unit.meta_data)}
        | _differences(unit, stored[number])
        for number, unit in enumerate(product.units, first)
    ]
    return {"name": product.name, "meta_data": dict(product.meta_data), "units": units}, content


def describe_wired(wired: Any) -> tuple[dict[str, Any], bytes] | None:
    """Describe a product so that `wire_product` gives it again as it was sent; None where FITS would change its arrays.

    What of it is not what our own encoding says (cards that contradict the array, for instance) is described as `sent`.

    Raises
    ------
    CodecError
        It is no product.
    ForbiddenPickleError
        One of its pickles names something that is not on the allow-list.
    """
    try:
        product = wire.decode_product(wired)
        description, content = describe(product)
        encoded = wire.encode_product(_read(description, content))
    except ForbiddenPickleError:
        raise
    except CodecError:
        if not isinstance(wired, dict):
            raise
        return None
    again = wire.decode_product(encoded)
    if not all(_same(one.data, other.data) for one, other in zip(product.units, again.units, strict=True)):
        return None
    sent = _object(wired)
    description |= _sent(sent, encoded)
    for entry, unit, encoded_unit in zip(
        description["units"], sent["data_unit_list"], encoded["data_unit_list"], strict=True
    ):
        entry.update(_sent(_object(unit), encoded_unit))
    return description, content


def wire_product(
    entry: JsonObject, units_of: Callable[[str], tuple[DataUnit, ...]], *, form: wire.Form = "pickle"
) -> dict[str, Any]:
    """Give a product as on the wire, from its description; `units_of` as for `read_product`.

    Raises
    ------
    CodecError
        The description is not as the format says, contradicts the file, or the form cannot carry an array.
    """
    encoded = wire.encode_product(read_product(entry, units_of), form=form)
    encoded |= _sent_again(entry)
    for unit, described in zip(encoded["data_unit_list"], entry.objects("units"), strict=True):
        type_of_text = {"dt": unit["dt"]} if form == "json" else {}  # clients read the text by it
        unit.update(_sent_again(described) | type_of_text)
    return encoded


_ARRAYS: Final = frozenset({"data", "binarys", "data_unit_list"})
"""Members that hold arrays: the file has those."""


def _sent(sent: dict[str, Any], encoded: dict[str, Any]) -> dict[str, Any]:
    """Say what was sent otherwise than we encode it, but for the arrays."""
    others = {name: value for name, value in sent.items() if name not in _ARRAYS and not _is_said(value, encoded, name)}
    return {"sent": others} if others else {}


def _is_said(value: Any, encoded: dict[str, Any], name: str) -> bool:
    return name in encoded and json.dumps(value) == json.dumps(encoded[name])  # which tells 1 from 1.0 and true


def _sent_again(entry: JsonObject) -> dict[str, Any]:
    sent = entry.mapping("sent", default={})
    if sent.keys() & _ARRAYS:
        raise CodecError("'sent' holds an array, which belongs in a file")
    return sent


def _read(description: dict[str, Any], content: bytes) -> DataProduct:
    return read_product(JsonObject({**description, "file": ""}), lambda _: fits.read(content))


def _same(one: Array | None, other: Array | None) -> bool:
    """Tell whether two arrays are the same, bit by bit."""
    if one is None or other is None:
        return one is other
    same_type = one.dtype == other.dtype and recast.is_records(one) == recast.is_records(other)
    same_type = same_type and not one.dtype.hasobject
    return same_type and one.shape == other.shape and one.tobytes() == other.tobytes()


def _object(value: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return read


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
            data = recast.recast(wire.portable(data), recast.described(entry.members["dtype"]))
        if data is not None and entry.boolean("record", default=False):
            data = recast.as_records(data)
    except CodecError as error:
        raise CodecError(f"the data unit {entry.text('name')!r}: {error}") from None
    return replace(
        units[number],
        name=entry.text("name"),
        header=_changed(units[number].header, entry.mapping("header", default={})),
        data=data,
        hdu_type=cast("HduType | None", hdu_type),
        meta_data=entry.mapping("meta_data", default={}),
        units_dict=entry.mapping("units_dict") if entry.members.get("units_dict") is not None else None,
    )


def _changed(header: tuple[Card, ...], changes: Mapping[str, Any]) -> tuple[Card, ...]:
    if any(isinstance(value, dict | list) for value in changes.values()):
        raise CodecError("the value of a header's card is a list or an object")
    said = {card.keyword for card in header}
    changed = [card._replace(value=changes.get(card.keyword, card.value)) for card in header]
    kept = [card for card in changed if card.keyword not in changes or card.value is not None]
    return (*kept, *(Card(keyword, value) for keyword, value in changes.items() if keyword not in said))


def _holdable(unit: DataUnit) -> DataUnit:
    return replace(unit, header=tuple(card for card in unit.header if fits.holds(card)))


def _differences(unit: DataUnit, stored: DataUnit) -> dict[str, Any]:
    """Say what of a data unit the HDU in the file does not say."""
    differences: dict[str, Any] = {}
    if unit.units_dict is not None:
        differences["units_dict"] = dict(unit.units_dict)
    if unit.data is not None:
        differences |= _differing_type(unit.name, wire.portable(unit.data), stored.data)
    if "dtype" in differences and stored.data is not None:
        dtype = recast.described(differences["dtype"])
        stored = replace(stored, data=recast.recast(wire.portable(stored.data), dtype))
    wanted, found = wire.header(unit), wire.header(stored)
    changes = {keyword: value for keyword, value in wanted.items() if (keyword, value) not in found.items()}
    changes |= dict.fromkeys(keyword for keyword in found if keyword not in wanted)
    return differences | ({"header": changes} if changes else {})


def _differing_type(name: str, wanted: Array, stored: Array | None) -> dict[str, Any]:
    if stored is None:
        raise CodecError(f"the data unit {name!r} is empty, which a FITS file does not tell from no data at all")
    found = wire.portable(stored)
    records = {"record": True} if recast.is_records(wanted) else {}
    if recast.description(wanted.dtype) == recast.description(found.dtype):
        return records
    dtype = recast.description(wanted.dtype)
    if recast.recast(found, recast.described(dtype)).tobytes() != wanted.tobytes():
        raise CodecError(f"the data unit {name!r} is of type {wanted.dtype}, which FITS cannot keep")
    return {"dtype": dtype, **records}
