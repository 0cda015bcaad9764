"""The lines of Python to paste: every release of the client runs them, and its query finds the recording."""

from __future__ import annotations

import ast
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from oda_proxy.drawing.paste_lines import paste_lines
from oda_proxy.fixture.reading import open_folder
from tests.support.capsules import query
from tests.support.client_forks import client_environment, run_forked
from tests.support.paths import FIXTURES
from tests.support.real_clients import environment
from tests.support.servers import PATIENCE, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_values_are_written_so_that_a_client_sends_the_same_texts() -> None:
    words: dict[str, str | list[str]] = {
        "RA": "83.0", "n": "5", "E1": "20.00", "big": "1e400", "word": "it's \"here\"\n", "flag": "True",
        "scw_list": ["1", "2.0"], "bad name": "x",
    }  # fmt: skip

    (call,) = [
        one for one in ast.walk(ast.parse(paste_lines(query(**words), "http://h/oda")))
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "get_product"
    ]  # fmt: skip

    sent: dict[str, Any] = {one.arg or "**": ast.literal_eval(one.value) for one in call.keywords}
    others = sent.pop("**")
    for name in ("instrument", "product", "product_type"):
        sent.pop(name)
    texts = {
        name: [str(item) for item in value] if isinstance(value, list) else str(value) for name, value in sent.items()
    }
    assert texts | others == words


def test_a_program_holds_no_code_of_the_query() -> None:
    hostile = query(**{"a=1)\nimport os\n(b": "x", "T1": "')\nimport os\n('"})

    tree = ast.parse(paste_lines(hostile, "http://h"))

    assert [one.names[0].name for one in ast.walk(tree) if isinstance(one, ast.Import)] == []


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - on this machine
        return json.load(response) if "json" in response.headers["Content-Type"] else response.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server that has recorded every shipped fixture."""
    folder = tmp_path_factory.mktemp("server")
    options = ["--mock", "--time-scale", "0", "--port", "0", "--cache-dir", str(folder / "cache")]
    with running(folder / "log", "serve", *options) as started:
        for number, fixture in enumerate(open_folder(FIXTURES).fixtures):
            asked = fixture.query()
            fields: dict[str, Any] = {
                "instrument": asked.instrument, "product_type": asked.product_type, "query_type": asked.query_type,
                "api": "True", "query_status": "new", "session_id": f"{number:016}",
                "oda_api_version": "1.3.5", "off_line": "False", **asked.parameters,
            }  # fmt: skip
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                answer = fetch(f"{started.url}/run_analysis?{urlencode(fields, doseq=True)}")
                if answer["query_status"] in {"done", "failed"}:
                    break
                fields |= {"query_status": answer["query_status"], "job_id": answer["job_monitor"]["job_id"]}
            assert answer["query_status"] == "done", answer
        yield started.url


@pytest.mark.real
@pytest.mark.parametrize("version", ["1.0", "1.3.5"])
def test_a_client_runs_the_lines_and_gets_the_recording(server: str, version: str, tmp_path: Path) -> None:
    recordings = fetch(f"{server}/-/api/recordings")["recordings"]
    assert len(recordings) == len(open_folder(FIXTURES).fixtures)
    for recording in recordings:
        script = tmp_path / "pasted.py"
        script.write_text(fetch(f"{server}/-/recordings/{recording['key']}/program.py"))
        before = fetch(f"{server}/-/status")["run_analysis"]

        done = run_forked(environment(f"oda_api-{version}"), [str(script)], tmp_path, client_environment(), PATIENCE)

        after = fetch(f"{server}/-/status")["run_analysis"]
        assert done.returncode == 0, done.stderr
        assert (after["hits"] - before["hits"], after["asked"] - before["asked"]) == (1, 0), recording["query"]
