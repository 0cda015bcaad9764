"""What was recorded of a run, and what was not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_REASONS = {
    "credentials": "requested with a cookie or a password",
    "echo-differs": "the dispatcher answered another query",
    "method": "only GET and HEAD are recorded; oda-proxy record --keep-post HOST records POST to a host",
    "not-a-query": "not a query that can be read",
    "not-api": "a page for a browser",
    "partial": "products of a job that was not done",
    "secret-in-address": "there may be a secret in its address",
    "status": "neither a success, nor a redirect, nor a final failure",
    "token": "requested with a token that cannot be read",
    "too-large": "too large; oda-proxy record --max-page SIZE records larger pages",
    "unreachable": "it could not be reached",
    "upload-too-large": "the body of the request is too large",
}


@dataclass(slots=True)
class RunSummary:
    """What was recorded of a run, and what was not."""

    recordings: int = 0
    size: int = 0
    """Bytes of the recordings in the wire form."""
    failures: int = 0
    descriptions: set[tuple[str, str]] = field(default_factory=set)
    """Recorded descriptions, by path and query of the request."""
    exchanges: set[str] = field(default_factory=set)
    """Recorded answers of other servers, by name in the capsule."""
    private: int = 0
    """Answers that were left out because they were requested with a token."""
    command: tuple[str, ...] = ()
    """The recorded command, without secrets."""
    not_recorded: Counter[str] = field(default_factory=Counter)
    """Answers that were not recorded, with the reason, one line each, and how often."""

    unwritable: str = ""
    """Why an answer could not be written, such as on a full disk."""

    def note_not_recorded(self, what: str, reason: object) -> None:
        """Count an answer that was not recorded; `reason` is a short word, or an error."""
        word = str(reason)
        self.not_recorded[f"{what}: {_REASONS.get(word, word)}"] += 1
