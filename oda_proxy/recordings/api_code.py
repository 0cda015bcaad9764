"""Redact `api_code`, the program in an answer that repeats its query, and fill it in for another client.

Dispatchers since 2021 send it: Python text with the dispatcher's address and every parameter but the session and the
job, one in a line. The token of the client is among them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from oda_proxy.compat.program_address import ADDRESS
from oda_proxy.recordings.redaction import CLIENT_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_GAP = re.compile(
    rf"{ADDRESS}"
    rf"|^(?P<before>[ \t]*\"(?P<name>{'|'.join(sorted(CLIENT_MEMBERS))})\"[ \t]*:[ \t]*).*?(?P<after>,?[ \t]*\n)",
    re.MULTILINE,
)

Program = list[list[str]]
"""Texts and gaps: `[text]`, `[quote, "url"]` for the address, `[before, name, after]` for the line of a parameter."""


def with_gaps(text: str) -> Program:
    """Replace the address and the parameters that name the client by gaps."""
    program: Program = []
    end = 0
    for gap in _GAP.finditer(text):
        program.append([text[end : gap.start()]])
        program.append([gap["quote"], "url"] if gap["quote"] else [gap["before"], gap["name"], gap["after"]])
        end = gap.end()
    return [*program, [text[end:]]]


def fill_gaps(program: Sequence[Sequence[str]], client: Mapping[str, Any], address: str) -> str:
    """Return the program for a client that reaches us at `address`; a parameter that it did not send has no line."""
    pieces = []
    for part in program:
        match part:
            case [text]:
                pieces.append(text)
            case [quote, "url"]:
                pieces.append(f"{quote}{address}{quote}")
            case [before, name, after] if client.get(name) is not None:
                pieces.append(f"{before}{json.dumps(client[name])}{after}")
    return "".join(pieces)
