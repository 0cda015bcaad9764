"""What would make a client load or run something is found without being loaded."""

from __future__ import annotations

import base64
import json
import os
import pickle  # noqa: TID251  # hostile ones
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oda_proxy.compat import answer_repairs
from oda_proxy.compat.screening import CODE, NO_PICKLE, forbidden_names
from oda_proxy.query.query import Envelope
from tests.support.dispatcher_responses import answer, json_bytes
from tests.support.servers import running
from tests.support.unreadable_responses import PICKLED_TABLE, RATES, UNREADABLE, arrays, encoded, unit, with_products

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Hostile:
    """Loading it runs a command."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


HOSTILE = text(pickle.dumps(Hostile(), 4))
HIDDEN = text(pickle.dumps([np.zeros(3), {"header": Hostile()}], 2))
OLD = text(b"cos\nsystem\n(S'true'\ntR.")
"""Protocol 0, which clients load as well."""
HALF = text(pickle.dumps(Hostile(), 4)[:-1] + b"\xff")
"""A fault behind the call: a client would have called it by then."""


def products(body: bytes) -> Any:
    return json.loads(answer_repairs.repaired(body, 200, Envelope()))["products"]


@pytest.mark.parametrize("name", [name for name, broken in UNREADABLE.items() if broken.status == 200])
def test_what_dispatchers_send_is_not_refused(name: str) -> None:
    assert forbidden_names(products(UNREADABLE[name].body)) == ()
    assert forbidden_names(json.loads(UNREADABLE[name].body)["products"]) == ()


@pytest.mark.parametrize(
    "pickled", [HOSTILE, HIDDEN, OLD, HALF, HOSTILE[:9] + "\n" + HOSTILE[9:], f" {HOSTILE[:5]}é{HOSTILE[5:]}"]
)
@pytest.mark.parametrize(
    "place",
    [
        lambda it: arrays(unit(RATES, binarys=it)),
        lambda it: with_products(numpy_data_product=json.dumps({"data_unit_list": [unit(RATES, binarys=it)]})),
        lambda it: arrays(data_unit_list=[json.dumps(unit(RATES, binarys=it))]),
        lambda it: with_products(gw_skymap_product={"skymaps": {"GW": {"data_unit_list": [unit(RATES, binarys=it)]}}}),
        lambda it: with_products(astropy_table_product_binary_list=[{**PICKLED_TABLE, "binary": it}]),
        lambda it: with_products(astropy_table_product_binary_list=[json.dumps({**PICKLED_TABLE, "binary": it})]),
    ],
)
def test_a_hostile_pickle_is_found_anywhere(place: Any, pickled: str) -> None:
    found = forbidden_names(products(place(pickled)))

    assert set(found) <= {"posix.system", "nt.system", "os.system", NO_PICKLE}
    assert found


@pytest.mark.parametrize(
    "changes",
    [
        {"meta_data": "__import__('os').system('true')"},
        {"meta_data": "[x for x in ().__class__.__base__.__subclasses__()]"},
        {"meta_data": "9**9**9"},
        {"data_unit_list": [unit(data="[[__import__('os').system('true')]]", dt="f4")]},
        {"data_unit_list": [unit(data="[[1]]", dt="__import__('os')")]},
        {"data_unit_list": [unit(data="[[1]]", dt="(" * 1000)], "meta_data": "print(" + "(" * 1000},
    ],
)
def test_a_text_that_clients_evaluate_is_refused_where_it_calls_or_computes(changes: dict[str, Any]) -> None:
    hostile = "(" * 1000 not in str(changes)  # what does not parse does not run

    assert forbidden_names(products(arrays(**changes))) == ((CODE,) if hostile else ())


@pytest.mark.parametrize(
    "changes",
    [
        {"meta_data": "{'src_name': 'x', 'a': None, 'b': -1.5, 'c': [nan, null, True]}"},
        {"data_unit_list": [unit(data="[[1, -2.5e3], [3, 4]]", dt=">f4")]},
        {"data_unit_list": [unit(data="[[1, 'a']]", dt="(numpy.record, [('a', '<i8'), ('b', '<U3')])")]},
    ],
)
def test_a_plain_text_is_not_refused(changes: dict[str, Any]) -> None:
    assert forbidden_names(products(arrays(**changes))) == ()


def test_a_pickled_table_is_refused_in_place_of_an_array() -> None:
    found = forbidden_names(products(arrays(unit(RATES, binarys=PICKLED_TABLE["binary"]))))

    assert "astropy.table.table.Table" in found


def test_long_names_are_cut() -> None:
    data = b"\x80\x02c" + b"x" * 5000 + b"\ny\n."

    assert [len(name) for name in forbidden_names({"binarys": text(data)})] == [100]


# -- through the proxy -----------------------------------------------------------------------------


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[str]:
    """Run a dispatcher that answers all questions with one hostile product, and one that is not."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    hostile = arrays(unit(RATES, binarys=HOSTILE), unit(RATES, binarys=encoded(RATES)))

    class Hostility(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = hostile if "hostile" in self.path else json_bytes(answer()) if "run_analysis" in self.path else b"[]"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hostility) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_hostile_answer_is_passed_on_with_a_warning_counted_and_never_stored(upstream: str, tmp_path: Path) -> None:
    import urllib.request

    def get(path: str) -> tuple[str, bytes]:
        with urllib.request.urlopen(f"{proxy.url}{path}") as response:  # noqa: S310 - an address on this machine
            return response.headers["Cache-Status"], response.read()

    cache = str(tmp_path / "cache")
    ask = "/run_analysis?instrument=isgri&query_type=Real&query_status=new&session_id=SESSIONOFTHETEST&api=True"
    with running(tmp_path / "log", "serve", "--upstream", upstream, "--port", "0", "--cache-dir", cache) as proxy:
        answers = [get(f"{ask}&oda_api_version=1.3.5&product_type=hostile") for _ in range(2)]
        with_token = get(f"{ask}&product_type=hostile&token=T")
        harmless = get(f"{ask}&oda_api_version=1.3.5&product_type=isgri_lc")
        status = json.loads(get("/-/status")[1])["run_analysis"]
        log = proxy.end()

    assert [cache_status for cache_status, _ in answers] == [
        "oda-proxy; fwd=uri-miss; fwd-status=200; detail=unsafe-pickle"
    ] * 2
    assert HOSTILE.encode() in answers[0][1]
    assert with_token[0] == "oda-proxy; fwd=bypass; fwd-status=200; detail=unsafe-pickle"
    assert harmless[0].endswith("stored")
    assert status["unsafe"] == {"posix.system": 3}
    assert status["kept"] == 1
    assert log.count("posix.system") == 1
