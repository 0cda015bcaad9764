"""Pickled arrays, as dispatchers send them: read without running anything, and written so that every client reads them.

A pickle is a program. Reading one here never calls what it names: an allow-list maps each permitted name to a stand-in
that only keeps its arguments, and the array is built afterwards from what was kept, every size checked against the
bytes that are there. So neither code nor a hostile `dtype` reaches numpy.

Written are plain arrays of protocol 3. Protocol 2 would also serve Python 2, but has no form for bytes: they travel as
text that `_codecs.encode` turns back, half as large again and slow to read. Protocol 4 would spread a name over the
operations, so that renaming is no substitution any more. The name written is `numpy.core.multiarray._reconstruct`:
numpy before 1.26 does not know `numpy._core`, and numpy 2 keeps the older name for exactly this purpose.
"""

from __future__ import annotations

import io
import math
import pickle  # noqa: TID251  # this is the module that may
import pickletools
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never

import numpy as np

from oda_proxy.codec import columns
from oda_proxy.errors import CodecError, ForbiddenPickleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oda_proxy.codec.product import Array, DType

PROTOCOL: Final = 3
MAX_OPERATIONS: Final = 5_000_000  # a table with a column of variable length needs about fifteen for each row
_MAX_TABLE_BYTES: Final = 2**30
UNTOLD: Final = "a name that is only put together while loading"

_CODE = re.compile(r"[biufcSUV?][0-9]{0,10}")


class _Name(NamedTuple):
    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


# -- names -----------------------------------------------------------------------------------------


def names(data: bytes) -> tuple[str, ...]:
    """List the names that a pickle would load, in their order, without loading it; one that cannot be told is `UNTOLD`.

    Raises
    ------
    CodecError
        These bytes are no pickle of protocol 2 to 5, or more than `MAX_OPERATIONS` long.
    """
    return tuple(dict.fromkeys(str(name) if name else UNTOLD for name in _named(data)))


def check(data: bytes) -> None:
    """Refuse a pickle that names anything that is not on the allow-list, without loading it.

    Raises
    ------
    ForbiddenPickleError
        It does; the error says which name.
    CodecError
        As for `names`.
    """
    for name in _named(data):
        if name not in _STAND_INS:
            raise ForbiddenPickleError(str(name) if name else UNTOLD)


def refused(data: bytes, *, tables: bool = False) -> tuple[str, ...]:
    """List the names in a pickle that are not on the allow-list; with `tables`, astropy's tables are on it, too.

    What is listed was not loaded. `loads` reads no such tables; clients do.

    Raises
    ------
    CodecError
        As for `names`.
    """
    allowed = _ALLOWED | _ALLOWED_IN_TABLES if tables else _ALLOWED
    return tuple(name for name in names(data) if name not in allowed)


class _Mark:
    """The place on the stack where a list of arguments begins."""


_MARK: Final = _Mark()
_OTHER: Final = object()  # anything but a text
_TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_GETS = frozenset({"BINGET", "LONG_BINGET"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "MEMOIZE"})
_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}
_LOADS = frozenset({"GLOBAL", "STACK_GLOBAL"})
_NEEDED = (
    _TEXTS
    | _GETS
    | _PUTS
    | _LOADS
    | {"PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE"}
    | {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "REDUCE", "BUILD", "NEWOBJ"}
)


class _Trace:
    """The stack and the memo of a pickle, followed without running it: texts are known, the rest is not."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def named(self, operation: pickletools.OpcodeInfo, argument: Any) -> _Name | None:
        """Follow an operation that loads a name; None where that is no pair of texts."""
        if operation.name == "GLOBAL":
            module, name = argument
        else:
            name, module = self._pop(), self._pop()
        self.stack.append(_OTHER)
        return _Name(module, name) if isinstance(module, str) and isinstance(name, str) else None

    def follow(self, operation: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow any other operation."""
        if operation.name in _TEXTS:
            self.stack.append(argument)
        elif operation.name in _GETS:
            self.stack.append(self.memo[argument])
        elif operation.name in _PUTS:
            self.memo[len(self.memo) if operation.name == "MEMOIZE" else argument] = self.stack[-1]
        elif operation.name == "DUP":
            self.stack.append(self.stack[-1])
        else:
            self._take(operation)
            put = operation.stack_after
            self.stack.extend(_MARK if item is pickletools.markobject else _OTHER for item in put)

    def _take(self, operation: pickletools.OpcodeInfo) -> None:
        for item in reversed(operation.stack_before):
            if item is pickletools.markobject:
                while self.stack.pop() is not _MARK:
                    pass
            elif operation.name == "POP":
                self.stack.pop()  # the one that may take a mark
            elif item is not pickletools.stackslice:
                self._pop()

    def _pop(self) -> Any:
        item = self.stack.pop()
        if item is _MARK:
            raise ValueError("it takes more from its stack than is there")
        return item


