"""Lines of Python that request a recording with `oda_api`, for a person to paste.

The program in an answer (`recordings.api_code`) needs a client of its own time; these lines run with every release
since 1.0, which names the address of the dispatcher differently.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.query.message_text import shorten

if TYPE_CHECKING:
    from oda_proxy.query.query import Query

_PROGRAM: Final = """\
from oda_api.api import DispatcherAPI

url = {url}
try:
    disp = DispatcherAPI(url=url)
except TypeError:  # oda_api 1.0
    disp = DispatcherAPI(host=url)
data = disp.get_product(
{arguments}
)
data.show()
"""
_NAME: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def paste_lines(query: Query, url: str) -> str:
    """Return the program for a query through the server at `url`; values are written as they were sent.

    The program has no token: a private recording needs that of its reader (`token=`).
    """
    arguments: dict[str, Any] = {
        "instrument": query.instrument,
        "product": query.product_type,
        "product_type": query.query_type,
    }
    for name, values in query.parameters:
        arguments[name] = _number_or_text(values[0]) if len(values) == 1 else list(map(_number_or_text, values))
    named = [f"    {name}={value!r}," for name, value in arguments.items() if _NAME.fullmatch(name)]
    others = {name: value for name, value in arguments.items() if not _NAME.fullmatch(name)}
    lines = [*named, *([f"    **{others!r},"] if others else [])]
    for name, _ in query.files:
        lines.append(f"    # and the uploaded file {shorten(name)!r}, which is not stored")
    return _PROGRAM.format(url=repr(url), arguments="\n".join(lines))


def _number_or_text(word: str) -> str | int | float:
    """Return the number whose text a client sends as this word, else the word."""
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if math.isfinite(number) and repr(number) == word:
            return number
    return word
