"""Files that clients uploaded for parameters: stored by content, and the addresses under which they are served.

The rules are those of dispatcher 1.3.6: a file is named by the MD5 of its content, and the parameter of the same name
becomes its address. A file that somebody uploaded without a token is public; others are for the users who sent them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from mock_server.scw_lists import FILE as SCW_LIST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.tokens import Token
    from mock_server.upload_folder import UploadFolder

_CATALOG_FILE: Final = "user_catalog_file"
_MAX_BYTES: Final = 256 * 2**20


@dataclass
class Uploads:
    """The uploaded files by digest; the oldest are removed when all have more than 256 MiB.

    With a `folder`, they are there, too, and so are files that others put there.
    """

    folder: UploadFolder | None = None
    _contents: OrderedDict[str, bytes] = field(default_factory=OrderedDict, repr=False)
    _owners: dict[str, set[str | None]] = field(default_factory=dict, repr=False)

    def store(self, files: Mapping[str, bytes], products_url: str, token: Token | None) -> dict[str, str]:
        """Store files, and return the value of the parameter that each is for.

        Parameters
        ----------
        files
            Contents by the name of the field; lists of input data and catalogues are not stored.
        products_url
            The public address of the dispatcher, with a slash at the end.
        token
            The token of the request; None without one.
        """
        subject = None if token is None else token.subject
        addresses = {}
        for name, content in files.items():
            if name in (SCW_LIST_FILE, _CATALOG_FILE):
                continue
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._contents[digest] = content
            self._contents.move_to_end(digest)
            self._owners.setdefault(digest, set()).add(subject)
            if self.folder is not None:
                self.folder.write(digest, content, subject, () if token is None else token.roles)
            query = urlencode({"file_list": digest, "_is_mmoda_url": True, "return_archive": False})
            addresses[name] = f"{products_url}dispatch-data/download_file?{query}"
        while sum(map(len, self._contents.values())) > _MAX_BYTES:
            oldest, _ = self._contents.popitem(last=False)
            del self._owners[oldest]
        return addresses

    def content(self, digest: str, subject: str | None) -> bytes | None:
        """Return a file, or None if there is none that this user may read."""
        owners = self._owners.get(digest, set())
        is_readable = None in owners or (subject is not None and subject in owners)
        if is_readable and digest in self._contents:
            return self._contents[digest]
        return None if self.folder is None else self.folder.read(digest, subject)