def _named(data: bytes) -> Iterator[_Name | None]:
    """Yield each name that a pickle loads; None for one that cannot be told."""
    return (name for operation, name, _ in _followed(data) if operation.name in _LOADS)


def _followed(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, _Name | None, int]]:
    """Yield each operation with the name that it loads, if it does and that can be told, and its place."""
    trace = _Trace()
    try:
        for count, (operation, argument, position) in enumerate(_operations(data)):
            name = None
            if count >= MAX_OPERATIONS:
                raise CodecError(f"the pickle has more than {MAX_OPERATIONS} operations")
            if operation.name in _LOADS:
                name = trace.named(operation, argument)
            else:
                trace.follow(operation, argument)
            if operation.name in _PUTS and argument is not None and argument > len(data):
                raise CodecError("the pickle remembers things under numbers larger than itself")
            if operation.name == "STOP" and position + 1 != len(data):
                raise CodecError("the pickle is followed by other bytes")
            yield operation, name, position
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise CodecError(f"not a pickle of protocol 2 to 5: {error}") from None


def _operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """Yield the operations with their arguments and places, like `pickletools.genops`.

    That reads escapes in the two lines of a name, where loading does not, and takes any space for the end of the first.
    """
    stream = io.BytesIO(data)
    while code := stream.read(1):
        position = stream.tell() - 1
        operation = _OPERATIONS.get(code.decode("latin1"))
        if operation is None or operation.name not in _NEEDED:
            shown = repr(code) if operation is None else operation.name
            raise CodecError(f"the pickle uses {shown}, which no pickle of an array needs")
        argument: Any = None
        if operation.name == "GLOBAL":
            argument = (_line(stream), _line(stream))
        elif operation.arg is not None:
            argument = operation.arg.reader(stream)
        yield operation, argument, position
    if not data.endswith(b"."):
        raise ValueError("it has no end")


