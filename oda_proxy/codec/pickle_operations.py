"""The operations of a pickle, followed without running any of them."""

from __future__ import annotations

import io
import pickletools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from oda_proxy.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_OPERATIONS: Final = 5_000_000
"""A table with a column of variable length needs about fifteen operations for each row."""


class GlobalName(NamedTuple):
    """A name that a pickle loads from a module."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def with_renamed_modules(data: bytes, modules: Mapping[str, str]) -> bytes:
    """Return a pickle with other modules in the operations that load names, as `renamed_modules`."""
    return renamed_modules(data, modules)[0]


def renamed_modules(data: bytes, modules: Mapping[str, str]) -> tuple[bytes, list[GlobalName | None]]:
    """Return a pickle with other modules in the operations that load names, and the names that it then loads.

    Everything else is unchanged; without such a module, the same object is returned.

    From protocol 4 on a name is composed of two texts on the stack, which may also be used elsewhere: they are popped
    again, and the new name is loaded as in protocols 2 and 3. Frames, whose lengths would be wrong, are dropped; they
    only tell a reader how much to buffer.

    Raises
    ------
    CodecError
        As for `global_names`.
    """
    pieces = []
    end = 0
    is_renamed = False
    names: list[GlobalName | None] = []
    for operation, name, begin in operations(data):
        size = 0
        if operation.name in _LOADS:
            is_renamed |= name is not None and name.module in modules
            names.append(name and GlobalName(modules.get(name.module, name.module), name.name))
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
    return (b"".join((*pieces, memoryview(data)[end:])) if is_renamed else data), names


def global_names(data: bytes) -> Iterator[GlobalName | None]:
    """Yield each name that a pickle loads, without loading it; None for one that is computed while loading.

    Raises
    ------
    CodecError
        Not a pickle of protocol 2 to 5, or more than `MAX_OPERATIONS` long.
    """
    return (name for operation, name, _ in operations(data) if operation.name in _LOADS)


class _Mark:
    """A mark on the stack, where a list of arguments begins."""


_MARK: Final = _Mark()
_OTHER: Final = object()  # any value but a text
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
    """The stack and the memo of a pickle: texts have their value, everything else is `_OTHER`."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load_name(self, operation: pickletools.OpcodeInfo, argument: Any) -> GlobalName | None:
        """Follow an operation that loads a name; return None if it is not composed of two texts."""
        if operation.name == "GLOBAL":
            module, name = argument
        else:
            name, module = self._pop(), self._pop()
        self.stack.append(_OTHER)
        return GlobalName(module, name) if isinstance(module, str) and isinstance(name, str) else None

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
                self.stack.pop()  # the only operation that may pop a mark
            elif item is not pickletools.stackslice:
                self._pop()

    def _pop(self) -> Any:
        item = self.stack.pop()
        if item is _MARK:
            raise ValueError("it pops more from its stack than was pushed")
        return item


def operations(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, GlobalName | None, int]]:
    """Yield each operation with the name that it loads, if any is known, and its offset.

    Raises
    ------
    CodecError
        As for `global_names`.
    """
    trace = _Trace()
    try:
        for count, (operation, argument, position) in enumerate(_parsed(data)):
            name = None
            if count >= MAX_OPERATIONS:
                raise CodecError(f"the pickle has more than {MAX_OPERATIONS} operations")
            if operation.name in _LOADS:
                name = trace.load_name(operation, argument)
            else:
                trace.follow(operation, argument)
            if operation.name in _PUTS and argument is not None and argument > len(data):
                raise CodecError("the pickle uses memo indices larger than its size")
            if operation.name == "STOP" and position + 1 != len(data):
                raise CodecError("the pickle is followed by other bytes")
            yield operation, name, position
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise CodecError(f"not a pickle of protocol 2 to 5: {error}") from None


def _parsed(data: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
    """Yield the operations with their arguments and offsets, like `pickletools.genops`.

    Unlike loading, `genops` decodes escapes in the two lines of a name, and ends the first one at any space.
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
        elif operation.name in _LONG_TEXTS and (end := _end_of_long_text(data, stream.tell(), operation)):
            stream.seek(end)  # it is no name
        elif operation.arg is not None:
            argument = operation.arg.reader(stream)
        yield operation, argument, position
    if not data.endswith(b"."):
        raise ValueError("it has no end")


def _end_of_long_text(data: bytes, begin: int, operation: pickletools.OpcodeInfo) -> int:
    """Return the end of a text of more than `_LONG` bytes; 0 for a shorter one. Raises ValueError if it is no UTF-8."""
    length_size = _LONG_TEXTS[operation.name]
    length = int.from_bytes(data[begin : begin + length_size], "little")
    if length <= _LONG or begin + length_size + length > len(data):
        return 0
    text = memoryview(data)[begin + length_size : begin + length_size + length]
    if not _is_latin1(text):
        str(text, "utf-8", "surrogatepass")
    return begin + length_size + length


_LONG: Final = 64 * 1024
"""Bytes of a text from which on it is the content of an array, as protocol 2 writes it."""
_LONG_TEXTS: Final = {"BINUNICODE": 4, "BINUNICODE8": 8}
"""The operations of long texts, with the bytes of their length."""
_STEP: Final = 256 * 1024


def _is_latin1(text: memoryview) -> bool:
    """Return whether a text is the UTF-8 of characters up to 255; decoding it would take several times as long."""
    import numpy as np

    codes = np.frombuffer(text, np.uint8)
    if _is_continuation(codes[:1]).any() or codes[-1] >= _FIRST_LEAD:
        return False
    for at in range(0, len(codes), _STEP):
        some = codes[at : at + _STEP + 1]  # the last byte is looked at twice
        lead = (some == _FIRST_LEAD) | (some == _LAST_LEAD)
        continuation = _is_continuation(some)
        if not (((some < _FIRST_CONTINUATION) | lead | continuation).all() and (continuation[1:] == lead[:-1]).all()):
            return False
    return True


def _is_continuation(codes: Any) -> Any:
    """Return which bytes continue a character of UTF-8."""
    return (codes >= _FIRST_CONTINUATION) & (codes < _FIRST_CONTINUATION + 64)


_FIRST_CONTINUATION: Final = 0x80
_FIRST_LEAD: Final = 0xC2
"""The first byte of the characters from 128, and `_LAST_LEAD` of those up to 255."""
_LAST_LEAD: Final = 0xC3


def _line(stream: io.BytesIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise ValueError("a name has no end")
    return line[:-1].decode()
