"""The names that a pickle of an array may load, and the search for others, without loading anything."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from oda_proxy.codec.pickle_operations import GlobalName, global_names
from oda_proxy.errors import ForbiddenPickleError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COMPUTED_NAME: Final = "a name that is computed while loading"


class Role(Enum):
    """The function of an allowed name in a pickle."""

    RECONSTRUCT = auto()
    FROM_BUFFER = auto()
    SCALAR = auto()
    DTYPE = auto()
    RECORD = auto()
    FITS_TABLE = auto()
    BYTES = auto()
    ENCODE = auto()
    """`_codecs.encode`, by which protocol 2 writes bytes."""
    TYPE = auto()
    """A class without a function of its own."""


_FITS = "astropy.io.fits"
ARRAY_NAMES: Final[Mapping[GlobalName | None, Role]] = {
    GlobalName(module, name): role
    for role, names_of_role in {
        Role.RECONSTRUCT: [("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")],
        Role.FROM_BUFFER: [("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")],
        Role.SCALAR: [("numpy._core.multiarray", "scalar"), ("numpy.core.multiarray", "scalar")],
        Role.DTYPE: [("numpy", "dtype")],
        Role.RECORD: [("numpy", "record")],
        Role.FITS_TABLE: [(f"{_FITS}.fitsrec", "FITS_rec")],
        Role.BYTES: [("builtins", "bytes"), ("__builtin__", "bytes")],
        Role.ENCODE: [("_codecs", "encode")],
        Role.TYPE: [
            ("numpy", "ndarray"),
            ("numpy", "chararray"),
            ("numpy.char", "chararray"),
            ("numpy.core.defchararray", "chararray"),
            ("numpy._core.defchararray", "chararray"),
            ("astropy.utils.compat.numpycompat", "chararray"),
            (f"{_FITS}.column", "ColDefs"),
            (f"{_FITS}.column", "Column"),
            (f"{_FITS}.column", "_ColumnFormat"),
            (f"{_FITS}.column", "_FormatP"),
            (f"{_FITS}.column", "_FormatQ"),
            (f"{_FITS}.column", "_FormatX"),
            (f"{_FITS}.column", "_VLF"),
        ],
    }.items()
    for module, name in names_of_role
}
"""Names in pickles of arrays and of astropy's FITS tables."""

_TABLE_NAMES: Final = frozenset(
    {
        "astropy.table.column.BaseColumn",
        "astropy.table.column.Column",
        "astropy.table.column.MaskedColumn",
        "astropy.table.table.Table",
        "astropy.units.core.CompositeUnit",
        "astropy.units.core.IrreducibleUnit",
        "astropy.units.core.PrefixUnit",
        "astropy.units.core.Unit",
        "astropy.units.core.UnrecognizedUnit",
        "astropy.units.core._recreate_irreducible_unit",
        "collections.OrderedDict",
        "numpy.ma.core._mareconstruct",
        "numpy.ma.core.MaskedArray",
        "numpy.str_",
    }
)
"""Further names in pickles of astropy's tables, for clients: they create values, and run nothing of their arguments."""


def names(data: bytes) -> tuple[str, ...]:
    """Return the names that a pickle would load, each once, in order; `COMPUTED_NAME` for one that is not a constant.

    Raises
    ------
    CodecError
        As for `global_names`.
    """
    return tuple(dict.fromkeys(str(name) if name else COMPUTED_NAME for name in global_names(data)))


def check(data: bytes) -> None:
    """Refuse a pickle that would load a name that is not in `ARRAY_NAMES`.

    Raises
    ------
    ForbiddenPickleError
        It would; the error has the name.
    CodecError
        As for `global_names`.
    """
    for name in global_names(data):
        if name not in ARRAY_NAMES:
            raise ForbiddenPickleError(str(name) if name else COMPUTED_NAME)


def forbidden_names(loaded: Iterable[str], *, tables: bool = False) -> tuple[str, ...]:
    """Return those of the names that are not on the allow-list; with `tables`, astropy's tables are allowed, too.

    `pickle_loading` loads no such tables; clients do.
    """
    allowed = _ARRAYS | _TABLE_NAMES if tables else _ARRAYS
    return tuple(name for name in loaded if name not in allowed)


_ARRAYS: Final = frozenset(map(str, ARRAY_NAMES))