def _line(stream: io.BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a name has no end")
    return line[:-1].decode()


# -- reading ---------------------------------------------------------------------------------------


def loads(data: bytes) -> Array:
    """Read a pickled array; a table of astropy's comes as a structured array of what its reader sees.

    The array may be read-only, and share memory with `data`.

    Raises
    ------
    ForbiddenPickleError
        The pickle names something that is not on the allow-list.
    CodecError
        It is no pickle, holds no array, or says sizes that its bytes do not bear out.
    """
    check(data)
    try:
        # Pickles of Python 2 hold bytes where others hold text.
        return _array(_Unpickler(io.BytesIO(data), encoding="bytes").load())
    except CodecError:
        raise
    except (pickle.UnpicklingError, EOFError, RecursionError, MemoryError, OverflowError) as error:
        raise CodecError(f"the pickle cannot be read: {error}") from None
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CodecError(f"the pickle holds no array as numpy writes it: {error}") from None


class _StandIn:
    """What a pickle believes to be a function or an object: it keeps what it is given, and does nothing."""

    __slots__ = ("arguments", "state")

    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Any:
        self = super().__new__(cls)
        self.arguments = arguments
        self.state = None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Reconstructed(_StandIn):
    __slots__ = ()


class _FromBuffer(_StandIn):
    __slots__ = ()


class _Scalar(_StandIn):
    __slots__ = ()


class _DTypeState(_StandIn):
    __slots__ = ()


class _Record(_StandIn):
    __slots__ = ()


class _FitsTable(_StandIn):
    __slots__ = ()


class _Bytes(_StandIn):
    """`bytes`, which protocol 2 calls for no bytes at all."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Any:
        if arguments:
            raise CodecError("the pickle asks for bytes that it does not hold")
        return b""


class _Encode(_StandIn):
    """`_codecs.encode`, by which protocol 2 writes bytes."""

    __slots__ = ()

    def __new__(cls, *arguments: Any) -> Any:
        match arguments:
            case [str() as text, "latin1" | b"latin1"]:
                return text.encode("latin1")
        raise CodecError("the pickle encodes something in another way than bytes are")


_FITS = "astropy.io.fits"
_STAND_INS: Final[Mapping[_Name | None, type[_StandIn]]] = {
    _Name(module, name): stand_in
    for stand_in, named in {
        _Reconstructed: [("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "_reconstruct")],
        _FromBuffer: [("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")],
        _Scalar: [("numpy._core.multiarray", "scalar"), ("numpy.core.multiarray", "scalar")],
        _DTypeState: [("numpy", "dtype")],
        _Record: [("numpy", "record")],
        _FitsTable: [(f"{_FITS}.fitsrec", "FITS_rec")],
        _Bytes: [("builtins", "bytes"), ("__builtin__", "bytes")],
        _Encode: [("_codecs", "encode")],
        _StandIn: [
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
    for module, name in named
}


_ALLOWED = frozenset(map(str, _STAND_INS))
_ALLOWED_IN_TABLES = frozenset(
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
"""What pickles of astropy's tables name beside arrays: makers of values, which run nothing of their arguments."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_StandIn]:
        try:
            return _STAND_INS[_Name(module, name)]
        except KeyError:
            raise ForbiddenPickleError(f"{module}.{name}") from None

    def persistent_load(self, _: Any) -> Never:
        raise CodecError("the pickle refers to something outside it")


def _array(kept: Any) -> Array:
    """Build what a pickle holds: an array, or one of astropy's tables."""
    match kept:
        case _Reconstructed(arguments=(kind, *_), state=(_, shape, dtype, fortran, raw, *rest)) if kind is _FitsTable:
            return _table(_shaped(raw, _dtype(dtype), shape, fortran=bool(fortran)), *rest)
    return _values(kept)


def _values(kept: Any) -> Array:
    """Build an array, which may be the column of variable length of a table: a list of arrays, and no deeper."""
    match kept:
        case _Reconstructed(state=(_, shape, _DTypeState(arguments=("O8" | b"O8", *_)), _, list() as pieces)):
            if _size(shape) != len(pieces):
                raise CodecError("the pickle's list is not as long as its shape says")
            array = np.empty(len(pieces), dtype=object)
            array[:] = [_plain(piece) for piece in pieces]
            return array
    return _plain(kept)


def _plain(kept: Any) -> Array:
    """Build an array of numbers and texts."""
    match kept:
        case _FromBuffer(arguments=(raw, dtype, shape, order, *_)):
            return _shaped(raw, _dtype(dtype), shape, fortran=order == "F")
        case _Reconstructed(state=(_, shape, dtype, fortran, raw)):
            return _shaped(raw, _dtype(dtype), shape, fortran=bool(fortran))
    raise CodecError("the pickle holds no array")


def _shaped(raw: Any, dtype: DType, shape: Any, *, fortran: bool) -> Array:
    size = _size(shape)
    if not isinstance(raw, bytes | bytearray):
        raise CodecError("the pickle's array is not made of numbers and texts")
    if not dtype.itemsize or size * dtype.itemsize != len(raw):
        raise CodecError(f"the pickle's array has {len(raw)} bytes where {size} times {dtype.itemsize} should be")
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _size(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(isinstance(axis, int) and axis >= 0 for axis in shape):
        raise CodecError("the pickle's array has no shape")
    return math.prod(shape)


def _dtype(kept: Any) -> DType:
    """Build a type from what numpy's `dtype.__reduce__` says; fields within fields are none of FITS, and refused."""
    match kept:
        case _DTypeState(arguments=(code, *_), state=(_, _, None, (*names_,), dict() as fields, itemsize, *_)):
            described: Any = {
                "names": [_text(name) for name in names_],
                "formats": [_field_dtype(fields[name][0]) for name in names_],
                "offsets": [fields[name][1] for name in names_],
                "itemsize": itemsize,
            }
            structured = np.dtype(described)
            return np.dtype((np.record, structured)) if code is _Record else structured
    return _simple_dtype(kept)


def _field_dtype(kept: Any) -> DType:
    match kept:
        case _DTypeState(state=(_, _, (base, shape), *_)):
            return np.dtype((_simple_dtype(base), shape))
    return _simple_dtype(kept)


def _simple_dtype(kept: Any) -> DType:
    match kept:
        case _DTypeState(arguments=(code, *_), state=(_, order, None, None, *_)) if _CODE.fullmatch(_text(code)):
            dtype = np.dtype(_text(code))
            return (
                dtype.newbyteorder(">" if order in {">", b">"} else "<") if order in {"<", ">", b"<", b">"} else dtype
            )
    raise CodecError("the pickle's array is of a type that no FITS file has")


def _text(kept: Any) -> str:
    if isinstance(kept, bytes):
        return kept.decode()
    if not isinstance(kept, str):
        raise CodecError("the pickle has something else where a text belongs")
    return kept


# -- tables of astropy -----------------------------------------------------------------------------


def _table(rows: Array, attributes: Any = (), keys: Any = ()) -> Array:
    """Turn astropy's table, as stored in its file, into what a reader of it sees.

    It keeps the columns that it already converted beside the stored ones. Those of variable length can be had from
    nowhere else, for the heap of the file does not travel.
    """
    if not rows.dtype.names:
        raise CodecError("the pickle's table has no columns")
    kept = dict(zip(keys, attributes, strict=True))
    converted = kept.get("_converted", {})
    descriptions = _attributes(kept["_coldefs"])["columns"] if "_coldefs" in kept else [None] * len(rows.dtype.names)
    seen = {}
    for name, description in zip(rows.dtype.names, descriptions, strict=True):
        if name in converted:
            seen[name] = _values(converted[name])
            continue
        column = _column(name, {} if description is None else _attributes(description))
        if column is not None and column.variable:
            raise CodecError(
                f"the pickle's table lacks the values of {name!r}: a column of variable length lost its heap"
            )
        seen[name] = rows[name] if column is None else _as_text(columns.values(column, rows[name]))
    if any(values.shape[:1] != rows.shape for values in seen.values()):
        raise CodecError("the pickle's table has columns of different lengths")
    if sum(values.nbytes for values in seen.values()) > _MAX_TABLE_BYTES:  # columns may share what they hold
        raise CodecError(f"the pickle's table is larger than {_MAX_TABLE_BYTES} bytes")
    fields: Any = [(name, values.dtype, values.shape[1:]) for name, values in seen.items()]
    table = np.empty(rows.shape, np.dtype(fields))
    for name, values in seen.items():
        table[name] = values
    return table


def _as_text(values: Array) -> Array:
    """Turn stored ASCII into text, as astropy shows it."""
    if values.dtype.kind != "S":
        return values
    return np.char.decode(values, "ascii", "backslashreplace").astype(f"U{values.dtype.itemsize}")


def _attributes(kept: Any) -> dict[str, Any]:
    if not isinstance(kept, _StandIn):
        raise CodecError("the pickle's table has no description of its columns")
    state = kept.state
    if isinstance(state, tuple):  # an object with slots: what is in its dictionary, and what is in them
        state = {**(state[0] or {}), **(state[1] or {})}
    return {_text(name): value for name, value in state.items()}


def _column(name: str, attributes: Mapping[str, Any]) -> columns.Column | None:
    match attributes.get("_format"):
        case _StandIn(arguments=(str() as tform, *_)):
            scale, zero = _number(attributes.get("_bscale"), 1), _number(attributes.get("_bzero"), 0)
            return columns.described(name, tform, scale=scale, zero=zero)
    return None


def _number(kept: Any, default: float) -> float:
    match kept:
        case bool() | int() | float():
            return kept
        case _Scalar(arguments=(dtype, bytes() as raw)):
            return float(_shaped(raw, _dtype(dtype), (), fortran=False)[()])
    return default


# -- writing ---------------------------------------------------------------------------------------


def dumps(array: Array, *, record: bool = False) -> bytes:
    """Pickle an array so that every client reads it; with `record`, the rows of a table are records.

    Raises
    ------
    CodecError
        The array holds Python objects.
    """
    if array.dtype.hasobject:
        raise CodecError("an array of Python objects has no portable pickle")
    plain = np.asarray(array).view(np.ndarray)
    if plain.dtype.names:
        plain = plain.view(np.dtype((np.record if record else np.void, plain.dtype)))
    return renamed(pickle.dumps(plain, PROTOCOL), {"numpy._core.multiarray": "numpy.core.multiarray"})


def renamed(data: bytes, modules: Mapping[str, str]) -> bytes:
    """Rename modules in a pickle, in its operations, without loading it; all else stays as it is.

    From protocol 4 on a name is put together from two texts on the stack, which may serve elsewhere, too: they are
    taken off it again, and the new name is loaded as protocols 2 and 3 do. Frames, whose lengths would be wrong then,
    are left out; they only say how much to read at once.

    Raises
    ------
    CodecError
        As for `names`.
    """
    pieces = []
    end = 0
    for operation, name, begin in _followed(data):
        size = 0
        if operation.name == "FRAME":
            size, new = 9, b""
        elif name is not None and name.module in modules:
            new = f"c{modules[name.module]}\n{name.name}\n".encode()
            if operation.name == "GLOBAL":
                size = len(f"c{name.module}\n{name.name}\n".encode())
            else:
                size, new = 1, b"00" + new
        if size:
            pieces += [data[end:begin], new]
            end = begin + size
    return b"".join((*pieces, data[end:]))
