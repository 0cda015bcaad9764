"""The dispatcher's job_id: a hash of the parameters that permuted characters do not change.

Protocol of dispatcher 1.3.6: a scalar is written as JSON, the characters of that text are sorted, and the MD5 of the
sorted list (again as JSON) is cut to 16 hex digits; a list, pair or mapping is the sorted list of its members' hashes,
hashed the same way. So RA=83.63 and RA=38.63 are one job. The mock does it too, since a proxy has to live with it.
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
    """Hash the normalised parameters of a query, with the subject of its token if it had one (dispatcher 1.3.6)."""
    hashed = {name: value for name, value in parameters.items() if name not in NOT_HASHED and value is not None}
    if subject is not None:
        hashed["sub"] = subject
    return _digest(hashed)


def job_id_2019(arguments: Mapping[str, Any]) -> str:
    """Hash all arguments but the session, as a decimal number that may be negative (dispatcher of May 2019).

    That dispatcher printed Python's own hash of the arguments, which differs from process to process; here it does not.
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
