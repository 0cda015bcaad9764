"""The end of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oda_proxy.errors import OdaProxyError
    from oda_proxy.http.answer import Answer
    from oda_proxy.recordings.failures import Failure
    from oda_proxy.recordings.recording import Recording


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with the dispatcher's last answer, or with an error of the proxy.

    `answer` is repaired and belongs to the client whose session the job has. `recording` or `failure` is what every
    client may receive of it; where there is neither, the answer cannot be shared.
    """

    answer: Answer | None = None
    is_done: bool = False
    """Whether it is a success."""
    error: OdaProxyError | None = None
    recording: Recording | None = None
    failure: Failure | None = None
    stored: bool = False
    store_failed: bool = False
    """Whether it may be shared, and could not be stored."""
    fenced: bool = False
    """Whether another replica has taken the lease of the job before the answer was stored: that one has the answer."""
