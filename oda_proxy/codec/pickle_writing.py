"""Pickled arrays, written so that every release of the client can load them.

Written are plain arrays of protocol 3. Protocol 2 would also serve Python 2, but has no form for bytes: they are
written as text that `_codecs.encode` converts back, half as large again and slow to load. Protocol 4 would spread a
name over several operations, so that renaming is no substitution any more. The name written is
`numpy.core.multiarray._reconstruct`: numpy before 1.26 has no `numpy._core`, and numpy 2 keeps the older name for
exactly this purpose.
"""

from __future__ import annotations

import pickle  # noqa: TID251  # writes plain arrays, and tables of them, only
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from oda_proxy.codec.pickle_operations import with_renamed_modules
from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.codec.product import Array

PROTOCOL: Final = 3


def dumps(array: Array, *, record: bool = False) -> bytes:
    """Return an array as a pickle that every client can load; with `record`, a table is a record array.

    Raises
    ------
    CodecError
        The array contains Python objects.
    """
    return _portable(_plain(array, record=record))


def dumps_table(array: Array, units: Mapping[str, str]) -> bytes:
    """Return a structured array as a pickle that clients load as an astropy Table, with the units of its columns.

    The pickle calls the class of tables with the array, so that it does not depend on the release of astropy.

    Raises
    ------
    CodecError
        The array contains Python objects.
    """
    return _portable(_TableCall(_plain(array), units))


class _TableCall:
    """The call of astropy's Table with an array."""

    def __init__(self, array: Array, units: Mapping[str, str]) -> None:
        self._array = array
        self._units = dict(units)

    def __reduce__(self) -> tuple[Any, ...]:
        from astropy.table import Table

        # data, masked, names, dtype, meta, copy, rows, copy_indices, units
        return Table, (self._array, False, None, None, None, True, None, True, self._units)


def _plain(array: Array, *, record: bool = False) -> Array:
    if array.dtype.hasobject:
        raise CodecError("an array of Python objects has no portable pickle")
    plain = np.asarray(array).view(np.ndarray)
    if plain.dtype.names:
        plain = plain.view(np.dtype((np.record if record else np.void, plain.dtype)))
    return plain


def _portable(value: Array | _TableCall) -> bytes:
    return with_renamed_modules(pickle.dumps(value, PROTOCOL), {"numpy._core.multiarray": "numpy.core.multiarray"})
