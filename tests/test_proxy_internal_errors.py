"""An unexpected error of a library within a request is a failure that clients read, and one line in the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from oda_proxy.handlers.policy import Policy
from oda_proxy.http.message import Request
from oda_proxy.proxy import Proxy
from oda_proxy.store.memory import MemoryStore
from tests.support.scripted_upstream import Script, request, told

if TYPE_CHECKING:
    from oda_proxy.query.cache_key import Key
    from oda_proxy.recordings.recording import Recording


class Failing(MemoryStore):
    """A store that raises what no store should, with a token in its message."""

    def get(self, key: Key) -> Recording | None:
        raise ZeroDivisionError("token=CANARY")


async def test_an_unexpected_error_is_a_failed_job_in_the_form_of_the_dispatcher(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status, cache_status, body = await told(Proxy(Failing(), Script(), Policy()), request())

    answer = json.loads(body)
    message = "internal error of oda-proxy (ZeroDivisionError); its log says where"
    assert (status, cache_status) == (500, "oda-proxy; detail=internal-error")
    assert (answer["query_status"], answer["exit_status"]["message"], answer["error"]) == ("failed", message, message)
    (record,) = caplog.records
    assert record.getMessage().startswith("internal error: ZeroDivisionError in tests/test_proxy_internal_errors.py:")
    assert (record.exc_info, "CANARY" in caplog.text) == (None, False)


@pytest.mark.parametrize("path", ["/inspect-state", "/api/meta-data"])
async def test_an_unexpected_error_on_another_route_is_one_line_of_text(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Script([ZeroDivisionError("token=CANARY")])

    status, _, body = await told(Proxy(MemoryStore(), upstream, Policy()), Request("GET", path))

    assert (status, body.count(b"\n")) == (500, 1)
    assert len(caplog.records) == 1
    assert "CANARY" not in caplog.text
