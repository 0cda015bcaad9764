"""A request for an analysis whose parameters were checked, and its normalised query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mock_server.matching import NormalisedQuery
from mock_server.scw_lists import FILE as SCW_LIST_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mock_server.parameters import Parameters
    from mock_server.request_context import RequestContext


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose parameters were checked.

    `arguments` are those of the request, `files` its catalogue and list of input data; `wants_progress` requests the
    products of a running job. `computed_job_id` is the job_id of the query; `shown_job_id` is the one in the response,
    for polls that of the request.
    """

    context: RequestContext
    parameters: Parameters
    query: NormalisedQuery
    arguments: Mapping[str, Any]
    files: Mapping[str, bytes]
    wants_progress: bool
    computed_job_id: str
    shown_job_id: str

    @property
    def is_from_1_0(self) -> bool:
        """Whether `oda_api` 1.0 sent it: without the version of later releases, and with what it always sends."""
        return "oda_api_version" not in self.arguments and {"verbose", "dry_run"} <= self.arguments.keys()


def normalised_query(
    context: RequestContext, parameters: Parameters, arguments: Mapping[str, Any], files: Mapping[str, bytes]
) -> NormalisedQuery:
    """Return the query of a request, which decides on its fixture and its job."""
    return NormalisedQuery(
        instrument=context.description.name,
        product=context.product,
        query_type=str(arguments["query_type"]),
        # An uploaded file is compared by its content, and not by its address.
        parameters={name: value for name, value in parameters.decisive.items() if name not in files},
        api="api" in arguments,
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != SCW_LIST_FILE},
    )
