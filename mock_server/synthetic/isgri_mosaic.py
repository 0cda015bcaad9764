"""The maps of a mosaic of ISGRI in today's form, from its significance: intensity, variance, significance, exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mock_server.synthetic import sky

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

MAP_UNITS: Final[Mapping[str, str]] = {
    "INTENSITY": "count/s",
    "VARIANCE": "(count/s)**2",
    "SIGNIFICANCE": "no units",
    "EXPOSURE": "s",
}
"""The kinds of maps, as in IMATYPE, in their order, and their BUNIT."""
MAP_NAME: Final = "ISGR-MOSA-IMA"
_SHARE_AT_EDGE: Final = 0.1
"""The exposure at the edge of the field relative to its centre."""
_QUANTUM: Final = 1 / 256
"""Exposures are rounded to this, in s, because the last bit of a cosine differs between machines."""
_INDEX: Final = np.dtype(
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


def maps(
    significance: NDArray[Any], header: Mapping[str, Any], exposed: float, background: float
) -> tuple[NDArray[np.float32], ...]:
    """Return four maps in the order of `MAP_UNITS`, NaN outside the field of view.

    Parameters
    ----------
    significance
        Map of significance, of shape (NAXIS2, NAXIS1).
    header
        Its cards with celestial coordinates.
    exposed
        Exposure time in the centre, in s.
    background
        Counts per second in the energy band.
    """
    distance = sky.off_axis(sky.ISGRI, header)
    lasting = np.rint(exposed * (1 - (1 - _SHARE_AT_EDGE) * distance) / _QUANTUM) * _QUANTUM
    exposure = np.where(distance < 1, lasting, np.nan).astype(np.float32)
    variance = (background / exposure).astype(np.float32)
    seen = np.where(distance < 1, significance, np.nan).astype(np.float32)
    return seen * np.sqrt(variance), variance, seen, exposure


def index_table(band: tuple[float, float]) -> NDArray[Any]:
    """Return the table of GROUPING: a row for each map, with its kind and its energies in keV."""
    low, high = band
    table = np.zeros(len(MAP_UNITS), _INDEX)
    table["MEMBER_XTENSION"], table["MEMBER_NAME"], table["MEMBER_URI_TYPE"] = b"IMAGE", MAP_NAME.encode(), b"URL"
    table["MEMBER_VERSION"] = np.arange(1, len(MAP_UNITS) + 1)
    table["MEMBER_POSITION"] = table["MEMBER_VERSION"] + 2  # HDUs of the file, of which the first is the primary one
    table["IMATYPE"] = [kind.encode() for kind in MAP_UNITS]
    table["CHANMIN"], table["CHANMAX"] = int(low), int(high)
    table["E_MIN"], table["E_MEAN"], table["E_MAX"] = low, (low + high) / 2, high
    return table


def index_cards() -> dict[str, str | int]:
    """Return the cards of GROUPING, but for those that describe its columns."""
    return {"EXTNAME": "GROUPING", "EXTVER": 1, "GRPNAME": f"{MAP_NAME}-IDX", "BASETYPE": "DAL_GROUP"}
