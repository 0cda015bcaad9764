"""A mosaic of ISGRI in today's form: a list of its maps, and intensity, variance, significance and exposure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.codec.product import Card, DataUnit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from oda_proxy.codec.product import HeaderValue

_TYPES: Final = ("INTENSITY", "VARIANCE", "SIGNIFICANCE", "EXPOSURE")
_UNITS: Final = ("count/s", "(count/s)**2", "", "s")
_NAME: Final = "ISGR-MOSA-IMA"
_PART_IN_EDGE: Final = 0.1
"""The exposure at the edge of the field relative to its centre."""
_GROUPING: Final = np.dtype(
    [
        ("MEMBER_XTENSION", "S8"),
        ("MEMBER_NAME", "S32"),
        ("MEMBER_VERSION", ">i4"),
        ("MEMBER_POSITION", ">i4"),
        ("MEMBER_LOCATION", "S64"),
        ("MEMBER_URI_TYPE", "S3"),
        ("IMATYPE", "S32"),
        ("CHANMIN", ">i2"),
        ("CHANMAX", ">i2"),
        ("E_MIN", ">f4"),
        ("E_MEAN", ">f4"),
        ("E_MAX", ">f4"),
    ]
)


def units_of_today(
    primary: DataUnit, significance: DataUnit, exposed: float, background: float, band: tuple[float, float]
) -> tuple[DataUnit, ...]:
    """Return the six HDUs: primary, GROUPING, and four maps in the order of `_TYPES`.

    Parameters
    ----------
    primary, significance
        The HDUs of the form of 2019.
    exposed
        Exposure time in the centre, in s.
    background
        Counts per second in the band.
    band
        Energies in keV.
    """
    values = significance.data
    assert values is not None  # noqa: S101 - it was just generated
    seen = values != 0
    exposure = np.where(seen, exposed * _vignetting(values.shape), 0.0)
    variance = np.divide(background, exposure, out=np.zeros(values.shape), where=seen)
    maps = (values * np.sqrt(variance), variance, values, exposure)
    images = tuple(_image(significance, array, number) for number, array in enumerate(maps))
    return primary, _grouping(band), *images


def _vignetting(shape: tuple[int, ...]) -> NDArray[np.float64]:
    lines, columns = np.indices(shape, dtype=float)
    rows, width = shape
    distance = np.maximum(np.abs(2 * lines / (rows - 1) - 1), np.abs(2 * columns / (width - 1) - 1))
    return np.asarray(1 - (1 - _PART_IN_EDGE) * distance)


def _image(template: DataUnit, values: NDArray[Any], number: int) -> DataUnit:
    changes = {"IMATYPE": _TYPES[number], "EXTVER": number + 1}
    header = tuple(card._replace(value=changes.get(card.keyword, card.value)) for card in template.header)
    if _UNITS[number]:
        header = (*header, Card("BUNIT", _UNITS[number]))
    return replace(template, header=header, data=values.astype(">f4"))


def _grouping(band: tuple[float, float]) -> DataUnit:
    low, high = band
    table = np.zeros(len(_TYPES), _GROUPING)
    table["MEMBER_XTENSION"], table["MEMBER_NAME"], table["MEMBER_URI_TYPE"] = b"IMAGE", _NAME.encode(), b"URL"
    table["MEMBER_VERSION"] = table["MEMBER_POSITION"] = np.arange(1, len(_TYPES) + 1)
    table["IMATYPE"] = [kind.encode() for kind in _TYPES]
    table["CHANMIN"], table["CHANMAX"] = int(low), int(high)
    table["E_MIN"], table["E_MEAN"], table["E_MAX"] = low, (low + high) / 2, high
    cards: dict[str, HeaderValue] = {
        "EXTNAME": "GROUPING",
        "EXTVER": 1,
        "GRPNAME": "ISGR-MOSA-IMA-IDX",
        "BASETYPE": "DAL_GROUP",
    }
    return DataUnit("GROUPING", tuple(Card(name, value) for name, value in cards.items()), table, "bintable")
