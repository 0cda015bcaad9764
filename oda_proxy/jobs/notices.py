"""What a dispatcher says of a running job beside its state and reports: comments, warnings, mail to the client."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.recordings.leak_check import check_no_secrets, collect_secrets
from oda_proxy.recordings.redaction import NotStorableError, redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oda_proxy.query.query import Envelope

MAX_LENGTH: Final = 10_000
"""Characters of a notice."""

_OF_ALL: Final = ("comment", "warning")
"""Members of `exit_status` about the job."""
_OF_OWNER: Final = (*_OF_ALL, "email_status", "matrix_message_status", "matrix_message_status_details")
"""Members of `exit_status` and `job_monitor` for the client that submitted it, too."""


@dataclass(frozen=True, slots=True)
class Notices:
    """Notices by their names in `exit_status`: all of them for the owner of a job, and those that name no client."""

    owner: Mapping[str, str] = field(default_factory=dict)
    public: Mapping[str, str] = field(default_factory=dict)
    time_request: float | None = field(default=None, compare=False)
    """The time that the dispatcher gives its answer, in s since 1970 (UTC): for the owner, and no news by itself."""
    products: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the answer to a submission has in place of products, for the owner: the parameters as they were read."""

    def without_owner(self) -> Notices:
        """Return the notices for another owner: those that name no client."""
        return Notices(self.public, self.public)

    def without_mail(self) -> Notices:
        """Return the notices without the status of mail: it is that of one request, and not repeated."""
        return replace(self, owner={name: text for name, text in self.owner.items() if name in _OF_ALL})

    def with_submission(self, submission: Notices) -> Notices:
        """Return these notices, with the comments and warnings on the submission where there are no later ones."""
        return replace(
            self,
            owner={**submission.without_mail().owner, **self.owner},
            public={**submission.public, **self.public},
            products=submission.products,
        )


def read_notices(answer: Mapping[str, Any], envelope: Envelope) -> Notices:
    """Return the notices in an answer to `envelope`."""
    status, monitor = answer.get("exit_status"), answer.get("job_monitor")
    owner = {**_texts(monitor, _OF_OWNER[len(_OF_ALL) :]), **_texts(status, _OF_OWNER)}
    secrets = collect_secrets(envelope, monitor)
    public = {name: redact_value(owner[name]) for name in _OF_ALL if name in owner}
    time, products = answer.get("time_request"), answer.get("products")
    return Notices(
        owner,
        {name: text for name, text in public.items() if _is_public(text, secrets)},
        float(time) if isinstance(time, int | float) and math.isfinite(time) else None,
        products if isinstance(products, dict) else {},
    )


def _texts(members: object, names: tuple[str, ...]) -> dict[str, str]:
    if not isinstance(members, dict):
        return {}
    return {name: text[:MAX_LENGTH] for name in names if isinstance(text := members.get(name), str) and text.strip()}


def _is_public(text: str, secrets: Any) -> bool:
    try:
        check_no_secrets([text], secrets)
    except NotStorableError:
        return False
    return True
