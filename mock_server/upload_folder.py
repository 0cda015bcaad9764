"""The folder of uploaded files, as a dispatcher has: for suites that read it, or put files there themselves."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

log = logging.getLogger(__name__)

UPLOADS: Final = "request_files"
"""The name of the folder at a dispatcher."""

_PUBLIC: Final = "public"
_OWNERS: Final = "user_emails"
_ROLES: Final = "user_roles"


@dataclass(frozen=True)
class UploadFolder:
    """The files in `path`, named by the MD5 of their content; a file beside each lists who sent it."""

    path: Path

    def write(self, digest: str, content: bytes, subject: str | None, roles: Collection[str]) -> None:
        """Write a file, and add the user of a request to those who may read it; a failure is logged."""
        owners = self._owners(digest)
        emails = [*dict.fromkeys([*owners[_OWNERS], _PUBLIC if subject is None else subject])]
        document = {_OWNERS: emails, _ROLES: [*dict.fromkeys([*owners[_ROLES], *roles])]}
        try:
            self.path.mkdir(exist_ok=True)
            (self.path / digest).write_bytes(content)
            (self.path / f"{digest}_ownerships.json").write_text(json.dumps(document), encoding="utf-8")
        except OSError as error:
            log.warning("an uploaded file cannot be written: %s", error)

    def read(self, digest: str, subject: str | None) -> bytes | None:
        """Return a file, or None if there is none that this user may read."""
        if not digest.isalnum() or {_PUBLIC, subject}.isdisjoint(self._owners(digest)[_OWNERS]):
            return None
        try:
            return (self.path / digest).read_bytes()
        except OSError:
            return None

    def _owners(self, digest: str) -> dict[str, list[Any]]:
        """Return the users of a file and their roles; empty lists if there is no such file."""
        try:
            document = json.loads((self.path / f"{digest}_ownerships.json").read_bytes())
        except (OSError, ValueError):
            document = None
        found = document if isinstance(document, dict) else {}
        return {name: found[name] if isinstance(found.get(name), list) else [] for name in (_OWNERS, _ROLES)}
