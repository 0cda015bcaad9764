"""Equal long texts of JSON values as one object: each spectrum of an answer may have the same response matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

_LONG: Final = 16 * 1024
"""Characters from which on a text is shared."""
_SHORT_LIST: Final = 1000
"""Elements up to which those of a list are looked at: longer ones have numbers."""
_WHOLE: Final = 1024
"""Characters of a text up to which it is its own key: of a longer one, a hash of all would take longer."""
_PART: Final = 64


def text_key(text: str) -> Hashable:
    """Return a key for a text; a long one may share it with others."""
    if len(text) <= _WHOLE:
        return text
    middle = len(text) // 2
    return len(text), text[:_PART], text[middle : middle + _PART], text[-_PART:]


class SharedTexts:
    """Replaces long texts by equal ones that came before, and notes which came more than once."""

    def __init__(self) -> None:
        self._texts: dict[Hashable, str] = {}
        self._repeated: set[Hashable] = set()

    def share(self, value: Any) -> Any:
        """Return a value with its long texts replaced; objects and lists are changed in place."""
        if isinstance(value, str):
            return self._shared(value) if len(value) >= _LONG else value
        if isinstance(value, dict):
            for name, inner in value.items():
                value[name] = self.share(inner)
        elif isinstance(value, list) and len(value) <= _SHORT_LIST:
            value[:] = map(self.share, value)
        return value

    def take_repeated(self) -> frozenset[Hashable]:
        """Return the keys of the texts that came more than once, and hold no text any longer."""
        self._texts.clear()
        return frozenset(self._repeated)

    def _shared(self, text: str) -> str:
        key = text_key(text)
        first = self._texts.setdefault(key, text)
        if first is text or first != text:
            return text
        self._repeated.add(key)
        return first
