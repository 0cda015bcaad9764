"""The dispatcher's job_id: a hash of the parameters that does not change if characters are permuted.

Protocol of dispatcher 1.3.6: a scalar is written as JSON, the characters of that text are sorted, and the MD5 of the
sorted list (again as JSON) is cut to 16 hex digits; a list, pair or mapping is the sorted list of its members' hashes,
hashed the same way. So RA=83.63 and RA=38.63 have the same id. The mock does this, too, because a proxy must cope.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_HASHED: Final = frozenset(
    {"session_id", "job_id", "token", "dry_run", "oda_api_version", "api", "off_line", "query_status"}
    | {"async_dispatcher"}
)
_DIGITS: Final = 16


def job_id(parameters: Mapping[str, Any], subject: str | None = None) -> str:
    """Return the hash of the normalised parameters of a query and the subject of its token (dispatcher 1.3.6)."""
    hashed = {name: value for name, value in parameters.items() if name not in NOT_HASHED and value is not None}
    if subject is not None:
        hashed["sub"] = subject
    return _digest(hashed)


def job_id_2019(arguments: Mapping[str, Any]) -> str:
    """Return the hash of all arguments but the session, a decimal number that can be negative (dispatcher of May 2019).

    That dispatcher used Python's own hash, which differs from process to process; this one does not.
    """
    text = json.dumps({name: value for name, value in arguments.items() if name != "session_id"}, sort_keys=True)
    return str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True))


def _digest(value: Any) -> str:
    if isinstance(value, dict):
        return _digest(list(value.items()))
    members = sorted(_digest(member) for member in value) if isinstance(value, (list, tuple)) else _characters(value)
    return hashlib.md5(json.dumps(members).encode(), usedforsecurity=False).hexdigest()[:_DIGITS]


def _characters(value: Any) -> list[str]:
    return sorted(json.dumps(value))
