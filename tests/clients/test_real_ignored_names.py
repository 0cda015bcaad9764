"""Names that are not in the key: the real dispatcher answers alike with and without them, or the proxy keeps them."""

from __future__ import annotations

import json
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlencode

import pytest

from oda_proxy.query.query import ENVELOPE
from tests.support.servers import running

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real

BASE = {
    "instrument": "empty",
    "product_type": "dummy",
    "query_type": "Dummy",
    "query_status": "new",
    "session_id": "SESSIONOFTHETEST",
    "api": "True",
    "oda_api_version": "1.3.5",
    "off_line": "False",
}
LIST = {"scw_list": "a,b"}
FILE = {"user_scw_list_file": b"a\nb\n", "use_scws": "user_file"}

Fields = dict[str, Any]

CASES: list[tuple[Fields, str, Any]] = [
    *[({}, name, None) for name in ("session_id", "oda_api_version", "off_line", "api")],
    *[({}, "session_id", value) for value in ("new", "", "a/b", "\0", "..", "x" * 90, "x" * 101, "None")],
    *[({}, "oda_api_version", value) for value in ("0.0.1", "1.0", "bogus", "", "\0")],
    *[({}, "off_line", value) for value in ("True", "bogus", "", "\0")],
    *[({}, "async_dispatcher", value) for value in ("True", "False", "bogus", "", "\0")],
    *[({}, "client-name", value) for value in ("x", "", "\0")],
    *[({}, "token", value) for value in ("", "None", "\0", "x")],
    *[({}, "verbose", value) for value in ("True", "False", "bogus", "", "\0")],
    *[({}, "dry_run", value) for value in ("True", "False", "bogus", "", "\0")],
    *[({}, "api", value) for value in ("False", "", "\0")],
    *[({}, "job_id", value) for value in ("",)],
    *[({}, "use_scws", value) for value in ("no", "form_list", "user_file", "bogus", "", "\0")],
    *[(LIST, "use_scws", value) for value in ("no", "form_list", "user_file", "bogus", "", "\0")],
    *[(FILE, "use_scws", value) for value in (None, "no", "form_list", "bogus", "", "\0")],
    *[({}, "selected_catalog", value) for value in ("\0", "", "null", "{}")],
    *[({}, name, "\0") for name in ("scw_list", "DEC", "T1", "src_name", "T_format", "nonsense")],
    *[({}, name, "") for name in ("scw_list", "DEC", "T1", "src_name", "T_format", "nonsense")],
    *[({}, name, "x") for name in ("user_catalog", "user_catalog_file", "instrumet", "run_asynch", "T_format")],
]
"""What else is sent, the name, and its value; None where the name is left out."""


@pytest.fixture(scope="module")
def proxy_url(dispatcher_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    arguments = ["serve", "--upstream", dispatcher_url, "--port", "0", "--cache-dir", str(folder / "cache")]
    with running(folder / "log", *arguments) as server:
        yield server.url


def sent(url: str, fields: Fields) -> tuple[int, dict[str, Any], str]:
    """Send a query; return the status, what the answer says of the query, and `Cache-Status`."""
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    files = {name: value for name, value in fields.items() if isinstance(value, bytes)}
    request = urllib.request.Request(f"{url}/run_analysis?{urlencode(texts)}")  # noqa: S310 - an address on this machine
    if files:
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="%b"; filename="f"\r\n\r\n%b\r\n' % (name.encode(), content)
            for name, content in files.items()
        ]
        request.data = b"".join((*parts, b"--b--\r\n"))
        request.add_header("Content-Type", "multipart/form-data; boundary=b")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
            return response.status, _of_the_query(json.load(response)), response.headers.get("Cache-Status", "")
    except HTTPError as error:
        with error:
            return error.code, {"message": json.load(error).get("error_message")}, error.headers.get("Cache-Status", "")


def _of_the_query(answer: dict[str, Any]) -> dict[str, Any]:
    products = {k: v for k, v in answer["products"].items() if k not in {"api_code", "session_id", "job_id"}}
    echo = products.pop("analysis_parameters", {})
    aside = {*ENVELOPE, "verbose", "dry_run", "api", "RA"}
    return {
        "products": products,
        "parameters": {name: value for name, value in echo.items() if name not in aside},
        "status": {name: answer["exit_status"][name] for name in ("status", "message", "job_status")},
    }


def without_none(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize(
    ("number", "case"),
    [*enumerate(CASES)],
    ids=[f"{'&'.join([*context, ''])}{name}={value!r:.20}" for context, name, value in CASES],
)
def test_a_recording_is_served_only_where_the_dispatcher_itself_answers_alike(
    dispatcher_url: str, proxy_url: str, number: int, case: tuple[Fields, str, Any]
) -> None:
    context, name, value = case
    usual_cold, usual_warm = ({**BASE, **context, "RA": str(number + part)} for part in (0, 0.5))
    cold, warm = (without_none({**usual, name: value}) for usual in (usual_cold, usual_warm))

    # First the variant, then the usual request, which must not get its recording where the answers differ.
    assert sent(proxy_url, cold)[:2] == sent(dispatcher_url, cold)[:2]
    assert sent(proxy_url, usual_cold)[:2] == (recorded := sent(dispatcher_url, usual_cold)[:2])
    # The other way round.
    assert recorded[0] == 200
    assert sent(proxy_url, usual_warm)[:2] == sent(dispatcher_url, usual_warm)[:2]
    status, answer, cache_status = sent(proxy_url, warm)
    assert (status, answer) == sent(dispatcher_url, warm)[:2]
    assert ("hit" in cache_status) == ((name, value) in SHARED[tuple(context)])


SHARED = {
    (): {
        *[(name, None) for name in ("session_id", "oda_api_version", "off_line")],
        *[(name, value) for context, name, value in CASES if name in {"oda_api_version", "off_line", "client-name"}],
        *[(name, value) for context, name, value in CASES if name in {"async_dispatcher", "verbose", "api"}],
        *[("session_id", value) for value in ("new", "", "..", "x" * 90, "None")],
        ("dry_run", "False"),
        ("job_id", ""),
        ("use_scws", "no"),
    }
    - {("api", None)},
    tuple(LIST): {("use_scws", "form_list")},
    tuple(FILE): set(),
}
"""What is not in the key, by what else is sent: these requests get the recording that was made without them."""
